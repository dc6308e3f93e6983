-- The kinds of operations. A row says all there is to know of a kind: its words, what it works on, which options it
-- takes, what it costs, and how much of it an account may ask for in a day. Requests are checked and priced by it;
-- pages, `dtf`, mails and engines read it. A new kind is a row and an engine.
--
-- `options` is an array in the order of the form; each option is an object:
--   name, label       how requests call it, and how people read it
--   type              choice, integer, number, text, color, boolean, operation or collection
--   choices, words    of a choice: the values, texts or numbers, and what people read for each
--   minimum, maximum  of an integer or a number: its bounds; of a text the maximum alone: its characters
--   default           the value where the option is left out; null says that the option may be null, and an option
--                     without a default has to be given
--   unit, hint        further words for people
-- An `operation` is a completed operation of the same image, whose result is worked on; it is called `input`. A
-- `collection` is one of the requester's; it is called `collection_id`, and a kind that works on one has it.

create table public.operation_types (
    name text primary key,
    title text not null,
    description text not null,
    -- What it is called while it is done, and what its result is called: {option} in it stands for that option's words.
    activity text not null,
    result_title text not null,
    works_on text not null,
    options jsonb not null default '[]',
    credits integer not null,
    surcharges jsonb not null default '{}',
    may_cost_money boolean not null default false,
    is_repeatable boolean not null default false,
    daily_requests integer,
    daily_cancellations integer not null default 200,
    daily_failures integer not null default 200,
    sort_order integer not null default 0,
    is_active boolean not null default true,
    is_builtin boolean not null default false,
    -- Read from the options when they are written, so that a request need not.
    option_names text[] not null default '{}',
    required_options text[] not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (toast_tuple_target = 8160); -- each request reads the row: nothing of it is packed or put elsewhere

comment on table public.operation_types is
'The kinds of operations: words, options, price and bounds of each; an inactive one is not offered. Everybody reads '
'the active ones; admins read and write all of them.';
comment on column public.operation_types.title is 'What a button says, such as "Enlarge".';
comment on column public.operation_types.activity is 'What it is called while it is done, such as "Upscaling".';
comment on column public.operation_types.result_title is
'What a result is called, such as "Enlarged {scale}": the name of an option in braces stands for its words.';
comment on column public.operation_types.works_on is
'image: on a picture of the requester; nothing: makes one; collection: makes one of a collection.';
comment on column public.operation_types.options is
'Rules of the options, in the order of the form: name, label, type, choices, words, minimum, maximum, default, unit, '
'hint.';
comment on column public.operation_types.credits is 'Price of one, before surcharges.';
comment on column public.operation_types.surcharges is
'Credits on top for the value of an option: {"quality": {"best": 4}}.';
comment on column public.operation_types.may_cost_money is
'Whether a provider may take money for it: then each failed call counts towards daily_failures.';
comment on column public.operation_types.is_repeatable is
'Whether somebody may want its result put through it once more.';
comment on column public.operation_types.daily_requests is
'Most requests of an account within a day; null where the price bounds them.';
comment on column public.operation_types.daily_cancellations is 'Most cancellations by an account within a day.';
comment on column public.operation_types.daily_failures is
'After so many failures within a day an account has to wait: failed work gives its credits back, so nothing else '
'bounds it.';
comment on column public.operation_types.is_builtin is 'Whether the row came with a migration, and stays.';
comment on column public.operation_types.option_names is 'Names of the options, kept by a trigger.';
comment on column public.operation_types.required_options is 'Names of those without a default, kept by a trigger.';

-- Whether an option may have the value. Where an integer is asked for, 8.0 is none: jsonb keeps it apart from 8,
-- and so do the engines.
create function private.is_valid_option(p_rule jsonb, p_value jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
    c_uuid constant text := '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';
    -- What Unicode calls white space: Postgres trims the space only.
    c_white_space constant text := E' \t\n\v\f\r\x1c\x1d\x1e\x1f'
        || U&'\0085\00a0\1680\2000\2001\2002\2003\2004\2005\2006\2007\2008\2009\200a\2028\2029\202f\205f\3000';
    v_type constant text := jsonb_typeof(p_value);
    -- No option is an array or an object. Their text is not even made: 27 KB of them can come to a gigabyte.
    v_text constant text := case when v_type in ('string', 'number') then p_value #>> '{}' end;
begin
    if v_type = 'null' then
        return coalesce(jsonb_typeof(p_rule -> 'default') = 'null', false);
    end if;
    return coalesce(
        case p_rule ->> 'type'
            when 'choice' then v_text is not null and p_rule -> 'choices' @> p_value
            when 'integer' then v_type = 'number' and v_text ~ '^-?\d{1,9}$'
                and v_text::numeric between (p_rule ->> 'minimum')::numeric and (p_rule ->> 'maximum')::numeric
            when 'number' then v_type = 'number'
                and v_text::numeric between (p_rule ->> 'minimum')::numeric and (p_rule ->> 'maximum')::numeric
            when 'text' then v_type = 'string'
                and char_length(btrim(v_text, c_white_space)) between 1 and (p_rule ->> 'maximum')::integer
            when 'color' then v_type = 'string' and v_text ~ '^#[0-9a-fA-F]{6}$'
            when 'boolean' then v_type = 'boolean'
            when 'operation' then v_type = 'string' and v_text ~ c_uuid
            when 'collection' then v_type = 'string' and v_text ~ c_uuid
        end,
        false
    );
end;
$$;

-- What an option may be, in words.
create function private.describe_option(p_rule jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
    select case p_rule ->> 'type'
        when 'choice' then (
            select
                coalesce(string_agg(c.value::text, ', ' order by c.n) filter (where c.n < c.last) || ' or ', '')
                || max(c.value::text) filter (where c.n = c.last)
            from (
                select e.value, e.n, count(*) over () as last
                from jsonb_array_elements(p_rule -> 'choices') with ordinality as e (value, n)
            ) as c
        )
        when 'integer' then format('an integer from %s to %s', p_rule ->> 'minimum', p_rule ->> 'maximum')
        when 'number' then format('a number from %s to %s', p_rule ->> 'minimum', p_rule ->> 'maximum')
        when 'text' then format('a text of 1 to %s characters', p_rule ->> 'maximum')
        when 'color' then '"#rrggbb"'
        when 'boolean' then 'true or false'
        when 'operation' then 'the id of a completed operation of the same image'
        when 'collection' then 'the id of one of your collections'
    end
    || case when jsonb_typeof(p_rule -> 'default') = 'null' then ', or null' else '' end;
$$;

-- The value of an option as it counts: what was asked for, else the default.
create function private.option_value(p_rules jsonb, p_options jsonb, p_name text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
    select coalesce(p_options -> p_name, r.rule -> 'default')
    from jsonb_array_elements(p_rules) as r (rule)
    where r.rule ->> 'name' = p_name;
$$;

-- What is wrong with the rules of one option, or null.
create function private.find_flaw_of_option(p_rule jsonb, p_works_on text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
    v_type constant text := p_rule ->> 'type';
    v_own constant text[] := case v_type
        when 'choice' then array['choices', 'words']
        when 'integer' then array['minimum', 'maximum']
        when 'number' then array['minimum', 'maximum']
        when 'text' then array['maximum']
        when 'color' then '{}'::text[]
        when 'boolean' then '{}'::text[]
        when 'operation' then '{}'::text[]
        when 'collection' then '{}'::text[]
    end;
    v_key text;
begin
    if jsonb_typeof(p_rule) is distinct from 'object' then
        return 'it is no object';
    elsif coalesce(p_rule ->> 'name', '') !~ '^[a-z][a-z0-9_]{0,39}$' then
        return 'its name must be 1 to 40 small letters, digits or _';
    elsif v_own is null then
        return 'its type must be choice, integer, number, text, color, boolean, operation or collection';
    elsif (p_rule ->> 'name' = 'input') is distinct from (v_type = 'operation')
        or (p_rule ->> 'name' = 'collection_id') is distinct from (v_type = 'collection')
    then
        return 'an operation is called input and a collection collection_id, and nothing else is';
    elsif v_type = 'operation' and p_works_on <> 'image' or v_type = 'collection' and p_works_on <> 'collection' then
        return format('a kind that works on %s has no %s', p_works_on, v_type);
    elsif v_type = 'collection' and p_rule ? 'default' then
        return 'a collection has to be given: it has no default';
    end if;

    foreach v_key in array array['label', 'hint', 'unit']
    loop
        if p_rule ? v_key
            and (jsonb_typeof(p_rule -> v_key) <> 'string' or char_length(p_rule ->> v_key) not between 1 and 200)
        then
            return format('its %s must be a text of 1 to 200 characters', v_key);
        end if;
    end loop;
    select k.key into v_key from jsonb_object_keys(p_rule) as k (key)
    where k.key <> all (array['name', 'type', 'label', 'hint', 'unit', 'default'] || v_own)
    limit 1;
    if found then
        return format('%s is nothing that a %s has', v_key, v_type);
    elsif not p_rule ? 'label' then
        return 'it has no label';
    end if;

    if v_type = 'choice' then
        if jsonb_typeof(p_rule -> 'choices') is distinct from 'array'
            or jsonb_array_length(p_rule -> 'choices') not between 1 and 50
            or exists (
                select 1 from jsonb_array_elements(p_rule -> 'choices') as c (value)
                where
                    jsonb_typeof(c.value) not in ('string', 'number')
                    or char_length(c.value #>> '{}') not between 1 and 50
            )
        then
            return 'its choices must be an array of 1 to 50 texts or numbers';
        elsif jsonb_typeof(p_rule -> 'words') is distinct from 'array'
            or jsonb_array_length(p_rule -> 'words') <> jsonb_array_length(p_rule -> 'choices')
            or exists (
                select 1 from jsonb_array_elements(p_rule -> 'words') as w (value)
                where jsonb_typeof(w.value) <> 'string' or char_length(w.value #>> '{}') not between 1 and 100
            )
        then
            return 'its words must be an array with a text for each choice';
        end if;
    elsif v_type in ('integer', 'number') then
        if jsonb_typeof(p_rule -> 'minimum') is distinct from 'number'
            or jsonb_typeof(p_rule -> 'maximum') is distinct from 'number'
            or (p_rule ->> 'minimum')::numeric > (p_rule ->> 'maximum')::numeric
            or abs((p_rule ->> 'minimum')::numeric) > 999999999 or abs((p_rule ->> 'maximum')::numeric) > 999999999
        then
            return 'its minimum and maximum must be numbers of at most nine digits, the smaller one first';
        end if;
    elsif v_type = 'text' then
        if coalesce(p_rule ->> 'maximum', '') !~ '^\d{1,4}$'
            or (p_rule ->> 'maximum')::integer not between 1 and 2000
        then
            return 'its maximum must be an integer from 1 to 2000';
        end if;
    end if;

    if p_rule ? 'default' and not private.is_valid_option(p_rule, p_rule -> 'default') then
        return format('its default must be %s, or null', private.describe_option(p_rule));
    end if;
    return null;
end;
$$;

-- What is wrong with a kind, or null.
create function private.find_flaw_of_type(p_type public.operation_types)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
    v_rule jsonb;
    v_flaw text;
begin
    if p_type.name !~ '^[a-z][a-z0-9_]{0,49}$' then
        return 'The name must be 1 to 50 small letters, digits or _';
    elsif char_length(p_type.title) not between 1 and 60 or char_length(p_type.activity) not between 1 and 60
        or char_length(p_type.result_title) not between 1 and 100
        or char_length(p_type.description) not between 1 and 500
    then
        return 'title and activity have 1 to 60 characters, result_title 1 to 100, description 1 to 500';
    elsif p_type.works_on not in ('image', 'nothing', 'collection') then
        return 'works_on must be image, nothing or collection';
    elsif p_type.credits not between 0 and 1000000 then
        return 'credits must be from 0 to 1000000';
    elsif least(p_type.daily_requests, p_type.daily_cancellations, p_type.daily_failures) < 1
        or greatest(p_type.daily_requests, p_type.daily_cancellations, p_type.daily_failures) > 1000000
    then
        return 'The daily bounds must be from 1 to 1000000';
    elsif abs(p_type.sort_order::bigint) > 1000000 then
        return 'sort_order must be from -1000000 to 1000000';
    elsif pg_column_size(p_type.options) > 6000 or jsonb_typeof(p_type.options) <> 'array'
        or jsonb_array_length(p_type.options) > 40
    then
        return 'options must be an array of at most 40 objects, and of 6 kB';
    end if;

    for v_rule in select r.rule from jsonb_array_elements(p_type.options) as r (rule)
    loop
        v_flaw := private.find_flaw_of_option(v_rule, p_type.works_on);
        if v_flaw is not null then
            return format('The option %s is not sound: %s', coalesce(v_rule -> 'name', v_rule), v_flaw);
        end if;
    end loop;
    if (select count(distinct n.name) < count(*) from unnest(p_type.option_names) as n (name)) then
        return 'Two options have the same name';
    elsif p_type.works_on = 'collection' and 'collection_id' <> all (p_type.option_names) then
        return 'A kind that works on a collection has the option collection_id';
    end if;

    if jsonb_typeof(p_type.surcharges) <> 'object' or pg_column_size(p_type.surcharges) > 2000 then
        return 'surcharges must be an object, of at most 2 kB';
    end if;
    for v_rule, v_flaw in
        select jsonb_build_object('values', s.value), s.key from jsonb_each(p_type.surcharges) as s (key, value)
    loop
        if v_flaw <> all (p_type.option_names) or jsonb_typeof(v_rule -> 'values') <> 'object' or exists (
            select 1 from jsonb_each(v_rule -> 'values') as v (key, value)
            where jsonb_typeof(v.value) <> 'number' or v.value #>> '{}' !~ '^\d{1,6}$'
        ) then
            return format('The surcharges of %s must be an option''s, and {"value": credits}', v_flaw);
        end if;
    end loop;
    return null;
end;
$$;

create function private.check_operation_type()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_flaw text;
begin
    if jsonb_typeof(new.options) = 'array' then
        select
            coalesce(array_agg(r.rule ->> 'name' order by r.n), '{}'),
            coalesce(array_agg(r.rule ->> 'name' order by r.n) filter (where not r.rule ? 'default'), '{}')
        into new.option_names, new.required_options
        from jsonb_array_elements(new.options) with ordinality as r (rule, n)
        where jsonb_typeof(r.rule) = 'object';
    end if;
    v_flaw := private.find_flaw_of_type(new);
    if v_flaw is not null then
        perform private.refuse(
            'PT400', v_flaw, jsonb_build_object('operation_type', left(new.name, 100)),
            'docs/images.md says what a kind of operation consists of.');
    end if;
    return new;
end;
$$;

create trigger check_operation_type
before insert or update on public.operation_types
for each row execute function private.check_operation_type();

create function private.keep_builtin_types()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT409', format('The kind %s stays: services and accounts know it', old.name),
        jsonb_build_object('operation_type', old.name), 'Set is_active to false: then it is not offered.');
    return null;
end;
$$;

create trigger keep_builtin_types
before delete on public.operation_types
for each row when (old.is_builtin) execute function private.keep_builtin_types();

create trigger update_operation_types_updated_at
before update on public.operation_types
for each row execute function public.update_updated_at_column();

alter table public.operation_types enable row level security;

create policy "Visitors view active types" on public.operation_types
for select to anon
using (is_active);

create policy "Users view active types, admins all" on public.operation_types
for select to authenticated
using (is_active or (select private.is_admin()));

create policy "Admins insert types" on public.operation_types
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update types" on public.operation_types
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete types" on public.operation_types
for delete to authenticated
using ((select private.is_admin()));

grant select on public.operation_types to anon, authenticated;
grant insert (
    name, title, description, activity, result_title, works_on, options, credits, surcharges, may_cost_money,
    is_repeatable, daily_requests, daily_cancellations, daily_failures, sort_order, is_active
) on public.operation_types to authenticated;
grant update (
    title, description, activity, result_title, options, credits, surcharges, may_cost_money,
    is_repeatable, daily_requests, daily_cancellations, daily_failures, sort_order, is_active
) on public.operation_types to authenticated;
grant delete on public.operation_types to authenticated;
grant select, insert, update, delete on public.operation_types to service_role;

-- Refuses options that the kind does not take: a bad option must not cost a credit.
create function private.check_operation_options(p_type public.operation_types, p_options jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_option text;
    v_at integer := 0;
begin
    -- Its size as it is stored: the text of a number such as 1e131071 is ten thousand times as long.
    if pg_column_size(p_options) > 8192 then
        perform private.refuse(
            'PT413', 'The options are larger than 8 KiB', '{"argument": "p_options"}', 'Pass the documented options.');
    elsif jsonb_typeof(p_options) <> 'object' then
        perform private.refuse(
            'PT400', 'The options must be a JSON object', '{"argument": "p_options"}', 'Pass {} for the defaults.');
    elsif not p_options ?& p_type.required_options then
        select r.name into v_option from unnest(p_type.required_options) as r (name)
        where not p_options ? r.name
        limit 1;
        perform private.refuse(
            'PT400', format('The option "%s" is missing', v_option), jsonb_build_object('option', v_option),
            format('Pass %s.', private.describe_option(
                p_type.options -> (array_position(p_type.option_names, v_option) - 1))));
    elsif p_options = '{}' then
        return;
    elsif p_options - p_type.option_names <> '{}' then
        select left(o.key, 100) into v_option from jsonb_object_keys(p_options - p_type.option_names) as o (key) limit 1;
        perform private.refuse(
            'PT400', format('Unknown option "%s" for %s', v_option, p_type.name),
            jsonb_build_object('option', v_option, 'known', p_type.option_names),
            'Known options: ' || array_to_string(p_type.option_names, ', ') || '.');
    end if;
    -- Over the known ones: a loop over a query costs as much as three statements.
    foreach v_option in array p_type.option_names
    loop
        if p_options ? v_option
            and not private.is_valid_option(p_type.options -> v_at, p_options -> v_option)
        then
            perform private.refuse(
                'PT400', format('The option "%s" has a wrong value', v_option),
                jsonb_build_object(
                    'option', v_option,
                    'value', case
                        when jsonb_typeof(p_options -> v_option) in ('array', 'object')
                            then jsonb_typeof(p_options -> v_option)
                        else left((p_options -> v_option)::text, 200)
                    end),
                format('Pass %s.', private.describe_option(p_type.options -> v_at)));
        end if;
        v_at := v_at + 1;
    end loop;
end;
$$;

-- What a request costs. Expects its options checked.
create function private.price_operation(p_type public.operation_types, p_options jsonb)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
    if p_type.surcharges = '{}' then
        return p_type.credits;
    end if;
    return p_type.credits + coalesce((
        select sum((s.of_values ->> (private.option_value(p_type.options, p_options, s.option) #>> '{}'))::integer)
        from jsonb_each(p_type.surcharges) as s (option, of_values)
    ), 0);
end;
$$;

-- The kind of a name; refuses an unknown one.
create function private.find_operation_type(p_name text)
returns public.operation_types
language plpgsql
stable
set search_path = ''
as $$
declare
    v_type public.operation_types;
begin
    select t.* into v_type from public.operation_types as t where t.name = p_name;
    if not found then
        perform private.refuse(
            'PT400', 'Unknown operation type',
            jsonb_build_object('argument', 'p_operation_type', 'value', left(p_name, 100)),
            'Pass one of these: ' || coalesce(
                (
                    select string_agg(t.name, ', ' order by t.sort_order) from public.operation_types as t
                    where t.is_active
                ),
                'none is offered at the moment') || '.');
    end if;
    return v_type;
end;
$$;

create function private.refuse_unoffered_type(p_name text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT409', format('The operation %s is not offered at the moment', p_name),
        jsonb_build_object('operation_type', p_name), 'The active rows of operation_types list what is offered.');
end;
$$;

-- How much of a kind an account has caused within a day. A day begins with the first event after the last one has
-- ended. A row stays as long as the account, and there are as many as kinds. Requests are counted where they are
-- bounded, of kinds that cost nothing: for the others it would cost each of them another row.
create table private.operation_counts (
    user_id uuid not null references public.profiles (id) on delete cascade,
    operation_type text not null references public.operation_types (name) on delete cascade,
    since timestamptz not null default now(),
    requests integer not null default 0,
    cancellations integer not null default 0,
    failures integer not null default 0,
    primary key (user_id, operation_type)
) with (fillfactor = 70);

comment on table private.operation_counts is
'How much of each kind of operation an account has requested (where that is bounded), cancelled and seen fail '
'within a day, also where the operations are gone with their images.';

create index idx_operation_counts_operation_type on private.operation_counts (operation_type);

alter table private.operation_counts enable row level security;

-- Counts, and returns what the day has come to. Expects the profile locked.
create function private.count_operation(
    p_user_id uuid,
    p_operation_type text,
    p_requested integer,
    p_cancelled integer,
    p_failed integer
)
returns private.operation_counts
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_counts private.operation_counts;
begin
    update private.operation_counts as c
    set
        requests = c.requests + p_requested,
        cancellations = c.cancellations + p_cancelled,
        failures = c.failures + p_failed
    where c.user_id = p_user_id and c.operation_type = p_operation_type and c.since > now() - interval '1 day'
    returning c.* into v_counts;
    if not found then
        insert into private.operation_counts as c (user_id, operation_type, requests, cancellations, failures)
        values (p_user_id, p_operation_type, p_requested, p_cancelled, p_failed)
        on conflict (user_id, operation_type) do update set
            since = excluded.since,
            requests = excluded.requests,
            cancellations = excluded.cancellations,
            failures = excluded.failures
        returning c.* into v_counts;
    end if;
    return v_counts;
end;
$$;

-- Refuses what passes a daily bound, with the time from which on it is allowed again.
create function private.refuse_for_today(p_message text, p_limit integer, p_resets_at timestamptz, p_advice text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT429', p_message, jsonb_build_object('limit', p_limit, 'resets_at', p_resets_at),
        format('%s It goes on at %s.', p_advice, to_char(p_resets_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
end;
$$;

-- What a request would cost. The page asks before it offers to start.
create function private.quote_image_operation(p_operation_type text, p_options jsonb)
returns integer
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
    v_type constant public.operation_types := private.find_operation_type(p_operation_type);
    v_options constant jsonb := coalesce(p_options, '{}');
begin
    perform private.check_operation_options(v_type, v_options);
    if not v_type.is_active then
        perform private.refuse_unoffered_type(v_type.name);
    end if;
    return private.price_operation(v_type, v_options);
end;
$$;

grant execute on function private.quote_image_operation(text, jsonb) to authenticated, service_role;

create function public.quote_image_operation(p_operation_type text, p_options jsonb default '{}')
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
    return private.quote_image_operation(p_operation_type, p_options);
end;
$$;

comment on function public.quote_image_operation(text, jsonb) is
'What a request of this kind with these options would cost, in credits. Errors: 400 unknown kind, bad option, '
'409 not offered, 413 options too large.';
grant execute on function public.quote_image_operation(text, jsonb) to authenticated, service_role;

-- Here and not in the seed, because no operation can be requested without them.
insert into public.operation_types (
    name, sort_order, title, activity, result_title, description, works_on, credits, may_cost_money, daily_failures,
    is_repeatable, is_builtin, options
) values (
    'upscale', 10, 'Enlarge', 'Upscaling', 'Enlarged {scale}',
    'More pixels, sharp edges: for prints larger than the file allows.', 'image', 1, false, 200, true, true,
    '[
        {"name": "input", "label": "Works on", "type": "operation", "default": null},
        {"name": "scale", "label": "Size", "type": "choice", "choices": [2, 4], "words": ["×2", "×4"], "default": 4},
        {
            "name": "style", "label": "Kind of picture", "type": "choice", "choices": ["auto", "art", "photo"],
            "words": ["Find out", "Drawing or logo", "Photo"], "default": "auto"
        },
        {
            "name": "denoise", "label": "Remove noise", "type": "choice",
            "choices": ["auto", "none", "light", "medium", "strong"],
            "words": ["As needed", "No", "Light", "Medium", "Strong"], "default": "auto"
        }
    ]'
), (
    'background_removal', 20, 'Remove background', 'Background removal', 'Cut out',
    'Makes the background transparent. Of a photo you get a draft to look at; what cannot be cut out costs nothing.',
    'image', 1, false, 200, false, true,
    '[
        {"name": "input", "label": "Works on", "type": "operation", "default": null},
        {
            "name": "holes", "label": "Enclosed areas", "type": "choice", "choices": ["auto", "keep", "remove"],
            "words": ["Find out", "Keep them", "Remove them"], "default": "auto"
        },
        {
            "name": "shadows", "label": "Shadows", "type": "choice", "choices": ["removed", "soft", "kept"],
            "words": ["Remove them", "Keep them soft", "Keep them solid"], "default": "removed"
        },
        {
            "name": "tolerance", "label": "Tolerance", "type": "number", "minimum": 1, "maximum": 50,
            "default": null, "hint": "empty: measured"
        }
    ]'
), (
    'vectorize', 30, 'Vectorize', 'Vectorizing', 'Vectors',
    'Turns flat art into an SVG that prints sharp at any size.', 'image', 2, false, 200, false, true,
    '[
        {"name": "input", "label": "Works on", "type": "operation", "default": null},
        {
            "name": "detail", "label": "Detail", "type": "choice", "choices": ["low", "medium", "high"],
            "words": ["Low", "Medium", "High"], "default": "medium"
        },
        {
            "name": "colors", "label": "Colours", "type": "integer", "minimum": 2, "maximum": 64,
            "default": null, "hint": "empty: chosen for you"
        }
    ]'
), (
    'generate', 40, 'Lettering', 'Generating', 'Lettering',
    'Sets your words as a print-ready picture with a transparent background.', 'nothing', 2, true, 50, false, true,
    '[
        {"name": "prompt", "label": "Text", "type": "text", "maximum": 300},
        {
            "name": "font", "label": "Letters", "type": "choice",
            "choices": ["auto", "fredoka", "amatic", "manrope", "serif"],
            "words": [
                "Choose for me", "Fredoka: round", "Amatic: hand-drawn", "Manrope: plain", "Source Serif: classic"
            ],
            "default": "auto"
        },
        {
            "name": "size", "label": "Longest side", "type": "integer", "minimum": 256, "maximum": 4096,
            "default": 2400, "unit": "pixels"
        },
        {"name": "color", "label": "Colour", "type": "color", "default": null, "hint": "left out: chosen for you"}
    ]'
), (
    'print_ready', 50, 'Print file', 'Preparing for print', 'Print file, {size} {unit}',
    'The file that prints: at its size and 300 DPI, without semi-transparent pixels, with the white below it, and '
    'checked for parts that are too thin.',
    'image', 1, false, 200, false, true,
    '[
        {"name": "input", "label": "Works on", "type": "operation", "default": null},
        {"name": "size", "label": "Size of the print", "type": "number", "minimum": 0.1, "maximum": 1524,
            "hint": "at most 24 × 60 in"},
        {"name": "unit", "label": "Unit", "type": "choice", "choices": ["in", "cm", "mm"],
            "words": ["in", "cm", "mm"], "default": "in"},
        {"name": "side", "label": "The size is its", "type": "choice", "choices": ["width", "height"],
            "words": ["Width", "Height"], "default": "width"},
        {"name": "trim", "label": "Trim to the art", "type": "boolean", "default": true},
        {"name": "enlarge", "label": "Enlarge it if it has too few pixels", "type": "boolean", "default": false},
        {"name": "alpha", "label": "Semi-transparent parts", "type": "choice",
            "choices": ["harden", "halftone", "keep"],
            "words": ["Make them solid or clear", "Halftone", "Leave them"], "default": "harden"},
        {"name": "lpi", "label": "Lines of the halftone", "type": "integer", "minimum": 25, "maximum": 55,
            "default": 35, "unit": "an inch"},
        {"name": "knockout", "label": "Clear colour", "type": "color", "default": null,
            "hint": "the garment shows through"},
        {"name": "tolerance", "label": "Tolerance of it", "type": "number", "minimum": 1, "maximum": 50,
            "default": 6, "unit": "ΔE"},
        {"name": "white", "label": "With the white below", "type": "boolean", "default": true},
        {"name": "choke", "label": "Draw the white in by", "type": "number", "minimum": 0, "maximum": 1,
            "default": 0.2, "unit": "mm", "hint": "less where parts are thin"},
        {"name": "least_line", "label": "Show lines thinner than", "type": "number", "minimum": 0, "maximum": 2,
            "default": 0.36, "unit": "mm", "hint": "0: none"},
        {"name": "least_gap", "label": "Show gaps narrower than", "type": "number", "minimum": 0, "maximum": 2,
            "default": 0.7, "unit": "mm", "hint": "0: none"},
        {"name": "mirror", "label": "Mirrored", "type": "boolean", "default": false},
        {"name": "garment", "label": "Mock-up on a colour", "type": "color", "default": null,
            "hint": "left out: no mock-up"},
        {"name": "format", "label": "Format", "type": "choice", "choices": ["png", "pdf", "tiff"],
            "words": ["PNG", "PDF", "TIFF"], "default": "png"}
    ]'
);

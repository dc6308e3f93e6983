-- Foundations: the unexposed schema, and privileges that start closed.
--
-- Supabase grants every new object in `public` to anon, authenticated and service_role, and Postgres lets
-- everybody execute a new function. From here on nothing is granted unless a migration says so beside the object.
--
-- Hosted projects end the API's statements after 8 seconds, too short for what reads whole tables once a day, and for
-- the way out of an account with a long history (100,000 entries: 5 seconds and more). Such functions set a
-- statement_timeout of 55 seconds: the REST server applies a function's own limit to its call, and the API in front
-- waits a minute.

-- The engine of the project. The API does not expose this schema (see config.toml).
create schema private;

comment on schema private is
'Helpers and the engine: not exposed by the API. The public schema holds tables, views and thin RPCs.';

-- Browsers' roles need it because row level security policies call helpers such as private.is_admin() as the caller.
grant usage on schema private to anon, authenticated, service_role;

-- The built-in default (execute to public) can only be revoked for all schemas at once,
-- and that does not touch the grants Supabase makes by name in `public`: both are needed.
alter default privileges revoke execute on functions from public;

alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;

-- Takes back what nobody granted: called at the end of the last migration and of each later one, so that a project
-- whose migrations are run by another role, whose objects Postgres and Supabase open to everybody, is as closed as
-- others. What it finds open is closed for all roles of the API: a warning says what, and the migration has to grant it
-- anew.
create function private.close_api()
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_name text;
begin
    alter default privileges revoke execute on functions from public;
    alter default privileges in schema public revoke all on tables from anon, authenticated, service_role;
    alter default privileges in schema public revoke all on sequences from anon, authenticated, service_role;
    alter default privileges in schema public revoke all on functions from anon, authenticated, service_role;

    -- Not those of extensions, which a project may have put into the schema.
    for v_name in
        select p.oid::regprocedure::text
        from pg_catalog.pg_proc as p
        where
            p.pronamespace in ('private'::regnamespace, 'public'::regnamespace)
            and exists (
                select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a where a.grantee = 0
            )
            and not exists (
                select 1 from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
            )
    loop
        execute format('revoke execute on routine %s from public, anon, authenticated, service_role', v_name);
        raise warning 'The function % was open to everybody, and is open to nobody now', v_name;
    end loop;

    -- No migration grants truncate: whoever has it has it by default, with everything else.
    for v_name in
        select c.oid::regclass::text
        from pg_catalog.pg_class as c
        where
            c.relnamespace in ('private'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm')
            and (has_table_privilege('anon', c.oid, 'truncate')
                or has_table_privilege('authenticated', c.oid, 'truncate'))
    loop
        execute format('revoke all on %s from anon, authenticated, service_role', v_name);
        raise warning 'The table % was open to everybody, and is open to nobody now', v_name;
    end loop;
end;
$$;

-- Refuses a request: the one way this project raises an error on purpose.
-- An SQLSTATE of PTnnn becomes the HTTP status nnn in PostgREST, so every refusal carries its own;
-- a plain `raise exception` would be a 400 on one REST server and a 500 on another.
-- The detail is JSON for programs, the hint is the next step for a person.
create function private.refuse(p_code text, p_message text, p_detail jsonb, p_hint text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    raise exception using
        errcode = p_code, message = p_message, detail = coalesce(p_detail, '{}')::text, hint = p_hint;
end;
$$;

-- For functions that run as their caller. It does nothing but fail.
grant execute on function private.refuse(text, text, jsonb, text) to authenticated, service_role;

-- What constraints call that hold several rules: true, or an error that names the first that is broken. So a rule costs
-- nothing but itself as long as all hold.
create function private.refuse_row(p_table text, p_rules text[], p_holds boolean[])
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    raise exception using
        errcode = 'check_violation',
        message = format(
            'new row for relation "%s" is not sound: %s', p_table, p_rules[array_position(p_holds, false)]),
        table = p_table;
end;
$$;

-- Bounds how much one call of a function that is called again and again may do.
create function private.check_limit(p_limit integer, p_most integer)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_limit is null or p_limit not between 1 and p_most then
        perform private.refuse(
            'PT400', format('The limit must be between 1 and %s', p_most), '{"argument": "p_limit"}',
            'Call again for more.');
    end if;
end;
$$;

-- Bounds what people write: the arguments are a column, the fewest characters and the most, of one column after the
-- other; of a jsonb column the bytes. Columns that may be null pass while they are. A trigger, because its answer says
-- what to do, and because it runs when the columns are written: a constraint costs each statement that writes the table
-- 1 or 2 microseconds, and some tables move with every request. Its name has it run before those that read the values.
create function private.bound_lengths()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_row constant jsonb := to_jsonb(new);
    v_value jsonb;
    v_length integer;
begin
    for v_at in 0 .. tg_nargs - 1 by 3
    loop
        v_value := v_row -> tg_argv[v_at];
        -- The text of other JSON is not even made: 27 KB of numbers such as 1e131071 come to a gigabyte.
        v_length := case jsonb_typeof(v_value)
            when 'null' then null
            when 'string' then char_length(v_value #>> '{}')
            else pg_column_size(v_value)
        end;
        if v_length < tg_argv[v_at + 1]::integer then
            perform private.refuse(
                'PT400', tg_argv[v_at] || ' is empty', jsonb_build_object('column', tg_argv[v_at]), 'Fill it in.');
        elsif v_length > tg_argv[v_at + 2]::integer then
            perform private.refuse(
                'PT413',
                format(
                    '%s is longer than %s %s', tg_argv[v_at], tg_argv[v_at + 2],
                    case jsonb_typeof(v_value) when 'string' then 'characters' else 'bytes' end),
                jsonb_build_object('column', tg_argv[v_at], 'longest', tg_argv[v_at + 2]::integer), 'Shorten it.');
        end if;
    end loop;
    return new;
end;
$$;

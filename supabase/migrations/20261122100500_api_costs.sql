-- What providers cost: the price list, and one log row for each call.

create table public.api_costs (
    id uuid primary key default gen_random_uuid(),
    api_provider text not null,
    operation_type text not null,
    cost_per_operation decimal(10, 4) not null check (cost_per_operation between 0 and 10000),
    currency text not null default 'USD',
    effective_date date not null check (effective_date between '2000-01-01' and '2999-12-31'),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    unique (api_provider, operation_type, effective_date)
);

comment on table public.api_costs is
'Price list of the providers: the newest active row whose date has come counts, and only for a successful call that '
'does not know its own cost. Costs are kept in USD, so a price in another currency is not used. Admins read and '
'maintain it.';

create trigger bound_lengths
before insert or update of api_provider, operation_type, currency on public.api_costs
for each row execute function private.bound_lengths(
    'api_provider', 1, 100, 'operation_type', 1, 50, 'currency', 3, 3
);

alter table public.api_costs enable row level security;

create policy "Admins view provider prices" on public.api_costs
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert provider prices" on public.api_costs
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update provider prices" on public.api_costs
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete provider prices" on public.api_costs
for delete to authenticated
using ((select private.is_admin()));

grant select on public.api_costs to authenticated;
grant insert (api_provider, operation_type, cost_per_operation, currency, effective_date, is_active)
on public.api_costs to authenticated;
grant update (api_provider, operation_type, cost_per_operation, currency, effective_date, is_active)
on public.api_costs to authenticated;
grant delete on public.api_costs to authenticated;
grant select, insert, update, delete on public.api_costs to service_role;

create table public.api_usage_logs (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    operation_id uuid references public.image_operations (id) on delete set null,
    api_provider text not null,
    operation_type text not null,
    model text,
    request_data jsonb,
    response_data jsonb,
    status_code integer,
    response_time decimal(10, 2),
    cost decimal(10, 4) check (cost >= 0),
    error_message text,
    created_at timestamptz not null default now()
);

comment on table public.api_usage_logs is
'One row per call of a provider, failed calls too: response_time in seconds, cost in USD, null when unknown. '
'Admins read it; what a provider was sent and answered is no business of browsers.';
comment on column public.api_usage_logs.cost is
'USD: what the call reported, 0 included; else the list price if the call succeeded; else null.';

create index idx_api_usage_logs_user_id on public.api_usage_logs (user_id, created_at);
create index idx_api_usage_logs_created_at on public.api_usage_logs (created_at);
create index idx_api_usage_logs_api_provider on public.api_usage_logs (api_provider);
create index idx_api_usage_logs_operation_id on public.api_usage_logs (operation_id);

alter table public.api_usage_logs enable row level security;

create policy "Admins view provider calls" on public.api_usage_logs
for select to authenticated
using ((select private.is_admin()));

grant select on public.api_usage_logs to authenticated;
grant select, insert on public.api_usage_logs to service_role;

-- What one operation costs at a provider today, in USD; null when the price list does not say.
-- In plpgsql, which keeps the plan for the session; language sql would plan it at every call.
create function private.api_cost(p_api_provider text, p_operation_type text)
returns numeric
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select c.cost_per_operation from public.api_costs as c
        where
            c.api_provider = p_api_provider and c.operation_type = p_operation_type
            and c.is_active and c.effective_date <= current_date and c.currency = 'USD'
        order by c.effective_date desc
        limit 1
    );
end;
$$;

-- Refuses provider calls that the log cannot hold, naming the first wrong field.
create function private.check_api_usage(p_usage jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_call jsonb;
    v_index integer := -1;
    v_wrong text;
begin
    if p_usage is null or jsonb_typeof(p_usage) <> 'array' or jsonb_array_length(p_usage) > 100 then
        perform private.refuse(
            'PT400', 'The usage must be an array of at most 100 provider calls', '{"argument": "p_usage"}',
            'Pass [] when no provider was called.');
    elsif octet_length(p_usage::text) > 1024 * 1024 then
        perform private.refuse(
            'PT413', 'The usage is larger than 1 MiB', '{"argument": "p_usage"}',
            'Log sizes and ids of the payloads, not the payloads.');
    end if;

    for v_call in select jsonb_array_elements(p_usage)
    loop
        v_index := v_index + 1;
        v_wrong := case
            when jsonb_typeof(v_call) <> 'object' then 'call'
            when
                jsonb_typeof(v_call -> 'api_provider') is distinct from 'string'
                or char_length(v_call ->> 'api_provider') not between 1 and 100
                then 'api_provider'
            when coalesce(jsonb_typeof(v_call -> 'model'), 'null') not in ('string', 'null') then 'model'
            when coalesce(jsonb_typeof(v_call -> 'request_data'), 'null') not in ('object', 'null') then 'request_data'
            when coalesce(jsonb_typeof(v_call -> 'response_data'), 'null') not in ('object', 'null')
                then 'response_data'
            when coalesce(jsonb_typeof(v_call -> 'error_message'), 'null') not in ('string', 'null')
                then 'error_message'
            when not private.is_number_between(v_call -> 'status_code', 0, 999) then 'status_code'
            when not private.is_number_between(v_call -> 'response_time', 0, 1000000) then 'response_time'
            when not private.is_number_between(v_call -> 'cost', 0, 100000) then 'cost'
        end;
        if v_wrong is not null then
            perform private.refuse(
                'PT400', format('Provider call %s has a wrong %s', v_index, v_wrong),
                jsonb_build_object('argument', 'p_usage', 'index', v_index, 'field', v_wrong),
                'Pass objects with api_provider, model, request_data, response_data, status_code, response_time '
                'in seconds, cost in USD and error_message.');
        end if;
    end loop;
end;
$$;

-- Whether a JSON value is absent, null or a number within bounds.
create function private.is_number_between(p_value jsonb, p_lowest numeric, p_highest numeric)
returns boolean
language sql
immutable
set search_path = ''
as $$
    select case coalesce(jsonb_typeof(p_value), 'null')
        when 'null' then true
        when 'number' then p_value::numeric between p_lowest and p_highest
        else false
    end;
$$;

-- Logs the provider calls of one attempt. Returns their cost in USD, null when no cost is known.
-- The list price stands in for an unknown cost of a successful call only: providers do not bill a request that they
-- refused or never answered, and where one did, nobody knows how much.
create function private.log_api_usage(
    p_operation_id uuid,
    p_user_id uuid,
    p_operation_type text,
    p_usage jsonb
)
returns numeric
language plpgsql
set search_path = ''
as $$
declare
    v_cost numeric;
begin
    with logged as (
        insert into public.api_usage_logs (
            user_id, operation_id, api_provider, operation_type, model, request_data, response_data,
            status_code, response_time, cost, error_message
        )
        select
            p_user_id,
            p_operation_id,
            c.call ->> 'api_provider',
            p_operation_type,
            left(c.call ->> 'model', 200),
            nullif(c.call -> 'request_data', 'null'),
            nullif(c.call -> 'response_data', 'null'),
            (c.call ->> 'status_code')::numeric::integer,
            (c.call ->> 'response_time')::numeric,
            case
                when c.call ->> 'cost' is not null then (c.call ->> 'cost')::numeric
                when c.call ->> 'error_message' is null and coalesce((c.call ->> 'status_code')::numeric, 0) < 400
                    then private.api_cost(c.call ->> 'api_provider', p_operation_type)
            end,
            left(c.call ->> 'error_message', 2000)
        from jsonb_array_elements(p_usage) as c (call)
        returning cost
    )
    select sum(l.cost) into v_cost from logged as l;
    return v_cost;
end;
$$;

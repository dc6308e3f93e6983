-- Daily totals: what the figures of the next file add up, so that they need not read every ledger entry each time.
--
-- Everything counted here is a fact of the past that never changes: ledger entries, clawbacks, provider calls. So a
-- day (UTC) that is over is counted once and kept, and whatever is not kept is counted when it is asked for: today,
-- and every day that nobody has counted yet. A figure is therefore the same before and after public.refresh_stats,
-- only faster. Nothing is written on the way of a request.
--
-- An account that is deleted takes its facts along. Their sums stay, by month: sales in closed_account_totals,
-- operations in closed_account_operations here. The days that it was part of are dropped, to be counted again.

create table private.counted_days (
    day date primary key,
    counted_at timestamptz not null default now()
);

comment on table private.counted_days is
'The days (UTC) whose totals are kept. Deleting one drops its totals; the next refresh counts it again.';

create table private.daily_sales (
    day date not null references private.counted_days (day) on delete cascade,
    subscription_plan_id uuid,
    pay_as_you_go_package_id uuid,
    currency text not null,
    payments bigint not null,
    credits bigint not null,
    received numeric not null,
    returned numeric not null,
    constraint daily_sales_key
    unique nulls not distinct (day, subscription_plan_id, pay_as_you_go_package_id, currency)
);

comment on table private.daily_sales is
'By day, product and currency: what was paid for credits, and what went back by clawbacks, less their reversals.';

create table private.daily_operations (
    day date not null references private.counted_days (day) on delete cascade,
    operation_type text not null,
    currency text,
    operations bigint not null,
    credits bigint not null,
    earned numeric not null,
    provider_calls bigint not null,
    unpriced_calls bigint not null,
    provider_cost numeric not null,
    constraint daily_operations_key unique nulls not distinct (day, operation_type, currency)
);

comment on table private.daily_operations is
'By day, operation and currency: charges and credits, less what was refunded that day; what those credits had been '
'bought for; and the providers'' calls, whose cost is in USD. The currency is null where no money is involved.';

-- No foreign key to profiles: the refresh would then lock the profiles of accounts that are about to be deleted, while
-- their deletion waits for the refresh.
create table private.active_months (
    cohort date not null,
    month date not null,
    user_id uuid not null,
    primary key (cohort, month, user_id)
);

comment on table private.active_months is
'In which months (UTC) an account was charged for an operation, with the month of its sign-up. From counted days.';

create table private.closed_account_operations (
    month date not null,
    operation_type text not null,
    currency text,
    operations bigint not null,
    credits bigint not null,
    earned numeric not null,
    provider_calls bigint not null,
    unpriced_calls bigint not null,
    provider_cost numeric not null,
    constraint closed_account_operations_key unique nulls not distinct (month, operation_type, currency)
);

comment on table private.closed_account_operations is
'The daily_operations of deleted accounts, added up by month (UTC). It says nothing about whose they were.';

alter table private.counted_days enable row level security;
alter table private.daily_sales enable row level security;
alter table private.daily_operations enable row level security;
alter table private.active_months enable row level security;
alter table private.closed_account_operations enable row level security;

-- The figures run as their caller, so row level security has the last word on who gets them.
create policy "Admins view counted days" on private.counted_days
for select to authenticated
using ((select private.is_admin()));

create policy "Admins view daily sales" on private.daily_sales
for select to authenticated
using ((select private.is_admin()));

create policy "Admins view daily operations" on private.daily_operations
for select to authenticated
using ((select private.is_admin()));

create policy "Admins view active months" on private.active_months
for select to authenticated
using ((select private.is_admin()));

create policy "Admins view the operations of closed accounts" on private.closed_account_operations
for select to authenticated
using ((select private.is_admin()));

grant select on private.counted_days to authenticated, service_role;
grant select on private.daily_sales to authenticated, service_role;
grant select on private.daily_operations to authenticated, service_role;
grant select on private.active_months to authenticated, service_role;
grant select on private.closed_account_operations to authenticated, service_role;

-- Counts the sales of the days from p_from to before p_before from the ledger.
-- The plan must fit the range: an index for a day, the whole table for a year.
create function private.count_sales(p_from date, p_before date)
returns setof private.daily_sales
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
declare
    c_from constant timestamptz := p_from::timestamp at time zone 'UTC';
    c_before constant timestamptz := p_before::timestamp at time zone 'UTC';
begin
    return query
    with movements as (
        select
            t.created_at as happened_at, t.subscription_plan_id, t.pay_as_you_go_package_id, g.currency,
            1 as payments, g.amount as credits, g.money_amount as received, 0::numeric as returned
        from public.credit_transactions as t
        inner join public.credit_grants as g on g.transaction_id = t.id
        where
            t.created_at >= c_from and t.created_at < c_before and g.money_amount is not null
            -- Most entries are charges, and no grant is theirs.
            and t.transaction_type <> 'usage'
        union all
        select
            m.happened_at, t.subscription_plan_id, t.pay_as_you_go_package_id, k.currency,
            0, 0, 0, m.direction * k.money_amount
        from public.credit_clawbacks as k
        inner join public.credit_grants as g on g.id = k.grant_id
        inner join public.credit_transactions as t on t.id = g.transaction_id
        cross join lateral (values (k.created_at, 1), (k.reversed_at, -1)) as m (happened_at, direction)
        where m.happened_at >= c_from and m.happened_at < c_before and k.money_amount is not null
    )
    select
        (m.happened_at at time zone 'UTC')::date, m.subscription_plan_id, m.pay_as_you_go_package_id, m.currency,
        sum(m.payments), sum(m.credits), sum(m.received), sum(m.returned)
    from movements as m
    group by 1, 2, 3, 4;
end;
$$;

grant execute on function private.count_sales(date, date) to authenticated, service_role;

-- Counts the operations of the days from p_from to before p_before from the ledger and the providers' calls: those of
-- one account, or of all (null). A charge earns what the credits it took had been bought for.
create function private.count_operations(p_from date, p_before date, p_user_id uuid)
returns setof private.daily_operations
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
declare
    c_from constant timestamptz := p_from::timestamp at time zone 'UTC';
    c_before constant timestamptz := p_before::timestamp at time zone 'UTC';
begin
    return query
    with entries as (
        select
            (t.created_at at time zone 'UTC')::date as day, coalesce(t.metadata ->> 'operation_type', 'other') as kind,
            case when t.transaction_type = 'usage' then 1 else -1 end as direction, t.allocations
        from public.credit_transactions as t
        where
            t.created_at >= c_from and t.created_at < c_before and (p_user_id is null or t.user_id = p_user_id)
            and (t.transaction_type = 'usage' or t.refunded_transaction_id is not null)
    ),
    facts as (
        select
            e.day, e.kind, null as currency, e.direction as operations, 0 as credits, 0::numeric as earned,
            0 as provider_calls, 0 as unpriced_calls, 0::numeric as provider_cost
        from entries as e
        union all
        select
            e.day, e.kind, g.currency, 0, -a.amount, coalesce(-a.amount * g.money_amount / g.amount, 0),
            0, 0, 0
        from entries as e
        cross join unnest(e.allocations) as a
        inner join public.credit_grants as g on g.id = a.grant_id
        union all
        select
            (l.created_at at time zone 'UTC')::date, l.operation_type, 'USD', 0, 0, 0,
            1, (l.cost is null)::integer, coalesce(l.cost, 0)
        from public.api_usage_logs as l
        where l.created_at >= c_from and l.created_at < c_before and (p_user_id is null or l.user_id = p_user_id)
    )
    select
        f.day, f.kind, f.currency, sum(f.operations), sum(f.credits), sum(f.earned),
        sum(f.provider_calls), sum(f.unpriced_calls), sum(f.provider_cost)
    from facts as f
    group by 1, 2, 3;
end;
$$;

grant execute on function private.count_operations(date, date, uuid) to authenticated, service_role;

-- The accounts that were charged in the days from p_from to before p_before, each month once.
create function private.count_active_months(p_from date, p_before date)
returns setof private.active_months
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
declare
    c_from constant timestamptz := p_from::timestamp at time zone 'UTC';
    c_before constant timestamptz := p_before::timestamp at time zone 'UTC';
begin
    return query
    select date_trunc('month', p.created_at at time zone 'UTC')::date, a.month, a.user_id
    from (
        select distinct t.user_id, date_trunc('month', t.created_at at time zone 'UTC')::date as month
        from public.credit_transactions as t
        where t.created_at >= c_from and t.created_at < c_before and t.transaction_type = 'usage'
    ) as a
    inner join public.profiles as p on p.id = a.user_id;
end;
$$;

grant execute on function private.count_active_months(date, date) to authenticated, service_role;

-- The days from p_from to before p_before that are not kept, as ranges.
create function private.uncounted_days(p_from date, p_before date)
returns table (first_day date, next_day date)
language plpgsql
stable
set search_path = ''
as $$
begin
    return query
    select lower(r.days), upper(r.days)
    from unnest(
        datemultirange(daterange(p_from, p_before)) - coalesce(
            (
                select range_agg(daterange(c.day, c.day + 1)) from private.counted_days as c
                where c.day >= p_from and c.day < p_before
            ), '{}'
        )
    ) as r (days);
end;
$$;

grant execute on function private.uncounted_days(date, date) to authenticated, service_role;

-- Keeps the refresh and the deletion of accounts apart, and deletions from each other: they touch the same days.
create function private.lock_daily_totals()
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('private.counted_days', 0));
end;
$$;

-- Counts the oldest p_limit of the days that are over and not kept; with p_from, drops the days from there on first.
-- Returns how many are still to be counted.
--
-- An entry carries the time at which its transaction began, and may appear after the day was counted. So a day is
-- counted when it has been over for an hour, and the newest two days are counted anew each time.
create function public.refresh_stats(p_from date default null, p_limit integer default 100)
returns integer
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    c_today constant date := ((now() - interval '1 hour') at time zone 'UTC')::date;
    v_first date;
    v_missing date[];
    v_range record;
begin
    perform private.check_limit(p_limit, 10000);
    perform private.lock_daily_totals();
    delete from private.counted_days as c where c.day >= least(p_from, c_today - 2);
    v_first := least(
        (select (min(t.created_at) at time zone 'UTC')::date from public.credit_transactions as t),
        (select (min(l.created_at) at time zone 'UTC')::date from public.api_usage_logs as l),
        c_today
    );
    v_missing := array(
        select d::date from private.uncounted_days(v_first, c_today) as u
        cross join generate_series(u.first_day::timestamp, u.next_day - interval '1 day', interval '1 day') as d
        order by d
    );
    for v_range in
        select u.first_day, u.next_day
        from private.uncounted_days(
            v_first, coalesce(v_missing[least(p_limit, cardinality(v_missing))] + 1, v_first)
        ) as u
    loop
        insert into private.counted_days (day)
        select d::date
        from generate_series(v_range.first_day::timestamp, v_range.next_day - interval '1 day', interval '1 day') as d;
        insert into private.daily_sales
        select s.* from private.count_sales(v_range.first_day, v_range.next_day) as s;
        insert into private.daily_operations
        select o.* from private.count_operations(v_range.first_day, v_range.next_day, null) as o;
        insert into private.active_months
        select m.* from private.count_active_months(v_range.first_day, v_range.next_day) as m
        on conflict do nothing;
    end loop;
    return greatest(cardinality(v_missing) - p_limit, 0);
end;
$$;

comment on function public.refresh_stats(date, integer) is
'Counts up to p_limit (1 to 10000) of the days that are over and not counted yet, so that the stats functions are '
'fast, and returns how many are left: call again until it is 0. With p_from, which only the first of these calls '
'carries, everything from that day on is counted again. Safe at any time; once a day is plenty. Error: 400 bad limit.';
grant execute on function public.refresh_stats(date, integer) to service_role;

-- Keeps an account's operations when it goes, and drops the days that it was part of.
-- Its name puts it before the trigger that keeps the account's ledger, which the lock protects as well.
create function private.keep_account_operations()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.lock_daily_totals();
    insert into private.closed_account_operations as c
    select
        date_trunc('month', o.day::timestamp)::date, o.operation_type, o.currency, sum(o.operations), sum(o.credits),
        sum(o.earned), sum(o.provider_calls), sum(o.unpriced_calls), sum(o.provider_cost)
    from private.count_operations('-infinity', 'infinity', old.id) as o
    group by 1, 2, 3
    on conflict on constraint closed_account_operations_key do update set
        operations = c.operations + excluded.operations,
        credits = c.credits + excluded.credits,
        earned = c.earned + excluded.earned,
        provider_calls = c.provider_calls + excluded.provider_calls,
        unpriced_calls = c.unpriced_calls + excluded.unpriced_calls,
        provider_cost = c.provider_cost + excluded.provider_cost;

    delete from private.active_months as m
    where m.cohort = date_trunc('month', old.created_at at time zone 'UTC')::date and m.user_id = old.id;
    delete from private.counted_days as c
    where c.day in (
        select (t.created_at at time zone 'UTC')::date from public.credit_transactions as t where t.user_id = old.id
        union
        select (l.created_at at time zone 'UTC')::date from public.api_usage_logs as l where l.user_id = old.id
        union
        select (m.happened_at at time zone 'UTC')::date from public.credit_clawbacks as k
        cross join lateral (values (k.created_at), (k.reversed_at)) as m (happened_at)
        where k.user_id = old.id
    );
    return old;
end;
$$;

create trigger keep_account_operations
before delete on public.profiles
for each row execute function private.keep_account_operations();

-- The figures of the business, for admins and operators: what came in, what operations earn and cost, how visitors
-- become customers, who comes back, and how the queue does. Months and days are UTC, and money is never added across
-- currencies.
--
-- These functions run as their caller. Row level security lets an admin read everything, and would let anybody else
-- read his own rows, which is no figure of the business: hence the gate.

-- Checks who asks, and for which months: both included, named by any of their days. Without an end it is the current
-- month, without a beginning a year. Returns the first day and the day after the last.
create function private.stats_period(p_first_month date, p_last_month date, out first_day date, out next_day date)
language plpgsql
stable
set search_path = ''
as $$
declare
    -- The cohorts of 36 months have 666 rows of retention; the API gives out 1000 at most, and says nothing of the rest.
    c_most_months constant integer := 36;
    c_last constant date := coalesce(p_last_month, (now() at time zone 'UTC')::date);
begin
    perform private.check_admin();
    if isfinite(c_last) and isfinite(coalesce(p_first_month, c_last)) then
        next_day := date_trunc('month', c_last::timestamp) + interval '1 month';
        first_day := coalesce(date_trunc('month', p_first_month::timestamp), next_day - interval '12 months');
        if first_day < next_day and first_day >= next_day - make_interval(months => c_most_months) then
            return;
        end if;
    end if;
    perform private.refuse(
        'PT400', format('The period must have 1 to %s months', c_most_months),
        jsonb_build_object('p_first_month', p_first_month, 'p_last_month', p_last_month),
        'Pass a day of the first month and one of the last.');
end;
$$;

grant execute on function private.stats_period(date, date) to authenticated, service_role;

create function public.stats_revenue(p_first_month date default null, p_last_month date default null)
returns table (
    month date,
    product_type text,
    product_id uuid,
    product text,
    currency text,
    payments bigint,
    credits bigint,
    received numeric,
    returned numeric,
    net numeric
)
language plpgsql
stable
set search_path = ''
as $$
declare
    v_period record := private.stats_period(p_first_month, p_last_month);
begin
    return query
    with sales as (
        select s.* from private.daily_sales as s
        where s.day >= v_period.first_day and s.day < v_period.next_day
        union all
        select s.* from private.uncounted_days(v_period.first_day, v_period.next_day) as u
        cross join private.count_sales(u.first_day, u.next_day) as s
        union all
        select
            c.month, c.subscription_plan_id, c.pay_as_you_go_package_id, c.currency,
            c.transaction_count, c.credits,
            case when c.transaction_type not in ('clawback', 'clawback_reversal') then c.money_amount else 0 end,
            case c.transaction_type
                when 'clawback' then c.money_amount when 'clawback_reversal' then -c.money_amount else 0
            end
        from public.closed_account_totals as c
        where c.month >= v_period.first_day and c.month < v_period.next_day and c.currency is not null
    ),
    monthly as (
        select
            date_trunc('month', s.day::timestamp)::date as month, s.subscription_plan_id, s.pay_as_you_go_package_id,
            s.currency, sum(s.payments)::bigint as payments, sum(s.credits)::bigint as credits,
            sum(s.received) as received, sum(s.returned) as returned
        from sales as s
        group by 1, 2, 3, 4
    )
    select
        m.month,
        case
            when m.subscription_plan_id is not null then 'plan'
            when m.pay_as_you_go_package_id is not null then 'package'
            else 'other'
        end,
        coalesce(m.subscription_plan_id, m.pay_as_you_go_package_id),
        coalesce(plan.name, package.name, 'other'),
        m.currency, m.payments, m.credits, m.received, m.returned, m.received - m.returned
    from monthly as m
    left join public.subscription_plans as plan on plan.id = m.subscription_plan_id
    left join public.pay_as_you_go_packages as package on package.id = m.pay_as_you_go_package_id
    order by 1, 2, 4, 5;
end;
$$;

comment on function public.stats_revenue(date, date) is
'Admins and operators: money by month, product and currency: received for credits, returned by clawbacks (less their '
'reversals, each in its own month), and the difference. credits are those sold. Purchases that were booked without '
'their money are in revenue_analytics only. Months by any of their days; without them, the last twelve. '
'Errors: 400 bad period, 403 not an admin.';
grant execute on function public.stats_revenue(date, date) to authenticated, service_role;

create function public.stats_margins(p_first_month date default null, p_last_month date default null)
returns table (
    month date,
    operation_type text,
    operations bigint,
    credits bigint,
    free_credits bigint,
    earned jsonb,
    provider_calls bigint,
    unpriced_calls bigint,
    provider_cost numeric,
    margin numeric
)
language plpgsql
stable
set search_path = ''
as $$
declare
    v_period record := private.stats_period(p_first_month, p_last_month);
begin
    return query
    with totals as (
        select o.* from private.daily_operations as o
        where o.day >= v_period.first_day and o.day < v_period.next_day
        union all
        select o.* from private.uncounted_days(v_period.first_day, v_period.next_day) as u
        cross join private.count_operations(u.first_day, u.next_day, null) as o
        union all
        select c.* from private.closed_account_operations as c
        where c.month >= v_period.first_day and c.month < v_period.next_day
    ),
    by_currency as (
        select
            date_trunc('month', t.day::timestamp)::date as month, t.operation_type, t.currency,
            sum(t.operations)::bigint as operations, sum(t.credits)::bigint as credits,
            round(sum(t.earned), 4) as earned, sum(t.provider_calls)::bigint as provider_calls,
            sum(t.unpriced_calls)::bigint as unpriced_calls, sum(t.provider_cost) as provider_cost
        from totals as t
        group by 1, 2, 3
    )
    select
        b.month, b.operation_type, sum(b.operations)::bigint, sum(b.credits)::bigint,
        coalesce(sum(b.credits) filter (where b.currency is null), 0)::bigint,
        coalesce(jsonb_object_agg(b.currency, b.earned) filter (where b.earned <> 0), '{}'),
        sum(b.provider_calls)::bigint, sum(b.unpriced_calls)::bigint, sum(b.provider_cost),
        case
            when bool_and(b.currency = 'USD' or b.earned = 0) then sum(b.earned) - sum(b.provider_cost)
        end
    from by_currency as b
    group by b.month, b.operation_type
    order by 1, 2;
end;
$$;

comment on function public.stats_margins(date, date) is
'Admins and operators: by month and operation: charges and credits less refunds, each in its own month; how many of '
'the credits had been free; earned: an object of the money by currency that the others had been bought for; what '
'providers cost in USD, where unpriced_calls are calls whose cost nobody knows; and the margin in USD, null where '
'something was earned in another currency. Usage without an operation is "other". Months by any of their days; '
'without them, the last twelve. Errors: 400 bad period, 403 not an admin.';
grant execute on function public.stats_margins(date, date) to authenticated, service_role;

create function public.stats_funnel(p_first_month date default null, p_last_month date default null)
returns table (month date, signed_up bigint, uploaded bigint, operated bigint, paid bigint)
language plpgsql
stable
set search_path = ''
as $$
declare
    v_period record := private.stats_period(p_first_month, p_last_month);
begin
    return query
    select
        date_trunc('month', p.created_at at time zone 'UTC')::date,
        count(*),
        -- The log remembers the uploads of pictures that were deleted; the pictures are there when it was pruned.
        count(*) filter (where exists (
            select 1 from public.images as i where i.user_id = p.id and i.original_url is not null
        ) or exists (
            select 1 from public.user_activity_logs as l where l.user_id = p.id and l.activity_type = 'upload'
        )),
        count(*) filter (where p.total_credits_used > 0),
        count(*) filter (where p.total_credits_purchased > 0)
    from public.profiles as p
    where
        p.created_at >= v_period.first_day::timestamp at time zone 'UTC'
        and p.created_at < v_period.next_day::timestamp at time zone 'UTC'
    group by 1
    order by 1;
end;
$$;

comment on function public.stats_funnel(date, date) is
'Admins and operators: by month of sign-up: accounts, and how many of them have uploaded a picture, have spent credits '
'that were not refunded, and have bought credits, until now. The steps are counted independently: lettering '
'needs no upload. Deleted accounts are not counted. Months by any of their days; without them, the last twelve. '
'Errors: 400 bad period, 403 not an admin.';
grant execute on function public.stats_funnel(date, date) to authenticated, service_role;

create function public.stats_retention(p_first_month date default null, p_last_month date default null)
returns table (cohort date, accounts bigint, month date, month_number integer, active bigint)
language plpgsql
stable
set search_path = ''
as $$
declare
    v_period record := private.stats_period(p_first_month, p_last_month);
begin
    return query
    with cohorts as (
        select date_trunc('month', p.created_at at time zone 'UTC')::date as cohort, count(*) as accounts
        from public.profiles as p
        where
            p.created_at >= v_period.first_day::timestamp at time zone 'UTC'
            and p.created_at < v_period.next_day::timestamp at time zone 'UTC'
        group by 1
    ),
    activity as (
        select a.cohort, a.month, count(*) as active from private.active_months as a
        where a.cohort >= v_period.first_day and a.month < v_period.next_day
        group by 1, 2
        union all
        select n.cohort, n.month, count(distinct n.user_id)
        from private.uncounted_days(v_period.first_day, v_period.next_day) as u
        cross join private.count_active_months(u.first_day, u.next_day) as n
        where n.cohort >= v_period.first_day and not exists (
            select 1 from private.active_months as a
            where a.cohort = n.cohort and a.month = n.month and a.user_id = n.user_id
        )
        group by 1, 2
    )
    select
        c.cohort, c.accounts, m.month::date, (row_number() over (partition by c.cohort order by m.month) - 1)::integer,
        coalesce(sum(a.active), 0)::bigint
    from cohorts as c
    cross join generate_series(c.cohort::timestamp, v_period.next_day - interval '1 day', interval '1 month') as m (month)
    left join activity as a on a.cohort = c.cohort and a.month = m.month
    group by c.cohort, c.accounts, m.month
    order by 1, 3;
end;
$$;

comment on function public.stats_retention(date, date) is
'Admins and operators: for the accounts that signed up in each month, how many were charged for an operation in that '
'month (month_number 0) and in each one after, up to the last month. Deleted accounts are not counted. Months by any '
'of their days; without them, the last twelve. Errors: 400 bad period, 403 not an admin.';
grant execute on function public.stats_retention(date, date) to authenticated, service_role;

create function public.stats_queue()
returns table (
    operation_type text, waiting bigint, oldest_wait_seconds numeric, delayed bigint, running bigint, lost bigint
)
language plpgsql
stable
set search_path = ''
as $$
begin
    perform private.check_admin();
    return query
    select
        o.operation_type,
        count(*) filter (where o.status = 'pending' and o.run_after <= now()),
        round(extract(epoch from now() - min(o.run_after) filter (where o.status = 'pending' and o.run_after <= now())), 3),
        count(*) filter (where o.status = 'pending' and o.run_after > now()),
        count(*) filter (where o.status = 'processing'),
        count(*) filter (where o.status = 'processing' and o.lease_expires_at < now())
    from public.image_operations as o
    -- Each by the index that claims have for it; `in`, and whether it has ended, would read an entry of every operation.
    where o.status = 'pending' or o.status = 'processing'
    group by o.operation_type
    order by o.operation_type;
end;
$$;

comment on function public.stats_queue() is
'Admins and operators: the queue at this moment, by operation: waiting for a worker, and for how long the first has '
'been due; delayed until their next attempt; running, and of these lost: their worker has not been heard of in time. '
'No row where nothing waits or runs. Error: 403 not an admin.';
grant execute on function public.stats_queue() to authenticated, service_role;

create function public.stats_engines(p_from timestamptz default null, p_to timestamptz default null)
returns table (
    api_provider text,
    operation_type text,
    completed bigint,
    failed bigint,
    failure_rate numeric,
    retried bigint,
    wait_p50_seconds numeric,
    wait_p95_seconds numeric,
    run_p50_seconds numeric,
    run_p95_seconds numeric
)
language plpgsql
stable
set search_path = ''
-- Percentiles sort; the window may be long.
set work_mem = '64MB'
as $$
declare
    c_to constant timestamptz := coalesce(p_to, now());
    c_from constant timestamptz := coalesce(p_from, c_to - interval '24 hours');
begin
    perform private.check_admin();
    if c_from >= c_to then
        perform private.refuse(
            'PT400', 'The period must end after it begins', jsonb_build_object('p_from', c_from, 'p_to', c_to),
            'Without them it is the last 24 hours.');
    end if;
    return query
    select
        e.api_provider, e.operation_type, e.completed, e.failed,
        round(e.failed::numeric / nullif(e.completed + e.failed, 0), 4), e.retried,
        round(e.waits[1]::numeric, 3), round(e.waits[2]::numeric, 3),
        round(e.runs[1]::numeric, 3), round(e.runs[2]::numeric, 3)
    from (
        select
            o.api_provider, o.operation_type,
            count(*) filter (where o.status = 'completed') as completed,
            count(*) filter (where o.status = 'failed') as failed,
            count(*) filter (where o.attempts > 1) as retried,
            percentile_cont('{0.5,0.95}'::float8 []) within group (order by extract(epoch from o.started_at - o.run_after))
                as waits,
            percentile_cont('{0.5,0.95}'::float8 []) within group (
                order by extract(epoch from o.completed_at - o.started_at)
            ) filter (where o.status = 'completed') as runs
        from public.image_operations as o
        where o.created_at >= c_from and o.created_at < c_to and o.status in ('completed', 'failed')
        group by o.api_provider, o.operation_type
    ) as e
    order by 1, 2;
end;
$$;

comment on function public.stats_engines(timestamptz, timestamptz) is
'Admins and operators: by engine and operation, of what was requested in the period (the last 24 hours) and has ended: '
'completed, failed (cancelled ones are neither), the rate of failure, how many took more than one attempt; median '
'and 95th percentile of the wait, from when the last attempt was due to its start, and of the run, from there to the '
'completion. An operation that never reached an engine is "unassigned". Errors: 400 bad period, 403 not an admin.';
grant execute on function public.stats_engines(timestamptz, timestamptz) to authenticated, service_role;

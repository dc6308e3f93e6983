-- Proves the ledger: one row for each violated invariant, none on a sound database.
--
-- It reads every entry of every account in one snapshot and locks nothing. The constraints of the tables already
-- forbid some of what it looks for; it trusts none of them.
create function public.verify_ledger()
returns table (user_id uuid, invariant text, detail jsonb)
language sql
stable
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
    -- What every entry is: its place in the chain, whose credits it moved, in which direction.
    with entries as (
        select
            t.id,
            t.user_id,
            t.seq,
            t.transaction_type,
            t.amount,
            t.balance_before,
            t.balance_after,
            t.refunded_transaction_id,
            t.clawback_id,
            t.balance_after::bigint - t.balance_before as change,
            coalesce(lag(t.balance_after) over account, 0) as expected_before,
            row_number() over account as expected_seq,
            lead(t.id) over account is null as is_last,
            g.id as grant_id,
            a.amount as allocated,
            a.smallest,
            a.largest,
            a.is_odd,
            t.transaction_type in ('usage', 'expiration', 'clawback') as is_debit,
            t.transaction_type = 'clawback_reversal' or t.refunded_transaction_id is not null as is_return
        from public.credit_transactions as t
        left join public.credit_grants as g on g.transaction_id = t.id
        cross join lateral (
            select
                sum(a.amount) as amount, min(a.amount) as smallest, max(a.amount) as largest,
                -- No key or constraint keeps an array from naming a grant twice, or nothing.
                count(*) > count(distinct a.grant_id) filter (where a.amount <> 0) as is_odd
            from unnest(t.allocations) as a
        ) as a
        window account as (partition by t.user_id order by t.seq)
    ),
    -- A usage and its refund, a clawback and its reversal, have one origin.
    allocations as materialized (
        select
            t.id as transaction_id, t.user_id, t.transaction_type, a.grant_id, a.amount,
            coalesce(t.refunded_transaction_id, t.clawback_id, t.id) as origin_id
        from public.credit_transactions as t
        cross join unnest(t.allocations) as a
    ),
    accounts as (
        select
            t.user_id,
            sum(t.change) as balance,
            max(t.seq) as seq,
            count(*) as entries,
            max(t.balance_after) filter (where t.is_last) as last_balance,
            coalesce(sum(t.amount) filter (where t.transaction_type = 'purchase'), 0) as purchased,
            coalesce(sum(t.amount) filter (where t.transaction_type = 'usage'), 0)
            - coalesce(sum(t.amount) filter (where t.refunded_transaction_id is not null), 0) as used
        from entries as t
        group by t.user_id
    ),
    granted as (
        select g.user_id, sum(g.remaining) as remaining from public.credit_grants as g group by g.user_id
    ),
    owed as (
        select c.user_id, sum(c.owed) as owed from public.credit_clawbacks as c group by c.user_id
    ),
    totals as (
        select
            p.id,
            p.credits_remaining,
            p.ledger_version,
            p.total_credits_purchased,
            p.total_credits_used,
            p.credit_debt,
            coalesce(t.balance, 0) as balance,
            coalesce(t.last_balance, 0) as last_balance,
            coalesce(t.seq, 0) as seq,
            coalesce(t.entries, 0) as entries,
            coalesce(t.purchased, 0) as purchased,
            coalesce(t.used, 0) as used,
            coalesce(g.remaining, 0) as remaining,
            coalesce(o.owed, 0) as owed
        from public.profiles as p
        left join accounts as t on t.user_id = p.id
        left join granted as g on g.user_id = p.id
        left join owed as o on o.user_id = p.id
    ),
    by_grant as (
        select
            a.grant_id,
            sum(a.amount) as amount,
            -coalesce(sum(a.amount) filter (where a.transaction_type = 'expiration'), 0) as expired
        from allocations as a
        group by a.grant_id
    ),
    -- Of what came back. Together with what was taken it never gives a grant more than that.
    origins as (
        select a.origin_id, a.grant_id, (array_agg(a.user_id))[1] as user_id, sum(a.amount) as amount
        from allocations as a
        where a.origin_id in (select r.origin_id from allocations as r where r.amount > 0)
        group by a.origin_id, a.grant_id
    ),
    taken as (
        select t.clawback_id, -sum(t.change) as amount from entries as t
        where t.clawback_id is not null
        group by t.clawback_id
    )
    select c.user_id, 'chain unbroken', jsonb_build_object(
        'transaction_id', c.id, 'seq', c.seq, 'expected_seq', c.expected_seq,
        'balance_before', c.balance_before, 'expected_before', c.expected_before)
    from entries as c
    where c.seq <> c.expected_seq or c.balance_before <> c.expected_before
    union all
    select c.user_id, 'entry adds up and is not negative', jsonb_build_object('transaction_id', c.id)
    from entries as c
    where
        c.change <> case when c.is_debit then -c.amount else c.amount end
        or c.amount <= 0 or least(c.balance_before, c.balance_after) < 0
    union all
    select t.id, 'balance equals the ledger', jsonb_build_object(
        'credits_remaining', t.credits_remaining, 'ledger_balance', t.balance, 'last_balance', t.last_balance,
        'ledger_version', t.ledger_version, 'ledger_seq', t.seq, 'entries', t.entries)
    from totals as t
    where
        t.credits_remaining <> t.balance or t.credits_remaining <> t.last_balance or t.credits_remaining < 0
        or t.ledger_version <> t.seq or t.ledger_version <> t.entries
    union all
    select t.id, 'totals equal the ledger', jsonb_build_object(
        'total_credits_purchased', t.total_credits_purchased, 'purchased', t.purchased,
        'total_credits_used', t.total_credits_used, 'used', t.used)
    from totals as t
    where
        t.total_credits_purchased <> least(t.purchased, 2147483647)
        or t.total_credits_used <> least(t.used, 2147483647)
    union all
    select t.id, 'balance equals the grants', jsonb_build_object(
        'credits_remaining', t.credits_remaining, 'remaining', t.remaining)
    from totals as t
    where t.credits_remaining <> t.remaining
    union all
    select t.id, 'debt equals the clawbacks', jsonb_build_object('credit_debt', t.credit_debt, 'owed', t.owed)
    from totals as t
    where t.credit_debt <> t.owed
    union all
    select g.user_id, 'grant adds up', jsonb_build_object(
        'grant_id', g.id, 'amount', g.amount, 'remaining', g.remaining, 'allocated', coalesce(a.amount, 0))
    from public.credit_grants as g
    left join by_grant as a on a.grant_id = g.id
    where
        g.remaining <> g.amount + coalesce(a.amount, 0) or g.remaining not between 0 and g.amount
        or g.is_spent <> (g.remaining = 0)
    union all
    select g.user_id, 'grant matches its entry', jsonb_build_object(
        'grant_id', g.id, 'transaction_id', g.transaction_id)
    from public.credit_grants as g
    left join public.credit_transactions as e on e.id = g.transaction_id
    where (g.user_id, g.amount, g.seq) is distinct from (e.user_id, e.amount, e.seq)
    union all
    select e.user_id, 'entry is granted or allocated', jsonb_build_object(
        'transaction_id', e.id, 'change', e.change, 'grant_id', e.grant_id, 'allocated', e.allocated)
    from entries as e
    where
        case
            when e.is_debit then e.grant_id is not null or e.allocated is distinct from e.change or e.largest > 0
            when e.is_return then e.grant_id is not null or e.allocated is distinct from e.change or e.smallest < 0
            else e.grant_id is null or e.allocated is not null
        end
        or e.is_odd
    union all
    select a.user_id, 'allocation stays in its account', jsonb_build_object(
        'transaction_id', a.transaction_id, 'grant_id', a.grant_id)
    from allocations as a
    left join public.credit_grants as g on g.id = a.grant_id
    where g.user_id is distinct from a.user_id
    union all
    select o.user_id, 'nothing comes back that was not taken', jsonb_build_object(
        'origin_id', o.origin_id, 'grant_id', o.grant_id, 'surplus', o.amount)
    from origins as o
    where o.amount > 0
    union all
    select r.user_id, 'refund equals its usage', jsonb_build_object('transaction_id', r.id, 'refunded', t.id)
    from public.credit_transactions as r
    inner join public.credit_transactions as t on t.id = r.refunded_transaction_id
    where
        (r.transaction_type, t.transaction_type) <> ('refund', 'usage')
        or (r.user_id, r.amount) <> (t.user_id, t.amount)
    union all
    select c.user_id, 'clawback adds up', jsonb_build_object(
        'clawback_id', c.id, 'amount', c.amount, 'owed', c.owed, 'expired', c.expired, 'taken', coalesce(t.amount, 0),
        'reversed_at', c.reversed_at)
    from public.credit_clawbacks as c
    left join taken as t on t.clawback_id = c.id
    where
        least(c.owed, c.expired) < 0
        or c.owed + coalesce(t.amount, 0) <> case when c.reversed_at is null then c.amount - c.expired else 0 end
    union all
    select c.user_id, 'clawbacks fit their grant', jsonb_build_object(
        'grant_id', c.grant_id, 'amount', g.amount, 'clawed_back', sum(c.amount), 'expired', coalesce(e.expired, 0),
        'counted_as_expired', sum(c.expired))
    from public.credit_clawbacks as c
    left join public.credit_grants as g on g.id = c.grant_id and g.user_id = c.user_id
    left join by_grant as e on e.grant_id = c.grant_id
    where c.reversed_at is null
    group by c.user_id, c.grant_id, g.amount, e.expired
    having g.amount is null or sum(c.amount) > g.amount or sum(c.expired) > coalesce(e.expired, 0);
$$;

comment on function public.verify_ledger() is
'Returns each violated invariant of the ledger: none on a sound database.';
grant execute on function public.verify_ledger() to service_role;

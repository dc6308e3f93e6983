-- What stays of an account that is deleted: its part in the books, summed up with that of all others.

create table public.closed_account_totals (
    id uuid primary key default gen_random_uuid(),
    month date not null,
    transaction_type text not null,
    subscription_plan_id uuid references public.subscription_plans (id),
    pay_as_you_go_package_id uuid references public.pay_as_you_go_packages (id),
    currency text,
    transaction_count bigint not null default 0,
    paid_transactions bigint not null default 0,
    credits bigint not null default 0,
    money_amount numeric(16, 2) not null default 0,
    constraint closed_account_totals_key
    unique nulls not distinct (month, transaction_type, subscription_plan_id, pay_as_you_go_package_id, currency)
);

comment on table public.closed_account_totals is
'The ledgers of deleted accounts, added up by month (UTC), type and product, so that revenue stays true without them. '
'It says nothing about whose they were. Admins read it; only the deletion of an account writes.';
comment on column public.closed_account_totals.currency is 'Null where no money moved.';
comment on column public.closed_account_totals.money_amount is
'Money that moved in the direction of the type: received by a purchase, returned by a clawback, and received again by '
'its reversal.';

create index idx_closed_account_totals_subscription_plan_id on public.closed_account_totals (subscription_plan_id);
create index idx_closed_account_totals_pay_as_you_go_package_id
on public.closed_account_totals (pay_as_you_go_package_id);

alter table public.closed_account_totals enable row level security;

create policy "Admins view the totals of closed accounts" on public.closed_account_totals
for select to authenticated
using ((select private.is_admin()));

grant select on public.closed_account_totals to authenticated, service_role;

-- Adds the ledger of an account to the totals before it goes. In the order of the key, so that two accounts that are
-- deleted at once wait for each other in one direction only.
create function private.keep_account_totals()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    insert into public.closed_account_totals as c (
        month, transaction_type, subscription_plan_id, pay_as_you_go_package_id, currency,
        transaction_count, paid_transactions, credits, money_amount
    )
    select
        date_trunc('month', e.happened_at at time zone 'UTC')::date, e.transaction_type, e.subscription_plan_id,
        e.pay_as_you_go_package_id, e.currency, sum(e.entries), sum(e.paid), sum(e.credits),
        sum(coalesce(e.money_amount, 0))
    from (
        select
            t.created_at, t.transaction_type, t.subscription_plan_id, t.pay_as_you_go_package_id, g.currency,
            1, (t.stripe_payment_intent_id is not null)::integer, t.amount, g.money_amount
        from public.credit_transactions as t
        left join public.credit_grants as g on g.transaction_id = t.id
        where t.user_id = old.id
        union all
        -- A clawback is one movement of money, however many entries it takes to get the credits back, and none for
        -- what is still owed.
        select
            m.happened_at, m.transaction_type, t.subscription_plan_id, t.pay_as_you_go_package_id, k.currency,
            0, 0, 0, k.money_amount
        from public.credit_clawbacks as k
        inner join public.credit_grants as g on g.id = k.grant_id
        inner join public.credit_transactions as t on t.id = g.transaction_id
        cross join lateral (
            values (k.created_at, 'clawback'), (k.reversed_at, 'clawback_reversal')
        ) as m (happened_at, transaction_type)
        where k.user_id = old.id and k.money_amount is not null and m.happened_at is not null
    ) as e (
        happened_at, transaction_type, subscription_plan_id, pay_as_you_go_package_id, currency,
        entries, paid, credits, money_amount
    )
    group by 1, 2, 3, 4, 5
    order by 1, 2, 3, 4, 5
    on conflict on constraint closed_account_totals_key do update set
        transaction_count = c.transaction_count + excluded.transaction_count,
        paid_transactions = c.paid_transactions + excluded.paid_transactions,
        credits = c.credits + excluded.credits,
        money_amount = c.money_amount + excluded.money_amount;
    return old;
end;
$$;

create trigger keep_account_totals
before delete on public.profiles
for each row execute function private.keep_account_totals();

-- Billing: what was ordered, and what Stripe told.
--
-- Stripe knows what was paid, the ledger what it bought. Events only say that something changed: the service reads the
-- object again and hands it over as facts; the functions of the next files make the ledger agree with them. So events
-- may come in any order and any number.

alter table public.subscription_plans
add column stripe_product_id text unique,
add column credit_rollover_months integer default 1 check (credit_rollover_months between 0 and 120),
add column trial_days integer not null default 0 check (trial_days between 0 and 365),
add column trial_credits integer not null default 0 check (trial_credits between 0 and 1000000);

comment on column public.subscription_plans.stripe_product_id is
'The product of all its prices in Stripe: a changed amount is a new price of the same product.';
comment on column public.subscription_plans.credit_rollover_months is
'The credits of a period expire this many months after its end; null: never.';
comment on column public.subscription_plans.trial_credits is 'Credits for a trial, which expire when it ends.';

grant insert (credit_rollover_months, trial_days, trial_credits) on public.subscription_plans to authenticated;
grant update (credit_rollover_months, trial_days, trial_credits) on public.subscription_plans to authenticated;

alter table public.pay_as_you_go_packages add column stripe_product_id text unique;

comment on column public.pay_as_you_go_packages.stripe_product_id is 'The product of all its prices in Stripe.';

-- Events name a customer, also one that was deleted since and replaced by another.
create table public.stripe_customers (
    id text primary key check (char_length(id) between 1 and 255),
    user_id uuid not null references public.profiles (id) on delete cascade,
    email text,
    created_at timestamptz not null default now()
);

comment on table public.stripe_customers is
'The customers in Stripe that an account has, or had; profiles.stripe_customer_id is the one it uses. Admins read; '
'only the billing functions write.';
comment on column public.stripe_customers.email is
'The account''s address as Stripe was told it last. What customers enter for their invoices themselves stays there.';

create index idx_stripe_customers_user_id on public.stripe_customers (user_id);

alter table public.stripe_customers enable row level security;

create policy "Admins view customers" on public.stripe_customers
for select to authenticated
using ((select private.is_admin()));

grant select on public.stripe_customers to authenticated, service_role;

-- A refund names a payment; its credits are found by it.
create index idx_credit_transactions_stripe_payment_intent_id on public.credit_transactions (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;

alter table public.subscription_history
add column current_period_end timestamptz,
add column cancel_at timestamptz;

comment on column public.subscription_history.cancelled_at is 'When its end was asked for.';
comment on column public.subscription_history.cancel_at is 'When it will end; null while it goes on.';

-- A subscription has one row, which follows it.
create unique index subscription_history_stripe_subscription_id_key
on public.subscription_history (stripe_subscription_id);

create table public.billing_orders (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    subscription_plan_id uuid references public.subscription_plans (id),
    pay_as_you_go_package_id uuid references public.pay_as_you_go_packages (id),
    credits integer check (credits > 0),
    trial_days integer not null default 0 check (trial_days between 0 and 365),
    stripe_price_id text not null,
    stripe_checkout_session_id text unique,
    status text not null default 'pending' check (status in ('pending', 'paid', 'failed', 'expired')),
    amount numeric(12, 2) check (amount >= 0),
    currency text check (currency ~ '^[A-Z]{3}$'),
    receipt_url text,
    created_at timestamptz not null default now(),
    closed_at timestamptz,
    constraint billing_orders_one_product
    check (num_nonnulls(subscription_plan_id, pay_as_you_go_package_id) = 1),
    constraint billing_orders_credits_of_a_package
    check ((credits is null) = (pay_as_you_go_package_id is null)),
    constraint billing_orders_trial_of_a_plan check (trial_days = 0 or subscription_plan_id is not null),
    constraint billing_orders_money_has_currency check ((amount is null) = (currency is null)),
    constraint billing_orders_closed check ((status = 'pending') = (closed_at is null))
);

comment on table public.billing_orders is
'What an account went to the payment page for. A user reads his own, an admin all; only the billing functions write.';
comment on column public.billing_orders.credits is
'What the package promised when it was ordered, whatever it says later; null for a plan.';
comment on column public.billing_orders.trial_days is 'How long the plan is free, as promised when it was ordered.';
comment on column public.billing_orders.status is
'pending until Stripe says more; paid also where a delayed payment arrives after all.';
comment on column public.billing_orders.amount is
'What its payment page took, or failed to, in units of the currency, such as 7.99; null until then.';
comment on column public.billing_orders.receipt_url is
'Stripe''s receipt of a package; a plan has one with each of its invoices.';

create index idx_billing_orders_user_id on public.billing_orders (user_id);
create index idx_billing_orders_subscription_plan_id on public.billing_orders (subscription_plan_id);
create index idx_billing_orders_pay_as_you_go_package_id on public.billing_orders (pay_as_you_go_package_id);
-- Two payment pages for plans at once would make two subscriptions.
create unique index billing_orders_one_pending_plan on public.billing_orders (user_id)
where status = 'pending' and subscription_plan_id is not null;

alter table public.billing_orders enable row level security;

create policy "Users view their own orders, admins all" on public.billing_orders
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.billing_orders to authenticated, service_role;

create table public.billing_invoices (
    id text primary key check (char_length(id) between 1 and 255),
    user_id uuid not null references public.profiles (id) on delete cascade,
    stripe_subscription_id text not null,
    subscription_plan_id uuid references public.subscription_plans (id),
    reason text not null,
    status text not null check (status in ('open', 'paid', 'uncollectible', 'void')),
    amount_due numeric(12, 2) not null,
    amount_paid numeric(12, 2) not null,
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    attempts integer not null check (attempts >= 0),
    failed_attempt integer check (failed_attempt between 1 and attempts),
    next_attempt_at timestamptz,
    hosted_url text,
    period_end timestamptz,
    created_at timestamptz not null,
    paid_at timestamptz,
    trouble text
);

comment on table public.billing_invoices is
'The invoices of subscriptions, as Stripe has them; a draft is none yet. A user reads his own, an admin all; only the '
'billing functions write.';
comment on column public.billing_invoices.reason is
'Stripe''s billing_reason: subscription_create, subscription_cycle (a renewal), subscription_update (another plan), '
'manual, and others.';
comment on column public.billing_invoices.amount_due is 'In units of the currency, such as 9.99.';
comment on column public.billing_invoices.attempts is 'How often Stripe tried to collect it.';
comment on column public.billing_invoices.failed_attempt is
'The last attempt that failed, or that waits for the customer''s bank to ask him; null where none did. It grows only.';
comment on column public.billing_invoices.next_attempt_at is 'When Stripe tries again by itself; null: never.';
comment on column public.billing_invoices.hosted_url is 'Stripe''s page to pay it on, and later its receipt.';
comment on column public.billing_invoices.period_end is 'Until when it pays.';
comment on column public.billing_invoices.trouble is
'What of the money it brought could not be placed, for the operator to mend; null where there is nothing.';

create index idx_billing_invoices_user_id on public.billing_invoices (user_id);
create index idx_billing_invoices_subscription_plan_id on public.billing_invoices (subscription_plan_id);
create index idx_billing_invoices_trouble on public.billing_invoices (created_at) where trouble is not null;

alter table public.billing_invoices enable row level security;

create policy "Users view their own invoices, admins all" on public.billing_invoices
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.billing_invoices to authenticated, service_role;

create table public.stripe_events (
    id text primary key check (char_length(id) <= 255),
    type text not null,
    payload jsonb not null default '{}',
    status text not null check (status in ('processed', 'ignored', 'failed')),
    attempts integer not null default 1,
    error text,
    received_at timestamptz not null default now(),
    processed_at timestamptz
);

comment on table public.stripe_events is
'Events of Stripe that were heard, each written in the transaction of its effect. Admins read; only the billing '
'functions write.';
comment on column public.stripe_events.payload is
'Ids only (object, object_id, customer, created). Names and addresses stay in Stripe.';
comment on column public.stripe_events.error is 'Why it failed or was ignored, or what of it was.';

create index idx_stripe_events_received_at on public.stripe_events (received_at);
create index idx_stripe_events_failed on public.stripe_events (received_at) where status = 'failed';

alter table public.stripe_events enable row level security;

create policy "Admins view events" on public.stripe_events
for select to authenticated
using ((select private.is_admin()));

grant select on public.stripe_events to authenticated, service_role;

-- Fencing of reads. Whoever is going to read an object from Stripe takes a ticket first. What was read under a ticket
-- is at least as new as anything read under a lower one, and a lower one that comes later changes nothing.
create sequence private.stripe_read_tickets;

comment on sequence private.stripe_read_tickets is 'Numbers the reads from Stripe in the order in which they began.';

create table private.stripe_reads (
    object_id text primary key,
    ticket bigint not null
);

comment on table private.stripe_reads is 'The ticket under which each object of Stripe was last read and applied.';

alter table private.stripe_reads enable row level security;

-- Whether what was read under this ticket is the newest of the object; if so, it is from now on.
-- Expects the account locked.
create function private.is_newest_read(p_object_id text, p_ticket bigint)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    insert into private.stripe_reads as r (object_id, ticket) values (p_object_id, p_ticket)
    on conflict (object_id) do update set ticket = excluded.ticket where r.ticket < excluded.ticket;
    return found;
end;
$$;

-- Orders.

-- Whether an account may try a plan: it never had one, and no account that had its address before did.
create function private.may_try_plan(p_user_id uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return not exists (
        select 1 from public.subscription_history as h where h.user_id = p_user_id
    ) and not exists (
        select 1 from private.former_addresses as f
        where
            f.address_hash = (
                select private.address_hash(p.email) from public.profiles as p where p.id = p_user_id
            )
            and f.had_plan
    );
end;
$$;

create function public.place_billing_order(p_user_id uuid, p_stripe_price_id text)
returns public.billing_orders
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_profile public.profiles := private.lock_account(p_user_id);
    v_plan public.subscription_plans;
    v_package public.pay_as_you_go_packages;
    v_order public.billing_orders;
begin
    if not v_profile.is_active then
        perform private.refuse('PT403', 'The account is deactivated', '{}', 'Ask the operator.');
    end if;
    select s.* into v_plan from public.subscription_plans as s
    where s.stripe_price_id = p_stripe_price_id and s.is_active;
    select s.* into v_package from public.pay_as_you_go_packages as s
    where s.stripe_price_id = p_stripe_price_id and s.is_active;
    if v_plan.id is null and v_package.id is null then
        perform private.refuse(
            'PT404', 'This is not for sale', jsonb_build_object('price_id', left(p_stripe_price_id, 255)),
            'Read the plans and packages again.');
    end if;

    if v_plan.id is not null then
        if v_profile.stripe_subscription_id is not null then
            perform private.refuse(
                'PT409', 'The account already has a subscription',
                jsonb_build_object('subscription_plan', v_profile.subscription_plan), 'Change it in the portal.');
        end if;
        select o.* into v_order from public.billing_orders as o
        where o.user_id = p_user_id and o.status = 'pending' and o.subscription_plan_id is not null;
        if v_order.stripe_price_id = p_stripe_price_id then
            return v_order;
        end if;
        -- Its payment page is closed by who comes to attach it, or by the service that asked for this.
        update public.billing_orders as o set status = 'expired', closed_at = now() where o.id = v_order.id;
    end if;
    insert into public.billing_orders (
        user_id, subscription_plan_id, pay_as_you_go_package_id, credits, trial_days, stripe_price_id
    ) values (
        p_user_id, v_plan.id, v_package.id, v_package.credits,
        case when v_plan.trial_days > 0 and private.may_try_plan(p_user_id) then v_plan.trial_days else 0 end,
        p_stripe_price_id
    )
    returning * into v_order;
    return v_order;
end;
$$;

comment on function public.place_billing_order(uuid, text) is
'Notes that an account goes to the payment page for a price, and returns the order. A plan has one pending order for '
'an account: the same plan again returns it, another plan closes it. Errors: 403 deactivated, 404 unknown user or '
'price not for sale, 409 the account has a subscription.';
grant execute on function public.place_billing_order(uuid, text) to service_role;

create function public.attach_checkout_session(p_order_id uuid, p_session_id text)
returns public.billing_orders
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_order public.billing_orders;
begin
    -- An account that is going has no open page when it is gone: whoever comes second sees the other.
    perform private.lock_account(o.user_id) from public.billing_orders as o where o.id = p_order_id;
    update public.billing_orders as o set stripe_checkout_session_id = p_session_id
    where o.id = p_order_id and coalesce(o.stripe_checkout_session_id, p_session_id) = p_session_id
    and o.status <> 'expired'
    returning o.* into v_order;
    if not found then
        perform private.refuse(
            'PT409', 'The order is closed', jsonb_build_object('order_id', p_order_id), 'Start again.');
    end if;
    return v_order;
end;
$$;

comment on function public.attach_checkout_session(uuid, text) is
'Notes the payment page of an order. Errors: 404 its account has just gone, 409 unknown, closed, or it has another '
'one; then the page must be closed.';
grant execute on function public.attach_checkout_session(uuid, text) to service_role;

create function public.link_stripe_customer(p_user_id uuid, p_stripe_customer_id text, p_email text default null)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_customer_id text := (private.lock_account(p_user_id)).stripe_customer_id;
begin
    if v_customer_id is null or v_customer_id = p_stripe_customer_id then
        v_customer_id := p_stripe_customer_id;
        insert into public.stripe_customers as c (id, user_id, email) values (v_customer_id, p_user_id, p_email)
        on conflict (id) do update set email = coalesce(excluded.email, c.email) where c.user_id = excluded.user_id;
        if not found then
            perform private.refuse(
                'PT409', 'The customer is another account''s', jsonb_build_object('customer', v_customer_id),
                'Make a customer of its own for each account.');
        end if;
        update public.profiles as p set stripe_customer_id = v_customer_id
        where p.id = p_user_id and p.stripe_customer_id is null;
    end if;
    return v_customer_id;
end;
$$;

comment on function public.link_stripe_customer(uuid, text, text) is
'Gives an account its customer in Stripe, unless it has one, and returns the one it has; notes of that customer the '
'address that Stripe was told. Errors: 404 unknown user, 409 another account''s customer.';
grant execute on function public.link_stripe_customer(uuid, text, text) to service_role;

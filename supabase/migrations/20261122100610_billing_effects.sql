-- Billing: what facts from Stripe do to the ledger and to subscriptions.
--
-- Each function makes the database agree with one fact and returns why it could not be used, or null. A fact says how
-- an object is, never what happened to it, so that it may come again, late, or before another. Credits move under keys
-- that name the object (checkout:<session>, invoice:<id>:<line>, trial:<subscription>, refund:<id>, dispute:<id>), so
-- they move once.

-- The account of a customer, locked.
create function private.billing_account(p_customer_id text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
    v_user_id uuid;
begin
    select c.user_id into v_user_id from public.stripe_customers as c where c.id = p_customer_id;
    if found then
        perform private.lock_account(v_user_id);
    end if;
    return v_user_id;
end;
$$;

create function private.is_granted(p_user_id uuid, p_idempotency_key text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    return exists (
        select 1 from public.credit_transactions as t
        where t.user_id = p_user_id and t.idempotency_key = p_idempotency_key
    );
end;
$$;

-- A payment page:
-- {id, order_id, customer, mode, status, is_paid, has_failed, amount, currency, payment_intent, receipt_url}.
-- The pack is granted when it is paid, be it days later; a plan's credits come with its invoices. The order says so
-- last, so that whoever waits for that finds the credits there.
create function private.apply_stripe_checkout(p_fact jsonb)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_session_id constant text := p_fact ->> 'id';
    v_key constant text := 'checkout:' || v_session_id;
    v_order public.billing_orders;
    v_package public.pay_as_you_go_packages;
    v_status text;
begin
    -- The order is found before its account is locked; what is decided by, is read again after.
    select o.* into v_order from public.billing_orders as o where o.stripe_checkout_session_id = v_session_id;
    if not found and p_fact ->> 'order_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        select o.* into v_order from public.billing_orders as o where o.id = (p_fact ->> 'order_id')::uuid;
    end if;
    if v_order.id is null then
        return 'No order of this project has the checkout session';
    end if;
    perform private.lock_account(v_order.user_id);
    select o.* into strict v_order from public.billing_orders as o where o.id = v_order.id;
    if private.billing_account(p_fact ->> 'customer') is distinct from v_order.user_id then
        perform private.refuse(
            'PT409', 'The checkout session was paid by the customer of another account',
            jsonb_build_object('session_id', v_session_id, 'order_id', v_order.id), 'Compare the two in Stripe.');
    end if;

    v_status := case
        when (p_fact ->> 'is_paid')::boolean then 'paid'
        when v_order.status <> 'pending' then v_order.status
        when p_fact ->> 'status' = 'expired' then 'expired'
        when (p_fact ->> 'has_failed')::boolean then 'failed'
        else 'pending'
    end;
    if v_status = 'paid' and p_fact ->> 'mode' = 'payment' and not private.is_granted(v_order.user_id, v_key) then
        select s.* into v_package from public.pay_as_you_go_packages as s
        where s.id = v_order.pay_as_you_go_package_id;
        if not found then
            perform private.refuse(
                'PT409', 'The order is not for a package', jsonb_build_object('order_id', v_order.id),
                'Compare it with the checkout session in Stripe.');
        end if;
        perform public.grant_credits(
            v_order.user_id, v_order.credits, 'purchase', null, null, 0, v_package.name,
            jsonb_build_object('order_id', v_order.id, 'checkout_session_id', v_session_id), v_key,
            (p_fact ->> 'amount')::numeric, p_fact ->> 'currency', p_fact ->> 'payment_intent', null, v_package.id);
    end if;
    update public.billing_orders as o
    set
        stripe_checkout_session_id = coalesce(o.stripe_checkout_session_id, v_session_id),
        status = v_status,
        closed_at = case when v_status <> 'pending' then coalesce(o.closed_at, now()) end,
        amount = case when v_status in ('paid', 'failed') then (p_fact ->> 'amount')::numeric end,
        currency = case when v_status in ('paid', 'failed') then upper(p_fact ->> 'currency') end,
        receipt_url = coalesce(p_fact ->> 'receipt_url', o.receipt_url)
    where o.id = v_order.id;
    return null;
end;
$$;

-- Whether a clawback was made under a key, or under the key with a number.
create function private.is_clawback_of(p_clawback public.credit_clawbacks, p_key text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    return p_clawback.idempotency_key = p_key or starts_with(p_clawback.idempotency_key, p_key || ':');
end;
$$;

-- A refund or a dispute of a payment:
-- {kind, id, payment_intent, paid, before, amount, status, currency}, money in units.
--
-- `paid` is what all that it paid for came to, with what a balance paid of it; `before` is what earlier refunds and
-- disputes of the payment come to. Credits go in the proportion of the money, rounded on the sum, so that many small
-- ones take exactly what one large one does. Where others of the payment left too little to take, the rest is taken
-- when one of them comes to nothing. The status is `taken` (the money is away), `returned` (it came back, or never
-- went) or `open`.
create function private.apply_stripe_return(p_fact jsonb, p_ticket bigint)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_key constant text := (p_fact ->> 'kind') || ':' || (p_fact ->> 'id');
    v_status constant text := p_fact ->> 'status';
    v_paid constant numeric := (p_fact ->> 'paid')::numeric;
    v_before constant numeric := (p_fact ->> 'before')::numeric;
    v_money constant numeric := (p_fact ->> 'amount')::numeric;
    v_reason constant text := initcap(p_fact ->> 'kind') || ' of the payment';
    v_user_id uuid;
    v_grant record;
    v_credits integer;
    v_clawbacks integer;
begin
    select t.user_id into v_user_id from public.credit_transactions as t
    where t.stripe_payment_intent_id = p_fact ->> 'payment_intent'
    limit 1;
    if not found then
        return 'No credits were granted for the payment';
    end if;
    perform private.lock_account(v_user_id);
    -- A read that has become old says "taken" of a refund that has failed since.
    if not private.is_newest_read(p_fact ->> 'id', p_ticket) then
        return null;
    end if;

    if v_status = 'returned' then
        perform public.reverse_clawback(c.id, v_reason || ' came to nothing', null)
        from public.credit_clawbacks as c
        where c.user_id = v_user_id and private.is_clawback_of(c, v_key) and c.reversed_at is null;
    elsif v_status = 'taken' then
        select count(*) into v_clawbacks from public.credit_clawbacks as c
        where c.user_id = v_user_id and private.is_clawback_of(c, v_key);
        for v_grant in
            select
                g.id, g.amount, g.money_amount, sum(g.money_amount) over () as money,
                g.amount - coalesce(k.amount, 0)::integer as open,
                coalesce(k.of_this, 0)::integer as taken, coalesce(k.money_of_this, 0) as money_taken
            from public.credit_transactions as t
            inner join public.credit_grants as g on g.transaction_id = t.id
            left join lateral (
                select
                    sum(c.amount) as amount,
                    sum(c.amount) filter (where private.is_clawback_of(c, v_key)) as of_this,
                    sum(c.money_amount) filter (where private.is_clawback_of(c, v_key)) as money_of_this
                from public.credit_clawbacks as c
                where c.grant_id = g.id and c.reversed_at is null
            ) as k on true
            where t.user_id = v_user_id and t.stripe_payment_intent_id = p_fact ->> 'payment_intent'
            order by g.seq
        loop
            v_credits := least(
                round(v_grant.amount * (v_before + v_money) / v_paid) - round(v_grant.amount * v_before / v_paid)
                - v_grant.taken,
                v_grant.open);
            if v_credits > 0 then
                perform public.clawback_credits(
                    v_grant.id, v_credits, v_reason,
                    -- All of the money goes with the first credits.
                    case
                        when v_grant.money > 0
                            then round(v_money * v_grant.money_amount / v_grant.money, 2) - v_grant.money_taken
                        else 0
                    end,
                    p_fact ->> 'currency', case when v_clawbacks = 0 then v_key else v_key || ':' || v_clawbacks end);
                v_clawbacks := v_clawbacks + 1;
            end if;
        end loop;
    end if;
    return null;
end;
$$;

-- The plan that a line of an invoice or an item of a subscription is for. Old prices belong to the same product.
create function private.plan_of_price(p_price_id text, p_product_id text)
returns public.subscription_plans
language plpgsql
set search_path = ''
as $$
declare
    v_plan public.subscription_plans;
begin
    select s.* into v_plan from public.subscription_plans as s
    where s.stripe_price_id = p_price_id or s.stripe_product_id = p_product_id
    order by s.stripe_price_id = p_price_id desc nulls last
    limit 1;
    return v_plan;
end;
$$;

-- The plan that a subscription in Stripe is known as, whatever its price is by now: by its row, by what was invoiced
-- for it, or by the order that began it, whichever was heard of. Null where it is not of this project.
create function private.known_plan(p_user_id uuid, p_subscription_id text, p_order_id text)
returns uuid
language plpgsql
set search_path = ''
as $$
begin
    return coalesce(
        (
            select h.subscription_plan_id from public.subscription_history as h
            where h.stripe_subscription_id = p_subscription_id and h.user_id = p_user_id
        ),
        (
            select i.subscription_plan_id from public.billing_invoices as i
            where i.user_id = p_user_id and i.stripe_subscription_id = p_subscription_id
            order by i.created_at desc
            limit 1
        ),
        (
            select o.subscription_plan_id from public.billing_orders as o
            where o.user_id = p_user_id and o.id::text = p_order_id
        ));
end;
$$;

-- Why what a price pays for is nothing here.
create function private.unknown_price(p_price_id text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return format(
        'No plan has the price %s. Where one should, enter it or its product, then: dtf stripe reconcile --apply',
        coalesce(p_price_id, '(none)'));
end;
$$;

-- An invoice of a subscription:
-- {id, customer, subscription, order_id, status, reason, created, total, due, paid, currency, attempts, has_failed,
--  next_attempt_at, hosted_url, paid_at, payment_intent, lines: [{id, price, product, amount, unit_amount, quantity,
--  is_proration, is_trial, period_start, period_end}]}; money in units, times in seconds.
-- A paid one brings its credits, then its row says how it is. Once: later events tell it again, and what its lines come
-- to would follow plans that were changed since. What could not be placed is tried again.
-- One that has no line for a plan is another product's, unless a subscription of this project was moved to its price.
create function private.apply_stripe_invoice(p_fact jsonb, p_ticket bigint)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_user_id constant uuid := private.billing_account(p_fact ->> 'customer');
    v_plan_id constant uuid := private.known_plan(v_user_id, p_fact ->> 'subscription', p_fact ->> 'order_id');
    v_trouble text;
begin
    if v_user_id is null then
        return 'No account has the customer';
    elsif v_plan_id is null and not exists (
        select 1 from jsonb_array_elements(p_fact -> 'lines') as l (line)
        where (private.plan_of_price(l.line ->> 'price', l.line ->> 'product')).id is not null
    ) then
        return private.unknown_price(p_fact #>> '{lines, 0, price}');
    end if;
    if p_fact ->> 'status' = 'paid' and not exists (
        select 1 from public.billing_invoices as i
        where i.id = p_fact ->> 'id' and i.user_id = v_user_id and i.status = 'paid' and i.trouble is null
    ) then
        v_trouble := private.settle_invoice(v_user_id, p_fact);
    end if;
    -- A read that has become old says "open" of an invoice that was paid since.
    if private.is_newest_read(p_fact ->> 'id', p_ticket) then
        perform private.keep_invoice(v_user_id, p_fact, v_plan_id, v_trouble);
    end if;
    return v_trouble;
end;
$$;

-- The row of an invoice, as the fact says it is; for p_plan_id where none of its lines is for a plan.
create function private.keep_invoice(p_user_id uuid, p_fact jsonb, p_plan_id uuid, p_trouble text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_attempts constant integer := (p_fact ->> 'attempts')::integer;
    v_plan_id uuid;
    v_period_end timestamptz;
begin
    -- Its last line for a plan is for the one that goes on: a change of plans begins with what the old one gives back.
    select p.id, to_timestamp((l.line ->> 'period_end')::double precision)
    into v_plan_id, v_period_end
    from jsonb_array_elements(p_fact -> 'lines') with ordinality as l (line, place)
    cross join lateral private.plan_of_price(l.line ->> 'price', l.line ->> 'product') as p
    order by p.id is not null desc, (l.line ->> 'amount')::numeric >= 0 desc, l.place desc
    limit 1;
    insert into public.billing_invoices as i (
        id, user_id, stripe_subscription_id, subscription_plan_id, reason, status, amount_due, amount_paid, currency,
        attempts, failed_attempt, next_attempt_at, hosted_url, period_end, created_at, paid_at, trouble
    ) values (
        p_fact ->> 'id', p_user_id, p_fact ->> 'subscription', coalesce(v_plan_id, p_plan_id), p_fact ->> 'reason',
        p_fact ->> 'status',
        (p_fact ->> 'due')::numeric, (p_fact ->> 'paid')::numeric, upper(p_fact ->> 'currency'),
        v_attempts, case when (p_fact ->> 'has_failed')::boolean then v_attempts end,
        to_timestamp((p_fact ->> 'next_attempt_at')::double precision), p_fact ->> 'hosted_url', v_period_end,
        to_timestamp((p_fact ->> 'created')::double precision),
        to_timestamp((p_fact ->> 'paid_at')::double precision), p_trouble
    )
    on conflict (id) do update set
        status = excluded.status,
        subscription_plan_id = coalesce(excluded.subscription_plan_id, i.subscription_plan_id),
        amount_due = excluded.amount_due,
        amount_paid = excluded.amount_paid,
        attempts = greatest(i.attempts, excluded.attempts),
        failed_attempt = greatest(i.failed_attempt, excluded.failed_attempt),
        next_attempt_at = excluded.next_attempt_at,
        hosted_url = excluded.hosted_url,
        paid_at = excluded.paid_at,
        trouble = excluded.trouble
    where i.user_id = excluded.user_id;
end;
$$;

-- Credits of a paid invoice. They follow the money, in both directions:
-- · a regular line grants the plan's credits for its period; one that gives money back takes nothing,
-- · a trial's line grants the plan's trial credits,
-- · prorated lines (a change in mid-period: minus for the old plan, plus for the new one) grant what they come to, or
--   claw it back from the subscription's newest grants. Whoever goes up and down again has won nothing, and who goes
--   down after the plan's credits were changed loses what he got.
-- A line for no plan brings nothing beside others. Where there are no others, or where it is for a part of a period and
-- would decide between granting and clawing back, the answer says what could not be placed.
create function private.settle_invoice(p_user_id uuid, p_fact jsonb)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_paid constant numeric := (p_fact ->> 'paid')::numeric;
    v_charged numeric := 0;
    v_line record;
    v_plan public.subscription_plans;
    v_known boolean := false;
    v_is_cut boolean := false;
    v_prorated numeric := 0;
    v_upgrade jsonb;
    v_unknown text;
begin
    for v_line in
        select l.line, l.line ->> 'id' as id, (l.line ->> 'amount')::numeric as amount,
            (l.line ->> 'unit_amount')::numeric as unit_amount, (l.line ->> 'quantity')::integer as quantity,
            (l.line ->> 'is_proration')::boolean as is_proration, (l.line ->> 'is_trial')::boolean as is_trial,
            sum(greatest((l.line ->> 'amount')::numeric, 0)) over () as positive
        from jsonb_array_elements(p_fact -> 'lines') with ordinality as l (line, place)
        order by l.place
    loop
        v_plan := private.plan_of_price(v_line.line ->> 'price', v_line.line ->> 'product');
        if v_plan.id is null then
            v_unknown := coalesce(v_unknown, v_line.line ->> 'price');
            v_is_cut := v_is_cut or v_line.is_proration and v_line.amount > 0;
            continue;
        end if;
        v_known := true;
        if v_line.is_proration then
            -- A price of nothing has no parts.
            v_prorated := v_prorated + coalesce(
                case when v_line.amount < 0 then private.granted_per_month(p_user_id, p_fact, v_plan)
                    else v_plan.credits_per_month end
                * v_line.amount / nullif(v_line.unit_amount, 0), 0);
            if v_line.amount > 0 and v_upgrade is null then
                v_upgrade := v_line.line;
            end if;
        else
            perform private.grant_invoice_line(
                p_user_id, p_fact, v_line.line, v_plan,
                case
                    when v_line.is_trial then v_plan.trial_credits
                    when v_line.amount > 0 then v_plan.credits_per_month * v_line.quantity
                end,
                -- What was paid, in proportion: a balance or a coupon may have paid a part.
                case when v_line.positive > 0 then round(v_paid * v_line.amount / v_line.positive, 2) else 0 end);
            v_charged := v_charged
                + case when v_line.positive > 0 then round(v_paid * v_line.amount / v_line.positive, 2) else 0 end;
        end if;
    end loop;

    if not v_known or v_is_cut and v_prorated < 0 then
        return private.unknown_price(v_unknown);
    elsif floor(v_prorated) > 0 then
        perform private.grant_invoice_line(
            p_user_id, p_fact, v_upgrade, private.plan_of_price(v_upgrade ->> 'price', v_upgrade ->> 'product'),
            floor(v_prorated)::integer, greatest(v_paid - v_charged, 0));
    elsif floor(v_prorated) < 0 then
        perform private.claw_back_downgrade(p_user_id, p_fact, -floor(v_prorated)::integer);
    end if;
    return null;
end;
$$;

-- What a month of a plan brought when the subscription was last invoiced for it, whatever it brings now.
create function private.granted_per_month(p_user_id uuid, p_invoice jsonb, p_plan public.subscription_plans)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return coalesce(
        (
            select (t.metadata ->> 'credits_per_month')::integer
            from public.credit_grants as g
            inner join public.credit_transactions as t on t.id = g.transaction_id
            where
                g.user_id = p_user_id and g.source = 'subscription' and t.subscription_plan_id = p_plan.id
                and t.metadata ->> 'stripe_subscription_id' = p_invoice ->> 'subscription'
                and t.metadata ? 'credits_per_month'
                and (t.metadata ->> 'invoice_created')::bigint <= (p_invoice ->> 'created')::bigint
            order by (t.metadata ->> 'invoice_created')::bigint desc, g.seq desc
            limit 1
        ),
        p_plan.credits_per_month);
end;
$$;

-- A trial brings its credits once, however often it is extended: each extension has an invoice.
create function private.grant_invoice_line(
    p_user_id uuid,
    p_invoice jsonb,
    p_line jsonb,
    p_plan public.subscription_plans,
    p_credits integer,
    p_money numeric
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_key constant text := case
        when (p_line ->> 'is_trial')::boolean then 'trial:' || (p_invoice ->> 'subscription')
        else format('invoice:%s:%s', p_invoice ->> 'id', p_line ->> 'id')
    end;
    v_period_end constant timestamptz := to_timestamp((p_line ->> 'period_end')::double precision);
begin
    if coalesce(p_credits, 0) <= 0 or private.is_granted(p_user_id, v_key) then
        return;
    end if;
    perform public.grant_credits(
        p_user_id, p_credits, case when p_money > 0 then 'purchase' else 'bonus' end, 'subscription',
        case
            when (p_line ->> 'is_trial')::boolean then v_period_end
            else v_period_end + make_interval(months => p_plan.credit_rollover_months)
        end,
        0, case when (p_line ->> 'is_trial')::boolean then 'Trial of plan ' else 'Plan ' end || p_plan.name,
        jsonb_build_object(
            'stripe_invoice_id', p_invoice ->> 'id', 'stripe_subscription_id', p_invoice ->> 'subscription',
            'invoice_created', (p_invoice ->> 'created')::bigint)
        || case
            when (p_line ->> 'is_trial')::boolean then '{}'
            else jsonb_build_object('credits_per_month', p_plan.credits_per_month)
        end,
        v_key, p_money, p_invoice ->> 'currency', p_invoice ->> 'payment_intent', p_plan.id, null);
end;
$$;

-- Takes the credits of a downgrade from what the subscription's earlier invoices granted, the newest first. What a
-- refund has of them counts as taken: so it does not matter which of the two is heard of first.
create function private.claw_back_downgrade(p_user_id uuid, p_invoice jsonb, p_credits integer)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_key constant text := format('invoice:%s:downgrade', p_invoice ->> 'id');
    v_left integer := p_credits;
    v_grant record;
begin
    if exists (
        select 1 from public.credit_clawbacks as c
        where c.user_id = p_user_id and private.is_clawback_of(c, v_key)
    ) then
        return;
    end if;
    for v_grant in
        select
            g.id, g.seq, g.amount - coalesce(k.amount, 0)::integer as open,
            g.amount - coalesce(k.of_changes, 0)::integer as share
        from public.credit_grants as g
        inner join public.credit_transactions as t on t.id = g.transaction_id
        left join lateral (
            select
                sum(c.amount) as amount,
                sum(c.amount) filter (where starts_with(c.idempotency_key, 'invoice:')) as of_changes
            from public.credit_clawbacks as c
            where c.grant_id = g.id and c.reversed_at is null
        ) as k on true
        where
            g.user_id = p_user_id and g.source = 'subscription'
            and t.metadata ->> 'stripe_subscription_id' = p_invoice ->> 'subscription'
            and (t.metadata ->> 'invoice_created')::bigint <= (p_invoice ->> 'created')::bigint
            and t.metadata ->> 'stripe_invoice_id' <> p_invoice ->> 'id'
        order by (t.metadata ->> 'invoice_created')::bigint desc, t.idempotency_key desc
    loop
        if least(v_left, v_grant.share, v_grant.open) > 0 then
            perform public.clawback_credits(
                v_grant.id, least(v_left, v_grant.share, v_grant.open), 'Change to a smaller plan', null, null,
                case when v_left = p_credits then v_key else v_key || ':' || v_grant.seq end);
        end if;
        v_left := v_left - least(v_left, v_grant.share);
    end loop;
end;
$$;

-- A subscription:
-- {id, customer, order_id, status, items: [{price, product, current_period_end}], started_at, cancelled_at, cancel_at,
--  ends_with_period, ended_at}, times in seconds. Access goes on while Stripe still tries to collect (past_due); an
-- unpaid or paused one gives none. What was granted stays until it expires, whatever becomes of the subscription.
--
-- The plan's item may stand beside others, and anywhere. A subscription that was a plan's goes on as it, and ends,
-- whatever price it was moved to; any other without an item for a plan is not of this project.
create function private.apply_stripe_subscription(p_fact jsonb, p_ticket bigint)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_user_id constant uuid := private.billing_account(p_fact ->> 'customer');
    v_status constant text := case p_fact ->> 'status'
        when 'trialing' then 'active'
        when 'active' then 'active'
        when 'past_due' then 'past_due'
        when 'unpaid' then 'unpaid'
        when 'paused' then 'unpaid'
        when 'canceled' then 'cancelled'
    end;
    -- A service of the version before tells of one item, as its own fields.
    v_items constant jsonb := coalesce(p_fact -> 'items', jsonb_build_array(p_fact));
    v_plan_id uuid;
    v_period_end bigint;
begin
    if v_user_id is null then
        return 'No account has the customer';
    end if;
    select coalesce(p.id, private.known_plan(v_user_id, p_fact ->> 'id', p_fact ->> 'order_id')),
        (i.item ->> 'current_period_end')::bigint
    into v_plan_id, v_period_end
    from jsonb_array_elements(v_items) with ordinality as i (item, place)
    cross join lateral private.plan_of_price(i.item ->> 'price', i.item ->> 'product') as p
    order by p.credits_per_month desc nulls last, i.place
    limit 1;
    if v_plan_id is null and not exists (
        select 1 from public.subscription_history as h
        where h.stripe_subscription_id = p_fact ->> 'id' and h.user_id = v_user_id
    ) then
        return private.unknown_price(v_items #>> '{0, price}');
    elsif not private.is_newest_read(p_fact ->> 'id', p_ticket) then
        return null;
    elsif v_status is null then
        -- Its first payment is still to come, or never came: it has not begun.
        return null;
    end if;
    insert into public.subscription_history as h (
        user_id, subscription_plan_id, stripe_subscription_id, status, started_at, ended_at, cancelled_at, cancel_at,
        current_period_end
    ) values (
        v_user_id, v_plan_id, p_fact ->> 'id', v_status,
        to_timestamp((p_fact ->> 'started_at')::double precision),
        to_timestamp((p_fact ->> 'ended_at')::double precision),
        to_timestamp((p_fact ->> 'cancelled_at')::double precision),
        to_timestamp(coalesce(
            (p_fact ->> 'cancel_at')::bigint, case when (p_fact ->> 'ends_with_period')::boolean then v_period_end end)),
        to_timestamp(v_period_end)
    )
    on conflict (stripe_subscription_id) do update set
        subscription_plan_id = excluded.subscription_plan_id,
        status = excluded.status,
        ended_at = excluded.ended_at,
        cancelled_at = excluded.cancelled_at,
        cancel_at = excluded.cancel_at,
        current_period_end = excluded.current_period_end
    where h.user_id = excluded.user_id;
    perform private.follow_subscriptions(v_user_id);
    return null;
end;
$$;

-- Makes the profile say what the history says. Expects the account locked.
create function private.follow_subscriptions(p_user_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_subscription record;
    v_profile record;
begin
    select s.name, h.status in ('active', 'past_due') as gives_access into v_subscription
    from public.subscription_history as h
    inner join public.subscription_plans as s on s.id = h.subscription_plan_id
    where h.user_id = p_user_id and h.status <> 'cancelled' and coalesce(h.ended_at > now(), true)
    order by h.status in ('active', 'past_due') desc, h.started_at desc, h.id desc
    limit 1;

    -- The allowed statuses name two plans; any other paid plan counts as the larger of them.
    select
        case
            when v_subscription.gives_access and v_subscription.name = 'basic' then 'basic'
            when v_subscription.gives_access then 'starter'
            when exists (select 1 from public.subscription_history as h where h.user_id = p_user_id) then 'cancelled'
            else 'free'
        end as status,
        case when v_subscription.gives_access then v_subscription.name else 'free' end as plan,
        -- Whatever gift there is beside it: as long as it is named, no second one is sold.
        (
            select h.stripe_subscription_id
            from public.subscription_history as h
            where
                h.user_id = p_user_id and h.stripe_subscription_id is not null
                and h.status <> 'cancelled' and coalesce(h.ended_at > now(), true)
            order by h.status in ('active', 'past_due') desc, h.started_at desc, h.id desc
            limit 1
        ) as stripe_subscription_id
    into v_profile;
    update public.profiles as p
    set
        subscription_status = v_profile.status,
        subscription_plan = v_profile.plan,
        stripe_subscription_id = v_profile.stripe_subscription_id
    where
        p.id = p_user_id
        and (p.subscription_status, p.subscription_plan, p.stripe_subscription_id)
        is distinct from (v_profile.status, v_profile.plan, v_profile.stripe_subscription_id);
end;
$$;

-- A customer {id, is_deleted}, a price or a product {id, is_active}. What is gone in Stripe is not offered here any
-- more. Names stay as they are here: the tables are the catalogue, and the next sync takes them to Stripe again.
create function private.apply_stripe_catalogue(p_fact jsonb)
returns text
language plpgsql
set search_path = ''
as $$
begin
    if p_fact ->> 'kind' = 'customer' and (p_fact ->> 'is_deleted')::boolean then
        -- By its account: an index on a column that hardly anybody looks for would cost every sign-up.
        update public.profiles as p set stripe_customer_id = null
        where
            p.id = (select c.user_id from public.stripe_customers as c where c.id = p_fact ->> 'id')
            and p.stripe_customer_id = p_fact ->> 'id';
    elsif p_fact ->> 'kind' = 'price' and not (p_fact ->> 'is_active')::boolean then
        update public.subscription_plans as s set stripe_price_id = null where s.stripe_price_id = p_fact ->> 'id';
        update public.pay_as_you_go_packages as s set stripe_price_id = null where s.stripe_price_id = p_fact ->> 'id';
    elsif p_fact ->> 'kind' = 'product' and not (p_fact ->> 'is_active')::boolean then
        update public.subscription_plans as s set stripe_price_id = null where s.stripe_product_id = p_fact ->> 'id';
        update public.pay_as_you_go_packages as s set stripe_price_id = null
        where s.stripe_product_id = p_fact ->> 'id';
    end if;
    return null;
end;
$$;

create function private.check_stripe_facts(p_facts jsonb, p_ticket bigint)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if jsonb_typeof(p_facts) is distinct from 'array' or p_ticket is null then
        perform private.refuse(
            'PT400', 'Facts come as an array, with the ticket of the read', '{"argument": "p_facts"}',
            'Take a ticket with start_stripe_read before reading.');
    end if;
end;
$$;

-- Applies facts in their order; returns why each unused one was not used.
create function private.apply_stripe_facts(p_facts jsonb, p_ticket bigint)
returns text[]
language plpgsql
set search_path = ''
as $$
declare
    v_fact jsonb;
    v_trouble text;
    v_troubles text[] := array[]::text[];
begin
    perform private.check_stripe_facts(p_facts, p_ticket);
    for v_fact in select jsonb_array_elements(p_facts)
    loop
        case v_fact ->> 'kind'
            when 'checkout' then v_trouble := private.apply_stripe_checkout(v_fact);
            when 'refund', 'dispute' then v_trouble := private.apply_stripe_return(v_fact, p_ticket);
            when 'invoice' then v_trouble := private.apply_stripe_invoice(v_fact, p_ticket);
            when 'subscription' then v_trouble := private.apply_stripe_subscription(v_fact, p_ticket);
            when 'customer', 'price', 'product' then v_trouble := private.apply_stripe_catalogue(v_fact);
            else
                perform private.refuse(
                    'PT400', 'The kind of fact is unknown', jsonb_build_object('kind', v_fact ->> 'kind'),
                    'Pass checkout, refund, dispute, invoice, subscription, customer, price or product.');
        end case;
        if v_trouble is not null then
            v_troubles := v_troubles || v_trouble;
        end if;
    end loop;
    return v_troubles;
end;
$$;

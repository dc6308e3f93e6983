-- Billing: events, each written in the transaction of its effect, and the comparison of the ledger with Stripe.

create function public.start_stripe_read(p_event_id text default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
    return jsonb_build_object(
        'status', (
            select case when e.status = 'processed' and e.error is not null then 'used in part' else e.status end
            from public.stripe_events as e where e.id = p_event_id
        ),
        'ticket', nextval('private.stripe_read_tickets'));
end;
$$;

comment on function public.start_stripe_read(text) is
'Call before reading from Stripe what an event is about. Returns {ticket, status}: the ticket to hand in with what was '
'read, and the status of the event where it was heard before: only after processed is there nothing left to do.';
grant execute on function public.start_stripe_read(text) to service_role;

create function public.apply_stripe_event(
    p_event_id text,
    p_type text,
    p_payload jsonb,
    p_facts jsonb,
    p_ticket bigint
)
returns public.stripe_events
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_event public.stripe_events;
    v_troubles text[];
begin
    -- Whoever delivers the same event at the same time waits here, and then finds it done.
    insert into public.stripe_events as e (id, type, payload, status, processed_at)
    values (p_event_id, p_type, coalesce(p_payload, '{}'), 'processed', now())
    on conflict (id) do update
    set status = 'processed', processed_at = now(), error = null, attempts = e.attempts + 1
    where e.status <> 'processed' or e.error is not null
    returning e.* into v_event;
    if not found then
        select e.* into strict v_event from public.stripe_events as e where e.id = p_event_id;
        return v_event;
    end if;

    v_troubles := private.apply_stripe_facts(p_facts, p_ticket);
    if v_troubles <> '{}' or p_facts = '[]' then
        update public.stripe_events as e
        set
            status = case when cardinality(v_troubles) = jsonb_array_length(p_facts) then 'ignored' else 'processed' end,
            error = coalesce(v_troubles[1], 'Nothing depends on this type of event')
        where e.id = p_event_id
        returning e.* into v_event;
    end if;
    return v_event;
end;
$$;

comment on function public.apply_stripe_event(text, text, jsonb, jsonb, bigint) is
'Makes the ledger and the subscriptions agree with facts read from Stripe under a ticket, and writes the event, in one '
'transaction; an event that was processed as a whole changes nothing. Without a fact that concerns this project it is '
'ignored; error says what was not used. '
'Errors, after which nothing is written: 400 bad argument, 409 facts that contradict an order.';
grant execute on function public.apply_stripe_event(text, text, jsonb, jsonb, bigint) to service_role;

create function public.fail_stripe_event(p_event_id text, p_type text, p_payload jsonb, p_error text)
returns public.stripe_events
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_event public.stripe_events;
begin
    insert into public.stripe_events as e (id, type, payload, status, error)
    values (p_event_id, p_type, coalesce(p_payload, '{}'), 'failed', left(p_error, 1000))
    on conflict (id) do update set error = excluded.error, attempts = e.attempts + 1
    where e.status = 'failed';
    select e.* into strict v_event from public.stripe_events as e where e.id = p_event_id;
    return v_event;
end;
$$;

comment on function public.fail_stripe_event(text, text, jsonb, text) is
'Writes that an event could not be applied, and why. Changes nothing where it was applied meanwhile.';
grant execute on function public.fail_stripe_event(text, text, jsonb, text) to service_role;

-- What accounts have from billing, to see what facts change.
create function private.billing_state(p_user_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(s.name, s.value), '{}')
        from (
            select 'entry ' || t.user_id || ' #' || t.seq, jsonb_build_object(
                'transaction_type', t.transaction_type, 'credits', t.balance_after - t.balance_before,
                'description', t.description)
            from public.credit_transactions as t
            where t.user_id = any (p_user_ids)
            union all
            select 'clawback ' || c.user_id || ' ' || coalesce(c.idempotency_key, c.id::text), jsonb_build_object(
                'credits', c.amount, 'owed', c.owed, 'is_reversed', c.reversed_at is not null)
            from public.credit_clawbacks as c
            where c.user_id = any (p_user_ids)
            union all
            select 'subscription ' || h.user_id || ' ' || h.stripe_subscription_id, to_jsonb(h) - 'id' - 'created_at'
            from public.subscription_history as h
            where h.user_id = any (p_user_ids) and h.stripe_subscription_id is not null
            union all
            select 'order ' || o.user_id || ' ' || o.id, jsonb_build_object('status', o.status)
            from public.billing_orders as o
            where o.user_id = any (p_user_ids)
            union all
            select 'invoice ' || i.user_id || ' ' || i.id, jsonb_build_object(
                'status', i.status, 'amount_paid', i.amount_paid, 'failed_attempt', i.failed_attempt)
            from public.billing_invoices as i
            where i.user_id = any (p_user_ids)
            union all
            select 'profile ' || p.id, jsonb_build_object(
                'subscription_status', p.subscription_status, 'subscription_plan', p.subscription_plan,
                'stripe_subscription_id', p.stripe_subscription_id)
            from public.profiles as p
            where p.id = any (p_user_ids)
        ) as s (name, value)
    );
end;
$$;

create function public.reconcile_stripe(p_facts jsonb, p_ticket bigint, p_apply boolean default false)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_user_ids uuid[];
    v_before jsonb;
    v_differences jsonb;
    v_troubles text[];
    v_is_ours boolean;
begin
    perform private.check_stripe_facts(p_facts, p_ticket);
    select array_agg(distinct u.user_id) into v_user_ids
    from jsonb_array_elements(p_facts) as f (fact)
    cross join lateral (
        select c.user_id from public.stripe_customers as c where c.id = f.fact ->> 'customer'
        union all
        select o.user_id from public.billing_orders as o where o.stripe_checkout_session_id = f.fact ->> 'id'
        union all
        select t.user_id from public.credit_transactions as t
        where t.stripe_payment_intent_id = f.fact ->> 'payment_intent'
    ) as u;
    v_before := private.billing_state(v_user_ids);
    begin
        v_troubles := private.apply_stripe_facts(p_facts, p_ticket);
        select coalesce(jsonb_agg(
            jsonb_build_object('what', d.key, 'is', v_before -> d.key, 'should_be', d.value) order by d.key), '[]')
        into v_differences
        from jsonb_each(private.billing_state(v_user_ids)) as d
        where d.value is distinct from v_before -> d.key;
        v_is_ours := exists (
            select 1 from jsonb_array_elements(p_facts) as f (fact)
            inner join public.subscription_history as h
                on h.stripe_subscription_id in (f.fact ->> 'id', f.fact ->> 'subscription')
            union all
            select 1 from jsonb_array_elements(p_facts) as f (fact)
            inner join public.billing_orders as o on o.stripe_checkout_session_id = f.fact ->> 'id'
        );
        if p_apply is not true then
            -- Undoes everything since `begin`.
            raise sqlstate 'UNDO1';
        end if;
    exception
        when sqlstate 'UNDO1' then null;
    end;
    return jsonb_build_object(
        'differences', v_differences,
        -- Of strangers who buy something else at the same Stripe account there may be any number.
        'troubles', case when v_user_ids is null then '[]' else to_jsonb(v_troubles) end,
        'is_ours', v_is_ours);
end;
$$;

comment on function public.reconcile_stripe(jsonb, bigint, boolean) is
'What facts read from Stripe under a ticket would change: {differences: [{what, is, should_be}], troubles: [text], '
'is_ours}: troubles is what a customer of this project has and could not be placed, of another product unless is_ours. '
'Changes it with p_apply. Errors as apply_stripe_event.';
grant execute on function public.reconcile_stripe(jsonb, bigint, boolean) to service_role;

-- Plans that nobody pays for: given by admins and operators, ended by the clock.

-- A row of the history without one in Stripe, and a grant for each month, all there from the start, each with the
-- expiry that it would have if it were paid for.
create function private.admin_comp_subscription(p_user_id uuid, p_plan text, p_months integer, p_reason text)
returns public.subscription_history
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_profile public.profiles;
    v_plan public.subscription_plans;
    v_row public.subscription_history;
begin
    perform private.check_admin_with_reason(p_reason);
    if p_months is null or p_months not between 1 and 24 then
        perform private.refuse(
            'PT400', 'The months must be between 1 and 24', '{"argument": "p_months"}', 'Comp again when they are over.');
    end if;
    v_profile := private.lock_account(p_user_id);
    select s.* into v_plan from public.subscription_plans as s where s.name = p_plan and s.is_active;
    if not found or v_plan.name = 'free' then
        perform private.refuse('PT404', 'Plan not found', '{"argument": "p_plan"}', 'Name an active paid plan.');
    elsif v_profile.stripe_subscription_id is not null or v_profile.subscription_plan <> 'free' then
        perform private.refuse(
            'PT409', 'The account already has a subscription',
            jsonb_build_object('subscription_plan', v_profile.subscription_plan), 'Wait for its end, or grant credits.');
    end if;
    insert into public.subscription_history (user_id, subscription_plan_id, status, started_at, ended_at)
    values (p_user_id, v_plan.id, 'active', now(), now() + make_interval(months => p_months))
    returning * into v_row;
    if v_plan.credits_per_month > 0 then
        for v_month in 1..p_months
        loop
            perform public.grant_credits(
                p_user_id, v_plan.credits_per_month, 'bonus', 'subscription',
                now() + make_interval(months => v_month + v_plan.credit_rollover_months), 0, 'Plan ' || v_plan.name,
                jsonb_build_object('subscription_history_id', v_row.id), null, null, null, null, v_plan.id, null);
        end loop;
    end if;
    perform private.follow_subscriptions(p_user_id);
    perform private.log_admin_action(
        'admin_comp_subscription', 'subscription_history', v_row.id, p_user_id,
        jsonb_build_object('plan', v_plan.name, 'months', p_months, 'reason', p_reason));
    return v_row;
end;
$$;

grant execute on function private.admin_comp_subscription(uuid, text, integer, text)
to authenticated, service_role;

create function public.admin_comp_subscription(p_user_id uuid, p_plan text, p_months integer, p_reason text)
returns public.subscription_history
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_comp_subscription(p_user_id, p_plan, p_months, p_reason);
end;
$$;

comment on function public.admin_comp_subscription(uuid, text, integer, text) is
'Admins and operators: gives an account a plan for 1 to 24 months, with its credits, and returns the row of '
'subscription_history. Logged. Errors: 400 no reason or bad months, 403 not an admin, 404 unknown user or plan, 409 '
'the account has a subscription.';
grant execute on function public.admin_comp_subscription(uuid, text, integer, text)
to authenticated, service_role;

-- Ends the comped subscriptions of these accounts whose months are over, in the order of the ids.
create function private.end_comped_subscriptions_of(p_user_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_user_id uuid;
begin
    foreach v_user_id in array p_user_ids
    loop
        perform private.lock_account(v_user_id);
        update public.subscription_history as h set status = 'cancelled'
        where
            h.user_id = v_user_id and h.stripe_subscription_id is null and h.status = 'active' and h.ended_at <= now();
        perform private.follow_subscriptions(v_user_id);
    end loop;
    return to_jsonb(p_user_ids);
end;
$$;

create function public.end_comped_subscriptions(p_limit integer default 1000)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_accounts jsonb;
begin
    perform private.check_limit(p_limit, 1000);
    select coalesce(jsonb_agg(jsonb_build_object('id', a.id, 'user_id', a.id)), '[]') into v_accounts
    from (
        select p.id from public.profiles as p
        where p.id in (
            select h.user_id from public.subscription_history as h
            where
                h.stripe_subscription_id is null and h.status = 'active' and h.ended_at <= now()
                and not exists (
                    select from public.set_aside_rows as s
                    where s.task = 'end_comped_subscriptions' and s.row_id = h.user_id::text
                )
            limit p_limit
        )
        order by p.id
        for no key update skip locked
    ) as a;
    return jsonb_array_length(private.work_through('end_comped_subscriptions', v_accounts));
end;
$$;

comment on function public.end_comped_subscriptions(integer) is
'Ends the comped subscriptions of up to p_limit (1 to 1000) accounts whose months are over, and returns of how many. '
'Passes over accounts that are busy; safe to repeat. Error: 400 bad limit.';
grant execute on function public.end_comped_subscriptions(integer) to service_role;

-- Accounts: everything about one as JSON, and the end of one.
--
-- An account is deleted in this order: its objects, through the Storage API, because SQL would leave their bytes; then
-- the row in auth.users, and everything else by cascade. Three things stay: sums in closed_account_totals, its id in
-- admin_logs, and for a while a keyed hash of its address, so that it gets no free credits again.

-- The objects in the folders of an account. The collation is that of the index that a hosted project has.
create function private.account_objects(p_user_id uuid)
returns table (bucket_id text, name text, size bigint, created_at timestamptz)
language plpgsql
stable
set search_path = ''
as $$
begin
    return query
    select o.bucket_id, o.name, (o.metadata ->> 'size')::bigint, o.created_at from storage.objects as o
    where o.bucket_id in ('originals', 'results', 'avatars') and starts_with(o.name collate "C", p_user_id || '/')
    order by o.bucket_id, o.name collate "C";
end;
$$;

-- Whether an account has a payment page open, or has paid for a subscription of which nothing was heard yet. An order
-- without a page cannot be paid; one this old is forgotten, in case its end was never heard of.
create function private.is_paying(p_user_id uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
    c_longest_payment constant interval := '30 days'::interval;
begin
    return exists (
        select 1 from public.billing_orders as o
        where
            o.user_id = p_user_id
            and o.stripe_checkout_session_id is not null
            and o.created_at > now() - c_longest_payment
            and (
                o.status = 'pending'
                or o.status = 'paid' and o.subscription_plan_id is not null and not exists (
                    select 1 from public.subscription_history as h
                    where h.user_id = p_user_id and h.created_at > o.created_at
                )
            )
    );
end;
$$;

-- Refuses the end of an account while bytes, an admin's rights, a running subscription or a payment hang on it.
create function private.check_account_may_go(p_user_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
    c_most_keys constant integer := 100;
    v_profile public.profiles;
    v_counts jsonb;
    v_keys jsonb;
begin
    select p.* into v_profile from public.profiles as p where p.id = p_user_id for update;
    if v_profile.is_admin then
        perform private.refuse(
            'PT409', 'The account has an admin''s rights', jsonb_build_object('user_id', p_user_id),
            'Have another admin take them back first.');
    -- Nobody could stop the payments of an account that is gone.
    elsif v_profile.stripe_subscription_id is not null then
        perform private.refuse(
            'PT409', 'The account has a running subscription',
            jsonb_build_object('user_id', p_user_id, 'subscription_plan', v_profile.subscription_plan),
            'Cancel the subscription first.');
    -- Whoever still pays would get nothing for it, and a subscription that nobody can stop.
    elsif private.is_paying(p_user_id) then
        perform private.refuse(
            'PT409', 'A payment of the account is under way', jsonb_build_object('user_id', p_user_id),
            'Finish it, or wait until its page has closed: a day at most, days for a bank transfer.');
    end if;

    select jsonb_object_agg(b.bucket_id, b.objects) into v_counts
    from (
        select o.bucket_id, count(*) as objects from private.account_objects(p_user_id) as o group by o.bucket_id
    ) as b;
    if v_counts is not null then
        select jsonb_agg(o.bucket_id || '/' || o.name) into v_keys
        from (select * from private.account_objects(p_user_id) limit c_most_keys) as o;
        perform private.refuse(
            'PT409', 'The account still has objects in storage',
            jsonb_build_object('user_id', p_user_id, 'counts', v_counts, 'first_keys', v_keys),
            'Remove them through the Storage API, then try again.');
    end if;
end;
$$;

-- Ends an account. The row in auth.users is locked before the profile, as when Auth changes an address. No stronger
-- than Auth does it: whoever writes a profile twice in a transaction, as the ledger may, has Postgres look for the
-- row in auth.users again, holding the profile that is waited for here.
create function private.close_account(p_user_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform u.id from auth.users as u where u.id = p_user_id for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'Account not found', jsonb_build_object('user_id', p_user_id), 'Check the id.');
    end if;
    perform private.check_account_may_go(p_user_id);
    delete from auth.users as u where u.id = p_user_id;
end;
$$;

create function private.delete_account()
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.close_account(auth.uid());
end;
$$;

grant execute on function private.delete_account() to authenticated;

create function public.delete_account()
returns void
language plpgsql
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    perform private.delete_account();
end;
$$;

comment on function public.delete_account() is
'Deletes the caller''s account with everything that belongs to it, unfinished operations and credits included. A '
'deactivated account may go too. Errors: 404 already deleted; 409 objects in storage (detail: counts by bucket and '
'first_keys, up to 100, to remove through the Storage API), a running subscription, a payment under way, or an '
'admin''s account.';
grant execute on function public.delete_account() to authenticated;

create function public.delete_user_account(p_user_id uuid, p_reason text)
returns void
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    perform private.check_reason(p_reason);
    perform private.close_account(p_user_id);
    perform private.log_admin_action(
        'delete_user_account', 'profiles', p_user_id, p_user_id, jsonb_build_object('reason', p_reason));
end;
$$;

comment on function public.delete_user_account(uuid, text) is
'Operators: deletes an account under the rules of delete_account, and logs the reason. Errors: 400 no reason, '
'404 unknown account, 409 as delete_account.';
grant execute on function public.delete_user_account(uuid, text) to service_role;

-- Everything about one account. Left out: how the queue ran its operations (worker, lease, turn), what providers
-- answered and cost, and who of the admins did something. As json, because jsonb is built from a tree that takes twenty
-- times the memory of its text, and an account may have hundreds of thousands of rows.
create function private.export_account(p_user_id uuid)
returns json
language plpgsql
stable
set search_path = ''
as $$
declare
    v_account jsonb;
begin
    select to_jsonb(u) into v_account from auth.users as u where u.id = p_user_id;
    if not found then
        perform private.refuse(
            'PT404', 'Account not found', jsonb_build_object('user_id', p_user_id), 'Check the id.');
    end if;

    return (select json_build_object(
        'exported_at', now(),
        'account', jsonb_build_object(
            'id', p_user_id, 'email', v_account -> 'email', 'phone', v_account -> 'phone',
            'created_at', v_account -> 'created_at', 'email_confirmed_at', v_account -> 'email_confirmed_at',
            'last_sign_in_at', v_account -> 'last_sign_in_at', 'user_metadata', v_account -> 'raw_user_meta_data',
            'providers', v_account -> 'raw_app_meta_data' -> 'providers'),
        'profile', (select to_jsonb(p) from public.profiles as p where p.id = p_user_id),
        'subscription_history', coalesce((
            select json_agg(to_jsonb(s) order by s.created_at, s.id) from public.subscription_history as s
            where s.user_id = p_user_id), '[]'),
        'billing_orders', coalesce((
            select json_agg(to_jsonb(o) order by o.created_at, o.id) from public.billing_orders as o
            where o.user_id = p_user_id), '[]'),
        'billing_invoices', coalesce((
            select json_agg(to_jsonb(i) order by i.created_at, i.id) from public.billing_invoices as i
            where i.user_id = p_user_id), '[]'),
        'stripe_customers', coalesce((
            select json_agg(to_jsonb(c) order by c.created_at, c.id) from public.stripe_customers as c
            where c.user_id = p_user_id), '[]'),
        'credit_transactions', coalesce((
            select json_agg(to_jsonb(t) order by t.seq) from public.credit_transactions as t
            where t.user_id = p_user_id), '[]'),
        'credit_grants', coalesce((
            select json_agg(to_jsonb(g) order by g.seq) from public.credit_grants as g
            where g.user_id = p_user_id), '[]'),
        'credit_clawbacks', coalesce((
            select json_agg(to_jsonb(k) order by k.created_at, k.id) from public.credit_clawbacks as k
            where k.user_id = p_user_id), '[]'),
        'images', coalesce((
            select json_agg(to_jsonb(i) order by i.created_at, i.id) from public.images as i
            where i.user_id = p_user_id), '[]'),
        'image_operations', coalesce((
            select json_agg(
                jsonb_build_object(
                    'id', o.id, 'image_id', o.image_id, 'operation_type', o.operation_type,
                    'api_provider', o.api_provider, 'status', o.status, 'options', o.options,
                    'input_data', o.input_data, 'output_data', o.output_data, 'error_message', o.error_message,
                    'processing_time', o.processing_time, 'credits_used', o.credits_used,
                    'credits_refunded', o.credits_refunded, 'idempotency_key', o.idempotency_key,
                    'created_at', o.created_at, 'started_at', o.started_at, 'completed_at', o.completed_at)
                order by o.created_at, o.id)
            from public.image_operations as o
            where o.user_id = p_user_id), '[]'),
        'image_collections', coalesce((
            select json_agg(to_jsonb(c) order by c.created_at, c.id) from public.image_collections as c
            where c.user_id = p_user_id), '[]'),
        'image_collection_items', coalesce((
            select json_agg(to_jsonb(m) order by m.added_at, m.id) from public.image_collection_items as m
            inner join public.image_collections as c on c.id = m.collection_id
            where c.user_id = p_user_id), '[]'),
        'operation_counts', coalesce((
            select json_agg(to_jsonb(c)) from private.operation_counts as c where c.user_id = p_user_id), '[]'),
        'operation_requests', coalesce((
            select json_agg(
                jsonb_build_object(
                    'idempotency_key', r.idempotency_key, 'operation_id', r.operation_id, 'created_at', r.created_at)
                order by r.created_at, r.idempotency_key)
            from private.operation_requests as r
            where r.user_id = p_user_id), '[]'),
        'api_usage_logs', coalesce((
            select json_agg(
                jsonb_build_object(
                    'operation_id', l.operation_id, 'api_provider', l.api_provider,
                    'operation_type', l.operation_type, 'model', l.model, 'request_data', l.request_data,
                    'created_at', l.created_at)
                order by l.created_at, l.id)
            from public.api_usage_logs as l
            where l.user_id = p_user_id), '[]'),
        'user_activity_logs', coalesce((
            select json_agg(to_jsonb(l) order by l.created_at, l.id) from public.user_activity_logs as l
            where l.user_id = p_user_id), '[]'),
        'email_logs', coalesce((
            select json_agg(
                to_jsonb(l) - 'lease_token' - 'lease_expires_at' || jsonb_build_object('template', t.name)
                order by l.created_at, l.id)
            from public.email_logs as l
            left join public.email_templates as t on t.id = l.template_id
            where l.user_id = p_user_id), '[]'),
        'email_events', coalesce((
            select json_agg(to_jsonb(e) order by e.occurred_at, e.sg_event_id) from public.email_events as e
            inner join public.email_logs as l on l.id = e.email_log_id
            where l.user_id = p_user_id), '[]'),
        'email_suppressions', coalesce((
            select json_agg(to_jsonb(s) order by s.created_at, s.id) from public.email_suppressions as s
            where s.user_id = p_user_id), '[]'),
        'admin_logs', coalesce((
            select json_agg(
                jsonb_build_object(
                    'action', l.action, 'target_type', l.target_type, 'target_id', l.target_id,
                    'details', l.details - 'reason', 'created_at', l.created_at)
                order by l.created_at, l.id)
            from public.admin_logs as l
            where l.target_user_id = p_user_id), '[]'),
        'upload_totals', coalesce((
            select json_agg(to_jsonb(t)) from private.upload_totals as t where t.user_id = p_user_id), '[]'),
        'objects', coalesce((
            select json_agg(to_jsonb(o)) from private.account_objects(p_user_id) as o), '[]')
    ));
end;
$$;

create function private.export_own_account()
returns json
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return private.export_account(auth.uid());
end;
$$;

grant execute on function private.export_own_account() to authenticated;

create function public.export_account()
returns json
language plpgsql
stable
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return private.export_own_account();
end;
$$;

comment on function public.export_account() is
'Everything about the caller''s account as one JSON object: a key for each table, and objects, the files in storage, '
'which the owner downloads through the Storage API. Error: 404 deleted.';
grant execute on function public.export_account() to authenticated;

create function public.export_user_account(p_user_id uuid)
returns json
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return private.export_account(p_user_id);
end;
$$;

comment on function public.export_user_account(uuid) is
'Operators: what export_account gives, for any account. Error: 404 unknown account.';
grant execute on function public.export_user_account(uuid) to service_role;

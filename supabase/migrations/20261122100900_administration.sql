-- Administration: the log of what admins did to others, and what they do by function because no column grant may give
-- it to a browser. Each function takes the reason and logs it.

create table public.admin_logs (
    id uuid primary key default gen_random_uuid(),
    admin_user_id uuid references public.profiles (id) on delete set null,
    -- The same id, kept when the account goes: nobody leaves the log by deleting his account.
    actor_id uuid,
    action text not null check (char_length(action) between 1 and 100),
    target_type text,
    target_id uuid,
    target_user_id uuid,
    details jsonb check (jsonb_typeof(details) = 'object'),
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now()
);

comment on table public.admin_logs is
'What admins did to other people''s data and to the catalogue, written by triggers and by the admin functions; an '
'operator''s own tools may add what they did. Admins read it; nobody edits it. When an account is deleted, the entries '
'about it keep its id and lose their details.';
comment on column public.admin_logs.action is
'insert, update or delete of a row, or the name of an admin function.';
comment on column public.admin_logs.target_id is 'Id of the row; null where the table has another key: see details.';
comment on column public.admin_logs.target_user_id is
'Whose data it was; null for the catalogue. Outlives the account.';
comment on column public.admin_logs.details is
'Of a row: before and after, with the columns that changed. Of a function: its reason and what it did.';

create index idx_admin_logs_admin_user_id on public.admin_logs (admin_user_id);
create index idx_admin_logs_target_user_id on public.admin_logs (target_user_id);
create index idx_admin_logs_created_at on public.admin_logs (created_at);

alter table public.admin_logs enable row level security;

create policy "Admins view the log" on public.admin_logs
for select to authenticated
using ((select private.is_admin()));

grant select on public.admin_logs to authenticated;
grant select, insert on public.admin_logs to service_role;

-- Writes one entry for the caller. The operator's key has no account: his entries have no actor.
create function private.log_admin_action(
    p_action text,
    p_target_type text,
    p_target_id uuid,
    p_target_user_id uuid,
    p_details jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.admin_logs (
        admin_user_id, actor_id, action, target_type, target_id, target_user_id, details, ip_address, user_agent
    )
    select
        auth.uid(), auth.uid(), p_action, p_target_type, p_target_id, p_target_user_id, p_details, o.ip_address,
        o.user_agent
    from private.request_origin() as o;
end;
$$;

-- Logs an admin's change of a row that is not his own. Argument: the column with the owner's account, where the table
-- has one. It fires for the columns that a browser may write; the rest changes by functions, which log themselves.
create function private.log_admin_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_actor_id constant uuid := auth.uid();
    v_before jsonb;
    v_after jsonb;
    v_row jsonb;
    v_owner_id uuid;
begin
    if v_actor_id is null then
        return null;
    end if;
    v_before := case when tg_op <> 'INSERT' then to_jsonb(old) - 'updated_at' end;
    v_after := case when tg_op <> 'DELETE' then to_jsonb(new) - 'updated_at' end;
    v_row := coalesce(v_after, v_before);
    if tg_argv[0] = 'collection_id' then
        select c.user_id into v_owner_id from public.image_collections as c
        inner join public.images as i on i.id = (v_row ->> 'image_id')::uuid
        where c.id = (v_row ->> 'collection_id')::uuid;
        -- An item that went with its image or its collection is part of that deletion.
        if not found then
            return null;
        end if;
    else
        v_owner_id := (v_row ->> tg_argv[0])::uuid;
    end if;
    -- Whoever gets at what is not his own is an admin. Asked here, a right that was taken back while the change waited
    -- for its row would keep it out of the log.
    if v_owner_id = v_actor_id then
        return null;
    end if;

    if tg_op = 'UPDATE' then
        select jsonb_object_agg(b.key, b.value), jsonb_object_agg(b.key, v_after -> b.key) into v_before, v_after
        from jsonb_each(v_before) as b
        where b.value is distinct from v_after -> b.key;
        if v_before is null then
            return null;
        end if;
    end if;
    perform private.log_admin_action(
        lower(tg_op), tg_table_name, (v_row ->> 'id')::uuid, v_owner_id,
        jsonb_build_object('before', v_before, 'after', v_after)
        || case when v_row ? 'id' then '{}' else jsonb_build_object('key', v_row -> 'name') end);
    return null;
end;
$$;

create trigger log_admin_change
after update of first_name, last_name, company, phone, avatar_url, marketing_emails, notification_emails
on public.profiles
for each row execute function private.log_admin_change('id');

create trigger log_admin_change
after insert or delete or update of original_filename, is_favorite, final_url on public.images
for each row execute function private.log_admin_change('user_id');

create trigger log_admin_change
after insert or delete or update of name, description, is_public on public.image_collections
for each row execute function private.log_admin_change('user_id');

create trigger log_admin_change
after insert or delete on public.image_collection_items
for each row execute function private.log_admin_change('collection_id');

create trigger log_admin_change
after update on public.catalogue_settings
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or update or delete on public.subscription_plans
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or update or delete on public.pay_as_you_go_packages
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or update or delete on public.operation_types
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or update or delete on public.api_costs
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or update or delete on public.email_templates
for each row execute function private.log_admin_change();

create trigger log_admin_change
after insert or delete on public.email_suppressions
for each row execute function private.log_admin_change('user_id');

create trigger log_admin_change
after insert or delete or update of name, template_id, target_audience, emails_per_minute on public.email_campaigns
for each row execute function private.log_admin_change();

-- The log outlives an account that it is about, and forgets all but its id. After all that the account owned, because
-- the deletion of that has waited for the admins who were changing it, and for their entries.
create function private.forget_log_details()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    update public.admin_logs as l set details = null where l.target_user_id = old.id;
    return null;
end;
$$;

-- In the order of their names it comes after the triggers of the foreign keys.
create trigger forget_log_details
after delete on public.profiles
for each row execute function private.forget_log_details();

create function private.check_reason(p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if coalesce(trim(p_reason), '') = '' or char_length(p_reason) > 300 then
        perform private.refuse(
            'PT400', 'The reason must have 1 to 300 characters', '{"argument": "p_reason"}',
            'Say why, for whoever reads the log.');
    end if;
end;
$$;

-- The gate of every admin function: an active admin, or an operator with the secret key; and a reason that the log can
-- keep.
create function private.check_admin_with_reason(p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.check_admin();
    perform private.check_reason(p_reason);
end;
$$;

-- Locks another account for an admin or an operator who takes or gives a right.
--
-- Both profiles are locked, in the order of their ids, and the admin is checked again after: whoever succeeds is still
-- an active admin when it commits, and cannot be the one who was changed. So two admins who dismiss each other at the
-- same moment do not both succeed, and admins alone never come to be without one.
create function private.lock_account_as_admin(p_user_id uuid, p_reason text)
returns public.profiles
language plpgsql
set search_path = ''
as $$
declare
    v_admin_id constant uuid := auth.uid();
    v_profile public.profiles;
begin
    perform private.check_admin_with_reason(p_reason);
    if p_user_id = v_admin_id then
        perform private.refuse(
            'PT409', 'An admin cannot change the rights of his own account', jsonb_build_object('user_id', p_user_id),
            'Ask another admin.');
    end if;
    perform p.id from public.profiles as p
    where p.id in (p_user_id, v_admin_id)
    order by p.id
    for no key update;
    perform private.check_admin_with_reason(p_reason);

    select p.* into v_profile from public.profiles as p where p.id = p_user_id;
    if not found then
        perform private.refuse(
            'PT404', format('User %s not found', p_user_id), jsonb_build_object('user_id', p_user_id),
            'Check the id: it is the one in profiles.');
    end if;
    return v_profile;
end;
$$;

create function private.admin_set_user_active(p_user_id uuid, p_is_active boolean, p_reason text)
returns public.profiles
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_profile public.profiles := private.lock_account_as_admin(p_user_id, p_reason);
begin
    if p_is_active is null then
        perform private.refuse('PT400', 'p_is_active is missing', '{"argument": "p_is_active"}', 'Pass true or false.');
    elsif v_profile.is_active <> p_is_active then
        update public.profiles as p set is_active = p_is_active where p.id = p_user_id returning p.* into v_profile;
        perform private.log_admin_action(
            'admin_set_user_active', 'profiles', p_user_id, p_user_id,
            jsonb_build_object('is_active', p_is_active, 'reason', p_reason));
    end if;
    return v_profile;
end;
$$;

grant execute on function private.admin_set_user_active(uuid, boolean, text) to authenticated, service_role;

create function public.admin_set_user_active(p_user_id uuid, p_is_active boolean, p_reason text)
returns public.profiles
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_set_user_active(p_user_id, p_is_active, p_reason);
end;
$$;

comment on function public.admin_set_user_active(uuid, boolean, text) is
'Admins and operators: deactivates another account, or activates it again, and returns its profile. A deactivated '
'account reads and deletes what it has and starts nothing; its public collections are hidden. Logged with the reason. '
'Errors: 400 no reason, 403 not an admin, 404 unknown user, 409 the own account.';
grant execute on function public.admin_set_user_active(uuid, boolean, text) to authenticated, service_role;

create function private.admin_set_user_admin(p_user_id uuid, p_is_admin boolean, p_reason text)
returns public.profiles
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_profile public.profiles := private.lock_account_as_admin(p_user_id, p_reason);
begin
    if p_is_admin is null then
        perform private.refuse('PT400', 'p_is_admin is missing', '{"argument": "p_is_admin"}', 'Pass true or false.');
    elsif v_profile.is_admin <> p_is_admin then
        update public.profiles as p set is_admin = p_is_admin where p.id = p_user_id returning p.* into v_profile;
        perform private.log_admin_action(
            'admin_set_user_admin', 'profiles', p_user_id, p_user_id,
            jsonb_build_object('is_admin', p_is_admin, 'reason', p_reason));
    end if;
    return v_profile;
end;
$$;

grant execute on function private.admin_set_user_admin(uuid, boolean, text) to authenticated, service_role;

create function public.admin_set_user_admin(p_user_id uuid, p_is_admin boolean, p_reason text)
returns public.profiles
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_set_user_admin(p_user_id, p_is_admin, p_reason);
end;
$$;

comment on function public.admin_set_user_admin(uuid, boolean, text) is
'Admins and operators: makes another account an admin, or takes that back, and returns its profile. Nobody changes '
'himself, so admins alone always leave one. Logged with the reason. Errors: 400 no reason, 403 not an admin, 404 '
'unknown user, 409 the own account.';
grant execute on function public.admin_set_user_admin(uuid, boolean, text) to authenticated, service_role;

-- Logs what an admin did in a ledger, unless the entry is the answer to a request that was sent again.
create function private.log_ledger_action(p_action text, p_entry public.credit_transactions, p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if not exists (
        select 1 from public.admin_logs as l
        where l.target_user_id = p_entry.user_id and l.target_id = p_entry.id and l.action = p_action
    ) then
        perform private.log_admin_action(
            p_action, 'credit_transactions', p_entry.id, p_entry.user_id,
            jsonb_build_object('credits', p_entry.balance_after - p_entry.balance_before, 'reason', p_reason));
    end if;
end;
$$;

create function private.admin_adjust_credits(
    p_user_id uuid,
    p_amount integer,
    p_reason text,
    p_expires_at timestamptz,
    p_idempotency_key text
)
returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_largest_amount constant integer := 1000000;
    v_grant public.credit_grants;
    v_entry public.credit_transactions;
begin
    perform private.check_admin_with_reason(p_reason);
    if p_amount is null or p_amount = 0 or p_amount not between -c_largest_amount and c_largest_amount then
        perform private.refuse(
            'PT400', format('The amount must be between -%1$s and %1$s credits, and not 0', c_largest_amount),
            jsonb_build_object('argument', 'p_amount', 'value', p_amount),
            'Pass a positive number to give credits, a negative one to take them.');
    elsif p_amount < 0 and p_expires_at is not null then
        perform private.refuse(
            'PT400', 'Credits that are taken do not expire', '{"argument": "p_expires_at"}',
            'Leave p_expires_at out, or pass a positive amount.');
    elsif p_amount > 0 then
        v_grant := public.grant_credits(
            p_user_id, p_amount, 'bonus', 'adjustment', p_expires_at, 0, p_reason, null, p_idempotency_key, null, null,
            null, null, null);
        select t.* into strict v_entry from public.credit_transactions as t where t.id = v_grant.transaction_id;
    else
        -- Not usage: nothing was delivered for them.
        perform public.deduct_user_credits(
            p_user_id, -p_amount, 'expiration', p_reason, null, p_idempotency_key);
        -- The account is locked: the newest entry is this one, unless the key is a repeated one.
        select t.* into strict v_entry from public.credit_transactions as t
        where t.user_id = p_user_id and (p_idempotency_key is null or t.idempotency_key = p_idempotency_key)
        order by t.seq desc
        limit 1;
    end if;
    perform private.log_ledger_action('admin_adjust_credits', v_entry, p_reason);
    return v_entry;
end;
$$;

grant execute on function private.admin_adjust_credits(uuid, integer, text, timestamptz, text)
to authenticated, service_role;

create function public.admin_adjust_credits(
    p_user_id uuid,
    p_amount integer,
    p_reason text,
    p_expires_at timestamptz default null,
    p_idempotency_key text default null
)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_adjust_credits(p_user_id, p_amount, p_reason, p_expires_at, p_idempotency_key);
end;
$$;

comment on function public.admin_adjust_credits(uuid, integer, text, timestamptz, text) is
'Admins and operators: gives credits (a positive amount, until p_expires_at) or takes them (negative, an expiration '
'entry) and returns the entry. The user reads the reason as its description. Logged. With an idempotency key, the same '
'request returns the first answer. Errors: 400 bad argument or no reason, 402 too few credits to take, 403 not an '
'admin, 404 unknown user, 409 key used for another request.';
grant execute on function public.admin_adjust_credits(uuid, integer, text, timestamptz, text)
to authenticated, service_role;

create function private.admin_refund_transaction(p_transaction_id uuid, p_reason text, p_idempotency_key text)
returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_entry public.credit_transactions;
begin
    perform private.check_admin_with_reason(p_reason);
    v_entry := public.refund_transaction(p_transaction_id, p_reason, p_idempotency_key);
    perform private.log_ledger_action('admin_refund_transaction', v_entry, p_reason);
    return v_entry;
end;
$$;

grant execute on function private.admin_refund_transaction(uuid, text, text) to authenticated, service_role;

create function public.admin_refund_transaction(
    p_transaction_id uuid,
    p_reason text,
    p_idempotency_key text default null
)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_refund_transaction(p_transaction_id, p_reason, p_idempotency_key);
end;
$$;

comment on function public.admin_refund_transaction(uuid, text, text) is
'Admins and operators: gives back the credits of a usage entry, to where they came from, and returns the refund. The '
'user reads the reason as its description. Logged. Errors: 400 no reason, 403 not an admin, 404 unknown entry, 409 no '
'usage entry, refunded already, or key used for another request.';
grant execute on function public.admin_refund_transaction(uuid, text, text) to authenticated, service_role;

create function private.admin_cancel_image_operation(p_operation_id uuid, p_reason text)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_user_id uuid;
    v_operation public.image_operations;
begin
    perform private.check_admin_with_reason(p_reason);
    select o.user_id into v_user_id from public.image_operations as o where o.id = p_operation_id;
    v_operation := private.cancel_operation_of(v_user_id, p_operation_id, 'Cancelled: ' || p_reason);
    perform private.log_admin_action(
        'admin_cancel_image_operation', 'image_operations', p_operation_id, v_user_id,
        jsonb_build_object('operation_type', v_operation.operation_type, 'reason', p_reason));
    return v_operation;
end;
$$;

grant execute on function private.admin_cancel_image_operation(uuid, text) to authenticated, service_role;

create function public.admin_cancel_image_operation(p_operation_id uuid, p_reason text)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.admin_cancel_image_operation(p_operation_id, p_reason);
end;
$$;

comment on function public.admin_cancel_image_operation(uuid, text) is
'Admins and operators: cancels anybody''s unfinished operation, refunds it and returns its row. The user reads the '
'reason in error_message. Logged. Errors: 400 no reason, 403 not an admin, 404 unknown operation, 409 finished.';
grant execute on function public.admin_cancel_image_operation(uuid, text) to authenticated, service_role;

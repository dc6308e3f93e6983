-- The ledger's ways back: credits expire, come back after a refund, or are clawed back because their money was.

-- Ends what has expired of these accounts, in the order of the ids; [{user_id, credits}] of those that lost some.
create function private.expire_credits_of(p_user_ids uuid[], p_now timestamptz)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_user_id uuid;
    v_credits integer;
    v_expired jsonb[] := array[]::jsonb[];
begin
    foreach v_user_id in array p_user_ids
    loop
        perform private.lock_account(v_user_id);
        v_credits := private.expire_account_credits(v_user_id, p_now);
        -- Another call may have been here between the search and the lock.
        if v_credits > 0 then
            v_expired := v_expired || jsonb_build_object('user_id', v_user_id, 'credits', v_credits);
        end if;
    end loop;
    return to_jsonb(v_expired);
end;
$$;

create function public.expire_credits(p_now timestamptz default now(), p_limit integer default 1000)
returns table (user_id uuid, credits integer)
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_accounts jsonb;
begin
    if p_now is null then
        perform private.refuse('PT400', 'The time is missing', '{"argument": "p_now"}', 'Leave it out for now.');
    end if;
    perform private.check_limit(p_limit, 10000);
    -- In the order of the ids, because one call holds many accounts; the next call finds those that are busy now.
    select coalesce(jsonb_agg(jsonb_build_object('id', a.id, 'user_id', a.id, 'now', p_now)), '[]') into v_accounts
    from (
        select p.id from public.profiles as p
        where p.id in (
            select g.user_id from public.credit_grants as g
            where
                not g.is_spent and g.expires_at <= p_now
                and not exists (
                    select from public.set_aside_rows as s
                    where s.task = 'expire_credits' and s.row_id = g.user_id::text
                )
            order by g.expires_at
            limit p_limit
        )
        order by p.id
        for no key update skip locked
    ) as a;
    return query
    select e.user_id, e.credits
    from jsonb_to_recordset(private.work_through('expire_credits', v_accounts)) as e (user_id uuid, credits integer);
end;
$$;

comment on function public.expire_credits(timestamptz, integer) is
'Ends the grants that expired by p_now, of up to p_limit (1 to 10000) accounts, and returns how many credits each '
'lost. Passes over accounts that are busy; safe to repeat at any time. Error: 400 bad argument.';
grant execute on function public.expire_credits(timestamptz, integer) to service_role;

-- Gives back what the entries p_taken_by took, each credit to the grant it came from, whose expiry it keeps; then
-- settles debts from it. Expects the account locked, and that nothing was given back before.
create function private.return_credits(p_request public.credit_transactions, p_taken_by uuid[])
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    v_request public.credit_transactions := p_request;
    v_entry public.credit_transactions;
    v_taken record;
begin
    for v_taken in
        select a.grant_id, -sum(a.amount)::integer as amount from public.credit_allocations as a
        where a.transaction_id = any (p_taken_by)
        group by a.grant_id
    loop
        v_request.allocations := v_request.allocations
            || private.allocate_credits(v_taken.grant_id, v_taken.amount);
    end loop;
    v_entry := private.post_credit_transaction(v_request, v_request.amount);
    perform private.settle_debt(v_entry);
    return v_entry;
end;
$$;

-- Refunds a usage entry, once: afterwards the refund that there is comes back. Expects the account locked.
create function private.refund_usage(
    p_usage public.credit_transactions,
    p_description text,
    p_idempotency_key text
)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_refund public.credit_transactions;
begin
    select t.* into v_refund from public.credit_transactions as t where t.refunded_transaction_id = p_usage.id;
    if found then
        return v_refund;
    end if;
    v_request.user_id := p_usage.user_id;
    v_request.transaction_type := 'refund';
    v_request.amount := p_usage.amount;
    v_request.description := p_description;
    v_request.metadata := p_usage.metadata;
    v_request.idempotency_key := p_idempotency_key;
    v_request.refunded_transaction_id := p_usage.id;
    return private.return_credits(v_request, array[p_usage.id]);
end;
$$;

create function public.refund_transaction(
    p_transaction_id uuid,
    p_description text default null,
    p_idempotency_key text default null
)
returns public.credit_transactions
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_usage public.credit_transactions;
    v_first public.credit_transactions;
begin
    perform private.check_credit_note('p_description', p_description, p_idempotency_key);
    select t.* into v_usage from public.credit_transactions as t where t.id = p_transaction_id;
    if not found then
        perform private.refuse(
            'PT404', 'Transaction not found', jsonb_build_object('transaction_id', p_transaction_id),
            'Pass the id of a usage entry of credit_transactions.');
    elsif v_usage.transaction_type <> 'usage' then
        perform private.refuse(
            'PT409', format('An entry of type %s cannot be refunded', v_usage.transaction_type),
            jsonb_build_object('transaction_id', p_transaction_id, 'transaction_type', v_usage.transaction_type),
            'Only usage is refunded. Claw back a purchase, or grant what is missing.');
    end if;

    perform private.lock_account(v_usage.user_id);
    select t.* into v_first from public.credit_transactions as t
    where
        t.user_id = v_usage.user_id
        and (t.refunded_transaction_id = v_usage.id or t.idempotency_key = p_idempotency_key)
    order by t.idempotency_key = p_idempotency_key desc nulls last
    limit 1;
    if v_first.idempotency_key = p_idempotency_key then
        if (v_first.refunded_transaction_id, v_first.description) is distinct from (v_usage.id, p_description) then
            perform private.refuse_repeated_key(p_idempotency_key, 'transaction_id', v_first.id);
        end if;
        return v_first;
    elsif v_first.id is not null then
        perform private.refuse(
            'PT409', 'The transaction was refunded already',
            jsonb_build_object('transaction_id', p_transaction_id, 'refund_id', v_first.id),
            'There is nothing to do: refund_id names the entry that gave it back.');
    end if;

    -- An operation shows what came back of its charge. Its own refund, when it fails later, finds this one.
    if v_usage.idempotency_key like 'operation:%:charge' then
        update public.image_operations as o set credits_refunded = o.credits_used
        where o.id = split_part(v_usage.idempotency_key, ':', 2)::uuid;
    end if;
    return private.refund_usage(v_usage, p_description, p_idempotency_key);
end;
$$;

comment on function public.refund_transaction(uuid, text, text) is
'Gives the credits of a usage entry back to the grants they came from, once, and returns the refund. With an '
'idempotency key, the same request returns the first answer. Errors: 400 bad argument, 404 unknown transaction, '
'409 not a usage, refunded already, or key used for another request, 413 too large.';
grant execute on function public.refund_transaction(uuid, text, text) to service_role;

-- Moves what a clawback still owes, and with it the account's debt.
create function private.change_debt(p_clawback_id uuid, p_change integer)
returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.credit_clawbacks as c set owed = c.owed + p_change where c.id = p_clawback_id;
    update public.profiles as p set credit_debt = p.credit_debt + p_change, updated_at = now()
    where p.id = (select c.user_id from public.credit_clawbacks as c where c.id = p_clawback_id);
end;
$$;

-- Takes what clawbacks still owe, the oldest first, from the credits that an entry just brought: as an entry for each.
-- Other credits of the account stay: they are paid for, or were there before. Expects the account locked.
create function private.settle_debt(p_entry public.credit_transactions)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_credited record;
    v_clawback public.credit_clawbacks;
    v_request public.credit_transactions;
begin
    for v_credited in
        select g.id, c.amount from (
            select g.id as grant_id, g.amount from public.credit_grants as g where g.transaction_id = p_entry.id
            union all
            select a.grant_id, a.amount from unnest(p_entry.allocations) as a
        ) as c
        inner join public.credit_grants as g on g.id = c.grant_id
        order by g.expires_at, g.priority, g.seq
    loop
        for v_clawback in
            select c.* from public.credit_clawbacks as c
            where c.user_id = p_entry.user_id and c.owed > 0
            order by c.created_at, c.id
        loop
            exit when v_credited.amount = 0;
            v_request.user_id := p_entry.user_id;
            v_request.transaction_type := 'clawback';
            v_request.amount := least(v_clawback.owed, v_credited.amount);
            v_request.description := 'Settled: ' || v_clawback.reason;
            v_request.metadata := jsonb_build_object('credited_transaction_id', p_entry.id);
            v_request.clawback_id := v_clawback.id;
            perform private.take_from_grant(v_request, v_credited.id, v_request.amount);
            perform private.change_debt(v_clawback.id, -v_request.amount);
            v_credited.amount := v_credited.amount - v_request.amount;
        end loop;
    end loop;
end;
$$;

-- How many credits of a grant ended unspent.
create function private.expired_credits(p_grant_id uuid)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return (
        select coalesce(-sum(a.amount), 0)::integer from public.credit_transactions as t
        cross join unnest(t.allocations) as a
        where
            t.transaction_type = 'expiration' and a.grant_id = p_grant_id
            and t.user_id = (select g.user_id from public.credit_grants as g where g.id = p_grant_id)
    );
end;
$$;

create function public.clawback_credits(
    p_grant_id uuid,
    p_amount integer default null,
    p_reason text default null,
    p_money_amount numeric default null,
    p_currency text default null,
    p_idempotency_key text default null
)
returns public.credit_clawbacks
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_grant public.credit_grants;
    v_clawback public.credit_clawbacks;
    v_request public.credit_transactions;
    v_open integer;
    v_expired integer;
begin
    perform private.check_clawback_note(p_reason, p_idempotency_key);
    perform private.check_money(p_money_amount, p_currency);
    select g.* into v_grant from public.credit_grants as g where g.id = p_grant_id;
    if not found then
        perform private.refuse(
            'PT404', 'Grant not found', jsonb_build_object('grant_id', p_grant_id), 'Pass an id of credit_grants.');
    end if;
    perform private.lock_account(v_grant.user_id);

    select c.* into v_clawback from public.credit_clawbacks as c
    where c.user_id = v_grant.user_id and c.idempotency_key = p_idempotency_key;
    if found then
        if (v_clawback.grant_id, v_clawback.amount, v_clawback.reason)
            is distinct from (p_grant_id, coalesce(p_amount, v_clawback.amount), p_reason)
            or (v_clawback.money_amount, v_clawback.currency)
            is distinct from (round(p_money_amount, 2), upper(p_currency))
        then
            perform private.refuse_repeated_key(p_idempotency_key, 'clawback_id', v_clawback.id);
        end if;
        return v_clawback;
    end if;

    -- Again, under the lock.
    select g.* into strict v_grant from public.credit_grants as g where g.id = p_grant_id;
    select v_grant.amount - coalesce(sum(c.amount), 0), private.expired_credits(p_grant_id) - coalesce(sum(c.expired), 0)
    into v_open, v_expired
    from public.credit_clawbacks as c
    where c.grant_id = p_grant_id and c.reversed_at is null;
    if coalesce(p_amount, 1) <= 0 then
        perform private.refuse(
            'PT400', 'The amount must be a positive number of credits', '{"argument": "p_amount"}',
            'Pass null for all that is left to claw back.');
    elsif coalesce(p_amount, 1) > v_open then
        perform private.refuse(
            'PT409', format('Only %s of the %s credits of this grant can still be clawed back', v_open, v_grant.amount),
            jsonb_build_object('grant_id', p_grant_id, 'amount', v_grant.amount, 'open', v_open),
            'Check the earlier clawbacks of the grant.');
    end if;

    -- What is left goes first, then what ended unspent counts, and only the rest was spent.
    v_request.amount := least(coalesce(p_amount, v_open), v_grant.remaining);
    insert into public.credit_clawbacks (
        user_id, grant_id, amount, owed, expired, money_amount, currency, reason, idempotency_key
    ) values (
        v_grant.user_id, p_grant_id, coalesce(p_amount, v_open), 0,
        least(coalesce(p_amount, v_open) - v_request.amount, v_expired), round(p_money_amount, 2), upper(p_currency),
        p_reason, p_idempotency_key
    )
    returning * into v_clawback;
    v_request.user_id := v_grant.user_id;
    v_request.transaction_type := 'clawback';
    v_request.description := p_reason;
    v_request.clawback_id := v_clawback.id;
    if v_request.amount > 0 then
        perform private.take_from_grant(v_request, p_grant_id, v_request.amount);
    end if;
    if v_request.amount + v_clawback.expired < v_clawback.amount then
        perform private.change_debt(v_clawback.id, v_clawback.amount - v_clawback.expired - v_request.amount);
    end if;
    select c.* into strict v_clawback from public.credit_clawbacks as c where c.id = v_clawback.id;
    return v_clawback;
end;
$$;

comment on function public.clawback_credits(uuid, integer, text, numeric, text, text) is
'Takes back a grant, or p_amount of it: what is left of it at once, and what was spent as a debt that the next '
'credits settle; what expired unspent is no debt. '
'Returns the clawback. p_reason is needed. With an idempotency key, the same request returns the first answer. '
'Errors: 400 bad argument, 404 unknown grant, 409 more than is left to claw back, or key used for another request, '
'413 too large.';
grant execute on function public.clawback_credits(uuid, integer, text, numeric, text, text) to service_role;

-- Checks the reason, which a clawback and its reversal must give, and the idempotency key.
create function private.check_clawback_note(p_reason text, p_idempotency_key text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if nullif(trim(p_reason), '') is null then
        perform private.refuse(
            'PT400', 'The reason is missing', '{"argument": "p_reason"}', 'Say why, for the owner and the books.');
    end if;
    perform private.check_credit_note('p_reason', p_reason, p_idempotency_key);
end;
$$;

create function public.reverse_clawback(
    p_clawback_id uuid,
    p_reason text,
    p_idempotency_key text default null
)
returns public.credit_clawbacks
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_clawback public.credit_clawbacks;
    v_first_id uuid;
    v_taken_by uuid[];
    v_request public.credit_transactions;
begin
    perform private.check_clawback_note(p_reason, p_idempotency_key);
    perform private.lock_account(c.user_id) from public.credit_clawbacks as c where c.id = p_clawback_id;
    select c.* into v_clawback from public.credit_clawbacks as c where c.id = p_clawback_id;
    if not found then
        perform private.refuse(
            'PT404', 'Clawback not found', jsonb_build_object('clawback_id', p_clawback_id),
            'Pass an id of credit_clawbacks.');
    end if;

    select c.id into v_first_id from public.credit_clawbacks as c
    where c.user_id = v_clawback.user_id and c.reversal_key = p_idempotency_key;
    if v_first_id = p_clawback_id and v_clawback.reversal_reason = p_reason then
        return v_clawback;
    elsif v_first_id is not null then
        perform private.refuse_repeated_key(p_idempotency_key, 'clawback_id', v_first_id);
    elsif v_clawback.reversed_at is not null then
        perform private.refuse(
            'PT409', 'The clawback was reversed already', jsonb_build_object('clawback_id', p_clawback_id),
            'There is nothing to do: its reversal_reason says why.');
    end if;

    perform private.change_debt(p_clawback_id, -v_clawback.owed);
    update public.credit_clawbacks as c
    set reversed_at = now(), reversal_reason = p_reason, reversal_key = p_idempotency_key
    where c.id = p_clawback_id
    returning c.* into v_clawback;

    select array_agg(t.id), sum(t.amount) into v_taken_by, v_request.amount
    from public.credit_transactions as t
    where t.clawback_id = p_clawback_id;
    if v_taken_by is not null then
        v_request.user_id := v_clawback.user_id;
        v_request.transaction_type := 'clawback_reversal';
        v_request.description := p_reason;
        v_request.clawback_id := p_clawback_id;
        perform private.return_credits(v_request, v_taken_by);
    end if;
    return v_clawback;
end;
$$;

comment on function public.reverse_clawback(uuid, text, text) is
'Undoes a clawback: forgives what it is still owed and gives back what it took. Returns the clawback. With an '
'idempotency key, the same request returns the first answer. Errors: 400 bad argument, 404 unknown clawback, '
'409 reversed already or key used for another request, 413 too large.';
grant execute on function public.reverse_clawback(uuid, text, text) to service_role;

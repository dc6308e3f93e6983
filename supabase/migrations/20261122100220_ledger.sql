-- The ledger's engine: entries, spending and granting.
--
-- Every credit and debit of the system goes through private.post_credit_transaction, or private.spend_credits where it
-- is quicker: the only writers of credit_transactions and, but for the debt, of the cached columns of profiles.
--
-- The profile row is locked before anything else is read, so that an account's entries are made one after the other:
-- no balance and no grant can go stale, and a key cannot be used twice at once. `no key update` is enough to exclude
-- other ledger calls, and does not hold up inserts that merely reference the profile. Different accounts never wait
-- for each other.

-- Checks what a caller may get wrong in a ledger request, before anything is locked. Returns the amount, because a
-- call that is assigned costs half of what it does as a statement.
create function private.check_credit_request(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_allowed_types text[],
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    if p_user_id is null then
        perform private.refuse(
            'PT400', 'The user is missing', '{"argument": "p_user_id"}', 'Pass the id of a profile.');
    elsif p_amount is null or p_amount <= 0 then
        perform private.refuse(
            'PT400', 'The amount must be a positive number of credits',
            jsonb_build_object('argument', 'p_amount', 'value', p_amount), 'Pass 1 or more.');
    elsif p_transaction_type is null or p_transaction_type <> all (p_allowed_types) then
        perform private.refuse(
            'PT400', 'The transaction type is not allowed here',
            jsonb_build_object(
                'argument', 'p_transaction_type', 'value', left(p_transaction_type, 100), 'allowed', p_allowed_types),
            'Pass one of: ' || array_to_string(p_allowed_types, ', ') || '.');
    elsif jsonb_typeof(p_metadata) <> 'object' then
        perform private.refuse(
            'PT400', 'The metadata must be a JSON object', '{"argument": "p_metadata"}', 'Pass {"key": "value"}.');
    elsif octet_length(p_metadata::text) > 8192 then
        perform private.refuse(
            'PT413', 'The metadata is larger than 8 KiB', '{"argument": "p_metadata"}', 'Store a reference instead.');
    end if;
    if p_description is not null or p_idempotency_key is not null then
        perform private.check_credit_note('p_description', p_description, p_idempotency_key);
    end if;
    return p_amount;
end;
$$;

-- Checks the text and the idempotency key that every ledger request may carry.
create function private.check_credit_note(p_argument text, p_text text, p_idempotency_key text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if char_length(p_text) > 500 then
        perform private.refuse(
            'PT413', format('%s is longer than 500 characters', p_argument),
            jsonb_build_object('argument', p_argument), 'Shorten it.');
    elsif char_length(p_idempotency_key) not between 1 and 200 then
        perform private.refuse(
            'PT400', 'The idempotency key must have 1 to 200 characters', '{"argument": "p_idempotency_key"}',
            'Pass for example the id of the event that you handle.');
    elsif p_idempotency_key like 'operation:%' then
        perform private.refuse(
            'PT400', 'Idempotency keys that start with "operation:" are reserved',
            '{"argument": "p_idempotency_key"}', 'Choose another prefix.');
    end if;
end;
$$;

-- Checks an amount of money: units of a currency, such as 7.99 and USD, or both null.
create function private.check_money(p_money_amount numeric, p_currency text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if (p_money_amount is null) <> (p_currency is null) then
        perform private.refuse(
            'PT400', 'An amount of money and its currency belong together', '{"argument": "p_currency"}',
            'Pass both or neither.');
    elsif p_money_amount not between 0 and 9999999999 then
        perform private.refuse(
            'PT400', 'The amount of money must be 0 or more', '{"argument": "p_money_amount"}',
            'Pass units of the currency, such as 7.99.');
    elsif p_currency !~ '^[A-Za-z]{3}$' then
        perform private.refuse(
            'PT400', 'The currency must be a code of three letters', '{"argument": "p_currency"}',
            'Pass for example USD.');
    end if;
end;
$$;

-- Locks an account for a change of its ledger and returns its profile.
create function private.lock_account(p_user_id uuid)
returns public.profiles
language plpgsql
set search_path = ''
as $$
declare
    v_profile public.profiles;
begin
    select p.* into v_profile from public.profiles as p where p.id = p_user_id for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'User ' || p_user_id || ' not found', jsonb_build_object('user_id', p_user_id),
            'Check the id: it is the one in profiles.');
    end if;
    return v_profile;
end;
$$;

-- The entry that was made under the request's key, null when the key is new or there is none.
-- Expects the account locked.
create function private.find_credit_transaction(p_request public.credit_transactions)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    v_entry public.credit_transactions;
begin
    select t.* into v_entry from public.credit_transactions as t
    where t.user_id = p_request.user_id and t.idempotency_key = p_request.idempotency_key;
    if found and (
        (v_entry.transaction_type, v_entry.amount, v_entry.description, v_entry.metadata, v_entry.expires_at)
        is distinct from
        (p_request.transaction_type, p_request.amount, p_request.description, p_request.metadata, p_request.expires_at)
        or (v_entry.refunded_transaction_id, v_entry.stripe_payment_intent_id)
        is distinct from (p_request.refunded_transaction_id, p_request.stripe_payment_intent_id)
        or (v_entry.subscription_plan_id, v_entry.pay_as_you_go_package_id)
        is distinct from (p_request.subscription_plan_id, p_request.pay_as_you_go_package_id)
    ) then
        perform private.refuse_repeated_key(p_request.idempotency_key, 'transaction_id', v_entry.id);
    end if;
    return v_entry;
end;
$$;

create function private.refuse_repeated_key(p_idempotency_key text, p_first_name text, p_first_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT409', 'The idempotency key was used for another request',
        jsonb_build_object('idempotency_key', p_idempotency_key, p_first_name, p_first_id),
        'Use a new key for a new request.');
end;
$$;

-- Posts one entry and moves the balance by p_change, which is signed. The request carries what the entry shall say;
-- its place in the chain is found here. Expects arguments that are checked.
create function private.post_credit_transaction(p_request public.credit_transactions, p_change integer)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    c_largest_integer constant bigint := 2147483647;
    -- Purchases and bonuses stop far below the largest integer, so that what is given back always fits.
    v_largest_balance constant bigint :=
        case when p_request.transaction_type in ('purchase', 'bonus') then 1000000000 else 2147483647 end;
    v_entry public.credit_transactions := p_request;
begin
    update public.profiles as p
    set
        credits_remaining = p.credits_remaining + p_change,
        ledger_version = p.ledger_version + 1,
        total_credits_purchased = case
            when p_request.transaction_type = 'purchase'
                then least(p.total_credits_purchased::bigint + p_change, c_largest_integer)
            else p.total_credits_purchased
        end,
        total_credits_used = case
            when p_request.transaction_type = 'usage' or p_request.refunded_transaction_id is not null
                then least(p.total_credits_used::bigint - p_change, c_largest_integer)
            else p.total_credits_used
        end,
        updated_at = now()
    where p.id = p_request.user_id and p.credits_remaining::bigint + p_change between 0 and v_largest_balance
    returning p.ledger_version, p.credits_remaining - p_change, p.credits_remaining
    into v_entry.seq, v_entry.balance_before, v_entry.balance_after;
    if not found then
        perform private.refuse_change(p_request.user_id, p_change, v_largest_balance);
    end if;

    v_entry.id := gen_random_uuid();
    v_entry.amount := abs(p_change);
    v_entry.created_at := now();
    insert into public.credit_transactions select v_entry.*;
    return v_entry;
end;
$$;

-- Says why a balance cannot move by p_change, from 0 to p_largest_balance.
create function private.refuse_change(p_user_id uuid, p_change integer, p_largest_balance bigint)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_available constant integer := (private.lock_account(p_user_id)).credits_remaining;
begin
    if p_change < 0 then
        perform private.refuse(
            'PT402', format('Insufficient credits. Required: %s, Available: %s', -p_change::bigint, v_available),
            jsonb_build_object('required', -p_change::bigint, 'available', v_available),
            'Buy a credit package or a plan.');
    else
        perform private.refuse(
            'PT400', format('The balance would exceed %s credits', p_largest_balance),
            jsonb_build_object('available', v_available, 'amount', p_change), 'Add fewer credits.');
    end if;
end;
$$;

-- Moves what remains of a grant, and returns the allocation that the entry shall carry.
create function private.allocate_credits(p_grant_id uuid, p_amount integer)
returns public.credit_allocation
language plpgsql
set search_path = ''
as $$
begin
    update public.credit_grants as g
    set remaining = g.remaining + p_amount, is_spent = g.remaining + p_amount = 0
    where g.id = p_grant_id;
    return (p_grant_id, p_amount)::public.credit_allocation;
end;
$$;

-- Posts an entry that takes from one grant.
create function private.take_from_grant(p_request public.credit_transactions, p_grant_id uuid, p_amount integer)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    v_request public.credit_transactions := p_request;
begin
    v_request.allocations := array[private.allocate_credits(p_grant_id, -p_amount)];
    return private.post_credit_transaction(v_request, -p_amount);
end;
$$;

-- Ends the account's grants that are past their expiry, and returns how many credits went. Expects the account locked.
create function private.expire_account_credits(p_user_id uuid, p_now timestamptz)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_grant public.credit_grants;
    v_credits integer := 0;
begin
    for v_grant in
        select g.* from public.credit_grants as g
        where g.user_id = p_user_id and not g.is_spent and g.expires_at <= p_now
        order by g.expires_at, g.priority, g.seq
    loop
        v_request.user_id := p_user_id;
        v_request.transaction_type := 'expiration';
        v_request.description := 'Credits expired';
        v_request.metadata := jsonb_build_object('grant_id', v_grant.id);
        v_request.expires_at := v_grant.expires_at;
        perform private.take_from_grant(v_request, v_grant.id, v_grant.remaining);
        v_credits := v_credits + v_grant.remaining;
    end loop;
    return v_credits;
end;
$$;

-- Takes credits in the order in which they are spent (the grant that expires first, then by priority, then by age) and
-- returns the balance. Nothing looks for the key: a caller that may be repeated has done so.
--
-- The busiest function of the ledger, so it says in two statements of its own what private.post_credit_transaction
-- and private.allocate_credits would: almost always the first grant has enough. It also expires first, so when it is
-- good, no grant is past its expiry.
create function private.spend_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    c_largest_integer constant integer := 2147483647;
    v_used constant integer := case when p_transaction_type = 'usage' then p_amount else 0 end;
    v_balance integer;
    v_seq bigint;
begin
    update public.profiles as p
    set
        credits_remaining = p.credits_remaining - p_amount,
        ledger_version = p.ledger_version + 1,
        total_credits_used = p.total_credits_used + v_used,
        updated_at = now()
    where
        p.id = p_user_id and p.credits_remaining >= p_amount and p.total_credits_used <= c_largest_integer - v_used
    returning p.credits_remaining, p.ledger_version into v_balance, v_seq;

    -- The grant is found once and taken by its place: under the profile's lock nobody else moves it.
    with taken as (
        update public.credit_grants as g
        set remaining = g.remaining - p_amount, is_spent = g.remaining = p_amount
        where
            g.ctid = (
                select f.ctid from public.credit_grants as f
                where f.user_id = p_user_id and not f.is_spent
                order by f.expires_at, f.priority, f.seq
                limit 1
            )
            and v_seq is not null
            and g.remaining >= p_amount
            and (g.expires_at is null or g.expires_at > now())
        returning g.id
    )
    insert into public.credit_transactions (
        user_id, seq, transaction_type, amount, balance_before, balance_after, description, metadata,
        idempotency_key, allocations
    )
    select
        p_user_id, v_seq, p_transaction_type, p_amount, v_balance + p_amount, v_balance, p_description, p_metadata,
        p_idempotency_key, array[(t.id, -p_amount)::public.credit_allocation]
    from taken as t;
    if not found then
        -- Too soon: the profile goes back to what it was, still locked.
        update public.profiles as p
        set
            credits_remaining = p.credits_remaining + p_amount,
            ledger_version = p.ledger_version - 1,
            total_credits_used = p.total_credits_used - v_used
        where p.id = p_user_id and v_seq is not null;
        return private.spend_from_many_grants(
            p_user_id, p_amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
    end if;

    return v_balance;
end;
$$;

-- The long way to spend. What is past its expiry is never spent: it comes first in the order, and goes first.
create function private.spend_from_many_grants(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_entry public.credit_transactions;
    v_grant record;
    v_left integer := p_amount;
begin
    perform private.lock_account(p_user_id);
    perform private.expire_account_credits(p_user_id, now());
    v_request.user_id := p_user_id;
    v_request.transaction_type := p_transaction_type;
    v_request.description := p_description;
    v_request.metadata := p_metadata;
    v_request.idempotency_key := p_idempotency_key;
    for v_grant in
        select g.id, g.remaining from public.credit_grants as g
        where g.user_id = p_user_id and not g.is_spent
        order by g.expires_at, g.priority, g.seq
    loop
        v_request.allocations := v_request.allocations
            || private.allocate_credits(v_grant.id, -least(v_grant.remaining, v_left));
        v_left := v_left - least(v_grant.remaining, v_left);
        exit when v_left = 0;
    end loop;
    v_entry := private.post_credit_transaction(v_request, -p_amount);
    return v_entry.balance_after;
end;
$$;

-- Adds credits as a new grant. The request carries the entry, p_terms the source, the priority and the money.
-- Returns the entry, with the balance as it was after debts were settled.
create function private.add_credit_grant(p_request public.credit_transactions, p_terms public.credit_grants)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    v_entry public.credit_transactions;
    v_debt integer;
begin
    if p_request.idempotency_key is not null then
        perform private.lock_account(p_request.user_id);
        v_entry := private.find_credit_transaction(p_request);
        if v_entry.id is not null then
            perform g.id from public.credit_grants as g
            where
                g.transaction_id = v_entry.id
                and (g.source, g.priority, g.money_amount, g.currency)
                is not distinct from (p_terms.source, p_terms.priority, p_terms.money_amount, p_terms.currency);
            if not found then
                perform private.refuse_repeated_key(p_request.idempotency_key, 'transaction_id', v_entry.id);
            end if;
            v_entry.balance_after := private.balance_after(v_entry);
            return v_entry;
        end if;
    end if;

    v_entry := private.post_credit_transaction(p_request, p_request.amount);
    insert into public.credit_grants (
        user_id, transaction_id, seq, source, amount, remaining, priority, expires_at, money_amount, currency
    ) values (
        v_entry.user_id, v_entry.id, v_entry.seq, p_terms.source, v_entry.amount, v_entry.amount, p_terms.priority,
        v_entry.expires_at, p_terms.money_amount, p_terms.currency
    )
    returning (select p.credit_debt from public.profiles as p where p.id = v_entry.user_id) into v_debt;
    if v_debt > 0 then
        perform private.settle_debt(v_entry);
        v_entry.balance_after := private.balance_after(v_entry);
    end if;
    return v_entry;
end;
$$;

-- The balance as a credit left it, debts settled. Asked again later, the answer is the same.
-- Volatile: a stable function would not see the entries that its caller has just made.
create function private.balance_after(p_entry public.credit_transactions)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return coalesce(
        (
            select min(t.balance_after) from public.credit_transactions as t
            where
                t.user_id = p_entry.user_id and t.seq > p_entry.seq and t.clawback_id is not null
                and t.metadata ->> 'credited_transaction_id' = p_entry.id::text
        ),
        p_entry.balance_after
    );
end;
$$;

create function public.add_user_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text default null,
    p_metadata jsonb default null,
    p_idempotency_key text default null
)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_terms public.credit_grants;
    v_entry public.credit_transactions;
begin
    v_request.amount := private.check_credit_request(
        p_user_id, p_amount, p_transaction_type, '{purchase,refund,bonus}', p_description, p_metadata,
        p_idempotency_key);
    v_request.user_id := p_user_id;
    v_request.transaction_type := p_transaction_type;
    v_request.description := p_description;
    v_request.metadata := p_metadata;
    v_request.idempotency_key := p_idempotency_key;
    v_terms.source := p_transaction_type;
    v_terms.priority := 0;
    v_entry := private.add_credit_grant(v_request, v_terms);
    return v_entry.balance_after;
end;
$$;

comment on function public.add_user_credits(uuid, integer, text, text, jsonb, text) is
'Adds credits (purchase, refund or bonus) that never expire, and returns the new balance, debts settled. With an '
'idempotency key, the same request returns the first answer. Errors: 400 bad argument, 404 unknown user, '
'409 key used for another request, 413 too large.';
grant execute on function public.add_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

create function public.deduct_user_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text default null,
    p_metadata jsonb default null,
    p_idempotency_key text default null
)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_entry public.credit_transactions;
begin
    v_request.amount := private.check_credit_request(
        p_user_id, p_amount, p_transaction_type, '{usage,expiration}', p_description, p_metadata,
        p_idempotency_key);
    if p_idempotency_key is not null then
        perform private.lock_account(p_user_id);
        v_request.user_id := p_user_id;
        v_request.transaction_type := p_transaction_type;
        v_request.description := p_description;
        v_request.metadata := p_metadata;
        v_request.idempotency_key := p_idempotency_key;
        v_entry := private.find_credit_transaction(v_request);
        if v_entry.id is not null then
            return v_entry.balance_after;
        end if;
    end if;
    return private.spend_credits(
        p_user_id, v_request.amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
end;
$$;

comment on function public.deduct_user_credits(uuid, integer, text, text, jsonb, text) is
'Takes credits (usage or expiration) and returns the new balance. With an idempotency key, the same request returns '
'the first answer. Errors: 400 bad argument, 402 insufficient credits, 404 unknown user, 409 key used for another '
'request, 413 too large.';
grant execute on function public.deduct_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

-- Checks what only a grant with terms may get wrong.
create function private.check_grant_terms(
    p_source text,
    p_priority integer,
    p_stripe_payment_intent_id text,
    p_subscription_plan_id uuid,
    p_pay_as_you_go_package_id uuid
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_source <> all (private.credit_sources()) then
        perform private.refuse(
            'PT400', 'The source is unknown', jsonb_build_object('argument', 'p_source', 'value', left(p_source, 100)),
            'Pass one of: ' || array_to_string(private.credit_sources(), ', ') || '.');
    elsif p_priority is null or p_priority not between -1000 and 1000 then
        perform private.refuse(
            'PT400', 'The priority must be between -1000 and 1000', '{"argument": "p_priority"}',
            'Pass 0, or less for what shall be spent sooner.');
    elsif char_length(p_stripe_payment_intent_id) > 255 then
        perform private.refuse(
            'PT413', 'The payment intent is longer than 255 characters',
            '{"argument": "p_stripe_payment_intent_id"}', 'Pass the id that Stripe gave.');
    elsif p_subscription_plan_id is not null
        and not exists (select 1 from public.subscription_plans as s where s.id = p_subscription_plan_id)
    then
        perform private.refuse(
            'PT404', 'Plan not found', '{"argument": "p_subscription_plan_id"}', 'Pass an id of subscription_plans.');
    elsif p_pay_as_you_go_package_id is not null
        and not exists (select 1 from public.pay_as_you_go_packages as s where s.id = p_pay_as_you_go_package_id)
    then
        perform private.refuse(
            'PT404', 'Package not found', '{"argument": "p_pay_as_you_go_package_id"}',
            'Pass an id of pay_as_you_go_packages.');
    end if;
end;
$$;

create function public.grant_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_source text default null,
    p_expires_at timestamptz default null,
    p_priority integer default 0,
    p_description text default null,
    p_metadata jsonb default null,
    p_idempotency_key text default null,
    p_money_amount numeric default null,
    p_currency text default null,
    p_stripe_payment_intent_id text default null,
    p_subscription_plan_id uuid default null,
    p_pay_as_you_go_package_id uuid default null
)
returns public.credit_grants
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_request public.credit_transactions;
    v_terms public.credit_grants;
    v_entry public.credit_transactions;
    v_grant public.credit_grants;
begin
    v_request.amount := private.check_credit_request(
        p_user_id, p_amount, p_transaction_type, '{purchase,refund,bonus}', p_description, p_metadata,
        p_idempotency_key);
    perform private.check_grant_terms(
        p_source, p_priority, p_stripe_payment_intent_id, p_subscription_plan_id, p_pay_as_you_go_package_id);
    perform private.check_money(p_money_amount, p_currency);

    v_request.user_id := p_user_id;
    v_request.transaction_type := p_transaction_type;
    v_request.description := p_description;
    v_request.metadata := p_metadata;
    v_request.idempotency_key := p_idempotency_key;
    v_request.stripe_payment_intent_id := p_stripe_payment_intent_id;
    v_request.subscription_plan_id := p_subscription_plan_id;
    v_request.pay_as_you_go_package_id := p_pay_as_you_go_package_id;
    v_request.expires_at := p_expires_at;
    v_terms.source := coalesce(p_source, p_transaction_type);
    v_terms.priority := p_priority;
    v_terms.money_amount := round(p_money_amount, 2);
    v_terms.currency := upper(p_currency);
    v_entry := private.add_credit_grant(v_request, v_terms);

    select g.* into strict v_grant from public.credit_grants as g where g.transaction_id = v_entry.id;
    return v_grant;
end;
$$;

comment on function public.grant_credits(
    uuid, integer, text, text, timestamptz, integer, text, jsonb, text, numeric, text, text, uuid, uuid
) is
'Adds credits (purchase, refund or bonus) with their terms and returns the grant. p_source is the type when null. '
'With an idempotency key, the same request returns the same grant. Errors: 400 bad argument, 404 unknown user, plan '
'or package, 409 key used for another request, 413 too large.';
grant execute on function public.grant_credits(
    uuid, integer, text, text, timestamptz, integer, text, jsonb, text, numeric, text, text, uuid, uuid
) to service_role;

-- The public functions stay thin and run as the caller: a definer function with a user parameter has no place in an
-- exposed schema.

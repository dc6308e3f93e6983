-- Credits: what can be bought, and the ledger.
--
-- credit_transactions is the truth, append-only and chained: seq counts an account's entries from 1, and each
-- balance_before is the balance_after of the entry before it. profiles.credits_remaining caches the newest balance.
-- Every credit and debit of the system goes through private.post_credit_transaction.

create table public.subscription_plans (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    stripe_price_id text unique,
    description text,
    monthly_price decimal(10, 2) check (monthly_price >= 0),
    credits_per_month integer check (credits_per_month >= 0),
    features jsonb,
    is_active boolean not null default true,
    sort_order integer not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.subscription_plans is
'Monthly plans. Everybody reads the active ones; admins read and maintain all of them, but for the Stripe ids, which '
'are the service role''s.';

create trigger update_subscription_plans_updated_at
before update on public.subscription_plans
for each row execute function public.update_updated_at_column();

alter table public.subscription_plans enable row level security;

create policy "Visitors view active plans" on public.subscription_plans
for select to anon
using (is_active);

create policy "Users view active plans, admins all" on public.subscription_plans
for select to authenticated
using (is_active or (select private.is_admin()));

create policy "Admins insert plans" on public.subscription_plans
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update plans" on public.subscription_plans
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete plans" on public.subscription_plans
for delete to authenticated
using ((select private.is_admin()));

grant select on public.subscription_plans to anon, authenticated;
grant insert (name, description, monthly_price, credits_per_month, features, is_active, sort_order)
on public.subscription_plans to authenticated;
grant update (name, description, monthly_price, credits_per_month, features, is_active, sort_order)
on public.subscription_plans to authenticated;
grant delete on public.subscription_plans to authenticated;
grant select, insert, update, delete on public.subscription_plans to service_role;

create table public.pay_as_you_go_packages (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    stripe_price_id text unique,
    credits integer not null check (credits > 0),
    price decimal(10, 2) not null check (price >= 0),
    description text,
    is_active boolean not null default true,
    sort_order integer not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.pay_as_you_go_packages is
'Credit packages bought once. Everybody reads the active ones; admins read and maintain all of them, but for the '
'Stripe ids, which are the service role''s.';

create trigger update_pay_as_you_go_packages_updated_at
before update on public.pay_as_you_go_packages
for each row execute function public.update_updated_at_column();

alter table public.pay_as_you_go_packages enable row level security;

create policy "Visitors view active packages" on public.pay_as_you_go_packages
for select to anon
using (is_active);

create policy "Users view active packages, admins all" on public.pay_as_you_go_packages
for select to authenticated
using (is_active or (select private.is_admin()));

create policy "Admins insert packages" on public.pay_as_you_go_packages
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update packages" on public.pay_as_you_go_packages
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete packages" on public.pay_as_you_go_packages
for delete to authenticated
using ((select private.is_admin()));

grant select on public.pay_as_you_go_packages to anon, authenticated;
grant insert (name, credits, price, description, is_active, sort_order)
on public.pay_as_you_go_packages to authenticated;
grant update (name, credits, price, description, is_active, sort_order)
on public.pay_as_you_go_packages to authenticated;
grant delete on public.pay_as_you_go_packages to authenticated;
grant select, insert, update, delete on public.pay_as_you_go_packages to service_role;

create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    -- created_at is the start of a transaction and can tie or run backwards; seq cannot.
    seq bigint not null check (seq > 0),
    transaction_type text not null
    check (
        transaction_type in (
            'purchase', 'usage', 'refund', 'bonus', 'expiration', 'clawback', 'clawback_reversal'
        )
    ),
    amount integer not null check (amount > 0),
    balance_before integer not null check (balance_before >= 0),
    balance_after integer not null check (balance_after >= 0),
    description text,
    metadata jsonb,
    idempotency_key text,
    refunded_transaction_id uuid references public.credit_transactions (id),
    clawback_id uuid,
    stripe_payment_intent_id text,
    subscription_plan_id uuid references public.subscription_plans (id),
    pay_as_you_go_package_id uuid references public.pay_as_you_go_packages (id),
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    constraint credit_transactions_adds_up check (abs(balance_after::bigint - balance_before) = amount)
);

comment on table public.credit_transactions is
'The ledger: append-only, one chained entry per change of a balance. amount is positive; the balances give its '
'direction. A user reads his own entries, an admin all; only the ledger functions write.';
comment on column public.credit_transactions.seq is 'Position in the account''s chain, 1, 2, 3, …';
comment on column public.credit_transactions.idempotency_key is
'Names a request: sent again, the same request gets the first answer instead of a second entry.';
comment on column public.credit_transactions.refunded_transaction_id is
'The usage entry that this refund gives back. Unique, so that nothing is refunded twice.';
comment on column public.credit_transactions.clawback_id is
'The clawback that this entry carries out, settles or reverses.';
comment on column public.credit_transactions.expires_at is 'When the credits of this entry expire, as first granted.';

create unique index credit_transactions_user_id_seq_key on public.credit_transactions (user_id, seq);
create unique index credit_transactions_idempotency_key_key on public.credit_transactions (user_id, idempotency_key)
where idempotency_key is not null;
-- Most entries have none of these, so their indexes hold only those that do: an entry costs less to write.
create unique index credit_transactions_refunded_transaction_id_key
on public.credit_transactions (refunded_transaction_id)
where refunded_transaction_id is not null;
create index idx_credit_transactions_clawback_id on public.credit_transactions (clawback_id)
where clawback_id is not null;
create index idx_credit_transactions_subscription_plan_id on public.credit_transactions (subscription_plan_id)
where subscription_plan_id is not null;
create index idx_credit_transactions_pay_as_you_go_package_id
on public.credit_transactions (pay_as_you_go_package_id)
where pay_as_you_go_package_id is not null;
create index idx_credit_transactions_user_id on public.credit_transactions (user_id);
create index idx_credit_transactions_created_at on public.credit_transactions (created_at);
create index idx_credit_transactions_transaction_type on public.credit_transactions (transaction_type);

alter table public.credit_transactions enable row level security;

create policy "Users view their own transactions, admins all" on public.credit_transactions
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

-- Nobody writes directly, not even the service role.
grant select on public.credit_transactions to authenticated, service_role;

create table public.subscription_history (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    subscription_plan_id uuid references public.subscription_plans (id),
    stripe_subscription_id text,
    status text not null check (status in ('active', 'cancelled', 'past_due', 'unpaid')),
    started_at timestamptz not null,
    ended_at timestamptz,
    cancelled_at timestamptz,
    created_at timestamptz not null default now()
);

comment on table public.subscription_history is
'What an account has been subscribed to. A user reads his own rows, an admin all; the service role writes.';

create index idx_subscription_history_user_id on public.subscription_history (user_id);
create index idx_subscription_history_subscription_plan_id on public.subscription_history (subscription_plan_id);

alter table public.subscription_history enable row level security;

create policy "Users view their own subscriptions, admins all" on public.subscription_history
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.subscription_history to authenticated;
grant select, insert, update on public.subscription_history to service_role;

-- Checks what a caller may get wrong in a ledger request, before anything is locked.
create function private.check_credit_request(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_allowed_types text[],
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns void
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
    elsif char_length(p_description) > 500 then
        perform private.refuse(
            'PT413', 'The description is longer than 500 characters', '{"argument": "p_description"}',
            'Shorten it.');
    elsif jsonb_typeof(p_metadata) <> 'object' then
        perform private.refuse(
            'PT400', 'The metadata must be a JSON object', '{"argument": "p_metadata"}', 'Pass {"key": "value"}.');
    elsif octet_length(p_metadata::text) > 8192 then
        perform private.refuse(
            'PT413', 'The metadata is larger than 8 KiB', '{"argument": "p_metadata"}', 'Store a reference instead.');
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

revoke execute on function private.check_credit_request(uuid, integer, text, text[], text, jsonb, text) from public;

-- Posts one entry: the only writer of credit_transactions and of the cached columns of profiles.
-- p_change is signed. Expects arguments that are already checked.
--
-- The profile row is locked before anything is read, so that an account's entries are made one after the other:
-- the balance cannot go stale and a key cannot be used twice at once. `no key update` is enough to exclude
-- other ledger calls, and does not hold up inserts that merely reference the profile.
create function private.post_credit_transaction(
    p_user_id uuid,
    p_change integer,
    p_transaction_type text,
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text,
    p_refunded_transaction_id uuid default null
)
returns public.credit_transactions
language plpgsql
set search_path = ''
as $$
declare
    -- Purchases and bonuses stop here, far below the largest integer, so that a refund always fits.
    c_largest_balance constant bigint := 1000000000;
    c_largest_integer constant bigint := 2147483647;
    v_profile public.profiles;
    v_entry public.credit_transactions;
    v_balance bigint;
begin
    select p.* into v_profile from public.profiles as p where p.id = p_user_id for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'User ' || p_user_id || ' not found', jsonb_build_object('user_id', p_user_id),
            'Check the id: it is the one in profiles.');
    end if;

    if p_idempotency_key is not null then
        select t.* into v_entry from public.credit_transactions as t
        where t.user_id = p_user_id and t.idempotency_key = p_idempotency_key;
        if found then
            if (v_entry.balance_after - v_entry.balance_before, v_entry.transaction_type)
                is distinct from (p_change, p_transaction_type)
                or (v_entry.description, v_entry.metadata) is distinct from (p_description, p_metadata)
            then
                perform private.refuse(
                    'PT409', 'The idempotency key was used for another request',
                    jsonb_build_object('idempotency_key', p_idempotency_key, 'transaction_id', v_entry.id),
                    'Use a new key for a new request.');
            end if;
            return v_entry;
        end if;
    end if;

    v_balance := v_profile.credits_remaining::bigint + p_change;
    if v_balance < 0 then
        perform private.refuse(
            'PT402',
            format('Insufficient credits. Required: %s, Available: %s', -p_change::bigint, v_profile.credits_remaining),
            jsonb_build_object('required', -p_change::bigint, 'available', v_profile.credits_remaining),
            'Buy a credit package or a plan.');
    elsif p_transaction_type in ('purchase', 'bonus') and v_balance > c_largest_balance
        or v_balance > c_largest_integer
    then
        perform private.refuse(
            'PT400', format('The balance would exceed %s credits', c_largest_balance),
            jsonb_build_object('available', v_profile.credits_remaining, 'amount', p_change), 'Add fewer credits.');
    end if;

    update public.profiles as p
    set
        credits_remaining = v_balance,
        ledger_version = p.ledger_version + 1,
        total_credits_purchased = case
            when p_transaction_type = 'purchase'
                then least(p.total_credits_purchased::bigint + p_change, c_largest_integer)
            else p.total_credits_purchased
        end,
        total_credits_used = case
            when p_transaction_type = 'usage' or p_refunded_transaction_id is not null
                then least(p.total_credits_used::bigint - p_change, c_largest_integer)
            else p.total_credits_used
        end
    where p.id = p_user_id;

    insert into public.credit_transactions (
        user_id, seq, transaction_type, amount, balance_before, balance_after,
        description, metadata, idempotency_key, refunded_transaction_id
    ) values (
        p_user_id, v_profile.ledger_version + 1, p_transaction_type, abs(p_change), v_profile.credits_remaining,
        v_balance, p_description, p_metadata, p_idempotency_key, p_refunded_transaction_id
    )
    returning * into v_entry;
    return v_entry;
end;
$$;

revoke execute on function private.post_credit_transaction(uuid, integer, text, text, jsonb, text, uuid) from public;

create function private.add_user_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_entry public.credit_transactions;
begin
    perform private.check_credit_request(
        p_user_id, p_amount, p_transaction_type, '{purchase,refund,bonus}', p_description, p_metadata,
        p_idempotency_key);
    v_entry := private.post_credit_transaction(
        p_user_id, p_amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
    return v_entry.balance_after;
end;
$$;

revoke execute on function private.add_user_credits(uuid, integer, text, text, jsonb, text) from public;
grant execute on function private.add_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

create function private.deduct_user_credits(
    p_user_id uuid,
    p_amount integer,
    p_transaction_type text,
    p_description text,
    p_metadata jsonb,
    p_idempotency_key text
)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_entry public.credit_transactions;
begin
    perform private.check_credit_request(
        p_user_id, p_amount, p_transaction_type, '{usage,expiration}', p_description, p_metadata,
        p_idempotency_key);
    v_entry := private.post_credit_transaction(
        p_user_id, -p_amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
    return v_entry.balance_after;
end;
$$;

revoke execute on function private.deduct_user_credits(uuid, integer, text, text, jsonb, text) from public;
grant execute on function private.deduct_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

-- Adds credits and returns the new balance. The public functions stay thin and run as the caller:
-- a definer function with a user parameter has no place in an exposed schema.
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
set search_path = ''
as $$
begin
    return private.add_user_credits(
        p_user_id, p_amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
end;
$$;

comment on function public.add_user_credits(uuid, integer, text, text, jsonb, text) is
'Adds credits (purchase, refund or bonus) and returns the new balance. With an idempotency key, the same request '
'returns the first answer. Errors: 400 bad argument, 404 unknown user, 409 key used for another request, '
'413 too large.';
revoke execute on function public.add_user_credits(uuid, integer, text, text, jsonb, text) from public;
grant execute on function public.add_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

-- Takes credits and returns the new balance.
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
set search_path = ''
as $$
begin
    return private.deduct_user_credits(
        p_user_id, p_amount, p_transaction_type, p_description, p_metadata, p_idempotency_key);
end;
$$;

comment on function public.deduct_user_credits(uuid, integer, text, text, jsonb, text) is
'Takes credits (usage or expiration) and returns the new balance. With an idempotency key, the same request returns '
'the first answer. Errors: 400 bad argument, 402 insufficient credits, 404 unknown user, 409 key used for another '
'request, 413 too large.';
revoke execute on function public.deduct_user_credits(uuid, integer, text, text, jsonb, text) from public;
grant execute on function public.deduct_user_credits(uuid, integer, text, text, jsonb, text) to service_role;

-- Proves the ledger: one row for each violated invariant, none on a sound database.
create function private.verify_ledger()
returns table (user_id uuid, invariant text, detail jsonb)
language sql
stable
security definer
set search_path = ''
as $$
    with chain as (
        select
            t.*,
            coalesce(lag(t.balance_after) over account, 0) as expected_before,
            row_number() over account as expected_seq
        from public.credit_transactions as t
        window account as (partition by t.user_id order by t.seq)
    ),
    totals as (
        select
            p.*,
            coalesce(sum(t.balance_after::bigint - t.balance_before), 0) as ledger_balance,
            coalesce(max(t.seq), 0) as ledger_seq,
            coalesce(sum(t.amount) filter (where t.transaction_type = 'purchase'), 0) as purchased,
            coalesce(sum(t.amount) filter (where t.transaction_type = 'usage'), 0)
            - coalesce(sum(t.amount) filter (where t.refunded_transaction_id is not null), 0) as used
        from public.profiles as p
        left join public.credit_transactions as t on t.user_id = p.id
        group by p.id
    )
    select c.user_id, 'chain unbroken', jsonb_build_object(
        'transaction_id', c.id, 'seq', c.seq, 'expected_seq', c.expected_seq,
        'balance_before', c.balance_before, 'expected_before', c.expected_before)
    from chain as c
    where c.seq <> c.expected_seq or c.balance_before <> c.expected_before
    union all
    select c.user_id, 'entry adds up and is not negative', jsonb_build_object('transaction_id', c.id)
    from chain as c
    where abs(c.balance_after::bigint - c.balance_before) <> c.amount or least(c.balance_before, c.balance_after) < 0
    union all
    select t.id, 'balance equals the ledger', jsonb_build_object(
        'credits_remaining', t.credits_remaining, 'ledger_balance', t.ledger_balance,
        'ledger_version', t.ledger_version, 'ledger_seq', t.ledger_seq)
    from totals as t
    where t.credits_remaining <> t.ledger_balance or t.ledger_version <> t.ledger_seq
    union all
    select t.id, 'totals equal the ledger', jsonb_build_object(
        'total_credits_purchased', t.total_credits_purchased, 'purchased', t.purchased,
        'total_credits_used', t.total_credits_used, 'used', t.used)
    from totals as t
    where t.total_credits_purchased <> least(t.purchased, 2147483647) or t.total_credits_used <> t.used;
$$;

revoke execute on function private.verify_ledger() from public;
grant execute on function private.verify_ledger() to service_role;

create function public.verify_ledger()
returns table (user_id uuid, invariant text, detail jsonb)
language sql
stable
set search_path = ''
as $$
    select v.user_id, v.invariant, v.detail from private.verify_ledger() as v;
$$;

comment on function public.verify_ledger() is
'Returns each violated invariant of the ledger: none on a sound database.';
revoke execute on function public.verify_ledger() from public;
grant execute on function public.verify_ledger() to service_role;

-- The least that a ledger entry can cost: one update and one insert, on the tables and indexes of the schema document
-- that the project started from. Of its functions' three statements the first two are one here, which also makes them
-- safe to run at once.
create schema ceiling;

create table ceiling.profiles (
    id uuid primary key,
    email text unique not null,
    first_name text,
    last_name text,
    company text,
    phone text,
    avatar_url text,
    is_active boolean default true,
    is_admin boolean default false,
    subscription_status text default 'free',
    subscription_plan text default 'free',
    stripe_customer_id text unique,
    stripe_subscription_id text unique,
    credits_remaining integer default 2,
    total_credits_purchased integer default 0,
    total_credits_used integer default 0,
    last_activity_at timestamptz default now(),
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create index on ceiling.profiles (email);
create index on ceiling.profiles (subscription_status);
create index on ceiling.profiles (created_at);

create table ceiling.credit_transactions (
    id uuid default gen_random_uuid() primary key,
    user_id uuid references ceiling.profiles (id) on delete cascade,
    transaction_type text not null
    check (transaction_type in ('purchase', 'usage', 'refund', 'bonus', 'expiration')),
    amount integer not null,
    balance_before integer not null,
    balance_after integer not null,
    description text,
    metadata jsonb,
    stripe_payment_intent_id text,
    subscription_plan_id uuid references public.subscription_plans (id),
    pay_as_you_go_package_id uuid references public.pay_as_you_go_packages (id),
    expires_at timestamptz,
    created_at timestamptz default now()
);
create index on ceiling.credit_transactions (user_id);
create index on ceiling.credit_transactions (created_at);
create index on ceiling.credit_transactions (transaction_type);

create function ceiling.post(p_user_id uuid, p_change integer, p_transaction_type text)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_balance integer;
begin
    update ceiling.profiles as p
    set
        credits_remaining = p.credits_remaining + p_change,
        total_credits_purchased = p.total_credits_purchased + greatest(p_change, 0),
        total_credits_used = p.total_credits_used - least(p_change, 0),
        updated_at = now()
    where p.id = p_user_id and p.credits_remaining + p_change >= 0
    returning p.credits_remaining into v_balance;
    if not found then
        raise exception 'Insufficient credits';
    end if;
    insert into ceiling.credit_transactions (user_id, transaction_type, amount, balance_before, balance_after)
    values (p_user_id, p_transaction_type, abs(p_change), v_balance - p_change, v_balance);
    return v_balance;
end;
$$;

insert into ceiling.profiles (id, email, credits_remaining) select id, email, 1000000 from public.profiles;
grant usage on schema ceiling to service_role;
grant all on all tables in schema ceiling to service_role;

-- The ceiling of any transaction: one row of many is written and committed.
create table ceiling.rows (id integer primary key, number integer not null default 0);
insert into ceiling.rows (id) select n from generate_series(1, {people}) as n;
grant all on ceiling.rows to service_role;

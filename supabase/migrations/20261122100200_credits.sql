-- Credits: what can be bought, and the entries of the ledger.
--
-- credit_transactions is the truth, append-only and chained: seq counts an account's entries from 1, and each
-- balance_before is the balance_after of the entry before it. profiles.credits_remaining caches the newest balance.
-- The functions that write it follow in files of their own.

-- How many decimals an amount has: https://docs.stripe.com/currencies#zero-decimal. Columns hold two; Stripe takes
-- three-decimal amounts in steps of ten of their smallest unit, which is the second.
create function private.currency_digits(p_currency text)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when
            upper(p_currency) in (
                'BIF', 'CLP', 'DJF', 'GNF', 'JPY', 'KMF', 'KRW', 'MGA', 'PYG', 'RWF', 'VND', 'VUV', 'XAF', 'XOF', 'XPF'
            )
            then 0
        when upper(p_currency) in ('BHD', 'JOD', 'KWD', 'OMR', 'TND') then 3
        else 2
    end;
end;
$$;

-- One row: what holds for all that is for sale.
create table public.catalogue_settings (
    name text primary key default 'catalogue' check (name = 'catalogue'),
    currency text not null default 'USD' check (currency ~ '^[A-Z]{3}$'),
    updated_at timestamptz not null default now()
);

comment on table public.catalogue_settings is
'One row: the currency of all prices of plans and packages. Everybody reads it; admins set it.';

create trigger update_catalogue_settings_updated_at
before update on public.catalogue_settings
for each row execute function public.update_updated_at_column();

alter table public.catalogue_settings enable row level security;

create policy "Visitors view the settings" on public.catalogue_settings
for select to anon
using (true);

create policy "Users view the settings" on public.catalogue_settings
for select to authenticated
using (true);

create policy "Admins update the settings" on public.catalogue_settings
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

grant select on public.catalogue_settings to anon, authenticated;
grant update (currency) on public.catalogue_settings to authenticated;
grant select, update on public.catalogue_settings to service_role;

insert into public.catalogue_settings default values;

create table public.subscription_plans (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    stripe_price_id text unique,
    description text,
    -- Stripe takes 999999.99 at most.
    monthly_price decimal(10, 2) check (monthly_price between 0 and 999999.99),
    credits_per_month integer check (credits_per_month between 0 and 1000000),
    features jsonb,
    is_active boolean not null default true,
    sort_order integer not null default 0 check (sort_order between -1000000 and 1000000),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.subscription_plans is
'Monthly plans. Everybody reads the active ones; admins read and maintain all of them, but for the Stripe ids, which '
'are the service role''s.';

create trigger bound_lengths
before insert or update of name, description, features on public.subscription_plans
for each row execute function private.bound_lengths('name', 1, 100, 'description', 0, 2000, 'features', 0, 8192);

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
    credits integer not null check (credits between 1 and 1000000),
    price decimal(10, 2) not null check (price between 0 and 999999.99),
    description text,
    is_active boolean not null default true,
    sort_order integer not null default 0 check (sort_order between -1000000 and 1000000),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.pay_as_you_go_packages is
'Credit packages bought once. Everybody reads the active ones; admins read and maintain all of them, but for the '
'Stripe ids, which are the service role''s.';

create trigger bound_lengths
before insert or update of name, description on public.pay_as_you_go_packages
for each row execute function private.bound_lengths('name', 1, 100, 'description', 0, 2000);

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

-- A price has to be an amount of the catalogue's currency: there are no 9.99 yen.
create function private.check_price(p_name text, p_price numeric, p_currency text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_price <> round(p_price, private.currency_digits(p_currency)) then
        perform private.refuse(
            'PT400', format('The price of %s, %s, is no amount in %s', p_name, p_price, p_currency),
            jsonb_build_object('name', p_name, 'price', p_price, 'currency', p_currency),
            'Set a price without decimals, or another currency in catalogue_settings.');
    end if;
end;
$$;

create function private.check_price_of_row()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.check_price(
        new.name, (to_jsonb(new) ->> tg_argv[0])::numeric, (select s.currency from public.catalogue_settings as s));
    return new;
end;
$$;

create trigger check_price_of_row
before insert or update of monthly_price on public.subscription_plans
for each row execute function private.check_price_of_row('monthly_price');

create trigger check_price_of_row
before insert or update of price on public.pay_as_you_go_packages
for each row execute function private.check_price_of_row('price');

create function private.check_currency()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.check_price(s.name, s.monthly_price, new.currency) from public.subscription_plans as s;
    perform private.check_price(p.name, p.price, new.currency) from public.pay_as_you_go_packages as p;
    return new;
end;
$$;

create trigger check_currency
before update of currency on public.catalogue_settings
for each row execute function private.check_currency();

-- What every entry is. The constraint calls a function, because Postgres parses a constraint's text anew in every
-- statement that writes the table, and a function's once in a session: this one's as a text cost a tenth of the entry.
create function private.is_sound_entry(
    p_transaction_type text,
    p_amount integer,
    p_balance_before integer,
    p_balance_after integer
)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    if
        p_transaction_type in ('purchase', 'usage', 'refund', 'bonus', 'expiration', 'clawback', 'clawback_reversal')
        and p_amount > 0 and p_balance_before >= 0 and p_balance_after >= 0
        and abs(p_balance_after - p_balance_before) = p_amount
    then
        return true;
    end if;
    return private.refuse_row(
        'credit_transactions',
        array[
            'the amount must be above zero', 'balances must not be below zero',
            'the balances must differ by the amount', 'the transaction type is unknown'
        ],
        array[
            p_amount > 0, p_balance_before >= 0 and p_balance_after >= 0,
            abs(p_balance_after - p_balance_before) = p_amount, false
        ]);
end;
$$;

-- A part of an entry, booked on a grant: taken from it (negative) or given back to it (positive).
create type public.credit_allocation as (grant_id uuid, amount integer);

comment on type public.credit_allocation is
'A part of an entry: what it took from a grant (negative) or gave back to it (positive).';

create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    -- created_at is the start of a transaction and can tie or run backwards; seq cannot.
    seq bigint not null,
    transaction_type text not null,
    amount integer not null,
    balance_before integer not null,
    balance_after integer not null,
    description text,
    metadata jsonb,
    idempotency_key text,
    refunded_transaction_id uuid references public.credit_transactions (id),
    clawback_id uuid,
    stripe_payment_intent_id text,
    subscription_plan_id uuid references public.subscription_plans (id),
    pay_as_you_go_package_id uuid references public.pay_as_you_go_packages (id),
    expires_at timestamptz,
    -- In the entry, because it is written with it and never changes: rows of their own would cost a sixth of a debit.
    allocations public.credit_allocation[],
    created_at timestamptz not null default now(),
    constraint credit_transactions_is_sound
    check (private.is_sound_entry(transaction_type, amount, balance_before, balance_after))
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
comment on column public.credit_transactions.allocations is
'Which grants the entry took from (negative) or gave back to (positive). Null where it made a grant.';

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
create unique index idx_credit_transactions_user_id on public.credit_transactions (user_id, seq);
create index idx_credit_transactions_created_at on public.credit_transactions (created_at);
-- Most entries are usage, which nobody finds by its type.
create index idx_credit_transactions_transaction_type on public.credit_transactions (transaction_type, user_id)
where transaction_type <> 'usage';

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
'What an account has been subscribed to, paid for or as a gift. A user reads his own rows, an admin all; the functions '
'of billing write, and the service role may.';

create index idx_subscription_history_user_id on public.subscription_history (user_id);
create index idx_subscription_history_subscription_plan_id on public.subscription_history (subscription_plan_id);

alter table public.subscription_history enable row level security;

create policy "Users view their own subscriptions, admins all" on public.subscription_history
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.subscription_history to authenticated;
grant select, insert, update on public.subscription_history to service_role;

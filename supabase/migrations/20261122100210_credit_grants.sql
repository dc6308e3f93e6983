-- Credits: where they came from and where they went.
--
-- A credit entry makes a grant, with an expiry and a priority of its own. A debit is allocated to the grants it took
-- from, so that whatever is given back returns to those very grants. A clawback takes a grant back, because its money
-- went back; what is no longer there becomes a debt that the next credits settle.
--
-- Only the ledger functions of the next files write these tables.

create table public.credit_grants (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    transaction_id uuid not null unique references public.credit_transactions (id) on delete cascade,
    -- The age, as the position of its entry in the account's chain: created_at may tie.
    seq bigint not null,
    source text not null,
    amount integer not null,
    remaining integer not null,
    -- Whether nothing remains, for the index below: one on `remaining` itself would have to be written whenever credits
    -- are taken. Not generated: Postgres would read the expression anew in every statement that takes some.
    is_spent boolean not null default false,
    priority smallint not null default 0,
    expires_at timestamptz,
    money_amount numeric(12, 2),
    currency text,
    created_at timestamptz not null default now(),
    constraint credit_grants_adds_up check (remaining between 0 and amount)
)
-- Room for the new versions of rows that credits are taken from, so that their updates stay on their page (HOT).
with (fillfactor = 70);

comment on table public.credit_grants is
'Credits by origin: one row for each credit entry. Spent in the order of expires_at (never comes last), priority (low '
'first) and age. A user reads his own, an admin all; only the ledger functions write.';
comment on column public.credit_grants.source is 'purchase, subscription, bonus, refund or adjustment.';
comment on column public.credit_grants.seq is 'The seq of its entry: the lower, the older.';
comment on column public.credit_grants.money_amount is 'What was paid for it, in units of the currency, such as 7.99.';

-- Taking credits touches no column in here until the grant is spent, so the update stays on its page (HOT).
create index idx_credit_grants_spending on public.credit_grants (user_id, is_spent, expires_at, priority, seq);
create index idx_credit_grants_expires_at on public.credit_grants (expires_at)
where expires_at is not null and not is_spent;

alter table public.credit_grants enable row level security;

create policy "Users view their own grants, admins all" on public.credit_grants
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.credit_grants to authenticated, service_role;

create function private.credit_sources()
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
    return array['purchase', 'subscription', 'bonus', 'refund', 'adjustment'];
end;
$$;

-- Checks what never changes in a grant once, when it is made. Postgres would read constraints anew, all of them, in
-- every statement that takes credits from it.
create function private.check_credit_grant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.source <> all (private.credit_sources())
        or new.amount = 0
        or num_nulls(new.money_amount, new.currency) = 1
        or new.money_amount < 0
        or new.currency !~ '^[A-Z]{3}$'
    then
        perform private.refuse(
            'PT400', 'The source, the amount or the money of the grant is wrong',
            jsonb_build_object(
                'source', new.source, 'amount', new.amount, 'money_amount', new.money_amount, 'currency', new.currency),
            'A source is one of ' || array_to_string(private.credit_sources(), ', ')
            || '; money has a currency such as USD.');
    end if;
    return new;
end;
$$;

create trigger check_credit_grant
before insert on public.credit_grants
for each row execute function private.check_credit_grant();

create view public.credit_allocations
with (security_invoker = true)
as
select t.id as transaction_id, a.grant_id, a.amount
from public.credit_transactions as t
cross join unnest(t.allocations) as a;

comment on view public.credit_allocations is
'Which grants an entry took from (negative) or gave back to (positive): the allocations of the entries, a row each. A '
'user reads his own, an admin all.';

grant select on public.credit_allocations to authenticated, service_role;

create table public.credit_clawbacks (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    grant_id uuid not null references public.credit_grants (id) on delete cascade,
    amount integer not null check (amount > 0),
    owed integer not null check (owed >= 0),
    expired integer not null check (expired >= 0),
    money_amount numeric(12, 2) check (money_amount >= 0),
    currency text check (currency ~ '^[A-Z]{3}$'),
    reason text not null,
    idempotency_key text,
    reversed_at timestamptz,
    reversal_reason text,
    reversal_key text,
    created_at timestamptz not null default now(),
    constraint credit_clawbacks_user_id_idempotency_key_key unique (user_id, idempotency_key),
    constraint credit_clawbacks_owed_of_amount check (owed + expired <= amount),
    constraint credit_clawbacks_money_has_currency check ((money_amount is null) = (currency is null)),
    constraint credit_clawbacks_reversed_owes_nothing check (reversed_at is null or owed = 0)
);

comment on table public.credit_clawbacks is
'Grants taken back because their money went back (a refund, a chargeback). A user reads his own, an admin all; only '
'the ledger functions write.';
comment on column public.credit_clawbacks.owed is
'The part that was spent already: the account''s debt, until the next credits settle it.';
comment on column public.credit_clawbacks.expired is
'The part that had ended unspent, by its expiry or an operator''s hand. Nobody had its use, so it is no debt.';
comment on column public.credit_clawbacks.money_amount is 'The money that went back, in units of the currency.';
comment on column public.credit_clawbacks.reversed_at is
'When it was undone: its debt forgiven, what it took given back.';
comment on column public.credit_clawbacks.reversal_key is 'The idempotency key of the reversal.';

create index idx_credit_clawbacks_grant_id on public.credit_clawbacks (grant_id);

alter table public.credit_clawbacks enable row level security;

create policy "Users view their own clawbacks, admins all" on public.credit_clawbacks
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.credit_clawbacks to authenticated, service_role;

alter table public.credit_transactions
add constraint credit_transactions_clawback_id_fkey foreign key (clawback_id) references public.credit_clawbacks (id);

-- Grants keep the API's roles out; this keeps out the roles that need no grant, such as a hand in psql.
-- The one way a row goes is with its account: then its profile is gone already when the cascade arrives here.
create function private.keep_ledger()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        if not exists (select 1 from public.profiles as p where p.id = (to_jsonb(old) ->> 'user_id')::uuid) then
            return old;
        end if;
    end if;
    perform private.refuse(
        'PT403', 'The ledger is append-only: ' || lower(tg_op) || ' refused',
        jsonb_build_object('table', tg_table_name), 'Correct a mistake with a new transaction.'
    );
    return null; -- not reached
end;
$$;

create trigger keep_credit_transactions
before update or delete on public.credit_transactions
for each row execute function private.keep_ledger();

create trigger keep_all_credit_transactions
before truncate on public.credit_transactions
for each statement execute function private.keep_ledger();

-- Of a grant and a clawback the ledger functions change what is left of it. The expiry and the priority may move too:
-- no sum depends on them.
create trigger keep_credit_grants
before update of id, user_id, transaction_id, seq, source, amount, money_amount, currency, created_at or delete
on public.credit_grants
for each row execute function private.keep_ledger();

create trigger keep_all_credit_grants
before truncate on public.credit_grants
for each statement execute function private.keep_ledger();

create trigger keep_credit_clawbacks
before update of id, user_id, grant_id, amount, expired, money_amount, currency, reason, idempotency_key, created_at
or delete on public.credit_clawbacks
for each row execute function private.keep_ledger();

create trigger keep_all_credit_clawbacks
before truncate on public.credit_clawbacks
for each statement execute function private.keep_ledger();

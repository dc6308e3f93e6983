-- Profiles: one row for each account in auth.users, made at sign-up.

-- Keeps updated_at true, whoever writes.
create function public.update_updated_at_column()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.updated_at = now();
    return new;
end;
$$;

comment on function public.update_updated_at_column() is 'For triggers before an update: sets updated_at to now.';

create table public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    email text not null,
    first_name text,
    last_name text,
    company text,
    phone text,
    avatar_url text,
    is_active boolean not null default true,
    is_admin boolean not null default false,
    -- Costs each statement that moves a balance about 4 microseconds.
    subscription_status text not null default 'free'
    -- One array, and not `in`: each statement that writes the table reads the constraint's text, and four constants of
    -- their own cost every request 2 % more.
    check (subscription_status = any('{free, basic, starter, cancelled}'::text[])),
    subscription_plan text not null default 'free',
    stripe_customer_id text,
    stripe_subscription_id text,
    -- Starts at 0: the two free credits of a new account are its first ledger entry.
    credits_remaining integer not null default 0,
    total_credits_purchased integer not null default 0,
    total_credits_used integer not null default 0,
    -- What clawbacks could not take yet.
    credit_debt integer not null default 0,
    -- The sequence number of the account's newest credit transaction.
    ledger_version bigint not null default 0,
    marketing_emails boolean not null default true,
    notification_emails boolean not null default true,
    marketing_emails_set_at timestamptz,
    last_activity_at timestamptz default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- One short constraint, because Postgres reads each anew in every statement that moves a balance.
    constraint profiles_ledger_not_negative
    check (least(credits_remaining, total_credits_purchased, total_credits_used, credit_debt) >= 0)
)
-- Room for the new versions of rows whose balance moves, so that their updates stay on their page (HOT).
with (fillfactor = 80);

comment on table public.profiles is
'One row per account. A user reads his own row and edits his name, company, phone, avatar and mail preferences while '
'he is active; an admin reads all rows and may edit the same columns. credits_remaining, total_credits_*, credit_debt '
'and ledger_version are a cache of the ledger that only the ledger functions write.';
comment on column public.profiles.email is
'The address in auth.users, unique. An account without one (sign-up by phone) has <id>@no-email.invalid; '
'send nothing to .invalid.';
comment on column public.profiles.credits_remaining is 'The balance_after of the newest credit transaction.';
comment on column public.profiles.credit_debt is
'Credits still to be taken back, from whatever is credited next: the sum of credit_clawbacks.owed.';
comment on column public.profiles.marketing_emails is 'Whether he wants news and offers by mail.';
comment on column public.profiles.marketing_emails_set_at is
'When he said so, here or at the mail provider, whose word comes late: the latest counts. Null: never.';
comment on column public.profiles.notification_emails is
'Whether he wants mail about his credits, images and operations. Receipts and the like come in any case.';
comment on column public.profiles.total_credits_purchased is 'Sum of the purchase transactions.';
comment on column public.profiles.total_credits_used is
'Sum of the usage transactions minus the refunds of such a transaction: credits spent on work that was delivered.';

create unique index idx_profiles_email on public.profiles (email);
create index idx_profiles_subscription_status on public.profiles (subscription_status);
create index idx_profiles_created_at on public.profiles (created_at);

create trigger bound_lengths
before insert or update of first_name, last_name, company, phone, avatar_url on public.profiles
for each row execute function private.bound_lengths(
    'first_name', 0, 100, 'last_name', 0, 100, 'company', 0, 200, 'phone', 0, 50, 'avatar_url', 0, 1024
);

-- Every column but the ledger's: its functions set updated_at themselves, which spares them the trigger.
create trigger update_profiles_updated_at
before update of id, email, first_name, last_name, company, phone, avatar_url, is_active, is_admin,
subscription_status, subscription_plan, stripe_customer_id, stripe_subscription_id, marketing_emails,
notification_emails, marketing_emails_set_at, last_activity_at, created_at on public.profiles
for each row execute function public.update_updated_at_column();

-- Whoever brings what was said elsewhere sets the time too.
create function private.date_mail_preference()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.marketing_emails_set_at := now();
    return new;
end;
$$;

create trigger date_mail_preference
before update of marketing_emails on public.profiles
for each row when (
    new.marketing_emails <> old.marketing_emails
    and new.marketing_emails_set_at is not distinct from old.marketing_emails_set_at
)
execute function private.date_mail_preference();

-- A policy on profiles that selects from profiles recurses; a definer function does not.
-- It reads the table, never the JWT, because claims go stale.
create function private.is_admin()
returns boolean
language sql
stable
security definer
set search_path = ''
as $$
    select exists (
        select 1 from public.profiles as p
        where p.id = (select auth.uid()) and p.is_admin and p.is_active
    );
$$;

comment on function private.is_admin() is
'Whether the caller is an active admin. Call as (select private.is_admin()).';
grant execute on function private.is_admin() to authenticated, service_role;

-- The gate of what admins do with their session and operators with the secret key. The setting `role` names the caller
-- in a definer function too; a connection that did not change it is its own caller. Nobody but the two, and the owner,
-- may execute what asks this.
create function private.check_admin()
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
    if
        coalesce(nullif(current_setting('role'), 'none'), session_user) = 'authenticated'
        and not private.is_admin()
    then
        perform private.refuse('PT403', 'Only an admin may do this', '{}', 'Sign in as an admin whose account is active.');
    end if;
end;
$$;

grant execute on function private.check_admin() to authenticated, service_role;

-- A deactivated account signs in, reads, cancels and deletes what is its own; the policies and RPCs that start or
-- change something ask this first.
create function private.is_active()
returns boolean
language sql
stable
security definer
set search_path = ''
as $$
    select exists (
        select 1 from public.profiles as p
        where p.id = (select auth.uid()) and p.is_active
    );
$$;

comment on function private.is_active() is
'Whether the caller''s account is active. Call as (select private.is_active()).';
grant execute on function private.is_active() to authenticated, service_role;

alter table public.profiles enable row level security;

create policy "Users view their own profile, admins all" on public.profiles
for select to authenticated
using (id = (select auth.uid()) or (select private.is_admin()));

create policy "Active users update their own profile, admins all" on public.profiles
for update to authenticated
using ((id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()))
with check ((id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()));

grant select on public.profiles to authenticated, service_role;
-- The row policy alone would let a user set is_admin and credits_remaining on his own row.
grant update (first_name, last_name, company, phone, avatar_url, marketing_emails, notification_emails)
on public.profiles to authenticated;
grant update (
    first_name, last_name, company, phone, avatar_url, marketing_emails, notification_emails, is_active, is_admin,
    subscription_status, subscription_plan, stripe_customer_id, stripe_subscription_id, last_activity_at
) on public.profiles to service_role;

-- Sign-up: from an account in auth.users to a profile with its first credits.

-- The addresses that accounts had before they changed them or were deleted, so that leaving and coming back makes no
-- credits. As keyed hashes: they answer whether an address was here before, and give none away. prune_logs forgets the
-- old ones.
create table private.former_addresses (
    address_hash bytea primary key,
    closed_at timestamptz not null default now(),
    had_plan boolean not null
);

comment on table private.former_addresses is
'Keyed hashes of the addresses that accounts had before they changed them or were deleted.';
comment on column private.former_addresses.had_plan is 'Whether one of those accounts ever had a subscription.';

alter table private.former_addresses enable row level security;

create table private.secrets (
    name text primary key,
    value uuid not null default gen_random_uuid()
);

comment on table private.secrets is 'Keys of this project, made with it. Nobody reads them but its own functions.';

alter table private.secrets enable row level security;

insert into private.secrets (name) values ('former_addresses');

create function private.address_hash(p_email text)
returns bytea
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select sha256(convert_to(s.value || lower(p_email), 'UTF8')) from private.secrets as s
        where s.name = 'former_addresses'
    );
end;
$$;

create function private.remember_address()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_had_plan constant boolean := exists (
        select 1 from public.subscription_history as h where h.user_id = old.id
    );
begin
    insert into private.former_addresses as f (address_hash, closed_at, had_plan)
    values (private.address_hash(old.email), now(), v_had_plan)
    on conflict (address_hash) do update set
        closed_at = excluded.closed_at, had_plan = f.had_plan or excluded.had_plan;
    return old;
end;
$$;

-- Before, while the account's history is there to be asked.
create trigger remember_address
before delete on auth.users
for each row when (old.email is not null)
execute function private.remember_address();

-- Or two addresses would be enough for any number of accounts: each signs up with the first and leaves under the other.
create trigger remember_changed_address
after update of email on auth.users
for each row when (old.email is not null and old.email is distinct from new.email)
execute function private.remember_address();

-- Makes the profile of an account and its first ledger entry, unless the address had its free credits before.
--
-- An address belongs to one profile. Auth keeps addresses unique among its own accounts, but lets a single sign-on
-- account have the address of another; such a second account is refused here, because mail, receipts and the operator
-- could not tell the two apart. Auth shows the person 'Database error saving new user' and logs this message.
-- An account that signed up by phone has no address and gets one under .invalid, which can never receive mail.
create function private.create_profile(p_user_id uuid, p_email text, p_metadata jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    c_free_credits constant integer := 2;
begin
    insert into public.profiles (id, email, first_name, last_name, marketing_emails)
    values (
        p_user_id,
        coalesce(p_email, p_user_id || '@no-email.invalid'),
        left(nullif(trim(p_metadata ->> 'first_name'), ''), 100),
        left(nullif(trim(p_metadata ->> 'last_name'), ''), 100),
        coalesce(p_metadata ->> 'marketing_emails', '') <> 'false'
    )
    on conflict (email) do nothing;
    if not found then
        perform private.refuse_taken_address(p_user_id);
    end if;
    if not exists (
        select 1 from private.former_addresses as f where f.address_hash = private.address_hash(p_email)
    ) then
        perform public.add_user_credits(
            p_user_id, c_free_credits, 'bonus', 'Free credits for a new account', null, 'sign-up');
    end if;
end;
$$;

create function private.refuse_taken_address(p_user_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT409', 'Another account already uses the e-mail address of account ' || p_user_id,
        jsonb_build_object('user_id', p_user_id),
        'Sign in to the other account, or change or delete one of the two in Auth.');
end;
$$;

-- Runs as the owner because Auth's own role has no rights in public.
create function private.handle_new_user()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.create_profile(new.id, new.email, new.raw_user_meta_data);
    perform private.record_activity(
        new.id, 'sign_up', jsonb_build_object('provider', left(new.raw_app_meta_data ->> 'provider', 100)), now());
    return new;
end;
$$;

create trigger handle_new_user
after insert on auth.users
for each row execute function private.handle_new_user();

-- Makes the profiles of accounts that have none, with their free credits, and returns how many: for accounts older
-- than the trigger. Running it again makes none. Two accounts on one address stop it, and name themselves.
create function private.create_missing_profiles()
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_user record;
    v_count integer := 0;
begin
    for v_user in
        select u.id, u.email, u.raw_user_meta_data from auth.users as u
        where not exists (select 1 from public.profiles as p where p.id = u.id)
        order by u.created_at, u.id
    loop
        perform private.create_profile(v_user.id, v_user.email, v_user.raw_user_meta_data);
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$;

-- The project may have users already. Creating the trigger has locked auth.users, so nobody slips in between.
select private.create_missing_profiles();

-- Carries a changed address into the profile: a stale one would also block the next owner of that address.
create function private.handle_user_email()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    update public.profiles set email = coalesce(new.email, new.id || '@no-email.invalid') where id = new.id;
    return new;
exception
    -- The address is the only unique column that this writes.
    when unique_violation then
        perform private.refuse_taken_address(new.id);
        return null;
end;
$$;

create trigger handle_user_email
after update of email on auth.users
for each row when (old.email is distinct from new.email)
execute function private.handle_user_email();

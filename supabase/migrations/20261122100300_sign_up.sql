-- Sign-up: from an account in auth.users to a profile with its first credits.

-- Makes the profile of a new account and its first ledger entry.
-- Runs as the owner because Auth's own role has no rights in public.
create function private.handle_new_user()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_free_credits constant integer := 2;
begin
    insert into public.profiles (id, email, first_name, last_name)
    values (
        new.id,
        -- An account that signed up by phone has no address; .invalid can never receive mail.
        coalesce(new.email, new.id || '@no-email.invalid'),
        left(nullif(trim(new.raw_user_meta_data ->> 'first_name'), ''), 100),
        left(nullif(trim(new.raw_user_meta_data ->> 'last_name'), ''), 100)
    );
    perform private.post_credit_transaction(
        new.id, c_free_credits, 'bonus', 'Free credits for a new account', null, 'sign-up');
    return new;
end;
$$;

revoke execute on function private.handle_new_user() from public;

create trigger handle_new_user
after insert on auth.users
for each row execute function private.handle_new_user();

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
end;
$$;

revoke execute on function private.handle_user_email() from public;

create trigger handle_user_email
after update of email on auth.users
for each row when (old.email is distinct from new.email)
execute function private.handle_user_email();

-- Who gets mail: addresses that take none, and what an account has chosen.

create table public.email_suppressions (
    id uuid primary key default gen_random_uuid(),
    email text not null check (email = lower(email) and email <> ''),
    reason text not null check (reason in ('bounce', 'dropped', 'spam_report', 'manual')),
    detail text,
    -- Set by a trigger: the account with the address.
    user_id uuid references public.profiles (id) on delete cascade,
    created_at timestamptz not null default now(),
    constraint email_suppressions_email_reason_key unique (email, reason)
);

comment on table public.email_suppressions is
'Addresses that get essential mail only, because mail bounced, was reported as spam, or an admin said so. Admins read, '
'add and lift them.';
comment on column public.email_suppressions.detail is 'What the provider said, or why an admin added it.';

create index idx_email_suppressions_user_id on public.email_suppressions (user_id);

create function private.complete_suppression()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    new.email := lower(trim(new.email));
    select p.id into new.user_id from public.profiles as p where p.email = new.email for key share;
    return new;
end;
$$;

create trigger complete_suppression
before insert on public.email_suppressions
for each row execute function private.complete_suppression();

create trigger bound_lengths
before insert on public.email_suppressions
for each row execute function private.bound_lengths('email', 3, 320, 'detail', 0, 1000);

alter table public.email_suppressions enable row level security;

create policy "Admins view suppressions" on public.email_suppressions
for select to authenticated
using ((select private.is_admin()));

create policy "Admins suppress addresses" on public.email_suppressions
for insert to authenticated
with check ((select private.is_admin()) and reason = 'manual');

create policy "Admins lift suppressions" on public.email_suppressions
for delete to authenticated
using ((select private.is_admin()));

grant select, delete on public.email_suppressions to authenticated, service_role;
grant insert (email, reason, detail) on public.email_suppressions to authenticated, service_role;

-- Whether mail can go to an address: written as browsers accept it (https://html.spec.whatwg.org/#valid-e-mail-address)
-- and no longer than SMTP carries it (RFC 5321, 4.5.3.1). What looks like an encoded word (RFC 2047) is none: programs
-- that decode it show, and may answer, another recipient. Nothing is delivered to .invalid (RFC 2606).
create function private.is_mailable(p_email text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    return
        char_length(p_email) <= 254
        and p_email ~ ('^[a-zA-Z0-9.!#$%&''*+/=?^_`{|}~-]{1,64}@'
            '[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$')
        and position('=?' in p_email) = 0
        and p_email not like '%.invalid';
end;
$$;

-- Whether somebody who reads an account's address has said that it is his: followed a link that Auth sent there, or
-- signed in elsewhere with it. With confirmations off Auth calls every address confirmed and sends no link, so that an
-- account's address may be anybody's, and what its mails say a stranger's words.
create function private.has_confirmed_address(p_user_id uuid)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return exists (
        select from auth.users as u
        where
            u.id = p_user_id and u.email_confirmed_at is not null and (
                u.confirmation_sent_at is not null or exists (
                    select from auth.identities as i
                    where
                        i.user_id = u.id and i.provider <> 'email'
                        and lower(i.identity_data ->> 'email') = lower(u.email)
                        and i.identity_data ->> 'email_verified' = 'true'
                )
            )
    );
end;
$$;

-- Why somebody does not get a mail of a category; null when he does. Asked when a mail is queued and when claimed.
create function private.email_refusal(p_profile public.profiles, p_category text)
returns text
language plpgsql
stable
set search_path = ''
as $$
declare
    v_reason text;
begin
    if not private.is_mailable(p_profile.email) then
        return 'no address';
    elsif p_category = 'essential' then
        return null;
    elsif not p_profile.is_active then
        return 'deactivated';
    -- Anybody can sign up with anybody's address.
    elsif not exists (select from auth.users as u where u.id = p_profile.id and u.email_confirmed_at is not null) then
        return 'not confirmed';
    elsif p_category = 'notification' and not p_profile.notification_emails
        or p_category = 'marketing' and not p_profile.marketing_emails
    then
        return 'unsubscribed';
    end if;
    select s.reason into v_reason from public.email_suppressions as s
    where s.email = lower(p_profile.email)
    order by s.created_at
    limit 1;
    return 'suppressed: ' || v_reason;
end;
$$;

create function public.unsubscribe_from_emails(p_user_id uuid)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_before boolean;
begin
    select p.marketing_emails into v_before from public.profiles as p where p.id = p_user_id for no key update;
    -- Dated also where they are off already: an older wish to have them may still be heard.
    update public.profiles as p set marketing_emails = false, marketing_emails_set_at = now() where p.id = p_user_id;
    return coalesce(v_before, false);
end;
$$;

comment on function public.unsubscribe_from_emails(uuid) is
'Ends marketing mails to an account; returns false when there was nothing to end. Safe to repeat.';
grant execute on function public.unsubscribe_from_emails(uuid) to service_role;

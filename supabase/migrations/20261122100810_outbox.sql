-- The outbox: mails that wait, are being sent and were sent.
--
-- queued → sending → sent, and then what events tell. A sender claims mails under a lease, hands them over and settles
-- them (next files). SendGrid knows no idempotency: whoever dies in between leaves nobody knowing whether the mail went
-- out. Such a mail becomes unknown and is never sent again by itself; an event or an operator resolves it.
--
-- Lock order: profiles, campaigns, mails, each in the order of their ids. A claim waits for no mail.

create table public.email_logs (
    id uuid primary key default gen_random_uuid(),
    user_id uuid references public.profiles (id) on delete cascade,
    template_id uuid references public.email_templates (id),
    campaign_id uuid,
    recipient text,
    dedupe_key text not null unique default gen_random_uuid() check (char_length(dedupe_key) between 1 and 400),
    data jsonb not null default '{}' check (jsonb_typeof(data) = 'object'),
    sendgrid_message_id text,
    status text not null
    check (
        status in (
            'queued', 'sending', 'unknown', 'sent', 'delivered', 'opened', 'clicked', 'bounced', 'failed',
            'suppressed', 'cancelled'
        )
    ),
    error text,
    attempts integer not null default 0 check (attempts >= 0),
    next_attempt_at timestamptz not null default now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    created_at timestamptz not null default now(),
    sent_at timestamptz default now(),
    delivered_at timestamptz,
    opened_at timestamptz,
    clicked_at timestamptz,
    constraint email_logs_lease_while_sending check ((status = 'sending') = (lease_expires_at is not null)),
    constraint email_logs_waiting_complete
    check (status not in ('queued', 'sending') or num_nulls(user_id, template_id, recipient) = 0),
    constraint email_logs_sent_at_when_sent
    check (
        sent_at is null or status not in ('queued', 'sending', 'unknown', 'suppressed', 'cancelled')
    )
);

comment on table public.email_logs is
'The outbox: each mail and how far it got. A user reads his own rows, an admin all; the database writes them in the '
'transactions of what they tell, and the sender through its functions.';
comment on column public.email_logs.recipient is 'Where it goes; at each claim, the address that the account has then.';
comment on column public.email_logs.dedupe_key is 'Names what the mail is about: the same is not queued twice.';
comment on column public.email_logs.data is 'The variables of its template, beside those that every mail has.';
comment on column public.email_logs.status is
'queued, sending; unknown: the call had begun and nobody knows whether it was accepted; sent, then delivered, opened '
'or clicked; bounced; failed: refused, given up or dropped by the provider; suppressed: its recipient does not want or '
'get it, see error; cancelled with its campaign.';
comment on column public.email_logs.error is
'Why it was not sent or did not arrive. Its owner may read it.';
comment on column public.email_logs.attempts is 'Calls of the provider that count towards giving up.';
comment on column public.email_logs.lease_token is
'Fencing token: the id of the newest claim. Kept after the sender settles, so that a repeated call changes nothing. No '
'secret: only the service role claims and settles.';

create index idx_email_logs_user_id on public.email_logs (user_id);
create index idx_email_logs_template_id on public.email_logs (template_id);
create index idx_email_logs_campaign_id on public.email_logs (campaign_id);
-- The order of claiming.
create index idx_email_logs_due on public.email_logs (next_attempt_at)
where status = 'queued' and campaign_id is null;
create index idx_email_logs_due_of_campaign on public.email_logs (campaign_id, next_attempt_at)
where status = 'queued' and campaign_id is not null;
create index idx_email_logs_leases on public.email_logs (lease_expires_at)
where status = 'sending';
-- What waits for an event or an operator.
create index idx_email_logs_unknown on public.email_logs (created_at)
where status = 'unknown';

alter table public.email_logs enable row level security;

create policy "Users view their own mails, admins all" on public.email_logs
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.email_logs to authenticated;
grant select, insert, update on public.email_logs to service_role;

-- The mails of an account that is deleted, locked in the order that all others keep; the cascade knows none.
create function private.lock_mails_of_account()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform l.id from public.email_logs as l where l.user_id = old.id order by l.id for update;
    return old;
end;
$$;

create trigger lock_mails_of_account
before delete on public.profiles
for each row execute function private.lock_mails_of_account();

-- Puts a mail into the outbox and returns its id: null when its type is switched off, its recipient does not get it, or
-- it is there already. Nothing in here fails the transaction that it is part of. The locks keep the account and the
-- template from going before the mail that names them is written.
create function private.queue_email(p_user_id uuid, p_type text, p_dedupe_key text, p_data jsonb)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
    v_profile public.profiles;
    v_template record;
    v_id uuid;
begin
    select p.* into v_profile from public.profiles as p where p.id = p_user_id for key share;
    if not found then
        return null;
    end if;
    select t.id, y.category into v_template
    from public.email_templates as t
    inner join public.email_types as y on y.name = t.type
    where t.name = p_type and t.type = p_type and t.is_active
    for key share of t;
    if not found or private.email_refusal(v_profile, v_template.category) is not null then
        return null;
    end if;
    insert into public.email_logs (user_id, template_id, recipient, dedupe_key, data, status, sent_at)
    values (p_user_id, v_template.id, v_profile.email, p_dedupe_key, p_data, 'queued', null)
    on conflict (dedupe_key) do nothing
    returning id into v_id;
    return v_id;
end;
$$;

-- Ready to print: '1 credit', '1,200 credits'.
create function private.counted(p_count bigint, p_noun text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return to_char(p_count, 'FM999,999,999,990') || ' ' || p_noun || case when p_count = 1 then '' else 's' end;
end;
$$;

-- A first name as a mail may say it. Whoever signs up with somebody else's address could otherwise have us send that
-- person what he likes: no links, also with the other signs that browsers take for a dot, and no encoded words, behind
-- which one may stand.
create function private.printable_name(p_name text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case
        when p_name ~ '^[^/:@<>[:cntrl:]\u2028-\u202e]{1,40}$' and p_name !~ '[.․。．｡][^ ]|=\?' then p_name
        else ''
    end;
end;
$$;

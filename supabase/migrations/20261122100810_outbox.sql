-- The outbox: mails that wait, are being sent and were sent; who gets them; and the senders' side, claim and settle.
--
-- queued → sending → sent, and then what events tell (next file). A sender claims mails under a lease, hands them over
-- and settles them. SendGrid knows no idempotency: whoever dies in between leaves nobody knowing whether the mail went
-- out. Such a mail becomes unknown and is never sent again by itself; an event or an operator resolves it.
--
-- Lock order: profiles, campaigns, mails, each in the order of their ids. A claim waits for no mail.

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

revoke execute on function private.complete_suppression() from public;

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

revoke execute on function private.lock_mails_of_account() from public;

create trigger lock_mails_of_account
before delete on public.profiles
for each row execute function private.lock_mails_of_account();

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

revoke execute on function private.is_mailable(text) from public;

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

revoke execute on function private.has_confirmed_address(uuid) from public;

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

revoke execute on function private.email_refusal(public.profiles, text) from public;

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

revoke execute on function private.queue_email(uuid, text, text, jsonb) from public;

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

revoke execute on function private.counted(bigint, text) from public;

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

revoke execute on function private.printable_name(text) from public;

-- Takes up to p_limit mails from senders whose lease ran out, and returns how many. They may be out or not.
create function private.mark_lost_emails(p_limit integer)
returns integer
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_lost integer;
begin
    perform private.check_limit(p_limit, 1000);
    update public.email_logs as l
    set
        status = 'unknown', lease_expires_at = null, attempts = l.attempts + 1,
        error = 'The sender was interrupted. Whether the mail went out is not known.'
    where l.id in (
        select lost.id from public.email_logs as lost
        where lost.status = 'sending' and lost.lease_expires_at < now()
        order by lost.lease_expires_at
        limit p_limit
        for no key update skip locked
    );
    get diagnostics v_lost = row_count;
    return v_lost;
end;
$$;

revoke execute on function private.mark_lost_emails(integer) from public;
grant execute on function private.mark_lost_emails(integer) to service_role;

-- What a sender gets with a lease.
create type public.claimed_email as (
    id uuid,
    user_id uuid,
    campaign_id uuid,
    type text,
    category text,
    recipient text,
    template_id uuid,
    sendgrid_template_id text,
    subject text,
    html_content text,
    text_content text,
    data jsonb,
    attempts integer,
    lease_token uuid,
    lease_expires_at timestamptz,
    created_at timestamptz
);

comment on type public.claimed_email is 'A mail as its sender gets it: with its template and its data.';

-- The campaigns that have mails to send now, locked. A completed one may have some that an operator sends again.
create function private.lock_due_campaigns()
returns uuid[]
language plpgsql
set search_path = ''
as $$
begin
    return array(
        select c.id from public.email_campaigns as c
        where
            c.status in ('sending', 'completed')
            and coalesce(c.next_email_at, '-infinity') <= clock_timestamp()
            and exists (
                select from public.email_logs as l
                where l.campaign_id = c.id and l.status = 'queued' and l.next_attempt_at <= now()
            )
        order by c.id
        for no key update
    );
end;
$$;

revoke execute on function private.lock_due_campaigns() from public;

-- Up to p_limit mails of these campaigns, which the caller has locked, at the pace of each.
--
-- next_email_at moves on by the campaign's interval with every mail, and lags behind the clock by a window at most: so
-- after a pause the mails do not come all at once. Several campaigns share what is asked for.
create function private.due_campaign_emails(p_campaign_ids uuid[], p_limit integer)
returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    c_window constant interval := '6 seconds'::interval;
    v_campaign record;
    v_pace interval;
    v_from timestamptz;
    v_taken uuid[];
    v_ids uuid[] := array[]::uuid[];
begin
    for v_campaign in
        select
            c.id, c.emails_per_minute, c.next_email_at,
            count(*) over () - row_number() over (order by c.next_email_at nulls first, c.id) + 1 as left_over
        from public.email_campaigns as c
        where c.id = any (p_campaign_ids)
        order by c.next_email_at nulls first, c.id
    loop
        v_pace := '1 minute'::interval / v_campaign.emails_per_minute;
        v_from := greatest(v_campaign.next_email_at, clock_timestamp() - c_window);
        continue when v_from > clock_timestamp();
        v_taken := array(
            select l.id from public.email_logs as l
            where l.campaign_id = v_campaign.id and l.status = 'queued' and l.next_attempt_at <= now()
            order by l.next_attempt_at
            limit least(
                ceil((p_limit - cardinality(v_ids))::numeric / v_campaign.left_over),
                floor(extract(epoch from clock_timestamp() - v_from) / extract(epoch from v_pace)) + 1)::bigint
            for no key update skip locked
        );
        update public.email_campaigns as c set next_email_at = v_from + v_pace * cardinality(v_taken)
        where c.id = v_campaign.id;
        v_ids := v_ids || v_taken;
    end loop;
    return v_ids;
end;
$$;

revoke execute on function private.due_campaign_emails(uuid[], integer) from public;

-- Sets aside those of these mails whose recipient does not get them, or whose template was switched off, and returns
-- the others.
create function private.sendable_emails(p_ids uuid[])
returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    v_refused uuid[];
begin
    with refusals as (
        select l.id, case when t.is_active then private.email_refusal(p, y.category) else 'template inactive' end as reason
        from public.email_logs as l
        inner join public.profiles as p on p.id = l.user_id
        inner join public.email_templates as t on t.id = l.template_id
        inner join public.email_types as y on y.name = t.type
        where l.id = any (p_ids)
    ),
    refused as (
        update public.email_logs as l set status = 'suppressed', error = r.reason
        from refusals as r
        where l.id = r.id and r.reason is not null
        returning l.id
    )
    select coalesce(array_agg(r.id), '{}') into v_refused from refused as r;
    return array(select i.id from unnest(p_ids) as i (id) where i.id <> all (v_refused));
end;
$$;

revoke execute on function private.sendable_emails(uuid[]) from public;

-- Claims mails for a sender. The claim's id becomes their lease token; sent again because the answer did not arrive, it
-- gets the same mails with their lease renewed. The settings as in private.claim_image_operations.
create function private.claim_emails(p_limit integer, p_claim_id uuid, p_lease_seconds integer)
returns setof public.claimed_email
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    c_marked_per_claim constant integer := 100;
    c_rounds constant integer := 4;
    c_swept_per_round constant integer := 3000;
    v_lease_end timestamptz;
    v_campaign_ids uuid[];
    v_due uuid[];
    v_ids uuid[];
begin
    if p_limit is null or p_limit not between 1 and 100 then
        perform private.refuse(
            'PT400', 'The limit must be between 1 and 100', '{"argument": "p_limit"}', 'Claim as many as you have slots.');
    elsif p_claim_id is null then
        perform private.refuse(
            'PT400', 'The claim has no id', '{"argument": "p_claim_id"}', 'Pass a new random id for each claim.');
    end if;
    -- A repeat waits for a first call that is still at work on a connection that its sender has given up.
    perform pg_advisory_xact_lock(hashtextextended(p_claim_id::text, 0));
    v_lease_end := private.lease_end(p_lease_seconds);
    v_ids := array(
        select l.id from public.email_logs as l
        where l.status = 'sending' and l.lease_token = p_claim_id
        order by l.id
        for no key update
    );
    if v_ids = '{}' then
        -- Before any mail is locked: whoever holds a campaign may be waiting for somebody who waits for his mails.
        v_campaign_ids := private.lock_due_campaigns();
        perform private.mark_lost_emails(c_marked_per_claim);
        -- Mails that nobody wants any more must not make the outbox look empty. There may be 100,000 of them, where a
        -- template was switched off: a claim sets some aside and leaves the rest to the next, or it would never end.
        for v_round in 1 .. c_rounds
        loop
            v_due := array(
                select l.id from public.email_logs as l
                where l.status = 'queued' and l.campaign_id is null and l.next_attempt_at <= now()
                order by l.next_attempt_at
                limit p_limit
                for no key update skip locked
            );
            if cardinality(v_due) < p_limit then
                v_due := v_due || private.due_campaign_emails(v_campaign_ids, p_limit - cardinality(v_due));
            end if;
            v_ids := private.sendable_emails(v_due);
            exit when v_ids <> '{}' or v_due = '{}' or v_round = c_rounds;
            perform private.sendable_emails(array(
                select l.id from public.email_logs as l
                where l.status = 'queued' and l.campaign_id is null and l.next_attempt_at <= now()
                order by l.next_attempt_at
                limit c_swept_per_round
                for no key update skip locked
            ));
        end loop;
    end if;

    update public.email_logs as l
    set status = 'sending', recipient = p.email, lease_token = p_claim_id, lease_expires_at = v_lease_end, error = null
    from public.profiles as p
    where l.id = any (v_ids) and p.id = l.user_id;

    return query
    select
        l.id, l.user_id, l.campaign_id, t.type, y.category, l.recipient, t.id, t.sendgrid_template_id, t.subject,
        t.html_content, t.text_content,
        jsonb_build_object(
            'first_name',
            case when private.has_confirmed_address(p.id) then private.printable_name(p.first_name) else '' end,
            'email', l.recipient)
        || case
            when y.category = 'marketing' then jsonb_build_object(
                'credits', private.counted(p.credits_remaining, 'credit'), 'plan', initcap(p.subscription_plan))
            else '{}'
        end
        || l.data,
        l.attempts, l.lease_token, l.lease_expires_at, l.created_at
    from public.email_logs as l
    inner join public.profiles as p on p.id = l.user_id
    inner join public.email_templates as t on t.id = l.template_id
    inner join public.email_types as y on y.name = t.type
    where l.id = any (v_ids)
    order by l.campaign_id nulls first, l.next_attempt_at, l.id;
end;
$$;

revoke execute on function private.claim_emails(integer, uuid, integer) from public;
grant execute on function private.claim_emails(integer, uuid, integer) to service_role;

-- How long a mail waits after its n-th attempt: a minute, tripled each time up to 12 hours, of which a random half is
-- dropped. Eight attempts last for about a day.
create function private.email_retry_delay(p_attempts integer)
returns interval
language plpgsql
volatile
set search_path = ''
as $$
begin
    return make_interval(secs => least(43200, 60 * 3 ^ least(p_attempts - 1, 10)) * (0.5 + random() / 2));
end;
$$;

revoke execute on function private.email_retry_delay(integer) from public;

-- Refuses what are no results. Returns the mails among them whose address takes none.
create function private.check_email_results(p_lease_token uuid, p_results jsonb)
returns uuid[]
language plpgsql
set search_path = ''
as $$
begin
    if p_lease_token is null or jsonb_typeof(p_results) is distinct from 'array' then
        perform private.refuse(
            'PT400', 'Results come as an array, with the lease token of the claim', '{"argument": "p_results"}',
            'Pass [{"id": …, "outcome": …}].');
    end if;
    if exists (
        select from jsonb_array_elements(p_results) as r (item)
        where
            jsonb_typeof(r.item) <> 'object'
            or coalesce(r.item ->> 'id', '') !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            or coalesce(r.item ->> 'outcome', '') not in ('sent', 'retry', 'failed', 'unknown')
            or coalesce(r.item ->> 'retry_seconds', '0') !~ '^[0-9]{1,6}$'
            or coalesce(jsonb_typeof(r.item -> 'is_counted'), 'null') not in ('boolean', 'null')
            or coalesce(jsonb_typeof(r.item -> 'is_bounce'), 'null') not in ('boolean', 'null')
    ) then
        perform private.refuse(
            'PT400', 'A result has no id of a mail, or another part of it is wrong', '{"argument": "p_results"}',
            'An outcome is sent, retry, failed or unknown; retry_seconds is a whole number, is_counted and is_bounce are '
            'true or false.');
    end if;
    return array(
        select (r.item ->> 'id')::uuid from jsonb_array_elements(p_results) as r (item)
        where r.item ->> 'outcome' = 'failed' and (r.item ->> 'is_bounce')::boolean
    );
end;
$$;

revoke execute on function private.check_email_results(uuid, jsonb) from public;

-- The campaigns of these mails that go on: only their mails may go back into the queue. They are held, so that none is
-- cancelled meanwhile. Expects no mail locked.
create function private.hold_campaigns(p_email_ids uuid[])
returns uuid[]
language plpgsql
set search_path = ''
as $$
begin
    return array(
        select c.id from public.email_campaigns as c
        where c.status in ('sending', 'completed')
        and c.id in (select l.campaign_id from public.email_logs as l where l.id = any (p_email_ids))
        order by c.id
        for share
    );
end;
$$;

revoke execute on function private.hold_campaigns(uuid[]) from public;

create function private.settle_emails(p_lease_token uuid, p_results jsonb)
returns integer
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    c_most_attempts constant integer := 8;
    v_bounced constant uuid[] := private.check_email_results(p_lease_token, p_results);
    v_ids uuid[];
    v_running_campaigns uuid[];
begin
    if v_bounced <> '{}' then
        -- Whom the suppressions will name, before any mail is locked.
        perform p.id from public.profiles as p
        where p.email in (select lower(l.recipient) from public.email_logs as l where l.id = any (v_bounced))
        order by p.id
        for key share;
    end if;
    v_running_campaigns := private.hold_campaigns(array(
        select (r.item ->> 'id')::uuid from jsonb_array_elements(p_results) as r (item)
        where r.item ->> 'outcome' = 'retry'));
    v_ids := array(
        select l.id from public.email_logs as l
        where
            l.id in (select (r.item ->> 'id')::uuid from jsonb_array_elements(p_results) as r (item))
            and l.lease_token = p_lease_token
        order by l.id
        for no key update
    );

    with results as (
        select
            r.id, r.outcome, left(r.message_id, 255) as message_id, left(r.error, 1000) as error,
            make_interval(secs => coalesce(r.retry_seconds, 0)) as least_wait,
            -- A lost mail has had its attempt counted.
            l.attempts + case
                when l.status = 'sending' and (r.outcome <> 'retry' or coalesce(r.is_counted, true)) then 1 else 0
            end as attempts,
            coalesce(r.is_counted, true) as is_counted,
            l.campaign_id is null or l.campaign_id = any (v_running_campaigns) as may_wait
        from jsonb_to_recordset(p_results) as r (
            id uuid, outcome text, message_id text, error text, retry_seconds integer, is_counted boolean
        )
        inner join public.email_logs as l on l.id = r.id
        where l.id = any (v_ids)
    )
    update public.email_logs as l
    set
        status = case
            when r.outcome <> 'retry' then r.outcome
            when r.is_counted and r.attempts >= c_most_attempts then 'failed'
            when r.may_wait then 'queued'
            else 'cancelled'
        end,
        sendgrid_message_id = coalesce(r.message_id, l.sendgrid_message_id),
        sent_at = case when r.outcome = 'sent' then clock_timestamp() end,
        error = case when r.outcome <> 'sent' then coalesce(r.error, 'The provider gave no reason.') end,
        attempts = r.attempts,
        next_attempt_at = case
            when r.outcome <> 'retry' then l.next_attempt_at
            when r.is_counted then clock_timestamp() + greatest(r.least_wait, private.email_retry_delay(r.attempts))
            else clock_timestamp() + r.least_wait
        end,
        lease_expires_at = null
    from results as r
    where l.id = r.id and l.status in ('sending', 'unknown');

    -- As after a bounce that an event tells of.
    insert into public.email_suppressions (email, reason, detail)
    select distinct on (lower(l.recipient)) lower(l.recipient), 'bounce', l.error
    from public.email_logs as l
    where l.id = any (v_ids) and l.id = any (v_bounced) and l.status = 'failed'
    order by lower(l.recipient)
    on conflict (email, reason) do nothing;

    -- An event was quicker.
    update public.email_logs as l
    set sendgrid_message_id = r.item ->> 'message_id'
    from jsonb_array_elements(p_results) as r (item)
    where
        l.id = (r.item ->> 'id')::uuid and l.id = any (v_ids)
        and l.sendgrid_message_id is null and r.item ->> 'message_id' is not null;
    return cardinality(v_ids);
end;
$$;

revoke execute on function private.settle_emails(uuid, jsonb) from public;
grant execute on function private.settle_emails(uuid, jsonb) to service_role;

create function private.unsubscribe_from_emails(p_user_id uuid)
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

revoke execute on function private.unsubscribe_from_emails(uuid) from public;
grant execute on function private.unsubscribe_from_emails(uuid) to service_role;

create function private.retry_email(p_email_id uuid, p_reason text)
returns public.email_logs
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_running_campaigns uuid[];
    v_before public.email_logs;
    v_email public.email_logs;
begin
    perform private.check_admin_with_reason(p_reason);
    v_running_campaigns := private.hold_campaigns(array[p_email_id]);
    select l.* into v_before from public.email_logs as l where l.id = p_email_id for no key update;
    if not found then
        perform private.refuse('PT404', 'Mail not found', jsonb_build_object('email_id', p_email_id), 'Check the id.');
    elsif v_before.status not in ('failed', 'unknown', 'suppressed') then
        perform private.refuse(
            'PT409', format('The mail is %s', v_before.status),
            jsonb_build_object('email_id', p_email_id, 'status', v_before.status),
            'Only a mail that failed, was suppressed, or of which nobody knows, is sent again.');
    elsif v_before.campaign_id is not null and v_before.campaign_id <> all (v_running_campaigns) then
        perform private.refuse(
            'PT409', 'The campaign of the mail was cancelled', jsonb_build_object('email_id', p_email_id),
            'Make another campaign.');
    elsif num_nulls(v_before.user_id, v_before.template_id, v_before.recipient) > 0 then
        perform private.refuse(
            'PT409', 'The mail was not written by this outbox', jsonb_build_object('email_id', p_email_id),
            'Write to its recipient yourself.');
    end if;
    update public.email_logs as l
    set
        status = 'queued', attempts = 0, next_attempt_at = now(), sent_at = null, lease_token = null, error = null
    where l.id = p_email_id
    returning l.* into v_email;
    perform private.log_admin_action(
        'retry_email', 'email_logs', p_email_id, v_email.user_id,
        jsonb_build_object('status', v_before.status, 'error', v_before.error, 'reason', p_reason));
    return v_email;
end;
$$;

revoke execute on function private.retry_email(uuid, text) from public;
grant execute on function private.retry_email(uuid, text) to authenticated, service_role;

create function public.claim_emails(p_limit integer, p_claim_id uuid, p_lease_seconds integer default 120)
returns setof public.claimed_email
language plpgsql
set search_path = ''
as $$
begin
    return query select c.* from private.claim_emails(p_limit, p_claim_id, p_lease_seconds) as c;
end;
$$;

comment on function public.claim_emails(integer, uuid, integer) is
'Takes up to p_limit (1 to 100) mails that are due, the oldest first and those of campaigns last, at their pace, and '
'returns them with their template and its data (app_url and unsubscribe_url are the sender''s to add). p_claim_id is '
'the lease token: a new random id for each claim; the same again returns the same mails. Mails whose recipient does '
'not want them are suppressed. What is not settled when the lease ends becomes unknown. Error: 400 bad argument.';
revoke execute on function public.claim_emails(integer, uuid, integer) from public;
grant execute on function public.claim_emails(integer, uuid, integer) to service_role;

create function public.settle_emails(p_lease_token uuid, p_results jsonb)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return private.settle_emails(p_lease_token, p_results);
end;
$$;

comment on function public.settle_emails(uuid, jsonb) is
'Says what became of claimed mails: [{id, outcome, message_id, error, retry_seconds, is_counted, is_bounce}]. outcome: '
'sent, failed (for good; with is_bounce the address is suppressed), unknown (nobody knows whether it was accepted), or '
'retry: queued again after a growing delay, at least retry_seconds, failed after 8 times. With is_counted false, for '
'trouble that is not the mail''s, a retry waits only retry_seconds and does not count. Returns how many of the mails '
'are this lease''s: the others changed hands and stay as they are. Safe to repeat, and news even when the lease is '
'over. Error: 400 bad argument.';
revoke execute on function public.settle_emails(uuid, jsonb) from public;
grant execute on function public.settle_emails(uuid, jsonb) to service_role;

create function public.mark_lost_emails(p_limit integer default 1000)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return private.mark_lost_emails(p_limit);
end;
$$;

comment on function public.mark_lost_emails(integer) is
'Marks up to p_limit (1 to 1000) mails as unknown whose sender has died, and returns how many; claims do so too. '
'Error: 400 bad limit.';
revoke execute on function public.mark_lost_emails(integer) from public;
grant execute on function public.mark_lost_emails(integer) to service_role;

create function public.unsubscribe_from_emails(p_user_id uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    return private.unsubscribe_from_emails(p_user_id);
end;
$$;

comment on function public.unsubscribe_from_emails(uuid) is
'Ends marketing mails to an account; returns false when there was nothing to end. Safe to repeat.';
revoke execute on function public.unsubscribe_from_emails(uuid) from public;
grant execute on function public.unsubscribe_from_emails(uuid) to service_role;

create function public.retry_email(p_email_id uuid, p_reason text)
returns public.email_logs
language plpgsql
set search_path = ''
as $$
begin
    return private.retry_email(p_email_id, p_reason);
end;
$$;

comment on function public.retry_email(uuid, text) is
'Admins and operators: queues a mail again that failed, was suppressed or is unknown, and returns it. An unknown one '
'may arrive twice. Who does not want it does not get it now either. Logged with the reason. Errors: 400 no reason, '
'403 not an admin, 404 unknown mail, 409 in another state, or its campaign was cancelled.';
revoke execute on function public.retry_email(uuid, text) from public;
grant execute on function public.retry_email(uuid, text) to authenticated, service_role;

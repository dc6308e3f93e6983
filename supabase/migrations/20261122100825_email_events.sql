-- E-mail: what the provider tells of mails, and what it does to them, to suppressions and to preferences.
--
-- Events come late, many times and in any order. Each is recorded once, and a status only moves forward, to the
-- furthest that any event told of:
--     sent < failed (dropped) < delivered < bounced < opened < clicked
-- A server that took a mail may still return it; what somebody has opened has arrived. So the order of the events does
-- not matter. Any event proves that a mail was accepted, and ends the doubt about an unknown one; one that waits for
-- another attempt is not sent again.

create table public.email_events (
    sg_event_id text primary key check (char_length(sg_event_id) between 1 and 100),
    email_log_id uuid not null references public.email_logs (id) on delete cascade,
    event_type text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null default now()
);

comment on table public.email_events is
'What the provider told of mails, each event once, without addresses. Admins read; only record_email_events writes.';
comment on column public.email_events.event_type is
'In SendGrid''s words: processed, deferred, delivered, open, click, bounce, dropped, spamreport, unsubscribe, '
'group_unsubscribe, group_resubscribe; and blocked, a bounce that says nothing about the address.';

create index idx_email_events_email_log_id on public.email_events (email_log_id);

alter table public.email_events enable row level security;

create policy "Admins view events of mails" on public.email_events
for select to authenticated
using ((select private.is_admin()));

grant select on public.email_events to authenticated, service_role;

-- An event that names one of our mails.
create type private.email_fact as (
    sg_event_id text,
    email_log_id uuid,
    user_id uuid,
    event_type text,
    occurred_at timestamptz,
    reason text,
    email text
);

create function private.email_status_rank(p_status text)
returns integer
language plpgsql
immutable
set search_path = ''
as $$
begin
    return coalesce(array_position(array['sent', 'failed', 'delivered', 'bounced', 'opened', 'clicked'], p_status), 0);
end;
$$;

-- What an event says of its mail. Whoever complains or unsubscribes has got it.
create function private.email_event_status(p_event_type text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case p_event_type
        when 'processed' then 'sent'
        when 'deferred' then 'sent'
        when 'dropped' then 'failed'
        when 'bounce' then 'bounced'
        when 'blocked' then 'bounced'
        when 'open' then 'opened'
        when 'click' then 'clicked'
        else 'delivered'
    end;
end;
$$;

-- The events among these that name a mail of ours, each once. Refuses what is no list of events.
create function private.read_email_events(p_events jsonb)
returns private.email_fact[]
language plpgsql
set search_path = ''
as $$
declare
    c_most_events constant integer := 10000;
begin
    if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > c_most_events then
        perform private.refuse(
            'PT400', format('Events come as an array of %s at most', c_most_events), '{"argument": "p_events"}',
            'Pass [{"sg_event_id": …, "email_id": …, "event_type": …, "occurred_at": …}].');
    end if;
    return array(
        select (e.sg_event_id, l.id, l.user_id, e.event_type, e.occurred_at, e.reason, coalesce(e.email, l.recipient))
            ::private.email_fact
        from (
            select distinct on (r.sg_event_id) r.*
            from jsonb_to_recordset(p_events) as r (
                sg_event_id text, email_id text, event_type text, occurred_at timestamptz, reason text, email text
            )
            where
                char_length(r.sg_event_id) between 1 and 100
                and r.email_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                and r.occurred_at between '2000-01-01' and now() + '1 day'::interval
                and r.event_type in (
                    'processed', 'deferred', 'delivered', 'open', 'click', 'bounce', 'blocked', 'dropped',
                    'spamreport', 'unsubscribe', 'group_unsubscribe', 'group_resubscribe'
                )
            order by r.sg_event_id
        ) as e
        inner join public.email_logs as l on l.id = e.email_id::uuid
    );
exception
    when data_exception then
        perform private.refuse(
            'PT400', 'An event is no object, or its time cannot be read', '{"argument": "p_events"}',
            'Pass occurred_at such as 2026-12-31T18:00:00Z.');
        return null; -- not reached
end;
$$;

-- Moves mails forward to what new events tell.
create function private.follow_email_events(p_events private.email_fact[])
returns void
language plpgsql
set search_path = ''
as $$
begin
    with told as (
        select
            e.email_log_id as id,
            (array_agg(private.email_event_status(e.event_type) order by private.email_status_rank(
                private.email_event_status(e.event_type)) desc))[1] as status,
            min(e.occurred_at) as first_at,
            min(e.occurred_at) filter (where e.event_type = 'delivered') as delivered_at,
            min(e.occurred_at) filter (where e.event_type = 'open') as opened_at,
            min(e.occurred_at) filter (where e.event_type = 'click') as clicked_at,
            max(left(e.reason, 1000)) filter (where e.event_type in ('bounce', 'blocked', 'dropped')) as reason
        from unnest(p_events) as e
        -- A mail that was dropped and is tried again: what is heard of the first try says nothing of the second.
        where e.event_type not in ('processed', 'deferred') or not exists (
            select from public.email_logs as l
            inner join public.email_events as dropped on dropped.email_log_id = l.id
            where
                l.id = e.email_log_id and private.email_status_rank(l.status) = 0
                and dropped.event_type = 'dropped' and dropped.occurred_at >= e.occurred_at
        )
        group by e.email_log_id
    )
    update public.email_logs as l
    set
        status = case when t.is_further then t.status else l.status end,
        error = case when not t.is_further then l.error when t.status in ('bounced', 'failed') then t.reason end,
        sent_at = least(l.sent_at, t.first_at),
        delivered_at = least(l.delivered_at, t.delivered_at),
        opened_at = least(l.opened_at, t.opened_at),
        clicked_at = least(l.clicked_at, t.clicked_at),
        lease_expires_at = null
    from (
        select told.*, private.email_status_rank(told.status) > private.email_status_rank(current.status) as is_further
        from told
        inner join public.email_logs as current on current.id = told.id
    ) as t
    where l.id = t.id;
end;
$$;

-- Suppresses the addresses that new events tell against. Of what SendGrid drops, only these reasons are about the
-- address: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
create function private.suppress_by_events(p_events private.email_fact[])
returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.email_suppressions (email, reason, detail)
    select distinct on (lower(e.email), s.reason) lower(e.email), s.reason, left(e.reason, 1000)
    from unnest(p_events) as e
    cross join lateral (
        select case
            when e.event_type = 'bounce' then 'bounce'
            when e.event_type = 'spamreport' then 'spam_report'
            when e.event_type = 'dropped'
                and lower(e.reason) in ('bounced address', 'spam reporting address', 'invalid') then 'dropped'
        end as reason
    ) as s
    -- What is no address must not keep the others from being heard.
    where s.reason is not null and char_length(lower(trim(e.email))) between 3 and 320
    order by lower(e.email), s.reason
    on conflict (email, reason) do nothing;
end;
$$;

-- Preferences that people set at the provider. The latest word counts, here or there, whenever it is heard of.
create function private.follow_unsubscriptions(p_events private.email_fact[])
returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.profiles as p
    set marketing_emails = v.wants, marketing_emails_set_at = v.occurred_at
    from (
        select distinct on (e.user_id)
            e.user_id, e.event_type = 'group_resubscribe' as wants, e.occurred_at
        from unnest(p_events) as e
        where
            e.event_type in ('spamreport', 'unsubscribe', 'group_unsubscribe', 'group_resubscribe')
            or e.event_type = 'dropped' and lower(e.reason) = 'unsubscribed address'
        order by e.user_id, e.occurred_at desc, wants
    ) as v
    where
        p.id = v.user_id and (
            p.marketing_emails_set_at is null or p.marketing_emails_set_at < v.occurred_at
            -- Of what was said in the same second, the no counts.
            or p.marketing_emails_set_at = v.occurred_at and not v.wants
        );
    update public.profiles as p
    set notification_emails = false
    where p.notification_emails and p.id in (
        select e.user_id from unnest(p_events) as e where e.event_type = 'spamreport'
    );
end;
$$;

-- Records events and what follows from those that are new, which it returns.
create function private.record_email_facts(p_events private.email_fact[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_new private.email_fact[];
begin
    perform p.id from public.profiles as p
    where p.id in (
        select e.user_id from unnest(p_events) as e
        where e.event_type not in ('processed', 'deferred', 'delivered', 'open', 'click', 'blocked')
    )
    order by p.id
    for no key update;
    perform l.id from public.email_logs as l
    where l.id in (select e.email_log_id from unnest(p_events) as e)
    order by l.id
    for no key update;
    with recorded as (
        insert into public.email_events (sg_event_id, email_log_id, event_type, occurred_at)
        select e.sg_event_id, e.email_log_id, e.event_type, e.occurred_at
        from unnest(p_events) as e
        -- An account may have gone since they were read.
        where exists (select from public.email_logs as l where l.id = e.email_log_id)
        order by e.sg_event_id
        on conflict (sg_event_id) do nothing
        returning sg_event_id
    )
    select coalesce(array_agg(e), '{}') into v_new
    from unnest(p_events) as e
    where e.sg_event_id in (select r.sg_event_id from recorded as r);

    perform private.follow_email_events(v_new);
    perform private.suppress_by_events(v_new);
    perform private.follow_unsubscriptions(v_new);
    return to_jsonb(array(select e.sg_event_id from unnest(v_new) as e));
end;
$$;

create function public.record_email_events(p_events jsonb)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_known constant private.email_fact[] := private.read_email_events(p_events);
    v_recorded constant integer := jsonb_array_length(private.work_through('record_email_events', (
        select coalesce(jsonb_agg(to_jsonb(e) || jsonb_build_object('id', e.sg_event_id)), '[]') from unnest(v_known) as e
    )));
begin
    return jsonb_build_object(
        'recorded', v_recorded,
        'duplicates', (
            select count(*) from jsonb_to_recordset(p_events) as e (sg_event_id text)
            where e.sg_event_id in (select k.sg_event_id from unnest(v_known) as k)
        ) - v_recorded,
        'unknown', (
            select count(*) from jsonb_to_recordset(p_events) as e (sg_event_id text)
            where (e.sg_event_id in (select k.sg_event_id from unnest(v_known) as k)) is not true
        ));
end;
$$;

comment on function public.record_email_events(jsonb) is
'Records what the provider tells: up to 10000 of {sg_event_id, email_id, event_type, occurred_at, reason, email}, in '
'any order and as often as one likes. Moves mails forward, suppresses addresses, sets preferences. Returns {recorded, '
'duplicates, unknown}: unknown are those of no mail here, or of a type that nobody knows; they change nothing. Error: '
'400 no list of events.';
grant execute on function public.record_email_events(jsonb) to service_role;

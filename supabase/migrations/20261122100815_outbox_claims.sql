-- The outbox, as senders take from it: which mails are due, under a lease.

-- Takes up to p_limit mails from senders whose lease ran out, and returns how many. They may be out or not.
create function public.mark_lost_emails(p_limit integer default 1000)
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

comment on function public.mark_lost_emails(integer) is
'Marks up to p_limit (1 to 1000) mails as unknown whose sender has died, and returns how many; claims do so too. '
'Error: 400 bad limit.';
grant execute on function public.mark_lost_emails(integer) to service_role;

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

-- Claims mails for a sender. The claim's id becomes their lease token; sent again because the answer did not arrive, it
-- gets the same mails with their lease renewed. The settings as in public.claim_image_operations.
create function public.claim_emails(p_limit integer, p_claim_id uuid, p_lease_seconds integer default 120)
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
        perform public.mark_lost_emails(c_marked_per_claim);
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

comment on function public.claim_emails(integer, uuid, integer) is
'Takes up to p_limit (1 to 100) mails that are due, the oldest first and those of campaigns last, at their pace, and '
'returns them with their template and its data (app_url and unsubscribe_url are the sender''s to add). p_claim_id is '
'the lease token: a new random id for each claim; the same again returns the same mails. Mails whose recipient does '
'not want them are suppressed. What is not settled when the lease ends becomes unknown. Error: 400 bad argument.';
grant execute on function public.claim_emails(integer, uuid, integer) to service_role;

-- What admins, with their session, and operators, with the secret key, do with a campaign.

-- The campaign, locked if it is about to change.
create function private.find_campaign(p_campaign_id uuid, p_is_locked boolean)
returns public.email_campaigns
language plpgsql
set search_path = ''
as $$
declare
    v_campaign public.email_campaigns;
begin
    perform private.check_admin();
    if p_is_locked then
        select c.* into v_campaign from public.email_campaigns as c where c.id = p_campaign_id for no key update;
    else
        select c.* into v_campaign from public.email_campaigns as c where c.id = p_campaign_id;
    end if;
    if not found then
        perform private.refuse(
            'PT404', 'Campaign not found', jsonb_build_object('campaign_id', p_campaign_id), 'Check the id.');
    end if;
    return v_campaign;
end;
$$;

grant execute on function private.find_campaign(uuid, boolean) to authenticated, service_role;

create function private.preview_email_campaign(p_campaign_id uuid)
returns table (audience bigint, recipients bigint, excluded jsonb, sample text[])
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
    c_sample constant integer := 5;
    v_campaign constant public.email_campaigns := private.find_campaign(p_campaign_id, false);
    c_before constant timestamptz := coalesce(v_campaign.started_at, now());
begin
    return query
    with people as materialized (
        select * from private.find_audience(v_campaign.target_audience, c_before, null, null)
    ),
    reasons as (
        select p.refusal, count(*) as people from people as p group by p.refusal
    )
    select
        coalesce(sum(r.people), 0)::bigint,
        coalesce(sum(r.people) filter (where r.refusal is null), 0)::bigint,
        coalesce(jsonb_object_agg(r.refusal, r.people) filter (where r.refusal is not null), '{}'),
        array(select p.email from people as p where p.refusal is null order by p.user_id limit c_sample)
    from reasons as r;
end;
$$;

grant execute on function private.preview_email_campaign(uuid) to authenticated, service_role;

create function public.preview_email_campaign(p_campaign_id uuid)
returns table (audience bigint, recipients bigint, excluded jsonb, sample text[])
language plpgsql
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return query select * from private.preview_email_campaign(p_campaign_id);
end;
$$;

comment on function public.preview_email_campaign(uuid) is
'Admins and operators: whom a campaign would reach now, or reached if it has begun: how many belong to its audience, '
'how many of them get it, how many do not for which reason, and a few addresses. Errors: 403 not an admin, 404 unknown '
'campaign.';
grant execute on function public.preview_email_campaign(uuid) to authenticated, service_role;

create function private.schedule_email_campaign(p_campaign_id uuid, p_at timestamptz)
returns public.email_campaigns
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_latest constant interval := '1 year'::interval;
    -- So much may a clock be behind that says "now".
    c_clock_skew constant interval := '5 minutes'::interval;
    v_campaign public.email_campaigns := private.find_campaign(p_campaign_id, true);
begin
    if v_campaign.status not in ('draft', 'scheduled') then
        perform private.refuse(
            'PT409', format('The campaign is %s already', v_campaign.status),
            jsonb_build_object('campaign_id', p_campaign_id, 'status', v_campaign.status), 'Make another campaign.');
    elsif p_at is null or p_at > now() + c_latest then
        perform private.refuse(
            'PT400', 'The campaign must start within a year', '{"argument": "p_at"}', 'Pass an earlier time.');
    elsif p_at < now() - c_clock_skew then
        perform private.refuse(
            'PT400', format('%s is past: the campaign would start at once', p_at at time zone 'UTC'),
            jsonb_build_object('argument', 'p_at', 'now', now()),
            'Pass a later time, mind that times without a zone are UTC, or start it now on purpose.');
    elsif not exists (
        select from public.email_templates as t
        where t.id = v_campaign.template_id and t.type = 'campaign' and t.is_active
    ) then
        perform private.refuse(
            'PT409', 'The campaign has no active template', jsonb_build_object('template_id', v_campaign.template_id),
            'Give it one whose type is campaign, or activate the one it has.');
    end if;
    update public.email_campaigns as c set status = 'scheduled', scheduled_at = p_at
    where c.id = p_campaign_id
    returning c.* into v_campaign;
    perform private.log_admin_action(
        'schedule_email_campaign', 'email_campaigns', p_campaign_id, null, jsonb_build_object('at', p_at));
    return v_campaign;
end;
$$;

grant execute on function private.schedule_email_campaign(uuid, timestamptz) to authenticated, service_role;

create function public.schedule_email_campaign(p_campaign_id uuid, p_at timestamptz default now())
returns public.email_campaigns
language plpgsql
set search_path = ''
as $$
begin
    return private.schedule_email_campaign(p_campaign_id, p_at);
end;
$$;

comment on function public.schedule_email_campaign(uuid, timestamptz) is
'Admins and operators: has a campaign start at a time, now by default, and returns it; a scheduled one gets another '
'time. Logged. Errors: 400 a time that is past or too far, 403 not an admin, 404 unknown campaign, 409 begun, ended, '
'or without an active template.';
grant execute on function public.schedule_email_campaign(uuid, timestamptz) to authenticated, service_role;

create function private.cancel_email_campaign(p_campaign_id uuid)
returns public.email_campaigns
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_campaign public.email_campaigns := private.find_campaign(p_campaign_id, true);
    v_mails integer;
begin
    if v_campaign.status = 'completed' then
        perform private.refuse(
            'PT409', 'The campaign is completed already', jsonb_build_object('campaign_id', p_campaign_id),
            'What was sent cannot be taken back.');
    elsif v_campaign.status <> 'cancelled' then
        update public.email_campaigns as c set status = 'cancelled', cancelled_at = now()
        where c.id = p_campaign_id
        returning c.* into v_campaign;
        perform l.id from public.email_logs as l
        where l.campaign_id = p_campaign_id and l.status = 'queued'
        order by l.id
        for no key update;
        update public.email_logs as l set status = 'cancelled'
        where l.campaign_id = p_campaign_id and l.status = 'queued';
        get diagnostics v_mails = row_count;
        perform private.log_admin_action(
            'cancel_email_campaign', 'email_campaigns', p_campaign_id, null, jsonb_build_object('mails', v_mails));
    end if;
    return v_campaign;
end;
$$;

grant execute on function private.cancel_email_campaign(uuid) to authenticated, service_role;

create function public.cancel_email_campaign(p_campaign_id uuid)
returns public.email_campaigns
language plpgsql
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return private.cancel_email_campaign(p_campaign_id);
end;
$$;

comment on function public.cancel_email_campaign(uuid) is
'Admins and operators: ends a campaign for good and returns it. What waits in the outbox is not sent any more; a '
'sender may be handing a few mails over at this moment. Logged. Safe to repeat. Errors: 403 not an admin, 404 unknown '
'campaign, 409 completed.';
grant execute on function public.cancel_email_campaign(uuid) to authenticated, service_role;

-- A share from 0 to 1, to four places; null of nothing.
create function private.share(p_part bigint, p_whole bigint)
returns double precision
language plpgsql
immutable
set search_path = ''
as $$
begin
    return round(p_part::numeric / nullif(p_whole, 0), 4);
end;
$$;

grant execute on function private.share(bigint, bigint) to authenticated, service_role;

-- Runs as its caller: whoever passes the gate reads every mail and event.
create function public.email_campaign_report(p_campaign_id uuid)
returns table (
    campaign_status text,
    mails bigint,
    queued bigint,
    sending bigint,
    sent bigint,
    delivered bigint,
    opened bigint,
    clicked bigint,
    bounced bigint,
    failed bigint,
    unknown bigint,
    suppressed bigint,
    cancelled bigint,
    unsubscribed bigint,
    spam_reports bigint,
    delivery_rate double precision,
    bounce_rate double precision,
    open_rate double precision,
    click_rate double precision
)
language plpgsql
stable
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    v_campaign constant public.email_campaigns := private.find_campaign(p_campaign_id, false);
begin
    return query
    with counts as (
        select
            count(*) as mails,
            count(*) filter (where l.status = 'queued') as queued,
            count(*) filter (where l.status = 'sending') as sending,
            count(*) filter (where l.sent_at is not null) as sent,
            -- Some events never come.
            count(*) filter (where l.delivered_at is not null or l.status in ('delivered', 'opened', 'clicked'))
                as delivered,
            count(*) filter (where l.opened_at is not null or l.status = 'clicked') as opened,
            count(*) filter (where l.clicked_at is not null) as clicked,
            count(*) filter (where l.status = 'bounced') as bounced,
            count(*) filter (where l.status = 'failed') as failed,
            count(*) filter (where l.status = 'unknown') as unknown,
            count(*) filter (where l.status = 'suppressed') as suppressed,
            count(*) filter (where l.status = 'cancelled') as cancelled
        from public.email_logs as l
        where l.campaign_id = p_campaign_id
    ),
    complaints as (
        select
            count(distinct e.email_log_id) filter (where e.event_type in ('unsubscribe', 'group_unsubscribe'))
            as unsubscribed,
            count(distinct e.email_log_id) filter (where e.event_type = 'spamreport') as spam_reports
        from public.email_logs as l
        inner join public.email_events as e on e.email_log_id = l.id
        where l.campaign_id = p_campaign_id
    )
    select
        v_campaign.status, c.*, s.*,
        private.share(c.delivered, c.sent), private.share(c.bounced, c.sent),
        private.share(c.opened, c.delivered), private.share(c.clicked, c.delivered)
    from counts as c
    cross join complaints as s;
end;
$$;

comment on function public.email_campaign_report(uuid) is
'Admins and operators: how far the mails of a campaign got, in one row. sent, delivered, opened and clicked each '
'include the next. Rates are shares from 0 to 1: delivered and bounced of the sent, opened and clicked of the '
'delivered. Errors: 403 not an admin, 404 unknown campaign.';
grant execute on function public.email_campaign_report(uuid) to authenticated, service_role;

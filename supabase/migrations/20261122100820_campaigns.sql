-- Campaigns: one mail to many people.
--
-- A campaign is written as a draft and scheduled; from then on it needs nobody. Every sender calls
-- expand_email_campaigns, which goes through the audience once, in the order of the accounts' ids, and puts a mail for
-- each into the outbox. A batch and the place up to which the campaign has come are written together, so it goes on
-- where it was, whoever dies. Each mail then goes its own way, as any other does; whether its recipient still wants it
-- is asked once more when it is claimed.

create table public.email_campaigns (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    template_id uuid references public.email_templates (id),
    target_audience jsonb,
    emails_per_minute integer not null default 600 check (emails_per_minute between 1 and 100000),
    status text not null default 'draft'
    check (status in ('draft', 'scheduled', 'sending', 'completed', 'cancelled')),
    scheduled_at timestamptz,
    started_at timestamptz,
    -- The last account of the audience that was looked at.
    expanded_to uuid,
    expanded_at timestamptz,
    -- When the next mail may go: the claim of mails keeps the pace by it.
    next_email_at timestamptz,
    sent_at timestamptz,
    cancelled_at timestamptz,
    created_at timestamptz not null default now(),
    constraint email_campaigns_scheduled_complete
    check (status in ('draft', 'cancelled') or template_id is not null and scheduled_at is not null),
    constraint email_campaigns_started check (status not in ('sending', 'completed') or started_at is not null),
    constraint email_campaigns_completed check ((status = 'completed') = (sent_at is not null)),
    constraint email_campaigns_cancelled check ((status = 'cancelled') = (cancelled_at is not null))
);

comment on table public.email_campaigns is
'Mails to many users at once. Admins write them while they have not begun; schedule_email_campaign and '
'cancel_email_campaign move them, and the sender does the rest. One that has begun, or was cancelled, does not start '
'again.';
comment on column public.email_campaigns.target_audience is
'Who gets it: everybody to whom all that is said here applies; null: everybody. {"subscription_status": ["free", …], '
'"plan": ["basic", …], "credits": {"min": 0, "max": 5}, "signed_up": {"after": "2026-01-01", "before": …}, '
'"last_activity": {"after": …, "before": …}}. min, max and after are part of it, before is not. Times are days (UTC) '
'or ISO 8601 with a zone.';
comment on column public.email_campaigns.emails_per_minute is
'The most mails a minute, of all senders together. It may be changed at any time.';
comment on column public.email_campaigns.started_at is 'Who signed up later does not belong to the audience.';
comment on column public.email_campaigns.expanded_at is 'When the last mail was put into the outbox.';
comment on column public.email_campaigns.sent_at is 'When the last mail was handed over or given up.';

create index idx_email_campaigns_template_id on public.email_campaigns (template_id);

alter table public.email_logs
add constraint email_logs_campaign_id_fkey foreign key (campaign_id) references public.email_campaigns (id);

create trigger bound_lengths
before insert or update of name, target_audience on public.email_campaigns
for each row execute function private.bound_lengths('name', 1, 200, 'target_audience', 0, 8192);

alter table public.email_campaigns enable row level security;

create policy "Admins view campaigns" on public.email_campaigns
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert campaigns" on public.email_campaigns
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update campaigns" on public.email_campaigns
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete campaigns that were not sent" on public.email_campaigns
for delete to authenticated
using ((select private.is_admin()) and status in ('draft', 'scheduled', 'cancelled'));

grant select, delete on public.email_campaigns to authenticated, service_role;
grant insert (name, template_id, target_audience, emails_per_minute)
on public.email_campaigns to authenticated, service_role;
grant update (name, template_id, target_audience, emails_per_minute)
on public.email_campaigns to authenticated, service_role;

-- The audience.

create function private.refuse_audience(p_path text, p_problem text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT400', format('target_audience%s %s', coalesce('.' || p_path, ''), p_problem),
        jsonb_build_object('column', 'target_audience', 'path', p_path),
        'Use subscription_status, plan, credits (min, max), signed_up and last_activity (after, before), as the comment '
        'on the column shows them.');
end;
$$;

revoke execute on function private.refuse_audience(text, text) from public;

-- Checks that a part of an audience is an object with no other keys than these.
create function private.check_audience_keys(p_part jsonb, p_path text, p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_unknown text;
begin
    if jsonb_typeof(p_part) <> 'object' then
        perform private.refuse_audience(p_path, 'must be an object');
    end if;
    select k.key into v_unknown from jsonb_object_keys(p_part) as k (key) where k.key <> all (p_keys) limit 1;
    if found then
        perform private.refuse_audience(p_path, format('has an unknown key: %s', left(v_unknown, 100)));
    end if;
end;
$$;

revoke execute on function private.check_audience_keys(jsonb, text, text[]) from public;

create function private.audience_names(p_audience jsonb, p_key text)
returns text[]
language plpgsql
set search_path = ''
as $$
declare
    v_value constant jsonb := p_audience -> p_key;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) = 'array' and v_value <> '[]' then
        if not exists (select from jsonb_array_elements(v_value) as e (item) where jsonb_typeof(e.item) <> 'string') then
            return array(select jsonb_array_elements_text(v_value));
        end if;
    end if;
    perform private.refuse_audience(p_key, 'must be an array of names');
    return null;
end;
$$;

revoke execute on function private.audience_names(jsonb, text) from public;

create function private.audience_number(p_audience jsonb, p_key text, p_bound text)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_value constant jsonb := p_audience -> p_key -> p_bound;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) <> 'number' or v_value::text !~ '^\d{1,9}$' then
        perform private.refuse_audience(p_key || '.' || p_bound, 'must be a whole number from 0 to 999999999');
    end if;
    return v_value::integer;
end;
$$;

revoke execute on function private.audience_number(jsonb, text, text) from public;

-- A time without a zone would be another one on each server; a day is one in UTC.
create function private.audience_time(p_audience jsonb, p_key text, p_bound text)
returns timestamptz
language plpgsql
set search_path = ''
set timezone = 'UTC'
as $$
declare
    v_value constant jsonb := p_audience -> p_key -> p_bound;
    v_text constant text := p_audience -> p_key ->> p_bound;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) = 'string'
        and v_text ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?))?$' then
        begin
            return v_text::timestamptz;
        exception
            when datetime_field_overflow or invalid_datetime_format or invalid_time_zone_displacement_value then
                null; -- there is no such day, hour or zone
        end;
    end if;
    perform private.refuse_audience(
        p_key || '.' || p_bound, 'must be a day such as 2026-12-31 or a time such as 2026-12-31T18:00Z');
    return null;
end;
$$;

revoke execute on function private.audience_time(jsonb, text, text) from public;

-- What a target_audience says; null where it says nothing. Refuses what is not written as documented.
create function private.parse_audience(
    p_audience jsonb,
    out statuses text[],
    out plans text[],
    out credits_min integer,
    out credits_max integer,
    out signed_up_after timestamptz,
    out signed_up_before timestamptz,
    out active_after timestamptz,
    out active_before timestamptz
)
language plpgsql
set search_path = ''
as $$
declare
    v_key text;
begin
    if p_audience is null then
        return;
    end if;
    perform private.check_audience_keys(
        p_audience, null, array['subscription_status', 'plan', 'credits', 'signed_up', 'last_activity']);
    foreach v_key in array array['credits', 'signed_up', 'last_activity']
    loop
        if p_audience ? v_key then
            perform private.check_audience_keys(
                p_audience -> v_key, v_key,
                case v_key when 'credits' then array['min', 'max'] else array['after', 'before'] end);
        end if;
    end loop;

    statuses := private.audience_names(p_audience, 'subscription_status');
    plans := private.audience_names(p_audience, 'plan');
    credits_min := private.audience_number(p_audience, 'credits', 'min');
    credits_max := private.audience_number(p_audience, 'credits', 'max');
    signed_up_after := private.audience_time(p_audience, 'signed_up', 'after');
    signed_up_before := private.audience_time(p_audience, 'signed_up', 'before');
    active_after := private.audience_time(p_audience, 'last_activity', 'after');
    active_before := private.audience_time(p_audience, 'last_activity', 'before');
end;
$$;

revoke execute on function private.parse_audience(jsonb) from public;

-- The audience, in the order of the ids: those after p_after who signed up before p_before, and why one of them gets
-- no mail, if so.
-- What the audience says nothing about must not be in the plan; only a custom plan can leave it out.
create function private.find_audience(p_audience jsonb, p_before timestamptz, p_after uuid, p_limit integer)
returns table (user_id uuid, email text, refusal text)
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
declare
    v_audience record := private.parse_audience(p_audience);
begin
    return query
    select p.id, p.email, private.email_refusal(p, 'marketing')
    from public.profiles as p
    where
        (p_after is null or p.id > p_after)
        and p.created_at <= p_before
        and (v_audience.statuses is null or p.subscription_status = any (v_audience.statuses))
        and (v_audience.plans is null or p.subscription_plan = any (v_audience.plans))
        and (v_audience.credits_min is null or p.credits_remaining >= v_audience.credits_min)
        and (v_audience.credits_max is null or p.credits_remaining <= v_audience.credits_max)
        and (v_audience.signed_up_after is null or p.created_at >= v_audience.signed_up_after)
        and (v_audience.signed_up_before is null or p.created_at < v_audience.signed_up_before)
        and (v_audience.active_after is null or coalesce(p.last_activity_at, p.created_at) >= v_audience.active_after)
        and (v_audience.active_before is null or coalesce(p.last_activity_at, p.created_at) < v_audience.active_before)
    order by p.id
    limit p_limit;
end;
$$;

revoke execute on function private.find_audience(jsonb, timestamptz, uuid, integer) from public;

-- Checks a campaign when it is saved, so that nothing is found out at night when it starts.
create function private.check_email_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_audience record := private.parse_audience(new.target_audience);
    v_type text;
    v_unknown text;
begin
    if tg_op = 'UPDATE' and old.status not in ('draft', 'scheduled')
        and (new.name, new.template_id, new.target_audience)
        is distinct from (old.name, old.template_id, old.target_audience) then
        perform private.refuse(
            'PT409', 'The campaign has begun or ended', jsonb_build_object('campaign_id', old.id, 'status', old.status),
            'Only its emails_per_minute may change. Make another campaign.');
    end if;
    -- Held, so that it does not become one of another type meanwhile.
    select t.type into v_type from public.email_templates as t where t.id = new.template_id for share;
    if v_type <> 'campaign' then
        perform private.refuse(
            'PT400', 'The template is not one of a campaign', jsonb_build_object('template_id', new.template_id),
            'Choose a template whose type is campaign.');
    end if;

    -- A name with a slip would find nobody.
    select n.name into v_unknown from unnest(v_audience.statuses) as n (name)
    where n.name not in ('free', 'basic', 'starter', 'cancelled')
    limit 1;
    if found then
        perform private.refuse_audience('subscription_status', format('is never %s', left(v_unknown, 100)));
    end if;
    select n.name into v_unknown from unnest(v_audience.plans) as n (name)
    where not exists (select from public.subscription_plans as s where s.name = n.name)
    limit 1;
    if found then
        perform private.refuse_audience('plan', format('is unknown: %s', left(v_unknown, 100)));
    end if;
    return new;
end;
$$;

revoke execute on function private.check_email_campaign() from public;

create trigger check_email_campaign
before insert or update of name, template_id, target_audience on public.email_campaigns
for each row execute function private.check_email_campaign();

-- A mail of another type goes to people who do not want those of campaigns.
create function private.keep_campaign_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if exists (select from public.email_campaigns as c where c.template_id = old.id) then
        perform private.refuse(
            'PT409', 'The template is that of a campaign', jsonb_build_object('template_id', old.id),
            'Make another template.');
    end if;
    return new;
end;
$$;

revoke execute on function private.keep_campaign_template() from public;

create trigger keep_campaign_template
before update of type on public.email_templates
for each row when (old.type is distinct from new.type)
execute function private.keep_campaign_template();

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

revoke execute on function private.find_campaign(uuid, boolean) from public;
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

revoke execute on function private.preview_email_campaign(uuid) from public;
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
revoke execute on function public.preview_email_campaign(uuid) from public;
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

revoke execute on function private.schedule_email_campaign(uuid, timestamptz) from public;
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
revoke execute on function public.schedule_email_campaign(uuid, timestamptz) from public;
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

revoke execute on function private.cancel_email_campaign(uuid) from public;
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
revoke execute on function public.cancel_email_campaign(uuid) from public;
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

revoke execute on function private.share(bigint, bigint) from public;
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
revoke execute on function public.email_campaign_report(uuid) from public;
grant execute on function public.email_campaign_report(uuid) to authenticated, service_role;

-- What the sender does.

-- Puts a campaign's mails to these accounts into the outbox; the mails. Waits for accounts that are just being deleted,
-- and leaves them out.
create function private.queue_campaign_emails(p_campaign_id uuid, p_user_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_mails jsonb;
begin
    with people as (
        select p.id, p.email from public.profiles as p
        where p.id = any (p_user_ids)
        order by p.id
        for key share
    ),
    queued as (
        insert into public.email_logs (user_id, template_id, campaign_id, recipient, status, sent_at, dedupe_key)
        select p.id, c.template_id, c.id, p.email, 'queued', null, format('campaign:%s:%s', c.id, p.id)
        from people as p
        inner join public.email_campaigns as c on c.id = p_campaign_id and c.status in ('sending', 'completed')
        on conflict (dedupe_key) do nothing
        returning id
    )
    select coalesce(jsonb_agg(q.id), '[]') into v_mails from queued as q;
    return v_mails;
end;
$$;

revoke execute on function private.queue_campaign_emails(uuid, uuid[]) from public;

-- Starts a campaign, which the caller has locked, or puts its next mails into the outbox; the mails.
create function private.expand_email_campaign(p_campaign_id uuid, p_limit integer)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_campaign public.email_campaigns;
    v_audience jsonb;
    v_seen integer;
    v_last uuid;
    v_mails jsonb;
begin
    select c.* into strict v_campaign from public.email_campaigns as c where c.id = p_campaign_id for no key update;
    if v_campaign.status = 'scheduled' then
        update public.email_campaigns as c set status = 'sending', started_at = now()
        where c.id = p_campaign_id
        returning c.* into v_campaign;
    elsif v_campaign.status <> 'sending' or v_campaign.expanded_at is not null then
        return '[]'; -- it was cancelled since it was set aside
    end if;
    select
        coalesce(
            jsonb_agg(jsonb_build_object(
                'id', p_campaign_id || ':' || a.user_id, 'campaign_id', p_campaign_id, 'user_id', a.user_id))
            filter (where a.refusal is null), '[]'),
        count(*), (array_agg(a.user_id order by a.user_id desc))[1]
    into v_audience, v_seen, v_last
    from private.find_audience(
        v_campaign.target_audience, v_campaign.started_at, v_campaign.expanded_to, p_limit) as a;
    v_mails := private.work_through('queue_campaign_emails', v_audience);
    update public.email_campaigns as c
    set expanded_to = coalesce(v_last, c.expanded_to), expanded_at = case when v_seen < p_limit then now() end
    where c.id = p_campaign_id;
    return v_mails;
end;
$$;

revoke execute on function private.expand_email_campaign(uuid, integer) from public;

create function private.expand_email_campaigns(p_limit integer)
returns table (campaign_id uuid, campaign_status text, queued integer)
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_campaign public.email_campaigns;
begin
    perform private.check_limit(p_limit, 10000);
    for v_campaign in
        select c.* from public.email_campaigns as c
        where
            c.status = 'sending' and c.expanded_at is not null
            -- Each by the index that it has for the claims.
            and not exists (select from public.email_logs as l where l.campaign_id = c.id and l.status = 'queued')
            and not exists (select from public.email_logs as l where l.campaign_id = c.id and l.status = 'sending')
        for no key update skip locked
    loop
        update public.email_campaigns as c set status = 'completed', sent_at = now() where c.id = v_campaign.id;
        return query select v_campaign.id, 'completed', 0;
    end loop;

    select c.* into v_campaign
    from public.email_campaigns as c
    inner join public.email_templates as t on t.id = c.template_id
    where
        (
            c.status = 'sending' and c.expanded_at is null
            -- Who switches the template off holds the campaign back.
            or c.status = 'scheduled' and c.scheduled_at <= now() and t.is_active
        )
        and not exists (
            select from public.set_aside_rows as s where s.task = 'expand_email_campaigns' and s.row_id = c.id::text
        )
    order by c.started_at, c.scheduled_at, c.id
    limit 1
    for no key update of c skip locked;
    if not found then
        return;
    end if;
    return query
    select v_campaign.id, 'sending', jsonb_array_length(private.work_through(
        'expand_email_campaigns', jsonb_build_array(jsonb_build_object('id', v_campaign.id, 'limit', p_limit))));
end;
$$;

revoke execute on function private.expand_email_campaigns(integer) from public;
grant execute on function private.expand_email_campaigns(integer) to service_role;

create function public.expand_email_campaigns(p_limit integer default 1000)
returns table (campaign_id uuid, campaign_status text, queued integer)
language plpgsql
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return query select * from private.expand_email_campaigns(p_limit);
end;
$$;

comment on function public.expand_email_campaigns(integer) is
'Starts campaigns that are due, looks at the next p_limit (1 to 10000) people of the audience of one of them and puts '
'their mails into the outbox, and completes campaigns of which no mail is left. Returns the campaigns that it moved, '
'and how many mails were queued: call again until there is no row. Safe to repeat, from several senders. Error: 400 '
'bad limit.';
revoke execute on function public.expand_email_campaigns(integer) from public;
grant execute on function public.expand_email_campaigns(integer) to service_role;

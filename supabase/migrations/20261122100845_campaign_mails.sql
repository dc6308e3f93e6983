-- What senders do for a campaign: its audience becomes mails, batch by batch.

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

create function public.expand_email_campaigns(p_limit integer default 1000)
returns table (campaign_id uuid, campaign_status text, queued integer)
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
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

comment on function public.expand_email_campaigns(integer) is
'Starts campaigns that are due, looks at the next p_limit (1 to 10000) people of the audience of one of them and puts '
'their mails into the outbox, and completes campaigns of which no mail is left. Returns the campaigns that it moved, '
'and how many mails were queued: call again until there is no row. Safe to repeat, from several senders. Error: 400 '
'bad limit.';
grant execute on function public.expand_email_campaigns(integer) to service_role;

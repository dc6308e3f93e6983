-- Maintenance: what a clock does. The functions for it that belong to no other domain; the maintenance service, or
-- pg_cron, calls them.

create function private.delete_images(p_image_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
begin
    delete from public.images as i where i.id = any (p_image_ids);
    return to_jsonb(p_image_ids);
end;
$$;

-- Deletes up to p_limit images whose time is over and which no operation works on, as far as their bytes are gone;
-- for the others it says which objects have to go first.
-- An expired image takes no new request (see private.find_operation_image), so nothing comes between the two steps.
create function public.delete_expired_images(p_limit integer default 100)
returns table (image_id uuid, object_keys text[])
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_image_ids uuid[];
    v_gone jsonb := '[]';
    v_user_id uuid;
begin
    perform private.check_limit(p_limit, 100);

    -- Whoever requests an operation holds the image, and whatever is locked is left for the next call. So of the
    -- locked ones, the next statement sees every operation there will be.
    v_image_ids := array(
        select i.id from public.images as i
        where i.expires_at <= now() and not exists (
            select 1 from public.image_operations as o
            where o.image_id = i.id and o.status in ('pending', 'processing')
        ) and not exists (
            select from public.set_aside_rows as s where s.task = 'delete_expired_images' and s.row_id = i.id::text
        )
        order by i.expires_at
        limit p_limit
        for update skip locked
    );
    for image_id, v_user_id, object_keys in
        select i.id, i.user_id, array(
            select k.url from (
                -- An upload that two images name stays for the other; the sweep of orphans finds it in the end.
                select i.original_url where not exists (
                    select 1 from public.images as other where other.original_url = i.original_url and other.id <> i.id
                )
                union
                select unnest(array[o.output_data ->> 'url', o.output_data ->> 'thumbnail_url'])
                from public.image_operations as o where o.image_id = i.id
                union
                select f.file ->> 'url'
                from public.image_operations as o
                cross join lateral jsonb_array_elements(o.output_data -> 'files') as f (file)
                where o.image_id = i.id
            ) as k (url)
            where exists (
                select 1 from storage.objects as s
                where s.bucket_id = split_part(k.url, '/', 1) and s.name = substr(k.url, strpos(k.url, '/') + 1)
            )
        )
        from public.images as i
        where i.id = any (v_image_ids) and not exists (
            select 1 from public.image_operations as o
            where o.image_id = i.id and o.status in ('pending', 'processing')
        )
        order by i.id
    loop
        if object_keys = '{}' then
            v_gone := v_gone || jsonb_build_object('id', image_id, 'user_id', v_user_id);
        else
            return next;
        end if;
    end loop;
    return query
    select d.id::uuid, array[]::text[]
    from jsonb_array_elements_text(private.work_through('delete_expired_images', v_gone)) as d (id);
end;
$$;

comment on function public.delete_expired_images(integer) is
'Takes up to p_limit (1 to 100) images past their expires_at on which no operation works. One without objects is '
'deleted, with its operations. Of the others it returns the objects (bucket/key), uploads and results: remove them '
'through the Storage API and call again, until no row comes back. Error: 400 bad limit.';
grant execute on function public.delete_expired_images(integer) to service_role;

-- One snapshot a minute at most, however many services there are.
create function public.record_system_metrics()
returns integer
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    c_minute constant timestamptz := date_trunc('minute', now());
    v_recorded integer;
begin
    perform pg_advisory_xact_lock(hashtextextended('public.record_system_metrics', 0));
    insert into public.system_metrics (metric_name, metric_value, metric_unit, recorded_at)
    select m.*, c_minute
    from (
        select
            count(*) filter (where o.status = 'pending' and o.run_after <= now()) as waiting,
            extract(epoch from now() - min(o.run_after) filter (where o.status = 'pending' and o.run_after <= now()))
                as oldest_wait,
            count(*) filter (where o.status = 'processing') as running,
            count(*) filter (where o.status = 'processing' and o.lease_expires_at < now()) as lost
        from public.image_operations as o
        where o.status = 'pending' or o.status = 'processing' -- as in public.stats_queue
    ) as queue
    cross join (
        select
            count(*) as accounts,
            count(*) filter (where p.last_activity_at > now() - interval '30 days') as active,
            sum(p.credits_remaining) as outstanding,
            sum(p.credit_debt) as owed
        from public.profiles as p
    ) as people
    cross join (
        select
            count(*) filter (where l.status = 'queued') as waiting,
            extract(epoch from now() - min(l.next_attempt_at) filter (where l.status = 'queued')) as oldest_wait,
            count(*) filter (where l.status = 'unknown') as unknown
        from public.email_logs as l
        where l.status = 'queued' and l.campaign_id is null and l.next_attempt_at <= now() or l.status = 'unknown'
    ) as mail
    cross join lateral (
        values
        ('queue_waiting', queue.waiting, 'operations'),
        ('queue_oldest_wait', coalesce(queue.oldest_wait, 0), 'seconds'),
        ('queue_running', queue.running, 'operations'),
        ('queue_lost', queue.lost, 'operations'),
        ('emails_waiting', mail.waiting, 'mails'),
        ('emails_oldest_wait', coalesce(mail.oldest_wait, 0), 'seconds'),
        ('emails_unknown', mail.unknown, 'mails'),
        ('accounts', people.accounts, 'accounts'),
        ('accounts_active_30_days', people.active, 'accounts'),
        ('credits_outstanding', coalesce(people.outstanding, 0), 'credits'),
        ('credits_owed', coalesce(people.owed, 0), 'credits')
    ) as m (metric_name, metric_value, metric_unit)
    where not exists (
        select 1 from public.system_metrics as s where s.metric_name = m.metric_name and s.recorded_at = c_minute
    );
    get diagnostics v_recorded = row_count;
    return v_recorded;
end;
$$;

comment on function public.record_system_metrics() is
'Writes the state of the queue, the outbox (without campaigns), the accounts and the credits into system_metrics and '
'returns how many rows: none when this minute has them already.';
grant execute on function public.record_system_metrics() to service_role;

-- Without an index on the time: it would cost each request, to spare one reading of the table a day.
create function public.prune_logs(p_before timestamptz, p_limit integer default 1000)
returns integer
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    c_youngest constant interval := '30 days'::interval;
    v_pruned integer;
    v_more integer;
begin
    perform private.check_limit(p_limit, 10000);
    if p_before is null or p_before > now() - c_youngest then
        perform private.refuse(
            'PT400', 'Logs are kept for 30 days at least', '{"argument": "p_before"}', 'Pass an earlier time.');
    end if;

    delete from public.user_activity_logs as l
    where l.id in (
        select old.id from public.user_activity_logs as old
        where old.created_at < p_before limit p_limit for update skip locked
    );
    get diagnostics v_pruned = row_count;
    delete from public.system_metrics as m
    where m.id in (
        select old.id from public.system_metrics as old
        where old.recorded_at < p_before limit p_limit - v_pruned for update skip locked
    );
    get diagnostics v_more = row_count;
    v_pruned := v_pruned + v_more;
    delete from private.former_addresses as f
    where f.address_hash in (
        select old.address_hash from private.former_addresses as old
        where old.closed_at < p_before limit p_limit - v_pruned for update skip locked
    );
    get diagnostics v_more = row_count;
    v_pruned := v_pruned + v_more;
    delete from public.email_events as e
    where e.sg_event_id in (
        select old.sg_event_id from public.email_events as old
        where old.received_at < p_before limit p_limit - v_pruned for update skip locked
    );
    get diagnostics v_more = row_count;
    v_pruned := v_pruned + v_more;
    -- Their keys keep mails from being queued again. What is older than 30 days is no news, and a campaign that has ended
    -- asks nobody; but an address may be confirmed again at any time.
    delete from public.email_logs as l
    where l.id in (
        select old.id from public.email_logs as old
        where
            old.created_at < p_before and old.status not in ('queued', 'sending')
            and not starts_with(old.dedupe_key, 'welcome:')
            and (
                old.campaign_id is null
                or old.campaign_id in (
                    select c.id from public.email_campaigns as c
                    where coalesce(c.sent_at, c.cancelled_at) < p_before
                )
            )
        limit p_limit - v_pruned for update skip locked
    );
    get diagnostics v_more = row_count;
    return v_pruned + v_more;
end;
$$;

comment on function public.prune_logs(timestamptz, integer) is
'Deletes up to p_limit (1 to 10000) rows of user_activity_logs, system_metrics, email_events, email_logs and the '
'hashed addresses that accounts gave up from before p_before, which is 30 days ago or more, and returns how many: call '
'again until it is 0. Mails that wait, those of a campaign that has not ended so long ago, and the welcome stay. '
'Error: 400 bad argument.';
grant execute on function public.prune_logs(timestamptz, integer) to service_role;

create function public.missing_triggers()
returns setof text
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return query
    select f.proname::text from pg_catalog.pg_proc as f
    where
        f.pronamespace = 'private'::regnamespace and f.prorettype = 'trigger'::regtype
        and not exists (select 1 from pg_catalog.pg_trigger as t where t.tgfoid = f.oid)
    order by 1;
end;
$$;

comment on function public.missing_triggers() is
'The functions for triggers that no trigger calls; no row in a whole project. A dump of public and private alone loses '
'the triggers on auth.users and storage.objects: sign-ups would make no profile.';
grant execute on function public.missing_triggers() to service_role;

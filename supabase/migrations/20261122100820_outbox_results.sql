-- The outbox, as senders and operators settle it: what became of a mail, and another try.

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

create function public.settle_emails(p_lease_token uuid, p_results jsonb)
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

comment on function public.settle_emails(uuid, jsonb) is
'Says what became of claimed mails: [{id, outcome, message_id, error, retry_seconds, is_counted, is_bounce}]. outcome: '
'sent, failed (for good; with is_bounce the address is suppressed), unknown (nobody knows whether it was accepted), or '
'retry: queued again after a growing delay, at least retry_seconds, failed after 8 times. With is_counted false, for '
'trouble that is not the mail''s, a retry waits only retry_seconds and does not count. Returns how many of the mails '
'are this lease''s: the others changed hands and stay as they are. Safe to repeat, and news even when the lease is '
'over. Error: 400 bad argument.';
grant execute on function public.settle_emails(uuid, jsonb) to service_role;

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

grant execute on function private.retry_email(uuid, text) to authenticated, service_role;

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
grant execute on function public.retry_email(uuid, text) to authenticated, service_role;

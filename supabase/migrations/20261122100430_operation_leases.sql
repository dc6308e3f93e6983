-- Image operations, the workers' side: claim, extend, hand back, and take back what a dead worker held.

-- Locks an image unless somebody else holds it, and returns whether it did. Browsers write images, and the slow request
-- of one must not hold up the workers of all. A function and no join, because a plan that was made while there were few
-- images could read all of them for each operation.
create function private.try_lock_image(p_image_id uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
    perform i.id from public.images as i where i.id = p_image_id for no key update skip locked;
    return found;
end;
$$;

-- Takes these operations from workers whose lease ran out: back into the queue, or failed and refunded when the
-- attempts are used up (a job that kills its worker must not loop for ever). Returns which. Whatever is locked is left
-- for the next sweep. One that was set aside, and failed without its refund, gets that.
create function private.take_back_operations(p_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_lost record;
    v_operation public.image_operations;
    v_image_ids uuid[] := array[]::uuid[];
    v_taken uuid[] := array[]::uuid[];
begin
    for v_lost in
        select
            o.id, o.user_id, o.attempts >= o.max_attempts as is_last,
            o.status = 'failed' and o.credits_refunded < o.credits_used as is_owed
        from public.image_operations as o
        where o.id = any (p_ids)
        order by o.lease_expires_at
    loop
        if v_lost.is_owed then
            perform private.lock_account(v_lost.user_id);
            select o.* into v_operation from public.image_operations as o
            where o.id = v_lost.id and o.status = 'failed' and o.credits_refunded < o.credits_used
            for no key update;
            continue when not found;
            perform private.end_operation(
                v_operation, 'failed',
                format('The operation was interrupted %s times and was given up.', v_operation.attempts), null);
            v_image_ids := v_image_ids || v_operation.image_id;
            v_taken := v_taken || v_operation.id;
            continue;
        elsif v_lost.is_last then
            perform p.id from public.profiles as p where p.id = v_lost.user_id for no key update skip locked;
            continue when not found;
        end if;
        select o.* into v_operation from public.image_operations as o
        where o.id = v_lost.id and o.status = 'processing' and o.lease_expires_at < now()
        for no key update skip locked;
        continue when not found or not private.try_lock_image(v_operation.image_id);

        if v_operation.attempts >= v_operation.max_attempts then
            continue when not v_lost.is_last;
            perform private.end_operation(
                v_operation, 'failed',
                format('The operation was interrupted %s times and was given up.', v_operation.attempts),
                null);
        else
            update public.image_operations as o
            set
                status = 'pending', lease_token = null, lease_expires_at = null, worker_id = null, run_after = now(),
                queue_tag = greatest(o.queue_tag, private.served_queue_tag(o.priority))
            where o.id = v_operation.id;
        end if;
        v_image_ids := v_image_ids || v_operation.image_id;
        v_taken := v_taken || v_operation.id;
    end loop;
    perform private.refresh_images(v_image_ids);
    return to_jsonb(v_taken);
end;
$$;

-- Ends these operations, which were set aside, without their refund: out of the queue, which they would keep busy, and
-- off their images. One that cannot even be written stays as it is, and is passed over.
create function private.drop_set_aside_operations(p_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_image_ids uuid[];
begin
    with dropped as (
        update public.image_operations as o
        set
            status = 'failed', lease_token = null, lease_expires_at = null, completed_at = clock_timestamp(),
            error_message = format(
                'The operation was interrupted %s times and was given up. Its credits could not be given back yet.',
                o.attempts)
        from public.set_aside_rows as s
        where
            o.id = any (p_ids) and s.task = 'requeue_lost_image_operations' and s.row_id = o.id::text
            and o.status = 'processing' and o.lease_expires_at < now() and o.attempts >= o.max_attempts
        returning o.image_id
    )
    select array_agg(d.image_id) into v_image_ids from dropped as d;
    perform private.refresh_images(v_image_ids);
exception
    when others then
        if not private.is_fault_of_row(sqlstate) then
            raise;
        end if;
end;
$$;

-- Takes up to p_limit operations from workers whose lease ran out, and returns how many.
create function private.sweep_lost_operations(p_limit integer)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_lost jsonb;
    v_taken jsonb;
begin
    select coalesce(jsonb_agg(to_jsonb(l)), '[]') into v_lost
    from (
        select o.id, o.user_id from public.image_operations as o
        where
            o.status = 'processing' and o.lease_expires_at < now()
            and not exists (
                select from public.set_aside_rows as s
                where s.task = 'requeue_lost_image_operations' and s.row_id = o.id::text
            )
        order by o.lease_expires_at
        limit p_limit
    ) as l;
    v_taken := private.work_through('requeue_lost_image_operations', v_lost);
    if jsonb_array_length(v_taken) < jsonb_array_length(v_lost) then
        perform private.drop_set_aside_operations(private.ids_of(v_lost, 'id'));
    end if;
    return jsonb_array_length(v_taken);
end;
$$;

create function public.requeue_lost_image_operations(p_limit integer default 100)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.check_limit(p_limit, 1000);
    return private.sweep_lost_operations(p_limit);
end;
$$;

comment on function public.requeue_lost_image_operations(integer) is
'Takes up to p_limit (1 to 1000) operations back from workers whose lease ran out and returns how many. '
'Error: 400 bad limit.';
grant execute on function public.requeue_lost_image_operations(integer) to service_role;

-- Refuses a lease outside 1 second to 1 hour, and returns when a lease taken now ends.
-- Only this clock counts: a worker's own may be wrong.
create function private.lease_end(p_lease_seconds integer)
returns timestamptz
language plpgsql
set search_path = ''
as $$
begin
    if p_lease_seconds is null or p_lease_seconds not between 1 and 3600 then
        perform private.refuse(
            'PT400', 'The lease must last between 1 and 3600 seconds', '{"argument": "p_lease_seconds"}',
            'Take 60 and extend it while you work.');
    end if;
    return clock_timestamp() + make_interval(secs => p_lease_seconds);
end;
$$;

create type public.claimed_operation as (
    id uuid,
    image_id uuid,
    user_id uuid,
    operation_type text,
    options jsonb,
    input_url text,
    original_filename text,
    attempts integer,
    max_attempts integer,
    lease_token uuid,
    lease_expires_at timestamptz,
    created_at timestamptz
);

comment on type public.claimed_operation is 'An operation as its worker gets it, with its lease.';

-- Up to p_limit operations that a worker may start now, locked with their images, in the order of the queue. Waits for
-- nobody.
--
-- Paying plans go first, yet nobody starves: when the head of the free queue has waited for five minutes, one call
-- in four serves that queue first.
--
-- Start tags are fair in starts, not in time: an account with slow jobs would come to hold every slot. So the accounts
-- in p_passed_over, which have many running, wait while somebody else waits for a worker like this one.
create function private.due_operations(p_limit integer, p_operation_types text[], p_passed_over uuid[])
returns uuid[]
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    c_longest_wait constant interval := '5 minutes'::interval;
    v_highest_priority smallint := 32767;
    v_ids uuid[];
begin
    if random() < 0.25 then
        if (
            select o.created_at from public.image_operations as o
            where o.status = 'pending' and o.priority = 0 and o.run_after <= now()
            order by o.queue_tag, o.created_at
            limit 1
        ) < now() - c_longest_wait then
            v_highest_priority := 0;
        end if;
    end if;

    v_ids := array(
        select o.id from public.image_operations as o
        where
            o.status = 'pending'
            and o.priority <= v_highest_priority
            and o.run_after <= now()
            and (p_operation_types is null or o.operation_type = any (p_operation_types))
            and o.user_id <> all (p_passed_over)
            and private.try_lock_image(o.image_id)
        order by o.priority desc, o.queue_tag, o.created_at
        limit p_limit
        for no key update skip locked
    );
    if cardinality(v_ids) < p_limit and p_passed_over <> '{}' then
        v_ids := v_ids || array(
            select o.id from public.image_operations as o
            where
                o.status = 'pending'
                and o.run_after <= now()
                and (p_operation_types is null or o.operation_type = any (p_operation_types))
                and o.id <> all (v_ids)
                and private.try_lock_image(o.image_id)
            order by o.priority desc, o.queue_tag, o.created_at
            limit p_limit - cardinality(v_ids)
            for no key update skip locked
        );
    end if;
    return v_ids;
end;
$$;

-- Claims operations for a worker and counts the attempt: an attempt that kills its worker counts too.
--
-- The claim's id becomes the lease token of what it takes. Sent again because the answer did not arrive, it gets what
-- it took, with the leases renewed and no attempt counted, as long as nobody else was given it. The lock on the id
-- makes a repeat wait for a first call that is still at work on a connection that its worker has given up.
--
-- p_completed is an operation that this transaction has completed. Its image is waited for, so it is locked before
-- any other; it shows the operation after the claim, which may be of another one on it.
--
-- The settings keep one plan, on the indexes of waiting and running operations, whatever the statistics say:
-- planning costs more than the claim, a table that grew since the last analyze turns it into a scan of all
-- operations, and a bitmap scan would visit the dead entries of these busy indexes again and again.
create function private.claim_operations(
    p_worker_id text,
    p_limit integer,
    p_operation_types text[],
    p_lease_seconds integer,
    p_claim_id uuid,
    p_completed public.image_operations default null
)
returns setof public.claimed_operation
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    c_swept_per_claim constant integer := 10;
    -- The bound is soft: calls at the same moment, or one call for many, may take an account beyond it.
    c_most_running constant integer := 4;
    v_lease_end timestamptz;
    v_is_repeat boolean;
    v_has_lost boolean;
    v_running uuid[];
    v_passed_over uuid[] := array[]::uuid[];
    v_ids uuid[] := array[]::uuid[];
begin
    if p_worker_id is null or char_length(p_worker_id) not between 1 and 200 then
        perform private.refuse(
            'PT400', 'The worker id must have 1 to 200 characters', '{"argument": "p_worker_id"}',
            'Pass for example host name and process id.');
    elsif p_limit is null or p_limit not between 1 and 100 then
        perform private.refuse(
            'PT400', 'The limit must be between 1 and 100', '{"argument": "p_limit"}', 'Claim as many as you have slots.');
    end if;
    if p_claim_id is not null then
        perform pg_advisory_xact_lock(hashtextextended(p_claim_id::text, 0));
    end if;
    v_lease_end := private.lease_end(p_lease_seconds);
    if p_completed.id is not null then
        perform i.id from public.images as i where i.id = p_completed.image_id for no key update;
    end if;

    select bool_or(o.lease_token = p_claim_id), bool_or(o.lease_expires_at < now()), array_agg(o.user_id)
    into v_is_repeat, v_has_lost, v_running
    from public.image_operations as o
    where o.status = 'processing';
    if cardinality(v_running) >= c_most_running then
        v_passed_over := array(
            select r.user_id from unnest(v_running) as r (user_id)
            group by r.user_id
            having count(*) >= c_most_running
        );
    end if;
    if v_is_repeat then
        -- `skip locked`, because whoever holds one of them is about to take it away: a cancellation, a sweep.
        v_ids := array(
            select o.id from public.image_operations as o
            where o.status = 'processing' and o.lease_token = p_claim_id
            for no key update skip locked
        );
        -- These are waited for: given others instead, the worker would know nothing of them.
        perform i.id from public.images as i
        where i.id in (select o.image_id from public.image_operations as o where o.id = any (v_ids))
        order by i.id
        for no key update;
    end if;
    if v_ids = '{}' then
        if v_has_lost then
            perform private.sweep_lost_operations(c_swept_per_claim);
        end if;
        v_ids := private.due_operations(p_limit, p_operation_types, v_passed_over);
    end if;

    return query
    with claimed as (
        update public.image_operations as o
        set
            status = 'processing',
            attempts = case when o.status = 'pending' then o.attempts + 1 else o.attempts end,
            worker_id = p_worker_id,
            lease_token = coalesce(p_claim_id, gen_random_uuid()),
            lease_expires_at = v_lease_end,
            started_at = case when o.status = 'pending' then clock_timestamp() else o.started_at end
        where o.id = any (v_ids)
        returning
            o.id, o.image_id, o.user_id, o.operation_type, o.options, o.input_data, o.attempts, o.max_attempts,
            o.lease_token, o.lease_expires_at, o.created_at, o.priority, o.queue_tag
    ),
    shown as (
        update public.images as i
        set processing_status = 'processing', processing_error = null, updated_at = now()
        from claimed as c
        where i.id = c.image_id
        returning i.id, i.original_filename
    )
    select
        c.id, c.image_id, c.user_id, c.operation_type, c.options, c.input_data ->> 'url', i.original_filename,
        c.attempts, c.max_attempts, c.lease_token, c.lease_expires_at, c.created_at
    from claimed as c
    inner join shown as i on i.id = c.image_id
    order by c.priority desc, c.queue_tag, c.created_at;

    if p_completed.id is not null then
        perform private.show_completion(p_completed);
    end if;
end;
$$;

create function public.claim_image_operations(
    p_worker_id text,
    p_limit integer default 1,
    p_operation_types text[] default null,
    p_lease_seconds integer default 60,
    p_claim_id uuid default null
)
returns setof public.claimed_operation
language plpgsql
security definer
set search_path = ''
as $$
begin
    return query
    select c.* from private.claim_operations(
        p_worker_id, p_limit, p_operation_types, p_lease_seconds, p_claim_id) as c;
end;
$$;

comment on function public.claim_image_operations(text, integer, text[], integer, uuid) is
'Leases up to p_limit (1 to 100) waiting operations to a worker, for p_lease_seconds (1 to 3600). input_url is '
'bucket/key, null for generate. Takes operations back from workers whose lease ran out first. p_claim_id, a random '
'UUID for each claim, becomes the lease token; sent again after a lost answer it returns what it took the first time, '
'or claims when that was nothing. Error: 400 bad argument.';
grant execute on function public.claim_image_operations(text, integer, text[], integer, uuid) to service_role;

create function private.refuse_lost_lease(p_operation_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT409', format('Lease lost on operation %s', p_operation_id),
        jsonb_build_object('operation_id', p_operation_id),
        'Drop the work: another worker has the operation, or it was cancelled or deleted.');
end;
$$;

-- Locks an operation for the holder of its lease. Where the same holder has settled it already (its status is in
-- p_settled), the row comes back as it is, because the answer to the first call may have been lost.
-- The caller tells the two apart by the status.
create function private.lock_leased_operation(p_operation_id uuid, p_lease_token uuid, p_settled text[])
returns public.image_operations
language plpgsql
set search_path = ''
as $$
declare
    v_operation public.image_operations;
begin
    select o.* into v_operation from public.image_operations as o where o.id = p_operation_id for no key update;
    if p_lease_token is null
        or v_operation.lease_token is distinct from p_lease_token
        or v_operation.status <> all (array['processing'] || p_settled)
    then
        perform private.refuse_lost_lease(p_operation_id);
    end if;
    return v_operation;
end;
$$;

create function public.extend_image_operation_lease(
    p_operation_id uuid,
    p_lease_token uuid,
    p_lease_seconds integer default 60
)
returns timestamptz
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_operation public.image_operations;
begin
    v_operation := private.lock_leased_operation(p_operation_id, p_lease_token, '{}');
    update public.image_operations as o
    set lease_expires_at = private.lease_end(p_lease_seconds)
    where o.id = v_operation.id
    returning o.lease_expires_at into v_operation.lease_expires_at;
    return v_operation.lease_expires_at;
end;
$$;

comment on function public.extend_image_operation_lease(uuid, uuid, integer) is
'Extends a lease to p_lease_seconds from now and returns its end. Errors: 400 bad lease, 409 lease lost.';
grant execute on function public.extend_image_operation_lease(uuid, uuid, integer) to service_role;

create function public.release_image_operation(p_operation_id uuid, p_lease_token uuid)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_operation public.image_operations;
begin
    v_operation := private.lock_leased_operation(p_operation_id, p_lease_token, '{pending}');
    if v_operation.status = 'pending' then
        return v_operation;
    end if;
    update public.image_operations as o
    set
        status = 'pending', attempts = o.attempts - 1, lease_expires_at = null, worker_id = null, run_after = now()
    where o.id = v_operation.id
    returning o.* into v_operation;
    perform private.refresh_images(array[v_operation.image_id]);
    return v_operation;
end;
$$;

comment on function public.release_image_operation(uuid, uuid) is
'Hands an operation back unharmed, for a worker that stops: pending at once, the attempt not counted. '
'Error: 409 lease lost.';
grant execute on function public.release_image_operation(uuid, uuid) to service_role;

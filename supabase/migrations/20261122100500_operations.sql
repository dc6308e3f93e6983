-- Image operations: prices, the queue, and the RPCs of its two sides.
--
-- The owner requests and cancels; workers claim, extend, complete, fail and release under the service key.
--
-- One lock order, so that nothing deadlocks: the profile, then the operation, then its image (several images in the
-- order of their ids). Whoever may move credits takes the profile first; completing takes it shared, because its log
-- rows reference it and a deleted account would come from the other side. Claiming and sweeping pick profiles and
-- operations with `skip locked` and never wait for one. Deleting an image takes the image before its operations;
-- that is safe because it is refused while one of them is unfinished, and nobody waits for a finished one.
--
-- Fairness is start-time fair queueing. An operation gets a queue_tag when it is requested: one above the owner's
-- last unfinished one, but never behind the tag that is being served now. Workers take the lowest tag, so the
-- n-th waiting operation of one user stands beside the n-th of every other, however many he has.

create table public.operation_prices (
    operation_type text primary key
    check (operation_type in ('upscale', 'background_removal', 'vectorize', 'generate')),
    credits integer not null check (credits between 0 and 1000000),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.operation_prices is
'Price of each operation in credits; an inactive one is not offered. Everybody reads the active ones, admins all; '
'the service role sets them.';

create trigger update_operation_prices_updated_at
before update on public.operation_prices
for each row execute function public.update_updated_at_column();

alter table public.operation_prices enable row level security;

create policy "Visitors view active prices" on public.operation_prices
for select to anon
using (is_active);

create policy "Users view active prices, admins all" on public.operation_prices
for select to authenticated
using (is_active or (select private.is_admin()));

grant select on public.operation_prices to anon, authenticated;
grant select, insert, update, delete on public.operation_prices to service_role;

-- Here and not in the seed, because no operation can be requested without them.
insert into public.operation_prices (operation_type, credits)
values ('upscale', 1), ('background_removal', 1), ('vectorize', 2), ('generate', 2);

create table public.image_operations (
    id uuid primary key default gen_random_uuid(),
    image_id uuid not null references public.images (id) on delete cascade,
    user_id uuid not null references public.profiles (id) on delete cascade,
    operation_type text not null
    check (operation_type in ('upscale', 'background_removal', 'vectorize', 'generate')),
    -- The worker decides which engine runs; until then it is not known.
    api_provider text not null default 'unassigned',
    status text not null default 'pending'
    check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    options jsonb not null default '{}' check (jsonb_typeof(options) = 'object'),
    input_data jsonb not null default '{}',
    output_data jsonb,
    error_message text,
    processing_time decimal(10, 2) check (processing_time >= 0),
    credits_used integer not null default 0 check (credits_used >= 0),
    credits_refunded integer not null default 0 check (credits_refunded in (0, credits_used)),
    api_cost decimal(10, 4) check (api_cost >= 0),
    idempotency_key text,
    priority smallint not null default 0,
    queue_tag bigint not null default 0,
    attempts integer not null default 0 check (attempts >= 0),
    max_attempts integer not null default 3 check (max_attempts > 0),
    run_after timestamptz not null default now(),
    worker_id text,
    lease_token uuid,
    lease_expires_at timestamptz,
    started_at timestamptz,
    created_at timestamptz not null default now(),
    completed_at timestamptz,
    constraint image_operations_lease_while_processing
    check ((status = 'processing') = (lease_expires_at is not null)),
    constraint image_operations_completed_at_when_finished
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null))
);

comment on table public.image_operations is
'The operations and their queue. Owners and admins read; everybody writes through the RPCs only.';
comment on column public.image_operations.input_data is
'What was asked for and found at the request: image_id as requested, url (bucket/key) of the input.';
comment on column public.image_operations.output_data is 'What the engine returned: url, thumbnail_url, media_type, …';
comment on column public.image_operations.credits_used is 'Credits charged at the request.';
comment on column public.image_operations.credits_refunded is 'Credits given back after a failure or a cancellation.';
comment on column public.image_operations.api_cost is 'USD paid to providers, failed attempts included.';
comment on column public.image_operations.priority is '10 for paying plans, else 0; the higher starts first.';
comment on column public.image_operations.queue_tag is 'Start tag of the fair queue; the lower starts first.';
comment on column public.image_operations.lease_token is
'Fencing token of the newest claim. Kept after the worker settles, so that a repeated call gets the same answer.';

create index idx_image_operations_image_id on public.image_operations (image_id);
create index idx_image_operations_status on public.image_operations (status);
create index idx_image_operations_created_at on public.image_operations (created_at);
create index idx_image_operations_user_id on public.image_operations (user_id);
create unique index image_operations_idempotency_key_key on public.image_operations (user_id, idempotency_key)
where idempotency_key is not null;
-- The order of claiming.
create index idx_image_operations_queue on public.image_operations (priority desc, queue_tag, created_at)
where status = 'pending';
-- Running operations: whose lease ran out, and which tag is being served.
create index idx_image_operations_leases on public.image_operations (lease_expires_at)
where status = 'processing';
-- A user's place in the queue.
create index idx_image_operations_unfinished on public.image_operations (user_id, priority, queue_tag)
where status in ('pending', 'processing');

alter table public.image_operations enable row level security;

create policy "Users view their own operations, admins all" on public.image_operations
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.image_operations to authenticated, service_role;

-- Brings images in line with their operations: running, else waiting, else as the newest finished one ended.
-- A cancelled operation decides only where there is no other.
create function private.refresh_images(p_image_ids uuid[])
returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    -- In the order of the ids, because two calls may hold several images each.
    perform i.id from public.images as i where i.id = any (p_image_ids) order by i.id for no key update;

    with operations as (
        select
            o.image_id,
            bool_or(o.status = 'processing') as is_processing,
            bool_or(o.status = 'pending') as is_pending,
            (array_agg(o.status order by o.status = 'cancelled', o.completed_at desc nulls last))[1] as last_status,
            (array_agg(o.error_message order by o.status = 'cancelled', o.completed_at desc nulls last))[1]
                as last_error
        from public.image_operations as o
        where o.image_id = any (p_image_ids)
        group by o.image_id
    ),
    outcomes as (
        select
            o.image_id,
            case
                when o.is_processing then 'processing'
                when o.is_pending then 'pending'
                when o.last_status = 'completed' then 'completed'
                else 'failed'
            end as status,
            case
                when o.is_processing or o.is_pending or o.last_status = 'completed' then null
                else o.last_error
            end as error
        from operations as o
    )
    update public.images as i
    set processing_status = o.status, processing_error = o.error
    from outcomes as o
    where
        i.id = o.image_id
        and (i.processing_status, i.processing_error) is distinct from (o.status, o.error);
end;
$$;

revoke execute on function private.refresh_images(uuid[]) from public;

-- The tag being served in a class of priority: a newcomer gets it, and so stands beside the next of everybody else.
-- When the newest start is just one behind the queue's head, the newcomer goes before that head: otherwise he
-- would wait for one start more than there are workers.
create function private.served_queue_tag(p_priority smallint)
returns bigint
language sql
stable
set search_path = ''
as $$
    with tags as (
        select
            (
                select max(o.queue_tag) from public.image_operations as o
                where o.status = 'processing' and o.priority = p_priority
            ) as running,
            (
                select o.queue_tag from public.image_operations as o
                where o.status = 'pending' and o.priority = p_priority
                order by o.queue_tag
                limit 1
            ) as waiting
    )
    select case
        when t.running = t.waiting - 1 then t.running
        else coalesce(greatest(t.running, t.waiting), 0)
    end
    from tags as t;
$$;

revoke execute on function private.served_queue_tag(smallint) from public;

-- Requests an operation for the caller: checks, charges and queues in one transaction.
-- Its cheap checks come first; from the profile's lock on, the caller's requests run one after the other.
create function private.request_image_operation(
    p_image_id uuid,
    p_operation_type text,
    p_options jsonb,
    p_idempotency_key text
)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    -- Far above what a person waits for, and it bounds what one account can put into the queue.
    c_most_unfinished constant integer := 1000;
    v_options constant jsonb := coalesce(p_options, '{}');
    v_profile public.profiles;
    v_price integer;
    v_image public.images;
    v_input_url text;
    v_operation public.image_operations;
begin
    perform private.check_operation_options(p_operation_type, v_options);
    if char_length(p_idempotency_key) not between 1 and 200 then
        perform private.refuse(
            'PT400', 'The idempotency key must have 1 to 200 characters', '{"argument": "p_idempotency_key"}',
            'Pass for example a random UUID.');
    end if;

    select p.* into v_profile from public.profiles as p where p.id = (select auth.uid()) for no key update;
    if not found then
        perform private.refuse('PT401', 'You are not signed in', '{}', 'Sign in and send the access token.');
    end if;

    if p_idempotency_key is not null then
        select o.* into v_operation from public.image_operations as o
        where o.user_id = v_profile.id and o.idempotency_key = p_idempotency_key;
        if found then
            if v_operation.operation_type <> p_operation_type
                or v_operation.options <> v_options
                or (v_operation.input_data ->> 'image_id') is distinct from p_image_id::text
            then
                perform private.refuse(
                    'PT409', 'The idempotency key was used for another request',
                    jsonb_build_object('idempotency_key', p_idempotency_key, 'operation_id', v_operation.id),
                    'Use a new key for a new request.');
            end if;
            return v_operation;
        end if;
    end if;

    if not v_profile.is_active then
        perform private.refuse(
            'PT403', 'This account is deactivated', '{}', 'Ask the support to activate it again.');
    end if;
    if (
        select count(*) from public.image_operations as o
        where o.user_id = v_profile.id and o.status in ('pending', 'processing')
    ) >= c_most_unfinished then
        perform private.refuse(
            'PT429', format('You have %s unfinished operations, the most allowed', c_most_unfinished),
            jsonb_build_object('limit', c_most_unfinished), 'Wait until some are finished, or cancel some.');
    end if;

    select p.credits into v_price from public.operation_prices as p
    where p.operation_type = p_operation_type and p.is_active;
    if not found then
        perform private.refuse(
            'PT409', format('The operation %s is not offered at the moment', p_operation_type),
            jsonb_build_object('operation_type', p_operation_type),
            'The active rows of operation_prices list what is offered.');
    end if;

    v_image := private.find_operation_image(v_profile.id, p_image_id, p_operation_type, v_options);
    if p_operation_type <> 'generate' then
        v_input_url := private.find_operation_input(v_image, v_options);
    end if;

    v_operation.id := gen_random_uuid();
    if v_price > 0 then
        perform private.post_credit_transaction(
            v_profile.id, -v_price, 'usage', 'Image operation: ' || p_operation_type,
            jsonb_build_object('operation_id', v_operation.id, 'operation_type', p_operation_type),
            'operation:' || v_operation.id || ':charge');
    end if;

    insert into public.image_operations (
        id, image_id, user_id, operation_type, options, input_data, credits_used, idempotency_key, priority, queue_tag
    )
    select
        v_operation.id, v_image.id, v_profile.id, p_operation_type, v_options,
        jsonb_build_object('image_id', p_image_id, 'url', v_input_url), v_price, p_idempotency_key,
        plan.priority,
        greatest(
            private.served_queue_tag(plan.priority),
            1 + (
                select max(o.queue_tag) from public.image_operations as o
                where
                    o.user_id = v_profile.id and o.status in ('pending', 'processing')
                    and o.priority = plan.priority
            )
        )
    from (
        select (case when v_profile.subscription_status in ('basic', 'starter') then 10 else 0 end)::smallint
    ) as plan (priority)
    returning * into v_operation;

    perform private.refresh_images(array[v_image.id]);
    return v_operation;
end;
$$;

revoke execute on function private.request_image_operation(uuid, text, jsonb, text) from public;
grant execute on function private.request_image_operation(uuid, text, jsonb, text) to authenticated;

-- The image that an operation works on, locked; `generate` without an image makes one.
-- Somebody else's image is as unknown as one that does not exist.
create function private.find_operation_image(
    p_user_id uuid,
    p_image_id uuid,
    p_operation_type text,
    p_options jsonb
)
returns public.images
language plpgsql
set search_path = ''
as $$
declare
    v_image public.images;
begin
    if p_image_id is null and p_operation_type = 'generate' then
        insert into public.images (user_id, original_filename)
        values (p_user_id, left(p_options ->> 'prompt', 100) || '.png')
        returning * into v_image;
        return v_image;
    end if;

    select i.* into v_image from public.images as i
    where i.id = p_image_id and i.user_id = p_user_id
    for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'Image not found', jsonb_build_object('image_id', p_image_id),
            'Pass the id of one of your own images.');
    end if;
    return v_image;
end;
$$;

revoke execute on function private.find_operation_image(uuid, uuid, text, jsonb) from public;

-- The object that an operation reads, as bucket/key: the original, or the result named by the option `input`.
create function private.find_operation_input(p_image public.images, p_options jsonb)
returns text
language plpgsql
set search_path = ''
as $$
declare
    v_url text := p_image.original_url;
begin
    if p_options ->> 'input' is not null then
        select o.output_data ->> 'url' into v_url from public.image_operations as o
        where o.id = (p_options ->> 'input')::uuid and o.image_id = p_image.id and o.status = 'completed';
        if v_url is null then
            perform private.refuse(
                'PT404', 'The input is not a completed operation of this image',
                jsonb_build_object('option', 'input', 'value', p_options -> 'input', 'image_id', p_image.id),
                'Pass the id of a completed operation of the same image, or leave the option out.');
        end if;
    elsif v_url is null then
        perform private.refuse(
            'PT409', 'The image has no original to work on', jsonb_build_object('image_id', p_image.id),
            'Upload the file and set original_url, or pass a completed operation as the option input.');
    end if;
    return v_url;
end;
$$;

revoke execute on function private.find_operation_input(public.images, jsonb) from public;

-- Ends an operation without a result, and gives its credits back. Expects the profile and the operation locked.
-- The ledger refuses a second refund of the same charge, whatever happens here.
-- A worker that fails an operation may repeat the call, so its token stays; whoever is cut off gets a null.
create function private.end_operation(
    p_operation public.image_operations,
    p_status text,
    p_error_message text,
    p_lease_token uuid
)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
declare
    v_charge uuid;
    v_operation public.image_operations;
begin
    if p_operation.credits_used > 0 then
        select t.id into strict v_charge from public.credit_transactions as t
        where t.user_id = p_operation.user_id and t.idempotency_key = 'operation:' || p_operation.id || ':charge';
        perform private.post_credit_transaction(
            p_operation.user_id, p_operation.credits_used, 'refund',
            format('Refund: %s %s', p_operation.operation_type, p_status),
            jsonb_build_object('operation_id', p_operation.id, 'operation_type', p_operation.operation_type),
            'operation:' || p_operation.id || ':refund', v_charge);
    end if;

    update public.image_operations as o
    set
        status = p_status,
        error_message = p_error_message,
        credits_refunded = o.credits_used,
        lease_token = p_lease_token,
        lease_expires_at = null,
        completed_at = clock_timestamp()
    where o.id = p_operation.id
    returning o.* into v_operation;
    return v_operation;
end;
$$;

revoke execute on function private.end_operation(public.image_operations, text, text, uuid) from public;

-- Cancels the caller's own operation and refunds it. A worker that runs it loses its lease.
create function private.cancel_image_operation(p_operation_id uuid)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_user_id constant uuid := auth.uid();
    v_operation public.image_operations;
begin
    perform p.id from public.profiles as p where p.id = v_user_id for no key update;
    select o.* into v_operation from public.image_operations as o
    where o.id = p_operation_id and o.user_id = v_user_id
    for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'Operation not found', jsonb_build_object('operation_id', p_operation_id),
            'Pass the id of one of your own operations.');
    elsif v_operation.status not in ('pending', 'processing') then
        perform private.refuse(
            'PT409', format('The operation is already %s', v_operation.status),
            jsonb_build_object('operation_id', p_operation_id, 'status', v_operation.status),
            'Only pending and processing operations can be cancelled.');
    end if;

    v_operation := private.end_operation(v_operation, 'cancelled', 'Cancelled by the owner.', null);
    perform private.refresh_images(array[v_operation.image_id]);
    return v_operation;
end;
$$;

revoke execute on function private.cancel_image_operation(uuid) from public;
grant execute on function private.cancel_image_operation(uuid) to authenticated;

-- Takes up to p_limit operations from workers whose lease ran out: back into the queue, or failed and refunded when
-- the attempts are used up (a job that kills its worker must not loop for ever). Returns their images, which the
-- caller refreshes. Whatever is locked is left for the next sweep.
create function private.sweep_lost_operations(p_limit integer)
returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    v_lost record;
    v_operation public.image_operations;
    v_image_ids uuid[] := '{}';
begin
    for v_lost in
        select o.id, o.user_id, o.attempts >= o.max_attempts as is_last from public.image_operations as o
        where o.status = 'processing' and o.lease_expires_at < now()
        order by o.lease_expires_at
        limit p_limit
    loop
        if v_lost.is_last then
            perform p.id from public.profiles as p where p.id = v_lost.user_id for no key update skip locked;
            continue when not found;
        end if;
        select o.* into v_operation from public.image_operations as o
        where o.id = v_lost.id and o.status = 'processing' and o.lease_expires_at < now()
        for no key update skip locked;
        continue when not found;

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
    end loop;
    return v_image_ids;
end;
$$;

revoke execute on function private.sweep_lost_operations(integer) from public;

create function private.requeue_lost_image_operations(p_limit integer)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_image_ids uuid[];
begin
    if p_limit is null or p_limit not between 1 and 1000 then
        perform private.refuse(
            'PT400', 'The limit must be between 1 and 1000', '{"argument": "p_limit"}', 'Call again for more.');
    end if;
    v_image_ids := private.sweep_lost_operations(p_limit);
    perform private.refresh_images(v_image_ids);
    return cardinality(v_image_ids);
end;
$$;

revoke execute on function private.requeue_lost_image_operations(integer) from public;
grant execute on function private.requeue_lost_image_operations(integer) to service_role;

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

revoke execute on function private.lease_end(integer) from public;

-- Claims operations for a worker and counts the attempt: an attempt that kills its worker counts too.
--
-- A CTE with `for update skip locked`, because `update … where id in (select … limit)` may claim too many.
-- The settings keep one plan, on the queue's index, whatever the statistics say: planning costs more than the claim,
-- and a table that grew since the last analyze otherwise turns it into a scan of all operations.
--
-- Paying plans go first, yet nobody starves: when the head of the free queue has waited for five minutes, one call
-- in four serves that queue first.
create function private.claim_image_operations(
    p_worker_id text,
    p_limit integer,
    p_operation_types text[],
    p_lease_seconds integer
)
returns table (
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
)
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
#variable_conflict use_column
declare
    c_swept_per_claim constant integer := 10;
    c_longest_wait constant interval := '5 minutes';
    v_lease_end constant timestamptz := private.lease_end(p_lease_seconds);
    v_highest_priority smallint := 32767;
    v_image_ids uuid[];
    v_ids uuid[];
    v_claimed_image_ids uuid[];
begin
    if p_worker_id is null or char_length(p_worker_id) not between 1 and 200 then
        perform private.refuse(
            'PT400', 'The worker id must have 1 to 200 characters', '{"argument": "p_worker_id"}',
            'Pass for example host name and process id.');
    elsif p_limit is null or p_limit not between 1 and 100 then
        perform private.refuse(
            'PT400', 'The limit must be between 1 and 100', '{"argument": "p_limit"}', 'Claim as many as you have slots.');
    end if;

    v_image_ids := private.sweep_lost_operations(c_swept_per_claim);

    if random() < 0.25 and (
        select o.created_at from public.image_operations as o
        where o.status = 'pending' and o.priority = 0 and o.run_after <= now()
        order by o.queue_tag, o.created_at
        limit 1
    ) < now() - c_longest_wait then
        v_highest_priority := 0;
    end if;

    with due as (
        select o.id from public.image_operations as o
        where
            o.status = 'pending'
            and o.priority <= v_highest_priority
            and o.run_after <= now()
            and (p_operation_types is null or o.operation_type = any (p_operation_types))
        order by o.priority desc, o.queue_tag, o.created_at
        limit p_limit
        for no key update skip locked
    ),
    claimed as (
        update public.image_operations as o
        set
            status = 'processing',
            attempts = o.attempts + 1,
            worker_id = p_worker_id,
            lease_token = gen_random_uuid(),
            lease_expires_at = v_lease_end,
            started_at = clock_timestamp()
        from due
        where o.id = due.id
        returning o.id, o.image_id
    )
    select array_agg(c.id), array_agg(c.image_id) into v_ids, v_claimed_image_ids from claimed as c;

    v_image_ids := v_image_ids || v_claimed_image_ids;
    if cardinality(v_image_ids) > 0 then
        perform private.refresh_images(v_image_ids);
    end if;

    return query
    select
        o.id, o.image_id, o.user_id, o.operation_type, o.options, o.input_data ->> 'url', i.original_filename,
        o.attempts, o.max_attempts, o.lease_token, o.lease_expires_at, o.created_at
    from public.image_operations as o
    inner join public.images as i on i.id = o.image_id
    where o.id = any (v_ids)
    order by o.priority desc, o.queue_tag, o.created_at;
end;
$$;

revoke execute on function private.claim_image_operations(text, integer, text[], integer) from public;
grant execute on function private.claim_image_operations(text, integer, text[], integer) to service_role;

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
        perform private.refuse(
            'PT409', format('Lease lost on operation %s', p_operation_id),
            jsonb_build_object('operation_id', p_operation_id),
            'Drop the work: another worker has the operation, or it was cancelled or deleted.');
    end if;
    return v_operation;
end;
$$;

revoke execute on function private.lock_leased_operation(uuid, uuid, text[]) from public;

create function private.extend_image_operation_lease(p_operation_id uuid, p_lease_token uuid, p_lease_seconds integer)
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

revoke execute on function private.extend_image_operation_lease(uuid, uuid, integer) from public;
grant execute on function private.extend_image_operation_lease(uuid, uuid, integer) to service_role;

-- Refuses a result that names objects outside the operation's own folder: final_url and later operations trust it.
create function private.check_operation_output(p_operation public.image_operations, p_output jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_folder constant text := format('results/%s/%s/', p_operation.user_id, p_operation.id);
    v_field text;
begin
    if p_output is null or jsonb_typeof(p_output) <> 'object' then
        perform private.refuse(
            'PT400', 'The output must be a JSON object', '{"argument": "p_output"}', 'Pass url, thumbnail_url, ….');
    elsif octet_length(p_output::text) > 64 * 1024 then
        perform private.refuse(
            'PT413', 'The output is larger than 64 KiB', '{"argument": "p_output"}', 'Store large data as an object.');
    end if;
    foreach v_field in array array['url', 'thumbnail_url']
    loop
        if jsonb_typeof(p_output -> v_field) is distinct from 'string'
            or not starts_with(p_output ->> v_field, v_folder)
            or p_output ->> v_field !~ '^[A-Za-z0-9._/-]*[A-Za-z0-9]$'
            or p_output ->> v_field ~ '//|[.][.]'
            or char_length(p_output ->> v_field) > 1024
        then
            perform private.refuse(
                'PT400', format('The %s must lie in %s', v_field, v_folder),
                jsonb_build_object('argument', 'p_output', 'field', v_field, 'folder', v_folder),
                'Upload the result there first.');
        end if;
    end loop;
end;
$$;

revoke execute on function private.check_operation_output(public.image_operations, jsonb) from public;

create function private.complete_image_operation(
    p_operation_id uuid,
    p_lease_token uuid,
    p_api_provider text,
    p_output jsonb,
    p_processing_time numeric,
    p_usage jsonb
)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_operation public.image_operations;
    v_usage jsonb := coalesce(p_usage, '[]');
    v_cost numeric;
begin
    if p_api_provider is null or char_length(p_api_provider) not between 1 and 100 then
        perform private.refuse(
            'PT400', 'The provider must have 1 to 100 characters', '{"argument": "p_api_provider"}',
            'Pass the name of the engine.');
    elsif not coalesce(p_processing_time between 0 and 10000000, true) then
        perform private.refuse(
            'PT400', 'The processing time must be seconds, 0 or more', '{"argument": "p_processing_time"}',
            'Pass null when it is unknown.');
    end if;
    perform private.check_api_usage(v_usage);

    perform p.id from public.profiles as p
    where p.id = (select o.user_id from public.image_operations as o where o.id = p_operation_id)
    for key share;
    v_operation := private.lock_leased_operation(p_operation_id, p_lease_token, '{completed}');
    if v_operation.status = 'completed' then
        return v_operation;
    end if;
    perform private.check_operation_output(v_operation, p_output);

    if v_usage = '[]' then
        v_usage := jsonb_build_array(
            jsonb_build_object('api_provider', p_api_provider, 'response_time', p_processing_time));
    end if;
    v_cost := private.log_api_usage(v_operation, v_usage);

    update public.image_operations as o
    set
        status = 'completed',
        api_provider = p_api_provider,
        output_data = p_output,
        processing_time = p_processing_time,
        api_cost = case when v_cost is null then o.api_cost else coalesce(o.api_cost, 0) + v_cost end,
        error_message = null,
        lease_expires_at = null,
        completed_at = clock_timestamp()
    where o.id = v_operation.id
    returning o.* into v_operation;

    perform private.refresh_images(array[v_operation.image_id]);
    update public.images as i
    set processed_url = p_output ->> 'url', thumbnail_url = p_output ->> 'thumbnail_url'
    where i.id = v_operation.image_id;
    return v_operation;
end;
$$;

revoke execute on function private.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) from public;
grant execute on function private.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) to service_role;

-- How long an operation waits after its n-th failed attempt: 5 s doubled each time up to 10 minutes, of which a
-- random half is dropped so that operations that failed together do not come back together.
create function private.retry_delay(p_attempts integer)
returns interval
language sql
volatile
set search_path = ''
as $$
    select make_interval(secs => least(600, 5 * 2 ^ least(p_attempts - 1, 10)) * (0.5 + random() / 2));
$$;

revoke execute on function private.retry_delay(integer) from public;

create function private.fail_image_operation(
    p_operation_id uuid,
    p_lease_token uuid,
    p_error_message text,
    p_retryable boolean,
    p_retry_after_seconds integer,
    p_api_provider text,
    p_usage jsonb
)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_longest_retry_after constant integer := 86400;
    -- A failure must always be recorded, so an unusable message is mended rather than refused.
    v_message constant text := coalesce(nullif(left(trim(p_error_message), 2000), ''), 'The operation failed.');
    v_usage constant jsonb := coalesce(p_usage, '[]');
    v_operation public.image_operations;
    v_cost numeric;
begin
    perform private.check_api_usage(v_usage);
    -- The last failure refunds, so the profile comes first. An unknown operation is refused below.
    perform p.id from public.profiles as p
    where p.id = (select o.user_id from public.image_operations as o where o.id = p_operation_id)
    for no key update;
    v_operation := private.lock_leased_operation(p_operation_id, p_lease_token, '{pending,failed}');
    if v_operation.status <> 'processing' then
        return v_operation;
    end if;

    v_cost := private.log_api_usage(v_operation, v_usage);
    update public.image_operations as o
    set
        api_provider = coalesce(left(nullif(p_api_provider, ''), 100), o.api_provider),
        api_cost = case when v_cost is null then o.api_cost else coalesce(o.api_cost, 0) + v_cost end
    where o.id = v_operation.id;

    if p_retryable and v_operation.attempts < v_operation.max_attempts then
        update public.image_operations as o
        set
            status = 'pending',
            error_message = v_message,
            lease_expires_at = null,
            worker_id = null,
            run_after = clock_timestamp() + greatest(
                private.retry_delay(o.attempts),
                -- `greatest` passes over a null, and so would `least`.
                case
                    when p_retry_after_seconds is not null
                        then make_interval(secs => least(p_retry_after_seconds, c_longest_retry_after))
                end
            ),
            queue_tag = greatest(o.queue_tag, private.served_queue_tag(o.priority))
        where o.id = v_operation.id
        returning o.* into v_operation;
    else
        v_operation := private.end_operation(v_operation, 'failed', v_message, p_lease_token);
    end if;
    perform private.refresh_images(array[v_operation.image_id]);
    return v_operation;
end;
$$;

revoke execute on function private.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) from public;
grant execute on function private.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) to service_role;

create function private.release_image_operation(p_operation_id uuid, p_lease_token uuid)
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

revoke execute on function private.release_image_operation(uuid, uuid) from public;
grant execute on function private.release_image_operation(uuid, uuid) to service_role;

-- The public side: thin functions that run as the caller. In plpgsql, because it keeps plans for the session and
-- language sql plans anew at every call.

create function public.request_image_operation(
    p_image_id uuid,
    p_operation_type text,
    p_options jsonb default '{}',
    p_idempotency_key text default null
)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.request_image_operation(p_image_id, p_operation_type, p_options, p_idempotency_key);
end;
$$;

comment on function public.request_image_operation(uuid, text, jsonb, text) is
'Requests an operation on the caller''s own image, charges it and returns its row. generate takes a null image and '
'makes one. With an idempotency key, the same request returns the first answer. Errors: 400 bad argument or option, '
'402 insufficient credits, 403 deactivated account, 404 unknown image or input, 409 not offered, no original, or key '
'used for another request, 413 options too large, 429 too many unfinished operations.';
revoke execute on function public.request_image_operation(uuid, text, jsonb, text) from public;
grant execute on function public.request_image_operation(uuid, text, jsonb, text) to authenticated;

create function public.cancel_image_operation(p_operation_id uuid)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.cancel_image_operation(p_operation_id);
end;
$$;

comment on function public.cancel_image_operation(uuid) is
'Cancels the caller''s own unfinished operation, refunds it and returns its row. Errors: 404 unknown operation, '
'409 already finished.';
revoke execute on function public.cancel_image_operation(uuid) from public;
grant execute on function public.cancel_image_operation(uuid) to authenticated;

create function public.claim_image_operations(
    p_worker_id text,
    p_limit integer default 1,
    p_operation_types text[] default null,
    p_lease_seconds integer default 60
)
returns table (
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
)
language plpgsql
set search_path = ''
as $$
begin
    return query
    select c.* from private.claim_image_operations(p_worker_id, p_limit, p_operation_types, p_lease_seconds) as c;
end;
$$;

comment on function public.claim_image_operations(text, integer, text[], integer) is
'Leases up to p_limit (1 to 100) waiting operations to a worker, for p_lease_seconds (1 to 3600). input_url is '
'bucket/key, null for generate. Takes operations back from workers whose lease ran out first.';
revoke execute on function public.claim_image_operations(text, integer, text[], integer) from public;
grant execute on function public.claim_image_operations(text, integer, text[], integer) to service_role;

create function public.extend_image_operation_lease(
    p_operation_id uuid,
    p_lease_token uuid,
    p_lease_seconds integer default 60
)
returns timestamptz
language plpgsql
set search_path = ''
as $$
begin
    return private.extend_image_operation_lease(p_operation_id, p_lease_token, p_lease_seconds);
end;
$$;

comment on function public.extend_image_operation_lease(uuid, uuid, integer) is
'Extends a lease to p_lease_seconds from now and returns its end. Error: 409 lease lost.';
revoke execute on function public.extend_image_operation_lease(uuid, uuid, integer) from public;
grant execute on function public.extend_image_operation_lease(uuid, uuid, integer) to service_role;

create function public.complete_image_operation(
    p_operation_id uuid,
    p_lease_token uuid,
    p_api_provider text,
    p_output jsonb,
    p_processing_time numeric,
    p_usage jsonb default '[]'
)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.complete_image_operation(
        p_operation_id, p_lease_token, p_api_provider, p_output, p_processing_time, p_usage);
end;
$$;

comment on function public.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) is
'Records the result, the image''s result columns and the provider calls, and returns the row; the same token again '
'returns it again. url and thumbnail_url must lie in results/<owner>/<operation>/. p_processing_time in seconds. '
'Errors: 400 bad argument, 409 lease lost, 413 too large.';
revoke execute on function public.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) from public;
grant execute on function public.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) to service_role;

create function public.fail_image_operation(
    p_operation_id uuid,
    p_lease_token uuid,
    p_error_message text,
    p_retryable boolean,
    p_retry_after_seconds integer default null,
    p_api_provider text default null,
    p_usage jsonb default '[]'
)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.fail_image_operation(
        p_operation_id, p_lease_token, p_error_message, p_retryable, p_retry_after_seconds, p_api_provider, p_usage);
end;
$$;

comment on function public.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) is
'Records a failed attempt and returns the row: pending again after a delay (at least p_retry_after_seconds, at most '
'a day), or failed and refunded when it was permanent or the last. Errors: 400 bad usage, 409 lease lost.';
revoke execute on function public.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) from public;
grant execute on function public.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) to service_role;

create function public.release_image_operation(p_operation_id uuid, p_lease_token uuid)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
begin
    return private.release_image_operation(p_operation_id, p_lease_token);
end;
$$;

comment on function public.release_image_operation(uuid, uuid) is
'Hands an operation back unharmed, for a worker that stops: pending at once, the attempt not counted. '
'Error: 409 lease lost.';
revoke execute on function public.release_image_operation(uuid, uuid) from public;
grant execute on function public.release_image_operation(uuid, uuid) to service_role;

create function public.requeue_lost_image_operations(p_limit integer default 100)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return private.requeue_lost_image_operations(p_limit);
end;
$$;

comment on function public.requeue_lost_image_operations(integer) is
'Takes up to p_limit (1 to 1000) operations back from workers whose lease ran out and returns how many.';
revoke execute on function public.requeue_lost_image_operations(integer) from public;
grant execute on function public.requeue_lost_image_operations(integer) to service_role;

-- What the operations demand of other tables.

-- The owner chooses among results; anything else could point at a stranger's object.
create function private.check_final_url()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if not exists (
        select 1 from public.image_operations as o
        where o.image_id = new.id and o.status = 'completed' and o.output_data ->> 'url' = new.final_url
    ) then
        perform private.refuse(
            'PT400', 'The final_url is not a result of this image',
            jsonb_build_object('field', 'final_url', 'image_id', new.id),
            'Pass the output_data.url of a completed operation of this image.');
    end if;
    return new;
end;
$$;

revoke execute on function private.check_final_url() from public;

create trigger check_final_url
before insert or update of final_url on public.images
for each row when (new.final_url is not null)
execute function private.check_final_url();

-- An image with paid work under way stays. When the whole account goes, the profile is gone already.
create function private.keep_images_in_work()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if exists (
        select 1 from public.image_operations as o
        where o.image_id = old.id and o.status in ('pending', 'processing')
    ) and exists (select 1 from public.profiles as p where p.id = old.user_id) then
        perform private.refuse(
            'PT409', 'The image has unfinished operations', jsonb_build_object('image_id', old.id),
            'Cancel them or wait for them, then delete the image.');
    end if;
    return old;
end;
$$;

revoke execute on function private.keep_images_in_work() from public;

create trigger keep_images_in_work
before delete on public.images
for each row execute function private.keep_images_in_work();

-- A deleted account takes its waiting and running operations with it before its images, which keeps the lock order.
create function private.drop_unfinished_operations()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.image_operations as o
    where o.user_id = old.id and o.status in ('pending', 'processing');
    return old;
end;
$$;

revoke execute on function private.drop_unfinished_operations() from public;

create trigger drop_unfinished_operations
before delete on public.profiles
for each row execute function private.drop_unfinished_operations();

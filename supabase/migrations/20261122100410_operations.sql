-- Image operations: the table that is the queue, its order, and what ties it to images and accounts.
--
-- The RPCs of the two sides follow in files of their own: the owner requests and cancels; workers claim, extend,
-- complete, fail and release under the service key.
--
-- One lock order, so that nothing deadlocks: the profile, then the operation, then its image (several images in the
-- order of their ids). Whoever may move credits takes the profile first; completing takes it shared, because its log
-- rows reference it and a deleted account would come from the other side. Claiming and sweeping pick profiles,
-- operations and images with `skip locked` and never wait for one. Deleting an image takes the image before its
-- operations; that is safe because it is refused while one of them is unfinished, and nobody waits for a finished one.
--
-- Fairness is start-time fair queueing. An operation gets a queue_tag when it is requested: one above the owner's
-- last unfinished one, but never behind the tag that is being served now. Workers take the lowest tag, so the
-- n-th waiting operation of one user stands beside the n-th of every other, however many he has.

create table public.image_operations (
    id uuid primary key default gen_random_uuid(),
    image_id uuid not null references public.images (id) on delete cascade,
    user_id uuid not null references public.profiles (id) on delete cascade,
    operation_type text not null references public.operation_types (name),
    -- The worker decides which engine runs; until then it is not known.
    api_provider text not null default 'unassigned',
    status text not null default 'pending',
    options jsonb not null default '{}',
    input_data jsonb not null default '{}',
    output_data jsonb,
    error_message text,
    processing_time decimal(10, 2),
    credits_used integer not null default 0,
    credits_refunded integer not null default 0,
    api_cost decimal(10, 4),
    idempotency_key text,
    priority smallint not null default 0,
    queue_tag bigint not null default 0,
    attempts integer not null default 0,
    max_attempts integer not null default 3,
    run_after timestamptz not null default now(),
    worker_id text,
    lease_token uuid,
    lease_expires_at timestamptz,
    started_at timestamptz,
    created_at timestamptz not null default now(),
    completed_at timestamptz
);

-- What every operation is. One constraint that calls a function, because Postgres parses a constraint's text anew in
-- every statement that writes the table, and a function's once in a session.
create function private.is_sound_operation(p_operation public.image_operations)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    if
        p_operation.status in ('pending', 'processing', 'completed', 'failed', 'cancelled')
        and jsonb_typeof(p_operation.options) = 'object'
        and p_operation.credits_used >= 0 and p_operation.credits_refunded in (0, p_operation.credits_used)
        and p_operation.attempts >= 0 and p_operation.max_attempts > 0
        -- `least` passes over nulls: unknown is allowed.
        and coalesce(least(p_operation.processing_time, p_operation.api_cost) >= 0, true)
        and (p_operation.status = 'processing') = (p_operation.lease_expires_at is not null)
        and (p_operation.status in ('completed', 'failed', 'cancelled')) = (p_operation.completed_at is not null)
    then
        return true;
    end if;
    return private.refuse_row(
        'image_operations',
        array[
            'options must be an object', 'credits are not below zero, and come back whole or not at all',
            'attempts are not below zero, and at least one is allowed', 'time and cost are not below zero',
            'whoever is processing has a lease, and nobody else', 'what has ended has a time of its end, and nothing else',
            'the status is unknown'
        ],
        array[
            jsonb_typeof(p_operation.options) = 'object',
            p_operation.credits_used >= 0 and p_operation.credits_refunded in (0, p_operation.credits_used),
            p_operation.attempts >= 0 and p_operation.max_attempts > 0,
            coalesce(least(p_operation.processing_time, p_operation.api_cost) >= 0, true),
            (p_operation.status = 'processing') = (p_operation.lease_expires_at is not null),
            (p_operation.status in ('completed', 'failed', 'cancelled')) = (p_operation.completed_at is not null),
            false
        ]);
end;
$$;

alter table public.image_operations
add constraint image_operations_is_sound check (private.is_sound_operation(image_operations));

comment on table public.image_operations is
'The operations and their queue. Owners and admins read; everybody writes through the RPCs only.';
comment on column public.image_operations.input_data is
'What was asked for and found at the request: image_id as requested, url (bucket/key) of the input.';
comment on column public.image_operations.output_data is
'What the engine returned: url, thumbnail_url, media_type, …; files: url, name, title, … of each that comes with it.';
comment on column public.image_operations.credits_used is 'Credits charged at the request.';
comment on column public.image_operations.credits_refunded is
'Credits given back: after a failure, a cancellation, or by an operator''s hand.';
comment on column public.image_operations.api_cost is
'USD paid to providers, failed attempts included; null when unknown. The owner sees it with the rest of the row.';
comment on column public.image_operations.priority is '10 for paying plans, else 0; the higher starts first.';
comment on column public.image_operations.queue_tag is 'Start tag of the fair queue; the lower starts first.';
comment on column public.image_operations.worker_id is
'Name that the worker gave itself at the claim. The owner can read it, so it should say nothing confidential.';
comment on column public.image_operations.lease_token is
'Fencing token: the id of the newest claim, shared by all that it took. Kept after the worker settles, so that a '
'repeated call gets the same answer. '
'The owner can read it, because hiding a column breaks "select *" for browsers; it is no secret: every function that '
'takes it is the service role''s.';

create index idx_image_operations_image_id on public.image_operations (image_id);
-- Each move of an operation writes every index that it is in. Those at work have indexes of their own below, and
-- nobody finds the completed ones by their status.
create index idx_image_operations_status on public.image_operations (status)
where status in ('failed', 'cancelled');
-- Failures by kind. A kind that is deleted, which happens by hand, has the table read for its foreign key.
create index idx_image_operations_operation_type on public.image_operations (operation_type)
where status in ('failed', 'cancelled');
create index idx_image_operations_created_at on public.image_operations (created_at);
-- A user's operations, and his place in the queue. Not partial by the status or completed_at: whoever asks for one
-- status, or for an image, would be offered that index, and while it was small a plan that reads all of it looked as
-- good as any.
create index idx_image_operations_user_id on public.image_operations (user_id, completed_at, priority, queue_tag);
-- The order of claiming. Equal keys, of operations that were requested in one transaction, stay entries of their own:
-- folded into one they could be cleared away only all together, and every claim would visit those that are gone.
create index idx_image_operations_queue on public.image_operations (priority desc, queue_tag, created_at)
with (deduplicate_items = off)
where status = 'pending';
-- Running operations: whose lease ran out, and which tag is being served.
create index idx_image_operations_leases on public.image_operations (lease_expires_at)
where status = 'processing';

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
set jit = off
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
    set processing_status = o.status, processing_error = o.error, updated_at = now()
    from outcomes as o
    where
        i.id = o.image_id
        and i.id = any (p_image_ids) -- again, or a plan made while there were few images reads all of them
        and (i.processing_status, i.processing_error) is distinct from (o.status, o.error);
end;
$$;

-- The tag being served in a class of priority: a newcomer gets it, and so stands beside the next of everybody else.
-- When the newest start is just one behind the queue's head, the newcomer goes before that head: otherwise he
-- would wait for one start more than there are workers.
-- In plpgsql, which keeps the plans for the session; language sql would plan them at every call.
create function private.served_queue_tag(p_priority smallint)
returns bigint
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_running bigint;
    v_waiting bigint;
begin
    select max(o.queue_tag) into v_running from public.image_operations as o
    where o.status = 'processing' and o.priority = p_priority;
    select o.queue_tag into v_waiting from public.image_operations as o
    where o.status = 'pending' and o.priority = p_priority
    order by o.queue_tag
    limit 1;
    if v_running = v_waiting - 1 then
        return v_running;
    end if;
    return coalesce(greatest(v_running, v_waiting), 0);
end;
$$;

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
    v_charge public.credit_transactions;
    v_operation public.image_operations;
begin
    if p_operation.credits_used > 0 then
        select t.* into v_charge from public.credit_transactions as t
        where t.user_id = p_operation.user_id and t.idempotency_key = 'operation:' || p_operation.id || ':charge';
        if not found then
            perform private.refuse(
                'PT409', 'The charge of the operation is not in the ledger',
                jsonb_build_object('operation_id', p_operation.id, 'credits_used', p_operation.credits_used),
                'The operator has to mend the ledger before the credits can come back.');
        end if;
        perform private.refund_usage(
            v_charge, format('Refund: %s %s', p_operation.operation_type, p_status),
            'operation:' || p_operation.id || ':refund');
    end if;

    if p_status = 'failed' then
        perform private.count_operation(p_operation.user_id, p_operation.operation_type, 0, 0, 1);
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
    where o.user_id = old.id and o.completed_at is null;
    return old;
end;
$$;

create trigger drop_unfinished_operations
before delete on public.profiles
for each row execute function private.drop_unfinished_operations();

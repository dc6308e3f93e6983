-- Image operations, the owner's side: request and cancel.

-- The idempotency keys of requests. They stay as long as the account: an operation goes when its image is deleted,
-- but its charge stays in the ledger, and its key must never charge again. So operation_id is no foreign key.
create table private.operation_requests (
    user_id uuid not null references public.profiles (id) on delete cascade,
    idempotency_key text not null check (char_length(idempotency_key) between 1 and 200),
    -- SHA-256: it recognises the request, and keeps nothing of the prompt of a deleted picture.
    fingerprint bytea not null,
    operation_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (user_id, idempotency_key)
);

comment on table private.operation_requests is
'Which request came under which idempotency key. Only request_image_operation reads and writes it.';

alter table private.operation_requests enable row level security;

-- The operation that was requested under a key, null when the key is new. Expects the profile locked.
create function private.find_requested_operation(p_user_id uuid, p_idempotency_key text, p_fingerprint bytea)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
declare
    v_request private.operation_requests;
    v_operation public.image_operations;
begin
    select r.* into v_request from private.operation_requests as r
    where r.user_id = p_user_id and r.idempotency_key = p_idempotency_key;
    if not found then
        return null;
    elsif v_request.fingerprint <> p_fingerprint then
        perform private.refuse_repeated_key(p_idempotency_key, 'operation_id', v_request.operation_id);
    end if;

    select o.* into v_operation from public.image_operations as o where o.id = v_request.operation_id;
    if not found then
        perform private.refuse(
            'PT410', 'The operation of this idempotency key was deleted with its image',
            jsonb_build_object('idempotency_key', p_idempotency_key, 'operation_id', v_request.operation_id),
            'Nothing was charged again. Use a new key to request a new operation.');
    end if;
    return v_operation;
end;
$$;

-- Requests an operation for the caller: checks, charges and queues in one transaction.
-- Its cheap checks come first; from the profile's lock on, the caller's requests run one after the other.
-- The settings keep one plan on the indexes, as for public.claim_image_operations: one that a session made while the
-- queue was empty would scan the whole table until the next analyze.
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
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    -- Far above what a person waits for, and it bounds what one account can put into the queue.
    c_most_unfinished constant integer := 1000;
    v_type public.operation_types;
    v_user_id constant uuid := auth.uid();
    v_options constant jsonb := coalesce(p_options, '{}');
    v_fingerprint bytea;
    -- The few columns that it needs: copying whole rows costs as much as finding them.
    v_profile record;
    v_priority smallint;
    v_unfinished integer;
    v_last_tag bigint;
    v_counts private.operation_counts;
    v_price integer;
    v_image record;
    v_operation public.image_operations;
begin
    select t.* into v_type from public.operation_types as t where t.name = p_operation_type;
    if not found then
        perform private.find_operation_type(p_operation_type);
    elsif v_options <> '{}' or v_type.required_options <> '{}' then
        perform private.check_operation_options(v_type, v_options);
    end if;
    if char_length(p_idempotency_key) not between 1 and 200 then
        perform private.refuse(
            'PT400', 'The idempotency key must have 1 to 200 characters', '{"argument": "p_idempotency_key"}',
            'Pass for example a random UUID.');
    end if;

    select p.id, p.is_active, p.subscription_status, p.last_activity_at into v_profile from public.profiles as p
    where p.id = v_user_id
    for no key update;
    if not found then
        perform private.refuse('PT401', 'You are not signed in', '{}', 'Sign in and send the access token.');
    end if;

    if p_idempotency_key is not null then
        v_fingerprint := sha256(convert_to(
            jsonb_build_object('image_id', p_image_id, 'operation_type', p_operation_type, 'options', v_options)::text,
            'UTF8'
        ));
        v_operation := private.find_requested_operation(v_profile.id, p_idempotency_key, v_fingerprint);
        if v_operation.id is not null then
            return v_operation;
        end if;
    end if;

    if not v_profile.is_active then
        perform private.refuse(
            'PT403', 'This account is deactivated', '{}', 'Ask the support to activate it again.');
    end if;
    v_priority := case when v_profile.subscription_status in ('basic', 'starter') then 10 else 0 end;
    select count(*), max(o.queue_tag) filter (where o.priority = v_priority) into v_unfinished, v_last_tag
    from public.image_operations as o
    where o.user_id = v_profile.id and o.completed_at is null;
    if v_unfinished >= c_most_unfinished then
        perform private.refuse(
            'PT429', format('You have %s unfinished operations, the most allowed', c_most_unfinished),
            jsonb_build_object('limit', c_most_unfinished), 'Wait until some are finished, or cancel some.');
    end if;

    if not v_type.is_active then
        perform private.refuse_unoffered_type(v_type.name);
    end if;
    if v_type.daily_requests is null then
        select c.failures, c.since into v_counts.failures, v_counts.since from private.operation_counts as c
        where
            c.user_id = v_profile.id and c.operation_type = v_type.name and c.since > now() - interval '1 day';
    else
        v_counts := private.count_operation(v_profile.id, v_type.name, 1, 0, 0);
    end if;
    if v_counts.failures >= v_type.daily_failures or v_counts.requests > v_type.daily_requests
        or v_type.may_cost_money
    then
        perform private.check_daily_bounds(v_type, v_counts, v_profile.id);
    end if;

    v_price := v_type.credits;
    if v_type.surcharges <> '{}' then
        v_price := private.price_operation(v_type, v_options);
    end if;
    if p_image_id is null and v_type.works_on <> 'image' then
        v_image := private.make_operation_image(v_profile.id, v_type, v_options);
    else
        v_image := private.find_operation_image(v_profile.id, p_image_id, v_type.works_on, v_options);
    end if;

    v_operation.id := gen_random_uuid();
    if v_price > 0 then
        perform private.spend_credits(
            v_profile.id, v_price, 'usage', 'Image operation: ' || p_operation_type,
            jsonb_build_object('operation_id', v_operation.id, 'operation_type', p_operation_type),
            'operation:' || v_operation.id || ':charge');
    end if;

    insert into public.image_operations (
        id, image_id, user_id, operation_type, options, input_data, credits_used, idempotency_key, priority, queue_tag
    ) values (
        v_operation.id, v_image.id, v_profile.id, p_operation_type, v_options,
        jsonb_build_object('image_id', p_image_id, 'url', v_image.input_url), v_price, p_idempotency_key, v_priority,
        greatest(private.served_queue_tag(v_priority), 1 + v_last_tag)
    )
    returning * into v_operation;
    if p_idempotency_key is not null then
        insert into private.operation_requests (user_id, idempotency_key, fingerprint, operation_id)
        values (v_profile.id, p_idempotency_key, v_fingerprint, v_operation.id);
    end if;

    -- As private.refresh_images: an image with an operation at work shows that one already.
    if v_image.processing_status not in ('pending', 'processing') then
        update public.images as i
        set processing_status = 'pending', processing_error = null, updated_at = now()
        where i.id = v_image.id;
    end if;
    perform private.record_activity(
        v_profile.id, 'request',
        jsonb_build_object('operation_id', v_operation.id, 'operation_type', p_operation_type, 'image_id', v_image.id),
        v_profile.last_activity_at);
    return v_operation;
end;
$$;

grant execute on function private.request_image_operation(uuid, text, jsonb, text) to authenticated;

-- Refuses a request that passes a bound of the day.
create function private.check_daily_bounds(
    p_type public.operation_types,
    p_counts private.operation_counts,
    p_user_id uuid
)
returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_failed_at timestamptz;
begin
    if p_counts.requests > p_type.daily_requests then
        perform private.refuse_for_today(
            format('You have requested %s operations of this kind today, the most allowed', p_type.daily_requests),
            p_type.daily_requests, p_counts.since + interval '1 day', 'Ask the support if you need more.');
    elsif p_counts.failures >= p_type.daily_failures then
        perform private.refuse_for_today(
            format('%s of your operations of this kind failed today, the most allowed', p_type.daily_failures),
            p_type.daily_failures, p_counts.since + interval '1 day', 'Look at what the failures say.');
    end if;

    -- A failure gives its credits back, and what a provider took for each of its calls does not come back.
    if p_type.may_cost_money then
        select l.created_at into v_failed_at from public.api_usage_logs as l
        where
            l.user_id = p_user_id and l.created_at > now() - interval '1 day'
            and l.error_message is not null and l.cost is distinct from 0
        order by l.created_at desc
        limit 1
        offset p_type.daily_failures - 1;
        if found then
            perform private.refuse_for_today(
                format('%s of your pictures failed today, the most allowed', p_type.daily_failures),
                p_type.daily_failures, v_failed_at + interval '1 day', 'Try other words then.');
        end if;
    end if;
end;
$$;

-- The name of the collection that an operation works on. A stranger's is as unknown as one that does not exist.
create function private.name_of_own_collection(p_user_id uuid, p_options jsonb)
returns text
language plpgsql
stable
set search_path = ''
as $$
declare
    v_name text;
begin
    select c.name into v_name from public.image_collections as c
    where c.id = (p_options ->> 'collection_id')::uuid and (c.user_id = p_user_id) is true;
    if not found then
        perform private.refuse(
            'PT404', 'Collection not found',
            jsonb_build_object('option', 'collection_id', 'value', p_options -> 'collection_id'),
            'Pass the id of one of your own collections.');
    end if;
    return v_name;
end;
$$;

-- A new image for the result of a kind that works on none, called by what it is about.
create function private.make_operation_image(
    p_user_id uuid,
    p_type public.operation_types,
    p_options jsonb,
    out id uuid,
    out processing_status text,
    out input_url text
)
language plpgsql
set search_path = ''
as $$
declare
    v_name text := p_options ->> p_type.required_options[1];
begin
    if p_type.works_on = 'collection' then
        v_name := private.name_of_own_collection(p_user_id, p_options);
    end if;
    insert into public.images as i (user_id, original_filename)
    values (p_user_id, left(coalesce(v_name, p_type.title), 100) || '.png')
    returning i.id, i.processing_status into id, processing_status;
end;
$$;

-- The image that an operation works on, locked, and what the operation reads of it, as bucket/key: its original, or
-- the result named by the option `input`; nothing where the kind works on none, and its result comes to an image that
-- is there. Somebody else's image is as unknown as one that does not exist.
create function private.find_operation_image(
    p_user_id uuid,
    p_image_id uuid,
    p_works_on text,
    p_options jsonb,
    out id uuid,
    out processing_status text,
    out input_url text
)
language plpgsql
set search_path = ''
as $$
declare
    v_expires_at timestamptz;
begin
    -- `is true` keeps the plan from going through all images of the owner.
    select i.id, i.processing_status, i.original_url, i.expires_at into id, processing_status, input_url, v_expires_at
    from public.images as i
    where i.id = p_image_id and (i.user_id = p_user_id) is true
    for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'Image not found', jsonb_build_object('image_id', p_image_id),
            'Pass the id of one of your own images.');
    elsif v_expires_at <= now() then
        -- Its files are being removed.
        perform private.refuse(
            'PT410', 'The image has expired',
            jsonb_build_object('image_id', p_image_id, 'expires_at', v_expires_at), 'Upload it again.');
    end if;

    if p_works_on = 'collection' then
        perform private.name_of_own_collection(p_user_id, p_options);
    end if;
    if p_works_on <> 'image' then
        input_url := null;
    elsif p_options ->> 'input' is not null then
        select o.output_data ->> 'url' into input_url from public.image_operations as o
        where o.id = (p_options ->> 'input')::uuid and o.image_id = p_image_id and o.status = 'completed';
        if input_url is null then
            perform private.refuse(
                'PT404', 'The input is not a completed operation of this image',
                jsonb_build_object('option', 'input', 'value', p_options -> 'input', 'image_id', p_image_id),
                'Pass the id of a completed operation of the same image, or leave the option out.');
        end if;
    elsif input_url is null then
        perform private.refuse(
            'PT409', 'The image has no original to work on', jsonb_build_object('image_id', p_image_id),
            'Upload the file and set original_url, or pass a completed operation as the option input.');
    end if;
end;
$$;

-- Cancels an operation of an account and refunds it. A worker that runs it loses its lease.
create function private.cancel_operation_of(p_user_id uuid, p_operation_id uuid, p_message text)
returns public.image_operations
language plpgsql
set search_path = ''
as $$
declare
    v_operation public.image_operations;
begin
    perform p.id from public.profiles as p where p.id = p_user_id for no key update;
    select o.* into v_operation from public.image_operations as o
    where o.id = p_operation_id and (o.user_id = p_user_id) is true -- as in private.find_operation_image
    for no key update;
    if not found then
        perform private.refuse(
            'PT404', 'Operation not found', jsonb_build_object('operation_id', p_operation_id),
            'Check the id: it is the one in image_operations, and of the same account.');
    elsif v_operation.status not in ('pending', 'processing') then
        perform private.refuse(
            'PT409', format('The operation is already %s', v_operation.status),
            jsonb_build_object('operation_id', p_operation_id, 'status', v_operation.status),
            'Only pending and processing operations can be cancelled.');
    end if;

    v_operation := private.end_operation(v_operation, 'cancelled', p_message, null);
    perform private.refresh_images(array[v_operation.image_id]);
    return v_operation;
end;
$$;

-- A worker that had begun may have paid a provider, and the refund brings the credits of the next one: without a bound
-- an account with two credits could spend any amount of the operator's money.
create function private.cancel_image_operation(p_operation_id uuid)
returns public.image_operations
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_most_stopped constant integer := 20;
    v_operation constant public.image_operations :=
        private.cancel_operation_of(auth.uid(), p_operation_id, 'Cancelled by the owner.');
    v_most integer;
    v_counts private.operation_counts;
begin
    select t.daily_cancellations into v_most from public.operation_types as t
    where t.name = v_operation.operation_type;
    v_counts := private.count_operation(v_operation.user_id, v_operation.operation_type, 0, 1, 0);
    if v_counts.cancellations > v_most then
        perform private.refuse_for_today(
            format('You have cancelled %s operations of this kind today, the most allowed', v_most),
            v_most, v_counts.since + interval '1 day', 'Wait until it has ended.');
    end if;
    if v_operation.attempts = 0 then
        return v_operation;
    end if;
    -- Counted in the log, because an operation goes when its image is deleted. Its request has dated the profile.
    perform private.record_activity(
        v_operation.user_id, 'stop',
        jsonb_build_object('operation_id', v_operation.id, 'operation_type', v_operation.operation_type), now());
    if (
        select count(*) > c_most_stopped from public.user_activity_logs as l
        where
            l.user_id = v_operation.user_id and l.created_at > now() - interval '1 day' and l.activity_type = 'stop'
    ) then
        perform private.refuse(
            'PT429', format('You have stopped %s running operations today, the most allowed', c_most_stopped),
            jsonb_build_object('operation_id', p_operation_id, 'limit', c_most_stopped),
            'Wait until it has ended: should it fail, its credits come back.');
    end if;
    return v_operation;
end;
$$;

grant execute on function private.cancel_image_operation(uuid) to authenticated;

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
'Requests an operation on the caller''s own image, charges it and returns its row. A kind that works on no '
'image takes null and makes one. With an idempotency key, the same request returns the first answer. Errors: '
'400 bad argument or option, 401 not signed in, 402 insufficient credits, 403 deactivated account, '
'404 unknown image, input or collection, 409 not offered, no original, or key used for another request, '
'410 the image has expired, or the operation of the key was deleted with its image, 413 options too large, '
'429 too many unfinished operations or images, or a bound of the day is reached.';
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
'409 already finished, 429 a bound of the day is reached.';
grant execute on function public.cancel_image_operation(uuid) to authenticated;

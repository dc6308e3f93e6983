-- Image operations, the workers' side: how an operation ends, completed or failed.

-- Refuses a result that names objects outside the operation's own folder: final_url and later operations trust it.
create function private.check_operation_output(p_user_id uuid, p_operation_id uuid, p_output jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    c_most_files constant integer := 8;
    v_folder constant text := 'results/' || p_user_id || '/' || p_operation_id || '/';
    v_urls text[];
    v_url text;
    v_n integer := 1;
    v_field text;
begin
    if p_output is null or jsonb_typeof(p_output) <> 'object' then
        perform private.refuse(
            'PT400', 'The output must be a JSON object', '{"argument": "p_output"}', 'Pass url, thumbnail_url, ….');
    -- As it is stored: its text would have to be made.
    elsif pg_column_size(p_output) > 64 * 1024 then
        perform private.refuse(
            'PT413', 'The output is larger than 64 KiB', '{"argument": "p_output"}', 'Store large data as an object.');
    end if;
    v_urls := array[p_output ->> 'url', p_output ->> 'thumbnail_url'];
    if p_output ? 'files' then
        if jsonb_typeof(p_output -> 'files') <> 'array' or jsonb_array_length(p_output -> 'files') > c_most_files then
            perform private.refuse(
                'PT400', format('The files must be an array of at most %s objects', c_most_files),
                '{"argument": "p_output", "field": "files"}', 'Pass the url of each, and what is to be said of it.');
        end if;
        v_urls := v_urls || array(select f.file ->> 'url' from jsonb_array_elements(p_output -> 'files') as f (file));
    end if;
    foreach v_url in array v_urls
    loop
        -- Of anything but a text the folder's name is no beginning.
        if coalesce(
            not starts_with(v_url, v_folder)
            or v_url !~ '^[A-Za-z0-9._/-]*[A-Za-z0-9]$'
            or strpos(v_url, '//') > 0
            or strpos(v_url, '..') > 0
            or octet_length(v_url) > 1024,
            true
        )
        then
            v_field := coalesce((array['url', 'thumbnail_url', 'files'])[v_n], 'files');
            perform private.refuse(
                'PT400', format('The %s must lie in %s', v_field, v_folder),
                jsonb_build_object('argument', 'p_output', 'field', v_field, 'folder', v_folder),
                'Upload the result there first.');
        end if;
        v_n := v_n + 1;
    end loop;
end;
$$;

-- Records a result and the provider calls behind it, and returns the operation; what its image shows is the caller's
-- next step. Null when the same holder of the lease has completed the operation before.
create function private.record_completion(
    p_operation_id uuid,
    p_lease_token uuid,
    p_api_provider text,
    p_output jsonb,
    p_processing_time numeric,
    p_usage jsonb
)
returns public.image_operations
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_leased record;
    v_operation public.image_operations;
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

    -- As private.lock_leased_operation, of the few columns that are needed here. The log's row references the profile,
    -- so it is locked before the operation: rows are locked in the order in which they are named.
    select o.user_id, o.operation_type, o.status, o.lease_token into v_leased
    from public.image_operations as o
    inner join public.profiles as p on p.id = o.user_id
    where o.id = p_operation_id
    for key share of p
    for no key update of o;
    if p_lease_token is null
        or v_leased.lease_token is distinct from p_lease_token
        or v_leased.status not in ('processing', 'completed')
    then
        perform private.refuse_lost_lease(p_operation_id);
    elsif v_leased.status = 'completed' then
        return null;
    end if;
    perform private.check_operation_output(v_leased.user_id, p_operation_id, p_output);

    if p_usage <> '[]' then
        perform private.check_api_usage(p_usage);
        v_cost := private.log_api_usage(p_operation_id, v_leased.user_id, v_leased.operation_type, p_usage);
    else
        -- An engine of the worker's own: one call, which lasted as long as the processing.
        v_cost := private.api_cost(p_api_provider, v_leased.operation_type);
        insert into public.api_usage_logs (user_id, operation_id, api_provider, operation_type, response_time, cost)
        values (
            v_leased.user_id, p_operation_id, p_api_provider, v_leased.operation_type, p_processing_time, v_cost
        );
    end if;

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
    where o.id = p_operation_id
    returning o.* into v_operation;
    return v_operation;
end;
$$;

-- Shows a result on its image, which the caller has locked: of two operations that end at once, the second sees the
-- first. The newest ended well, so only another operation at work can decide what private.refresh_images would show,
-- and `max` puts processing before pending.
create function private.show_completion(p_operation public.image_operations)
returns void
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    update public.images as i
    set
        processed_url = p_operation.output_data ->> 'url',
        thumbnail_url = p_operation.output_data ->> 'thumbnail_url',
        processing_status = coalesce(
            (
                select max(o.status) from public.image_operations as o
                where o.image_id = p_operation.image_id and o.status in ('pending', 'processing')
            ),
            'completed'
        ),
        processing_error = null,
        updated_at = now()
    where i.id = p_operation.image_id;
end;
$$;

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
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_operation public.image_operations := private.record_completion(
        p_operation_id, p_lease_token, p_api_provider, p_output, p_processing_time, p_usage
    );
begin
    if v_operation.id is null then
        select o.* into v_operation from public.image_operations as o where o.id = p_operation_id;
    else
        perform i.id from public.images as i where i.id = v_operation.image_id for no key update;
        perform private.show_completion(v_operation);
    end if;
    return v_operation;
end;
$$;

comment on function public.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) is
'Records the result, the image''s result columns and the provider calls, and returns the row; the same token again '
'returns it again. url, thumbnail_url and the url of each of files must lie in results/<owner>/<operation>/. '
'p_processing_time in seconds. '
'Errors: 400 bad argument, 409 lease lost, 413 too large.';
grant execute on function public.complete_image_operation(uuid, uuid, text, jsonb, numeric, jsonb) to service_role;

create function public.complete_and_claim_image_operation(
    p_operation_id uuid,
    p_lease_token uuid,
    p_api_provider text,
    p_output jsonb,
    p_processing_time numeric,
    p_usage jsonb,
    p_worker_id text,
    p_operation_types text[] default null,
    p_lease_seconds integer default 60,
    p_claim_id uuid default null
)
returns setof public.claimed_operation
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_completed constant public.image_operations := private.record_completion(
        p_operation_id, p_lease_token, p_api_provider, p_output, p_processing_time, p_usage
    );
begin
    return query
    select c.* from private.claim_operations(
        p_worker_id, 1, p_operation_types, p_lease_seconds, p_claim_id, v_completed) as c;
end;
$$;

comment on function public.complete_and_claim_image_operation(
    uuid, uuid, text, jsonb, numeric, jsonb, text, text[], integer, uuid
) is
'complete_image_operation and then claim_image_operations for one, in one transaction: returns the operation claimed, '
'or nothing when none waits. Safe to repeat with the same arguments. Errors: those of complete_image_operation and of '
'claim_image_operations, after which neither has happened.';
grant execute on function public.complete_and_claim_image_operation(
    uuid, uuid, text, jsonb, numeric, jsonb, text, text[], integer, uuid
) to service_role;

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

    v_cost := private.log_api_usage(p_operation_id, v_operation.user_id, v_operation.operation_type, v_usage);
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

comment on function public.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) is
'Records a failed attempt and returns the row: pending again after a delay (at least p_retry_after_seconds, at most '
'a day), or failed and refunded when it was permanent or the last. Errors: 400 bad usage, 409 lease lost, 413 usage '
'too large.';
grant execute on function public.fail_image_operation(uuid, uuid, text, boolean, integer, text, jsonb) to service_role;

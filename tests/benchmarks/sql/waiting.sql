-- {count} operations wait, of 200 people in turn, as requests would have queued them. Nothing was charged: only ends
-- without a result look for the charge.
set local session_replication_role = replica;

insert into public.image_operations (image_id, user_id, operation_type, input_data, credits_used, queue_tag)
select person, person, 'upscale', jsonb_build_object('url', format('originals/%s/shirt.png', person)), 1, tag
from (
    select lpad(to_hex(2 + n % 200), 32, '0')::uuid as person, n / 200 as tag
    from generate_series(0, {count} - 1) as n
) as requests;

-- Lets the project have {images} images in all, of {people} people; each older one has a completed operation, so that
-- the tables and their indexes are as large as after years. Triggers and foreign keys are off: this is the past.
-- Person 1 has 50 images at every size, the oldest.
set local session_replication_role = replica;

create temporary table past on commit drop as
select
    gen_random_uuid() as image_id,
    gen_random_uuid() as operation_id,
    lpad(to_hex(case when n <= 50 then 1 else 2 + n % ({people} - 1) end), 32, '0')::uuid as user_id,
    now() - (2000000 - n) * interval '15 seconds' as created_at
from generate_series(
    1 + (select count(*) from public.images where original_filename = 'past.png'), {images}
) as n;

insert into public.images (
    id, user_id, original_filename, original_url, processed_url, processing_status, created_at, updated_at
)
select
    p.image_id, p.user_id, 'past.png', format('originals/%s/%s.png', p.user_id, p.image_id),
    format('results/%s/%s/1.png', p.user_id, p.operation_id), 'completed', p.created_at, p.created_at
from past as p;

insert into public.image_operations (
    id, image_id, user_id, operation_type, api_provider, status, input_data, output_data, processing_time,
    credits_used, api_cost, attempts, lease_token, worker_id, started_at, created_at, completed_at
)
select
    p.operation_id, p.image_id, p.user_id, 'upscale', 'waifu2x', 'completed',
    jsonb_build_object('url', format('originals/%s/%s.png', p.user_id, p.image_id)),
    jsonb_build_object('url', format('results/%s/%s/1.png', p.user_id, p.operation_id)),
    1.5, 1, 0, 1, gen_random_uuid(), 'worker', p.created_at, p.created_at, p.created_at + interval '2 seconds'
from past as p;

insert into public.api_usage_logs (user_id, operation_id, api_provider, operation_type, response_time, cost, created_at)
select p.user_id, p.operation_id, 'waifu2x', 'upscale', 1.5, 0, p.created_at from past as p;

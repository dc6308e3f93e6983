-- {entries} ledger entries and as many calls of providers, of {people} people over the last year: of five entries one
-- is a purchase and four are charges. Triggers and foreign keys are off: this is the past.
set local session_replication_role = replica;

create temporary table past on commit drop as
select
    n, gen_random_uuid() as id, lpad(to_hex(1 + n % {people}), 32, '0')::uuid as user_id,
    now() - (n * 31::bigint * 1000000 / {entries}) * interval '1 second' as created_at,
    (array['upscale', 'background_removal', 'vectorize', 'generate'])[1 + n % 4] as operation_type
from generate_series(1, {entries}) as n;

-- Each charge took from the purchase after it in the series, which came before it in time; whose it was is not asked.
insert into public.credit_transactions (
    id, user_id, seq, transaction_type, amount, balance_before, balance_after, metadata, pay_as_you_go_package_id,
    allocations, created_at
)
select
    e.id, e.user_id, 1000 + e.n, case when e.n % 5 = 0 then 'purchase' else 'usage' end,
    case when e.n % 5 = 0 then 10 else 2 end, case when e.n % 5 = 0 then 0 else 2 end,
    case when e.n % 5 = 0 then 10 else 0 end,
    jsonb_build_object('operation_id', e.id, 'operation_type', e.operation_type),
    case when e.n % 5 = 0 then 'a0000000-0000-4000-8000-000000000010'::uuid end,
    case when e.n % 5 <> 0 then array[(purchase.id, -2)::public.credit_allocation] end, e.created_at
from past as e
left join past as purchase on purchase.n = e.n + 5 - e.n % 5 and e.n % 5 <> 0;

insert into public.credit_grants (
    id, user_id, transaction_id, seq, source, amount, remaining, money_amount, currency, created_at
)
select
    id, user_id, id, 1000 + n, 'purchase', 10, 2, 7.99, case when n % 50 = 0 then 'EUR' else 'USD' end, created_at
from past
where n % 5 = 0;

insert into public.api_usage_logs (user_id, api_provider, operation_type, response_time, cost, created_at)
select user_id, 'waifu2x', operation_type, 1.5, 0.01, created_at from past;

-- Analytics: metrics over time and the two views.

create table public.system_metrics (
    id uuid primary key default gen_random_uuid(),
    metric_name text not null,
    metric_value decimal(15, 4),
    metric_unit text,
    tags jsonb,
    recorded_at timestamptz not null default now()
);

comment on table public.system_metrics is
'Measurements of the system over time. Admins read them; the service role writes and prunes.';

create index idx_system_metrics_metric_name on public.system_metrics (metric_name, recorded_at);

alter table public.system_metrics enable row level security;

create policy "Admins view metrics" on public.system_metrics
for select to authenticated
using ((select private.is_admin()));

grant select on public.system_metrics to authenticated;
grant select, insert, delete on public.system_metrics to service_role;

-- security_invoker: row level security applies, so an admin sees everybody and a user himself.
create view public.user_analytics
with (security_invoker = true)
as
select
    p.id,
    p.email,
    p.subscription_status,
    p.credits_remaining,
    p.total_credits_purchased,
    p.total_credits_used,
    i.total_images,
    i.completed_images,
    i.failed_images,
    i.last_image_created,
    p.created_at as user_created_at
from public.profiles as p
-- For each account by itself: a page of the list then reads the images of that page only.
cross join lateral (
    select
        count(*) as total_images,
        count(*) filter (where i.processing_status = 'completed') as completed_images,
        count(*) filter (where i.processing_status = 'failed') as failed_images,
        max(i.created_at) as last_image_created
    from public.images as i
    where i.user_id = p.id
) as i;

comment on view public.user_analytics is
'Per account: plan, credits and images. Admins see all accounts, users their own.';

grant select on public.user_analytics to authenticated, service_role;

create view public.revenue_analytics
with (security_invoker = true)
as
select
    m.month,
    m.transaction_type,
    sum(m.transaction_count)::bigint as transaction_count,
    sum(m.total_credits)::bigint as total_credits,
    sum(m.paid_transactions)::bigint as paid_transactions
from (
    select
        date_trunc('month', ct.created_at, 'UTC') as month,
        ct.transaction_type,
        count(*) as transaction_count,
        sum(ct.amount) as total_credits,
        count(ct.stripe_payment_intent_id) as paid_transactions
    from public.credit_transactions as ct
    where ct.transaction_type = 'purchase'
    group by 1, 2
    union all
    select
        c.month::timestamp at time zone 'UTC', c.transaction_type, c.transaction_count, c.credits, c.paid_transactions
    from public.closed_account_totals as c
    where c.transaction_type = 'purchase'
) as m
group by m.month, m.transaction_type
order by m.month desc;

comment on view public.revenue_analytics is
'Purchased credits by month (UTC). Admins see all of them, those of deleted accounts included, users their own. '
'What they brought in money: stats_revenue().';

grant select on public.revenue_analytics to authenticated, service_role;

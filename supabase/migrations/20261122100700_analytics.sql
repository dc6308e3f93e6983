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
    count(i.id) as total_images,
    count(case when i.processing_status = 'completed' then 1 end) as completed_images,
    count(case when i.processing_status = 'failed' then 1 end) as failed_images,
    max(i.created_at) as last_image_created,
    p.created_at as user_created_at
from public.profiles as p
left join public.images as i on p.id = i.user_id
group by p.id;

comment on view public.user_analytics is
'Per account: plan, credits and images. Admins see all accounts, users their own.';

grant select on public.user_analytics to authenticated, service_role;

create view public.revenue_analytics
with (security_invoker = true)
as
select
    date_trunc('month', ct.created_at) as month,
    ct.transaction_type,
    count(*) as transaction_count,
    sum(ct.amount) as total_credits,
    sum(case when ct.stripe_payment_intent_id is not null then 1 else 0 end) as paid_transactions
from public.credit_transactions as ct
where ct.transaction_type = 'purchase'
group by date_trunc('month', ct.created_at), ct.transaction_type
order by month desc;

comment on view public.revenue_analytics is
'Purchased credits by month. Admins see all of them, users their own.';

grant select on public.revenue_analytics to authenticated, service_role;

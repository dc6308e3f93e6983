-- E-mail: templates, campaigns and the log of what was sent.
-- Closed for now: the service role only.

create table public.email_templates (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    subject text not null,
    html_content text not null,
    text_content text,
    sendgrid_template_id text,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.email_templates is 'Texts of the mails. Closed: the service role only.';

create trigger update_email_templates_updated_at
before update on public.email_templates
for each row execute function public.update_updated_at_column();

alter table public.email_templates enable row level security;

grant select, insert, update, delete on public.email_templates to service_role;

create table public.email_campaigns (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    template_id uuid references public.email_templates (id),
    target_audience jsonb,
    status text not null default 'draft'
    check (status in ('draft', 'scheduled', 'sending', 'completed', 'cancelled')),
    scheduled_at timestamptz,
    sent_at timestamptz,
    created_at timestamptz not null default now()
);

comment on table public.email_campaigns is 'Mails to many users at once. Closed: the service role only.';

create index idx_email_campaigns_template_id on public.email_campaigns (template_id);

alter table public.email_campaigns enable row level security;

grant select, insert, update, delete on public.email_campaigns to service_role;

create table public.email_logs (
    id uuid primary key default gen_random_uuid(),
    user_id uuid references public.profiles (id) on delete cascade,
    template_id uuid references public.email_templates (id),
    campaign_id uuid references public.email_campaigns (id),
    sendgrid_message_id text,
    status text not null check (status in ('sent', 'delivered', 'opened', 'clicked', 'bounced', 'failed')),
    sent_at timestamptz default now(),
    delivered_at timestamptz,
    opened_at timestamptz,
    clicked_at timestamptz
);

comment on table public.email_logs is 'Each mail and how far it got. Closed: the service role only.';

create index idx_email_logs_user_id on public.email_logs (user_id);
create index idx_email_logs_template_id on public.email_logs (template_id);
create index idx_email_logs_campaign_id on public.email_logs (campaign_id);

alter table public.email_logs enable row level security;

grant select, insert, update on public.email_logs to service_role;

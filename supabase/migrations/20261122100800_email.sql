-- E-mail: templates, campaigns and the log of what was sent.

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

comment on table public.email_templates is 'Texts of the mails. Admins read and write them.';

create trigger update_email_templates_updated_at
before update on public.email_templates
for each row execute function public.update_updated_at_column();

alter table public.email_templates enable row level security;

create policy "Admins view templates" on public.email_templates
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert templates" on public.email_templates
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update templates" on public.email_templates
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete templates" on public.email_templates
for delete to authenticated
using ((select private.is_admin()));

grant select on public.email_templates to authenticated;
grant insert (name, subject, html_content, text_content, sendgrid_template_id, is_active)
on public.email_templates to authenticated;
grant update (name, subject, html_content, text_content, sendgrid_template_id, is_active)
on public.email_templates to authenticated;
grant delete on public.email_templates to authenticated;
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

comment on table public.email_campaigns is
'Mails to many users at once. Admins write them and move them between draft, scheduled and cancelled; the service that '
'sends them sets the rest. A campaign that has begun, or was cancelled, does not start again.';

create index idx_email_campaigns_template_id on public.email_campaigns (template_id);

alter table public.email_campaigns enable row level security;

create policy "Admins view campaigns" on public.email_campaigns
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert campaigns" on public.email_campaigns
for insert to authenticated
with check ((select private.is_admin()) and status in ('draft', 'scheduled'));

-- A mail cannot be taken back: what has begun to go out never starts again by a slip.
create policy "Admins update campaigns that have not begun" on public.email_campaigns
for update to authenticated
using ((select private.is_admin()) and status in ('draft', 'scheduled'))
with check ((select private.is_admin()) and status in ('draft', 'scheduled', 'cancelled'));

create policy "Admins delete campaigns that were not sent" on public.email_campaigns
for delete to authenticated
using ((select private.is_admin()) and status in ('draft', 'scheduled', 'cancelled'));

grant select on public.email_campaigns to authenticated;
grant insert (name, template_id, target_audience, status, scheduled_at)
on public.email_campaigns to authenticated;
grant update (name, template_id, target_audience, status, scheduled_at)
on public.email_campaigns to authenticated;
grant delete on public.email_campaigns to authenticated;
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

comment on table public.email_logs is
'Each mail and how far it got. A user reads his own rows, an admin all; the service role writes.';

create index idx_email_logs_user_id on public.email_logs (user_id);
create index idx_email_logs_template_id on public.email_logs (template_id);
create index idx_email_logs_campaign_id on public.email_logs (campaign_id);

alter table public.email_logs enable row level security;

create policy "Users view their own mails, admins all" on public.email_logs
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.email_logs to authenticated;
grant select, insert, update on public.email_logs to service_role;

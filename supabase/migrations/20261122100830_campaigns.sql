-- Campaigns: one mail to many people.
--
-- A campaign is written as a draft and scheduled; from then on it needs nobody. Every sender calls
-- expand_email_campaigns, which goes through the audience once, in the order of the accounts' ids, and puts a mail for
-- each into the outbox. A batch and the place up to which the campaign has come are written together, so it goes on
-- where it was, whoever dies. Each mail then goes its own way, as any other does; whether its recipient still wants it
-- is asked once more when it is claimed.

create table public.email_campaigns (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    template_id uuid references public.email_templates (id),
    target_audience jsonb,
    emails_per_minute integer not null default 600 check (emails_per_minute between 1 and 100000),
    status text not null default 'draft'
    check (status in ('draft', 'scheduled', 'sending', 'completed', 'cancelled')),
    scheduled_at timestamptz,
    started_at timestamptz,
    -- The last account of the audience that was looked at.
    expanded_to uuid,
    expanded_at timestamptz,
    -- When the next mail may go: the claim of mails keeps the pace by it.
    next_email_at timestamptz,
    sent_at timestamptz,
    cancelled_at timestamptz,
    created_at timestamptz not null default now(),
    constraint email_campaigns_scheduled_complete
    check (status in ('draft', 'cancelled') or template_id is not null and scheduled_at is not null),
    constraint email_campaigns_started check (status not in ('sending', 'completed') or started_at is not null),
    constraint email_campaigns_completed check ((status = 'completed') = (sent_at is not null)),
    constraint email_campaigns_cancelled check ((status = 'cancelled') = (cancelled_at is not null))
);

comment on table public.email_campaigns is
'Mails to many users at once. Admins write them while they have not begun; schedule_email_campaign and '
'cancel_email_campaign move them, and the sender does the rest. One that has begun, or was cancelled, does not start '
'again.';
comment on column public.email_campaigns.target_audience is
'Who gets it: everybody to whom all that is said here applies; null: everybody. {"subscription_status": ["free", …], '
'"plan": ["basic", …], "credits": {"min": 0, "max": 5}, "signed_up": {"after": "2026-01-01", "before": …}, '
'"last_activity": {"after": …, "before": …}}. min, max and after are part of it, before is not. Times are days (UTC) '
'or ISO 8601 with a zone.';
comment on column public.email_campaigns.emails_per_minute is
'The most mails a minute, of all senders together. It may be changed at any time.';
comment on column public.email_campaigns.started_at is 'Who signed up later does not belong to the audience.';
comment on column public.email_campaigns.expanded_at is 'When the last mail was put into the outbox.';
comment on column public.email_campaigns.sent_at is 'When the last mail was handed over or given up.';

create index idx_email_campaigns_template_id on public.email_campaigns (template_id);

alter table public.email_logs
add constraint email_logs_campaign_id_fkey foreign key (campaign_id) references public.email_campaigns (id);

create trigger bound_lengths
before insert or update of name, target_audience on public.email_campaigns
for each row execute function private.bound_lengths('name', 1, 200, 'target_audience', 0, 8192);

alter table public.email_campaigns enable row level security;

create policy "Admins view campaigns" on public.email_campaigns
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert campaigns" on public.email_campaigns
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update campaigns" on public.email_campaigns
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete campaigns that were not sent" on public.email_campaigns
for delete to authenticated
using ((select private.is_admin()) and status in ('draft', 'scheduled', 'cancelled'));

grant select, delete on public.email_campaigns to authenticated, service_role;
grant insert (name, template_id, target_audience, emails_per_minute)
on public.email_campaigns to authenticated, service_role;
grant update (name, template_id, target_audience, emails_per_minute)
on public.email_campaigns to authenticated, service_role;

-- Checks a campaign when it is saved, so that nothing is found out at night when it starts.
create function private.check_email_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_audience record := private.parse_audience(new.target_audience);
    v_type text;
    v_unknown text;
begin
    if tg_op = 'UPDATE' and old.status not in ('draft', 'scheduled')
        and (new.name, new.template_id, new.target_audience)
        is distinct from (old.name, old.template_id, old.target_audience) then
        perform private.refuse(
            'PT409', 'The campaign has begun or ended', jsonb_build_object('campaign_id', old.id, 'status', old.status),
            'Only its emails_per_minute may change. Make another campaign.');
    end if;
    -- Held, so that it does not become one of another type meanwhile.
    select t.type into v_type from public.email_templates as t where t.id = new.template_id for share;
    if v_type <> 'campaign' then
        perform private.refuse(
            'PT400', 'The template is not one of a campaign', jsonb_build_object('template_id', new.template_id),
            'Choose a template whose type is campaign.');
    end if;

    -- A name with a slip would find nobody.
    select n.name into v_unknown from unnest(v_audience.statuses) as n (name)
    where n.name not in ('free', 'basic', 'starter', 'cancelled')
    limit 1;
    if found then
        perform private.refuse_audience('subscription_status', format('is never %s', left(v_unknown, 100)));
    end if;
    select n.name into v_unknown from unnest(v_audience.plans) as n (name)
    where not exists (select from public.subscription_plans as s where s.name = n.name)
    limit 1;
    if found then
        perform private.refuse_audience('plan', format('is unknown: %s', left(v_unknown, 100)));
    end if;
    return new;
end;
$$;

create trigger check_email_campaign
before insert or update of name, template_id, target_audience on public.email_campaigns
for each row execute function private.check_email_campaign();

-- A mail of another type goes to people who do not want those of campaigns.
create function private.keep_campaign_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if exists (select from public.email_campaigns as c where c.template_id = old.id) then
        perform private.refuse(
            'PT409', 'The template is that of a campaign', jsonb_build_object('template_id', old.id),
            'Make another template.');
    end if;
    return new;
end;
$$;

create trigger keep_campaign_template
before update of type on public.email_templates
for each row when (old.type is distinct from new.type)
execute function private.keep_campaign_template();

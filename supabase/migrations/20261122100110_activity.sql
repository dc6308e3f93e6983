-- What users did: their sign-ups, uploads, requests, stops and downloads, with where each came from.

-- Where the request that is being served came from: the headers that the REST server hands over, untrusted text.
-- Cloudflare, which stands before every hosted project, overwrites cf-connecting-ip. x-forwarded-for stands in for it
-- elsewhere; there a client can write what it likes into it, so the address is a hint and no proof.
-- Outside a request, as in psql or in Auth, both are null.
create function private.request_origin(out ip_address inet, out user_agent text)
language plpgsql
stable
set search_path = ''
as $$
declare
    v_text constant text := current_setting('request.headers', true);
    v_headers jsonb;
    v_address text;
begin
    if coalesce(v_text, '') = '' then
        return;
    end if;
    begin
        v_headers := v_text::jsonb;
        user_agent := left(v_headers ->> 'user-agent', 500);
        v_address := coalesce(v_headers ->> 'cf-connecting-ip', split_part(v_headers ->> 'x-forwarded-for', ',', 1));
        -- The pattern keeps out what inet takes beyond an address, such as a network.
        if trim(v_address) ~* '^[0-9a-f.:]{2,45}$' then
            ip_address := trim(v_address)::inet;
        end if;
    exception
        -- What is no JSON or no address is no reason to refuse the request that it came with.
        when invalid_text_representation or untranslatable_character then
            null;
    end;
end;
$$;

create table public.user_activity_logs (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references public.profiles (id) on delete cascade,
    activity_type text not null check (activity_type <> ''),
    activity_data jsonb,
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now()
);

comment on table public.user_activity_logs is
'What users did: sign_up, upload, request, stop (of an operation that had begun), download, written by the '
'database where it happens. A user reads his own rows, an admin all; nobody edits them, and the service role may '
'remove old ones.';
comment on column public.user_activity_logs.ip_address is
'As the request''s headers say, so a hint and no proof; null outside a request.';

create index idx_user_activity_logs_user_id on public.user_activity_logs (user_id, created_at desc);

alter table public.user_activity_logs enable row level security;

create policy "Users view their own activity, admins all" on public.user_activity_logs
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.user_activity_logs to authenticated;
grant select, insert, delete on public.user_activity_logs to service_role;

-- Logs one thing that a user did. Expects nobody else to hold his profile, or the caller to hold it already.
-- last_activity_at, which the caller has read, moves at most once an hour, so that busy users do not write their
-- profile at every click: it is asked for by days.
create function private.record_activity(
    p_user_id uuid,
    p_activity_type text,
    p_activity_data jsonb,
    p_last_activity_at timestamptz
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    c_pause constant interval := '1 hour'::interval;
    v_origin constant record := private.request_origin();
begin
    insert into public.user_activity_logs (user_id, activity_type, activity_data, ip_address, user_agent)
    values (p_user_id, p_activity_type, p_activity_data, v_origin.ip_address, v_origin.user_agent);

    if coalesce(p_last_activity_at < now() - c_pause, true) then
        update public.profiles as p set last_activity_at = now() where p.id = p_user_id;
    end if;
end;
$$;

-- What a hosted Supabase project has before its first migration and a plain Postgres lacks.
-- Run by the superuser supabase_admin, before the migrations, as often as one likes.

-- Roles. `postgres` is what the migrations run as: like on a hosted project it is no superuser, but may manage
-- roles and bypasses row level security.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['anon', 'authenticated', 'service_role', 'supabase_auth_admin', 'supabase_storage_admin'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I nologin noinherit', role_name);
        end if;
    end loop;
    if not exists (select from pg_roles where rolname = 'postgres') then
        create role postgres login;
    end if;
    if not exists (select from pg_roles where rolname = 'authenticator') then
        create role authenticator login noinherit;
    end if;
end
$$;

alter role service_role bypassrls;
alter role postgres createdb createrole replication bypassrls;
alter role supabase_auth_admin inherit;
alter role supabase_storage_admin inherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
-- To restore a dump, whose triggers must not run again.
grant set on parameter session_replication_role to postgres;

alter database postgres owner to postgres;
grant all on database postgres to postgres;
alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;
create extension if not exists pgcrypto with schema extensions;
alter database postgres set search_path = "$user", public, extensions;

-- Realtime. A row in realtime.messages is a broadcast from the database; policies on the table say who may read and
-- write on a private topic, which they know as realtime.topic(). On a hosted project the table is partitioned by day.
create schema if not exists realtime;
grant usage on schema realtime to postgres, anon, authenticated, service_role;

create table if not exists realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default (now() at time zone 'utc'),
    inserted_at timestamp not null default (now() at time zone 'utc'),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    primary key (id, inserted_at),
    check (payload is null or binary_payload is null)
);
create index if not exists messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
where extension = 'broadcast' and private;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to postgres;

create or replace function realtime.topic() returns text
language sql stable
as $$ select nullif(current_setting('realtime.topic', true), '') $$;

create or replace function realtime.send_any(topic text, event text, payload jsonb, binary_payload bytea, private boolean)
returns void
language plpgsql
as $$
declare
    message_id constant uuid := gen_random_uuid();
begin
    -- For policies that look at the topic.
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, topic, event, extension, payload, binary_payload, private)
    values (
        message_id, topic, event, 'broadcast',
        case when payload ? 'id' then payload else payload || jsonb_build_object('id', message_id) end,
        binary_payload, private
    );
exception when others then
    -- A broadcast that fails never fails what it tells of.
    raise warning 'The broadcast could not be sent: %', sqlerrm;
end;
$$;

create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void
language sql
as $$ select realtime.send_any(topic, event, payload, null, private) $$;

create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
returns void
language sql
as $$ select realtime.send_any(topic, event, null, payload, private) $$;

create or replace function realtime.broadcast_changes(
    topic_name text,
    event_name text,
    operation text,
    table_name text,
    table_schema text,
    new record,
    old record,
    level text default 'ROW'
) returns void
language plpgsql
as $$
begin
    if level = 'STATEMENT' then
        raise exception 'Failed to process the row: broadcast_changes works in row triggers, not in statement triggers';
    end if;
    if operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Failed to process the row: unexpected operation %', operation;
    end if;
    perform realtime.send(
        jsonb_build_object(
            'schema', table_schema, 'table', table_name, 'operation', operation, 'record', new, 'old_record', old
        ),
        event_name,
        topic_name
    );
end;
$$;

do $$
declare
    publication text;
begin
    foreach publication in array array['supabase_realtime', 'supabase_realtime_messages_publication'] loop
        if not exists (select from pg_publication where pubname = publication) then
            execute format('create publication %I', publication);
        end if;
    end loop;
    if not exists (select from pg_publication_tables where pubname = 'supabase_realtime_messages_publication') then
        alter publication supabase_realtime_messages_publication add table realtime.messages;
    end if;
    -- Creating a policy takes the table's owner; on a hosted project `postgres` is let through.
    if not exists (select from pg_roles where rolname = 'supabase_realtime_admin') then
        create role supabase_realtime_admin nologin noinherit;
    end if;
    execute 'grant supabase_realtime_admin to postgres';
    alter table realtime.messages owner to supabase_realtime_admin;
end
$$;
alter publication supabase_realtime owner to postgres;
grant usage on schema realtime to supabase_realtime_admin;

-- A hosted project grants everything new in `public` to the API roles; migrations have to take it back.
alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;

-- `auth` and `storage` were made by the gateway. Triggers on auth.users and policies on storage.objects belong to
-- the migrations.
grant usage on schema auth, storage to postgres, anon, authenticated, service_role;
grant all on all tables in schema auth to postgres;
grant all on all tables in schema storage to postgres, service_role;
grant select, insert, update, delete on storage.objects, storage.buckets to anon, authenticated;
grant execute on all functions in schema auth, storage to postgres, anon, authenticated, service_role;

do $$
declare
    relation record;
begin
    -- Creating a policy takes the table's owner; on a hosted project `postgres` acts as the storage administrator.
    execute 'grant supabase_storage_admin to postgres';
    for relation in select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'storage' loop
        execute format('alter table %s owner to supabase_storage_admin', relation.name);
    end loop;
end
$$;
alter table storage.objects enable row level security;
alter table storage.buckets enable row level security;
grant usage, create on schema storage to supabase_storage_admin;

-- The history tables are the CLI's, which logs in as `postgres`.
alter schema supabase_migrations owner to postgres;
alter table supabase_migrations.schema_migrations owner to postgres;
alter table supabase_migrations.seed_files owner to postgres;

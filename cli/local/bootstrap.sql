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

alter database postgres owner to postgres;
grant all on database postgres to postgres;
alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;
create extension if not exists pgcrypto with schema extensions;
alter database postgres set search_path = "$user", public, extensions;

create schema if not exists realtime;
grant usage on schema realtime to postgres, anon, authenticated, service_role;

do $$
begin
    if not exists (select from pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
    end if;
end
$$;
alter publication supabase_realtime owner to postgres;

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

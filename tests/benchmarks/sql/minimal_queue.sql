-- The least that a queue can be: a table, an index on what waits, `for update skip locked`.
create schema minimal;

create table minimal.jobs (
    id bigint generated always as identity primary key,
    status text not null default 'pending',
    payload jsonb not null default '{}',
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now()
);
create index on minimal.jobs (id) where status = 'pending';
grant usage on schema minimal to service_role;
grant all on all tables in schema minimal to service_role;

-- Uploads: how many bytes an account may hold in the buckets that its owner fills himself. What the system makes lies
-- in results; credits bound that.
--
-- The bound is in triggers, because Storage inserts an upload's row twice: as its owner, to see whether he may, which
-- it takes back; and when the bytes are there as the service, past every policy. The first time only the request's
-- headers tell the size, or nothing does; the second time Storage has counted. If it is refused then, Storage removes
-- the bytes. So nobody gets past the bound by many uploads at once or by a wrong size.

-- A count of what is stored now, because to add up the files at each upload would take longer the more there are. An
-- account without a row is added up once, at its next upload: that is what a new project does with the data of another.
create table private.upload_totals (
    user_id uuid primary key references public.profiles (id) on delete cascade,
    bytes bigint not null
);

comment on table private.upload_totals is
'The bytes that an account holds in originals and avatars, as private.upload_bytes counts them. The triggers on '
'storage.objects write it, and make a row that was deleted anew.';

alter table private.upload_totals enable row level security;

-- A trial is no payment, and neither is one whose money went back. A plan that an admin gives counts while it runs.
create function private.is_customer(p_user_id uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return exists (
        select 1 from public.credit_grants as g
        where
            g.user_id = p_user_id
            and g.money_amount > coalesce((
                select sum(c.money_amount) from public.credit_clawbacks as c
                where c.grant_id = g.id and c.reversed_at is null
            ), 0)
    ) or exists (
        select 1 from public.subscription_history as h
        where
            h.user_id = p_user_id
            and h.stripe_subscription_id is null
            and h.status = 'active'
            and h.ended_at > now()
    );
end;
$$;

-- The most bytes that an account may hold: the place to change it. Where it falls below what is there, nothing goes,
-- but nothing more comes in.
create function private.upload_limit(p_is_customer boolean)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
    return case when p_is_customer then 100 else 2 end * 1024::bigint ^ 3;
end;
$$;

-- What a file counts, from what Storage says about it: `size` where it has counted the bytes, `contentLength` where the
-- request merely says so. A small file counts more than it has, because its row takes room as well.
create function private.upload_bytes(p_metadata jsonb)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
declare
    c_least constant bigint := 16 * 1024;
    c_size constant text := coalesce(p_metadata ->> 'size', p_metadata ->> 'contentLength');
begin
    return greatest(c_least, case when c_size ~ '^\d{1,15}$' then c_size::bigint end);
end;
$$;

-- The files of an account added up. The collation is that of the index that a hosted project has.
create function private.sum_uploads(p_user_id uuid)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
begin
    return (
        select coalesce(sum(private.upload_bytes(o.metadata)), 0) from storage.objects as o
        where o.bucket_id in ('originals', 'avatars') and starts_with(o.name collate "C", p_user_id || '/')
    );
end;
$$;

-- Adds to an account's count, and refuses an upload that it has no room for. Of a refusal Storage passes on the message
-- alone, and that only for this SQLSTATE (as a 403); whatever else is raised, it calls a database error.
create function private.add_upload_bytes(p_user_id uuid, p_bytes bigint, p_is_upload boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_total bigint;
    v_is_customer boolean;
    v_limit bigint;
    v_next text;
begin
    update private.upload_totals as t
    set bytes = greatest(t.bytes + p_bytes, 0)
    where t.user_id = p_user_id
    returning t.bytes into v_total;
    if not found then
        -- The new file is among those that are added up, except in the count of whoever was first at the same time.
        insert into private.upload_totals as t (user_id, bytes)
        values (p_user_id, private.sum_uploads(p_user_id))
        on conflict (user_id) do update set bytes = greatest(t.bytes + p_bytes, 0)
        returning t.bytes into v_total;
    end if;

    -- Whoever adds nothing is let through: he may be above it since his payment went back.
    if p_is_upload and p_bytes > 0 then
        v_is_customer := private.is_customer(p_user_id);
        v_limit := private.upload_limit(v_is_customer);
        if v_total > v_limit then
            v_next := case
                when v_is_customer then 'Delete pictures that you no longer need, then upload again.'
                else format(
                    'Delete pictures that you no longer need, or buy credits and get %s GB, then upload again.',
                    private.upload_limit(true) / 1024 ^ 3)
            end;
            perform private.refuse(
                '42501',
                format(
                    'There is no room for this file: %s of your %s GB are in use. %s',
                    trim_scale(round((v_total - p_bytes) / 1024.0 ^ 3, 2)), v_limit / 1024 ^ 3, v_next),
                jsonb_build_object('used_bytes', v_total - p_bytes, 'limit_bytes', v_limit, 'file_bytes', p_bytes),
                v_next);
        end if;
    end if;
end;
$$;

-- Once for each statement, so that Storage may delete a thousand files in one. What a person uploads has an owner, also
-- in the row that Storage writes as the service; what a service puts there has none: it counts, and is never refused.
-- Nor is what lies in nobody's folder, which the sweep of orphans finds.
create type private.stored_file as (bucket_id text, name text, metadata jsonb, owner_id text, sign integer);

create function private.count_uploads()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_files private.stored_file[] := '{}';
    v_change record;
begin
    if tg_op <> 'DELETE' then
        select array_agg((a.bucket_id, a.name, a.metadata, a.owner_id, 1)::private.stored_file) into v_files
        from added as a;
    end if;
    if tg_op <> 'INSERT' then
        v_files := v_files || array(
            select (r.bucket_id, r.name, r.metadata, null, -1)::private.stored_file from removed as r
        );
    end if;
    for v_change in
        select
            p.id,
            sum(f.sign * private.upload_bytes(f.metadata))::bigint as bytes,
            bool_or(f.owner_id is not null) or auth.uid() is not null as is_upload
        from unnest(v_files) as f
        inner join public.profiles as p on p.id = case
            when f.bucket_id in ('originals', 'avatars') and f.name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/'
                then split_part(f.name, '/', 1)::uuid
        end
        group by p.id
        having sum(f.sign * private.upload_bytes(f.metadata)) <> 0
        order by p.id
    loop
        perform private.add_upload_bytes(v_change.id, v_change.bytes, v_change.is_upload);
    end loop;
    return null;
end;
$$;

create trigger count_uploads_added
after insert on storage.objects
referencing new table as added
for each statement execute function private.count_uploads();

create trigger count_uploads_changed
after update on storage.objects
referencing new table as added old table as removed
for each statement execute function private.count_uploads();

create trigger count_uploads_removed
after delete on storage.objects
referencing old table as removed
for each statement execute function private.count_uploads();

create function private.account_upload_usage(p_user_id uuid)
returns table (used_bytes bigint, limit_bytes bigint)
language plpgsql
stable
set search_path = ''
as $$
begin
    return query
    select coalesce(t.bytes, private.sum_uploads(p.id)), private.upload_limit(private.is_customer(p.id))
    from public.profiles as p
    left join private.upload_totals as t on t.user_id = p.id
    where p.id = p_user_id;
    if not found then
        perform private.refuse(
            'PT404', 'Account not found', jsonb_build_object('user_id', p_user_id), 'Check the id.');
    end if;
end;
$$;

create function private.upload_usage()
returns table (used_bytes bigint, limit_bytes bigint)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return query select u.* from private.account_upload_usage(auth.uid()) as u;
end;
$$;

grant execute on function private.upload_usage() to authenticated;

create function public.upload_usage()
returns table (used_bytes bigint, limit_bytes bigint)
language plpgsql
stable
set search_path = ''
as $$
begin
    return query select u.* from private.upload_usage() as u;
end;
$$;

comment on function public.upload_usage() is
'How many bytes the caller holds in originals and avatars, and the most he may: 2 GB, and 100 GB for who has paid or '
'was given a plan. A file counts 16 KB at least. Storage refuses an upload beyond it with a 403. Error: 404 deleted.';
grant execute on function public.upload_usage() to authenticated;

create function public.user_upload_usage(p_user_id uuid)
returns table (used_bytes bigint, limit_bytes bigint)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return query select u.* from private.account_upload_usage(p_user_id) as u;
end;
$$;

comment on function public.user_upload_usage(uuid) is
'Operators: what upload_usage gives, for any account. Error: 404 unknown account.';
grant execute on function public.user_upload_usage(uuid) to service_role;

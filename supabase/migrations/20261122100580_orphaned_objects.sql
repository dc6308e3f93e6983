-- Objects in storage that no row needs any more. Rows are deleted by SQL, bytes only through the Storage API: the
-- maintenance service asks here which, and removes them there.

create function private.orphaned_storage_objects(p_limit integer)
returns table (bucket_id text, name text)
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
    -- An upload comes before its row, and a result before its completion.
    c_youngest constant interval := '1 day'::interval;
    c_uuid constant text := '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
    c_result_key constant text := '^[^/]+/' || c_uuid || '/[^/]+$';
begin
    perform private.check_limit(p_limit, 1000);

    return query
    with old_objects as (
        select
            o.bucket_id,
            o.name,
            case when o.name ~ ('^' || c_uuid || '/') then split_part(o.name, '/', 1)::uuid end as owner_id,
            -- results/<owner>/<operation>/<file>; what has another form was not written by a worker, and stays.
            case when o.bucket_id = 'results' and o.name ~ c_result_key then split_part(o.name, '/', 2)::uuid end
                as operation_id
        from storage.objects as o
        where o.bucket_id in ('originals', 'results', 'avatars') and o.created_at < now() - c_youngest
    )
    select o.bucket_id, o.name from old_objects as o
    where
        -- What came in while its account was being deleted.
        o.owner_id is not null and not exists (select 1 from public.profiles as p where p.id = o.owner_id)
        or o.bucket_id = 'originals'
        and not exists (select 1 from public.images as i where i.original_url = 'originals/' || o.name)
        or o.operation_id is not null
        and not exists (
            select 1 from public.image_operations as p
            where
                p.id = o.operation_id
                and (
                    p.status in ('pending', 'processing')
                    or 'results/' || o.name in (p.output_data ->> 'url', p.output_data ->> 'thumbnail_url')
                )
        )
    limit p_limit;
end;
$$;

revoke execute on function private.orphaned_storage_objects(integer) from public;
grant execute on function private.orphaned_storage_objects(integer) to service_role;

create function public.orphaned_storage_objects(p_limit integer default 100)
returns table (bucket_id text, name text)
language plpgsql
stable
set search_path = ''
set statement_timeout = '55s'
as $$
begin
    return query select o.bucket_id, o.name from private.orphaned_storage_objects(p_limit) as o;
end;
$$;

comment on function public.orphaned_storage_objects(integer) is
'Up to p_limit (1 to 1000) objects older than a day that nothing needs: uploads in originals that no image names, '
'files in results whose operation is gone, or has ended without naming them, and whatever lies in the folder of an '
'account that is gone. Remove them through the Storage API and '
'call again until none is left. Reads every object where few are orphans: call it daily, not every minute.';
revoke execute on function public.orphaned_storage_objects(integer) from public;
grant execute on function public.orphaned_storage_objects(integer) to service_role;

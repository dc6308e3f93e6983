-- Objects in storage that no row needs any more. Rows are deleted by SQL, bytes only through the Storage API: the
-- maintenance service asks here which, and removes them there.

-- Every object has to be looked at, so each table is read once and joined by hashes: finding the rows of each object by
-- themselves took six times as long, for there may be millions. Patterns are dear too, and asked last.
create function public.orphaned_storage_objects(p_limit integer default 100)
returns table (bucket_id text, name text)
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '55s'
set enable_nestloop = off
set jit = off
as $$
declare
    -- An upload comes before its row, and a result before its completion.
    c_youngest constant interval := '1 day'::interval;
    c_uuid constant text := '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
    c_owned_key constant text := '^' || c_uuid || '/';
    -- results/<owner>/<operation>/<file>; what has another form was not written by a worker, and stays.
    c_result_key constant text := '^[^/]+/' || c_uuid || '/[^/]+$';
begin
    perform private.check_limit(p_limit, 1000);
    return query
    select o.bucket_id, o.name
    from storage.objects as o
    left join public.profiles as p on p.id::text = split_part(o.name, '/', 1)
    left join public.images as i on o.bucket_id = 'originals' and i.original_url = 'originals/' || o.name
    left join public.image_operations as r on o.bucket_id = 'results' and r.id::text = split_part(o.name, '/', 2)
    where
        o.bucket_id in ('originals', 'results', 'avatars') and o.created_at < now() - c_youngest
        and (
            -- What came in while its account was being deleted.
            p.id is null and o.name ~ c_owned_key
            or o.bucket_id = 'originals' and i.id is null
            or o.bucket_id = 'results'
            and (
                r.status in ('pending', 'processing')
                or 'results/' || o.name in (r.output_data ->> 'url', r.output_data ->> 'thumbnail_url')
                or r.output_data -> 'files' @> jsonb_build_array(jsonb_build_object('url', 'results/' || o.name))
            ) is not true
            and o.name ~ c_result_key
        )
    limit p_limit;
end;
$$;

comment on function public.orphaned_storage_objects(integer) is
'Up to p_limit (1 to 1000) objects older than a day that nothing needs: uploads in originals that no image names, '
'files in results whose operation is gone, or has ended without naming them, and whatever lies in the folder of an '
'account that is gone. Remove them through the Storage API and '
'call again until none is left. Reads every object: call it daily, not every minute. Error: 400 bad limit.';
grant execute on function public.orphaned_storage_objects(integer) to service_role;

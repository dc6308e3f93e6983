-- Images: one row per picture, what an account may hold, uploads and downloads.
--
-- The *_url columns hold 'bucket/key'; whoever may read the object asks Storage for a signed URL.

-- A function, because Postgres parses a constraint's text anew in every statement that writes the table, and a
-- function's once in a session; the longer the list, the dearer.
create function private.is_processing_status(p_status text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    return p_status in ('pending', 'processing', 'completed', 'failed');
end;
$$;

grant execute on function private.is_processing_status(text) to authenticated, service_role;

create table public.images (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    original_filename text not null,
    original_file_size integer,
    original_file_type text,
    original_url text,
    processed_url text,
    thumbnail_url text,
    final_url text,
    processing_status text not null default 'pending' check (private.is_processing_status(processing_status)),
    processing_error text,
    is_favorite boolean not null default false,
    download_count integer not null default 0,
    metadata jsonb,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
)
-- Room for the new versions of rows whose operations move, on the same page.
with (fillfactor = 80);

comment on table public.images is
'One row per picture. The browser inserts it after the upload and edits the name, the favourite mark and final_url; '
'the operations write the status and the results. Owners and admins read, edit and delete.';
comment on column public.images.original_url is 'bucket/key of the upload. Null for a generated picture.';
comment on column public.images.processed_url is 'bucket/key of the newest result.';
comment on column public.images.expires_at is
'When the picture goes, with its files. From then on it takes no request. Null: never.';
comment on column public.images.final_url is 'bucket/key of the result that the owner chose for print.';

-- With the time, because lists show the newest first: from the owner's images alone, however long ago they were made.
create index idx_images_user_id on public.images (user_id, created_at);
-- The rare statuses, whatever the number of completed images. It has its price, since each move of an operation then
-- writes all indexes of its image: 15 microseconds and 360 bytes of WAL. A BRIN index spares that, and finds the failed
-- among 150,000 images by reading all of their 4,060 blocks instead of 302.
create index idx_images_processing_status on public.images (processing_status)
where processing_status <> 'completed';
create index idx_images_created_at on public.images (created_at);
-- Most images have none, and each move of an operation writes every index of its image.
create index idx_images_expires_at on public.images (expires_at)
where expires_at is not null;
-- Whether an uploaded object is in use. A hash, because a name of 1024 characters may be too long for a B-tree.
create index idx_images_original_url on public.images using hash (original_url);

-- Checks what a browser or a service may write. A trigger, because it runs when these columns are written; constraints
-- would be checked whenever an operation moves.
create function private.check_image()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
    -- More than any bucket takes.
    c_largest_file constant integer := 1024 * 1024 * 1024;
    v_wrong constant text := case
        when new.original_file_size not between 0 and c_largest_file
            then format('The original_file_size must be 0 to %s bytes', c_largest_file)
        -- A worker reads this object with the service key, so it must be the owner's own. Empty and dot segments are
        -- refused because some HTTP clients resolve them, which would lead out of the owner's folder; and with them
        -- what some read as dots and slashes: an escape, a backslash, a control character that they drop. Storage
        -- takes none.
        when not starts_with(new.original_url, 'originals/' || new.user_id::text || '/')
            or new.original_url ~ '(^|/)\.{0,2}(/|$)'
            or new.original_url ~ '[%\\[:cntrl:]]'
            then 'The original_url must name an object in the owner''s folder: originals/<owner>/…'
        when new.download_count < 0 then 'The download_count must be 0 or more'
    end;
begin
    if v_wrong is not null then
        perform private.refuse('PT400', v_wrong, jsonb_build_object('image_id', new.id), 'Mend it and try again.');
    end if;
    return new;
end;
$$;

create trigger check_image
before insert or update of user_id, original_file_size, original_url, download_count on public.images
for each row execute function private.check_image();

create trigger bound_lengths
before insert or update of original_filename, original_file_type, original_url on public.images
for each row execute function private.bound_lengths(
    'original_filename', 1, 255, 'original_file_type', 0, 255, 'original_url', 1, 1024
);

-- Every column but those that operations write: their functions set updated_at themselves, and the second trigger is
-- for a service that writes the columns directly.
create trigger update_images_updated_at
before update of id, user_id, original_filename, original_file_size, original_file_type, original_url, final_url,
is_favorite, download_count, metadata, expires_at, created_at on public.images
for each row execute function public.update_updated_at_column();

create trigger update_images_updated_at_with_results
before update of processed_url, thumbnail_url, processing_status, processing_error on public.images
for each row when (new.updated_at = old.updated_at)
execute function public.update_updated_at_column();

alter table public.images enable row level security;

create policy "Users view their own images, admins all" on public.images
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

create policy "Active users insert their own images, admins any" on public.images
for insert to authenticated
with check (
    (user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin())
);

create policy "Active users update their own images, admins all" on public.images
for update to authenticated
using ((user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()))
with check ((user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()));

create policy "Users delete their own images, admins all" on public.images
for delete to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select, delete on public.images to authenticated;
grant insert (user_id, original_filename, original_file_size, original_file_type, original_url)
on public.images to authenticated;
grant update (original_filename, is_favorite, final_url) on public.images to authenticated;
grant select, insert, update, delete on public.images to service_role;

-- Bounds what one account, or one collection, may hold: without it a free account fills the table in a few requests.
-- The trigger's arguments: the table that owns the rows, their column with its id, the most rows, and what to call it.
--
-- It runs once for each statement, so a bulk insert stays one. The owners' rows are locked first, in the order of
-- their ids, and counted after: two inserts at once cannot both take the last place. The lock is the ledger's own;
-- inserting a row that merely references the owner does not wait for it.
-- It comes after the new rows, which keeps the order of locks: nobody else can see those yet, let alone wait for them.
create function private.limit_rows()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_owner_table constant text := tg_argv[0];
    c_owner_column constant text := tg_argv[1];
    c_most_rows constant integer := tg_argv[2]::integer;
    v_owner_id uuid;
begin
    execute format(
        'select t.id from public.%I as t where t.id in (select i.%I from inserted as i) order by t.id for no key update',
        c_owner_table, c_owner_column);
    execute format(
        'select o.id from (select distinct i.%2$I as id from inserted as i) as o '
        'where exists (select 1 from public.%1$I as t where t.%2$I = o.id offset $1) limit 1',
        tg_table_name, c_owner_column)
    into v_owner_id using c_most_rows;
    if v_owner_id is not null then
        perform private.refuse(
            'PT429', format('The limit of %s %s is reached', c_most_rows, tg_argv[3]),
            jsonb_build_object('table', tg_table_name, 'limit', c_most_rows, c_owner_column, v_owner_id),
            'Delete some that you no longer need, then try again.');
    end if;
    return null;
end;
$$;

create trigger limit_images
after insert on public.images
referencing new table as inserted
for each statement execute function private.limit_rows('profiles', 'user_id', 10000, 'images in an account');

-- Logs uploads. A picture that the system made, or that an admin or a service put in, is nobody's upload.
-- One entry for a statement, which of many pictures says how many: the log keeps what the limit of images lets go, so
-- whoever inserts and deletes them by the thousand must not fill it by the thousand.
create function private.record_uploads()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_user_id constant uuid := auth.uid();
    v_images bigint;
    v_first jsonb;
begin
    select
        count(*),
        (array_agg(jsonb_build_object(
            'image_id', i.id, 'file_type', i.original_file_type, 'file_size', i.original_file_size)))[1]
    into v_images, v_first
    from inserted as i
    where i.user_id = v_user_id and i.original_url is not null;
    if v_images > 0 then
        perform private.record_activity(
            v_user_id, 'upload', case when v_images > 1 then jsonb_build_object('images', v_images) else v_first end,
            (select p.last_activity_at from public.profiles as p where p.id = v_user_id));
    end if;
    return null;
end;
$$;

create trigger record_uploads
after insert on public.images
referencing new table as inserted
for each statement execute function private.record_uploads();

-- Counts a download of the caller's own image and returns the new count.
create function private.record_image_download(p_image_id uuid)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_user_id constant uuid := auth.uid();
    v_last_activity_at timestamptz;
    v_count integer;
begin
    -- The lock order: the profile, which the activity may write, before the image.
    select p.last_activity_at into v_last_activity_at from public.profiles as p
    where p.id = v_user_id
    for no key update;
    update public.images as i
    set download_count = least(i.download_count::bigint + 1, 2147483647)
    where i.id = p_image_id and i.user_id = v_user_id
    returning i.download_count into v_count;
    if not found then
        perform private.refuse(
            'PT404', 'Image not found', jsonb_build_object('image_id', p_image_id), 'Pass the id of your own image.');
    end if;
    perform private.record_activity(
        v_user_id, 'download', jsonb_build_object('image_id', p_image_id), v_last_activity_at);
    return v_count;
end;
$$;

grant execute on function private.record_image_download(uuid) to authenticated;

create function public.record_image_download(p_image_id uuid)
returns integer
language plpgsql
set search_path = ''
as $$
begin
    return private.record_image_download(p_image_id);
end;
$$;

comment on function public.record_image_download(uuid) is
'Adds 1 to the download_count of the caller''s own image and returns it. Error: 404 not the caller''s image.';
grant execute on function public.record_image_download(uuid) to authenticated;

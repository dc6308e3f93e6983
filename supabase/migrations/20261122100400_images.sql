-- Images, collections, and the storage buckets behind them.
--
-- The *_url columns hold 'bucket/key'; whoever may read the object asks Storage for a signed URL.

create table public.images (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    original_filename text not null check (char_length(original_filename) between 1 and 255),
    original_file_size integer check (original_file_size >= 0),
    original_file_type text check (char_length(original_file_type) <= 255),
    original_url text check (char_length(original_url) <= 1024),
    processed_url text,
    thumbnail_url text,
    final_url text,
    processing_status text not null default 'pending'
    check (processing_status in ('pending', 'processing', 'completed', 'failed')),
    processing_error text,
    is_favorite boolean not null default false,
    download_count integer not null default 0 check (download_count >= 0),
    metadata jsonb,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- A worker reads this object with the service key, so it must be the owner's own. Empty and dot segments are
    -- refused because some HTTP clients resolve them, which would lead out of the owner's folder.
    constraint images_original_url_is_the_owners
    check (
        starts_with(original_url, 'originals/' || user_id::text || '/')
        and original_url !~ '(^|/)\.{0,2}(/|$)'
    )
);

comment on table public.images is
'One row per picture. The browser inserts it after the upload and edits the name, the favourite mark and final_url; '
'the operations write the status and the results. Owners and admins read, edit and delete.';
comment on column public.images.original_url is 'bucket/key of the upload. Null for a generated picture.';
comment on column public.images.processed_url is 'bucket/key of the newest result.';
comment on column public.images.final_url is 'bucket/key of the result that the owner chose for print.';

create index idx_images_user_id on public.images (user_id);
create index idx_images_processing_status on public.images (processing_status);
create index idx_images_created_at on public.images (created_at);
create index idx_images_expires_at on public.images (expires_at);
-- Whether an uploaded object is in use. A hash, because a name of 1024 characters may be too long for a B-tree.
create index idx_images_original_url on public.images using hash (original_url);

create trigger update_images_updated_at
before update on public.images
for each row execute function public.update_updated_at_column();

alter table public.images enable row level security;

create policy "Users view their own images, admins all" on public.images
for select to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

create policy "Active users insert their own images, admins any" on public.images
for insert to authenticated
with check (
    (user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin())
);

create policy "Users update their own images, admins all" on public.images
for update to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()))
with check (user_id = (select auth.uid()) or (select private.is_admin()));

create policy "Users delete their own images, admins all" on public.images
for delete to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select, delete on public.images to authenticated;
grant insert (user_id, original_filename, original_file_size, original_file_type, original_url)
on public.images to authenticated;
grant update (original_filename, is_favorite, final_url) on public.images to authenticated;
grant select, insert, update, delete on public.images to service_role;

create table public.image_collections (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 200),
    description text check (char_length(description) <= 2000),
    is_public boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.image_collections is
'Named sets of images. Owners and admins read and write them; everybody reads the public ones.';

create index idx_image_collections_user_id on public.image_collections (user_id);

create trigger update_image_collections_updated_at
before update on public.image_collections
for each row execute function public.update_updated_at_column();

alter table public.image_collections enable row level security;

create policy "Visitors view public collections" on public.image_collections
for select to anon
using (is_public);

create policy "Users view their own and public collections, admins all" on public.image_collections
for select to authenticated
using (user_id = (select auth.uid()) or is_public or (select private.is_admin()));

create policy "Active users insert their own collections, admins any" on public.image_collections
for insert to authenticated
with check (
    (user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin())
);

create policy "Users update their own collections, admins all" on public.image_collections
for update to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()))
with check (user_id = (select auth.uid()) or (select private.is_admin()));

create policy "Users delete their own collections, admins all" on public.image_collections
for delete to authenticated
using (user_id = (select auth.uid()) or (select private.is_admin()));

grant select on public.image_collections to anon, authenticated;
grant delete on public.image_collections to authenticated;
grant insert (user_id, name, description, is_public) on public.image_collections to authenticated;
grant update (name, description, is_public) on public.image_collections to authenticated;
grant select, insert, update, delete on public.image_collections to service_role;

create table public.image_collection_items (
    id uuid primary key default gen_random_uuid(),
    collection_id uuid not null references public.image_collections (id) on delete cascade,
    image_id uuid not null references public.images (id) on delete cascade,
    added_at timestamptz not null default now(),
    unique (collection_id, image_id)
);

comment on table public.image_collection_items is
'Which image is in which collection. Readable with its collection; the owner of both puts an image in, '
'the owner of the collection takes it out.';

create index idx_image_collection_items_image_id on public.image_collection_items (image_id);

alter table public.image_collection_items enable row level security;

-- The subquery runs as the caller, so the policies of image_collections decide which collections exist for him.
create policy "Items are visible with their collection" on public.image_collection_items
for select to anon, authenticated
using (exists (select 1 from public.image_collections as c where c.id = image_collection_items.collection_id));

create policy "Active users put their images into their collections" on public.image_collection_items
for insert to authenticated
with check (
    (select private.is_active())
    and exists (
        select 1 from public.image_collections as c
        where c.id = image_collection_items.collection_id and c.user_id = (select auth.uid())
    )
    and exists (
        select 1 from public.images as i
        where i.id = image_collection_items.image_id and i.user_id = (select auth.uid())
    )
);

create policy "Users take images out of their collections, admins of any" on public.image_collection_items
for delete to authenticated
using (
    (select private.is_admin())
    or exists (
        select 1 from public.image_collections as c
        where c.id = image_collection_items.collection_id and c.user_id = (select auth.uid())
    )
);

grant select on public.image_collection_items to anon, authenticated;
grant insert (collection_id, image_id) on public.image_collection_items to authenticated;
grant delete on public.image_collection_items to authenticated;
grant select, insert, update, delete on public.image_collection_items to service_role;

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
    c_most_rows constant integer := tg_argv[2];
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

revoke execute on function private.limit_rows() from public;

create trigger limit_images
after insert on public.images
referencing new table as inserted
for each statement execute function private.limit_rows('profiles', 'user_id', 10000, 'images in an account');

create trigger limit_image_collections
after insert on public.image_collections
referencing new table as inserted
for each statement execute function private.limit_rows('profiles', 'user_id', 1000, 'collections in an account');

create trigger limit_image_collection_items
after insert on public.image_collection_items
referencing new table as inserted
for each statement execute function private.limit_rows(
    'image_collections', 'collection_id', 5000, 'images in a collection'
);

-- Logs uploads. A picture that the system made, or that an admin or a service put in, is nobody's upload.
create function private.record_uploads()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.record_activity(
        i.user_id, 'upload',
        jsonb_build_object('image_id', i.id, 'file_type', i.original_file_type, 'file_size', i.original_file_size))
    from inserted as i
    where i.user_id = (select auth.uid()) and i.original_url is not null;
    return null;
end;
$$;

revoke execute on function private.record_uploads() from public;

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
    v_count integer;
begin
    -- The lock order: the profile, which the activity may write, before the image.
    perform p.id from public.profiles as p where p.id = v_user_id for no key update;
    update public.images as i
    set download_count = least(i.download_count::bigint + 1, 2147483647)
    where i.id = p_image_id and i.user_id = v_user_id
    returning i.download_count into v_count;
    if not found then
        perform private.refuse(
            'PT404', 'Image not found', jsonb_build_object('image_id', p_image_id), 'Pass the id of your own image.');
    end if;
    perform private.record_activity(v_user_id, 'download', jsonb_build_object('image_id', p_image_id));
    return v_count;
end;
$$;

revoke execute on function private.record_image_download(uuid) from public;
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
revoke execute on function public.record_image_download(uuid) from public;
grant execute on function public.record_image_download(uuid) to authenticated;

-- Buckets. Keys start with the owner's id: <bucket>/<uid>/…
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values
(
    'originals', 'originals', false, 50 * 1024 * 1024,
    '{image/png,image/jpeg,image/webp,image/tiff,image/gif,image/bmp,image/svg+xml}'
),
('results', 'results', false, null, null),
('avatars', 'avatars', true, 5 * 1024 * 1024, '{image/png,image/jpeg,image/webp,image/gif}')
on conflict (id) do update set
    public = excluded.public,
    file_size_limit = excluded.file_size_limit,
    allowed_mime_types = excluded.allowed_mime_types;

-- Objects that a worker uploads have no owner: the path decides, never the owner column.
create policy "Users view objects in their own folders, admins all" on storage.objects
for select to authenticated
using (
    bucket_id in ('originals', 'results', 'avatars')
    and ((storage.foldername(name))[1] = (select auth.uid())::text or (select private.is_admin()))
);

create policy "Active users upload into their own folders" on storage.objects
for insert to authenticated
with check (
    bucket_id in ('originals', 'avatars')
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select private.is_active())
);

-- An upsert needs it, beside select and insert.
create policy "Active users replace objects in their own folders" on storage.objects
for update to authenticated
using (
    bucket_id in ('originals', 'avatars')
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select private.is_active())
)
with check (
    bucket_id in ('originals', 'avatars')
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select private.is_active())
);

-- Results too: nobody but the owner decides how long his pictures stay. Browsers remove objects through the Storage
-- API, which removes the bytes with the row; deleting the row by SQL would leave them.
create policy "Users delete objects in their own folders" on storage.objects
for delete to authenticated
using (
    bucket_id in ('originals', 'results', 'avatars')
    and (storage.foldername(name))[1] = (select auth.uid())::text
);

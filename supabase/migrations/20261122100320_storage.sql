-- Storage: the buckets, and who reaches which object.

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
create policy "Users view their own and published objects, admins all" on storage.objects
for select to authenticated
using (
    bucket_id in ('originals', 'results', 'avatars')
    and (
        (storage.foldername(name))[1] = (select auth.uid())::text
        or (select private.is_admin())
        or (select private.is_published_object(bucket_id, name))
    )
);

create policy "Visitors view published objects" on storage.objects
for select to anon
using (bucket_id = 'results' and (select private.is_published_object(bucket_id, name)));

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

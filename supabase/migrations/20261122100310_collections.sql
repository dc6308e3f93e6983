-- Collections: named sets of images, some of them public.
--
-- What a public collection shows to everybody: its own row, its items, and of each image the name, the thumbnail and,
-- where the owner chose one, the final file. It shows them through public_collection_images and a storage policy and
-- not through a policy on images, because a policy gives whole rows, and a row says more about its owner than the
-- picture does. The upload itself stays private: it may carry where and with what a photo was taken.

create table public.image_collections (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null default auth.uid() references public.profiles (id) on delete cascade,
    name text not null,
    description text,
    is_public boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.image_collections is
'Named sets of images. Owners read them and write them while they are active, admins read and write all; everybody '
'reads the public ones of active accounts.';

create index idx_image_collections_user_id on public.image_collections (user_id);
-- What visitors list.
create index idx_image_collections_public on public.image_collections (created_at)
where is_public;

create trigger bound_lengths
before insert or update of name, description on public.image_collections
for each row execute function private.bound_lengths('name', 1, 200, 'description', 0, 2000);

create trigger update_image_collections_updated_at
before update on public.image_collections
for each row execute function public.update_updated_at_column();

alter table public.image_collections enable row level security;

-- Whether everybody may see a collection: a deactivated account publishes nothing any more.
create function private.is_public_collection(p_collection_id uuid)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return exists (
        select 1 from public.image_collections as c
        inner join public.profiles as p on p.id = c.user_id
        where c.id = p_collection_id and c.is_public and p.is_active
    );
end;
$$;

grant execute on function private.is_public_collection(uuid) to anon, authenticated;

create policy "Visitors view public collections" on public.image_collections
for select to anon
using (is_public and (select private.is_public_collection(id)));

create policy "Users view their own and public collections, admins all" on public.image_collections
for select to authenticated
using (
    user_id = (select auth.uid())
    or (select private.is_admin())
    or (is_public and (select private.is_public_collection(id)))
);

create policy "Active users insert their own collections, admins any" on public.image_collections
for insert to authenticated
with check (
    (user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin())
);

create policy "Active users update their own collections, admins all" on public.image_collections
for update to authenticated
using ((user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()))
with check ((user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()));

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
'Which image is in which collection. Readable with its collection; the owner of both puts an image in while he is '
'active and takes it out, and so does an admin. No collection holds an image of another account: it would publish it.';

create index idx_image_collection_items_image_id on public.image_collection_items (image_id);

alter table public.image_collection_items enable row level security;

-- The subquery runs as the caller, so the policies of image_collections decide which collections exist for him.
create policy "Items are visible with their collection" on public.image_collection_items
for select to anon, authenticated
using (exists (select 1 from public.image_collections as c where c.id = image_collection_items.collection_id));

create policy "Active users fill their own collections, admins any" on public.image_collection_items
for insert to authenticated
with check (
    exists (
        select 1 from public.image_collections as c
        inner join public.images as i on i.user_id = c.user_id
        where
            c.id = image_collection_items.collection_id
            and i.id = image_collection_items.image_id
            and ((c.user_id = (select auth.uid()) and (select private.is_active())) or (select private.is_admin()))
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

-- Both together bound what one account may hold, and what its export and its deletion cost.
create trigger limit_image_collections
after insert on public.image_collections
referencing new table as inserted
for each statement execute function private.limit_rows('profiles', 'user_id', 200, 'collections in an account');

create trigger limit_image_collection_items
after insert on public.image_collection_items
referencing new table as inserted
for each statement execute function private.limit_rows(
    'image_collections', 'collection_id', 2000, 'images in a collection'
);

-- What everybody sees of the images in a public collection.
create function private.public_collection_images(p_collection_id uuid)
returns table (image_id uuid, original_filename text, thumbnail_url text, final_url text, added_at timestamptz)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    if p_collection_id is null or not private.is_public_collection(p_collection_id) then
        perform private.refuse(
            'PT404', 'Collection not found', jsonb_build_object('collection_id', p_collection_id),
            'Pass the id of a public collection.');
    end if;

    return query
    select i.id, i.original_filename, i.thumbnail_url, i.final_url, m.added_at
    from public.image_collection_items as m
    inner join public.image_collections as c on c.id = m.collection_id
    inner join public.images as i on i.id = m.image_id and i.user_id = c.user_id
    where m.collection_id = p_collection_id
    order by m.added_at, m.id;
end;
$$;

grant execute on function private.public_collection_images(uuid) to anon, authenticated;

create function public.public_collection_images(p_collection_id uuid)
returns table (image_id uuid, original_filename text, thumbnail_url text, final_url text, added_at timestamptz)
language plpgsql
stable
set search_path = ''
as $$
begin
    return query
    select i.image_id, i.original_filename, i.thumbnail_url, i.final_url, i.added_at
    from private.public_collection_images(p_collection_id) as i;
end;
$$;

comment on function public.public_collection_images(uuid) is
'The images of a public collection as everybody sees them, in the order in which they were added. thumbnail_url and '
'final_url are bucket/key, readable by everybody while the collection is public; each is null where there is none. '
'Error: 404 no public collection.';
grant execute on function public.public_collection_images(uuid) to anon, authenticated;

-- Whether an object is a thumbnail or a chosen file of an image in a public collection. Its key names the operation
-- that made it (results/<owner>/<operation>/<file>), so every step is a look-up by a key.
create function private.is_published_object(p_bucket_id text, p_name text)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
    c_result_key constant text := '^[^/]+/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+$';
begin
    if p_bucket_id <> 'results' or p_name !~ c_result_key then
        return false;
    end if;
    return exists (
        select 1 from public.image_operations as o
        inner join public.images as i on i.id = o.image_id and 'results/' || p_name in (i.thumbnail_url, i.final_url)
        inner join public.image_collection_items as m on m.image_id = i.id
        inner join public.image_collections as c on c.id = m.collection_id and c.user_id = i.user_id
        inner join public.profiles as p on p.id = c.user_id
        where o.id = split_part(p_name, '/', 2)::uuid and c.is_public and p.is_active
    );
end;
$$;

grant execute on function private.is_published_object(text, text) to anon, authenticated;

-- Realtime: two ways for browsers to learn of changes to what is theirs. An event is a signal to read again, never the
-- only way to learn of a change: it is delivered at most once.
--
-- Postgres Changes (the publication) is the simple way: a subscription names a table, and row level security decides
-- for each subscriber and each change who sees it. That judging is its price.
-- Broadcasts on a private topic of each user, `user:<id>`, are the way for many users at once: who listens is checked
-- when he joins. They cost the writer about 30 microseconds each, so they are off until a project chooses them:
--     select private.broadcast_to_users(true);

-- Workers listen to image_operations. What was deleted is known to every subscriber by its primary key, a random id.
alter publication supabase_realtime
add table public.profiles, public.images, public.image_operations, public.credit_transactions;

-- Everything about a user but what comes with the operation that he is told of: its price, its refund, and the state of
-- its image. A message names a row, and holds nothing of it that might not be his to see.
create function private.tell_user(p_user_id uuid, p_table_name text, p_operation text, p_record_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform realtime.send(
        jsonb_build_object('table', p_table_name, 'operation', p_operation, 'record_id', p_record_id),
        p_table_name,
        'user:' || p_user_id
    );
end;
$$;

create function private.tell_user_of_profile()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.tell_user(new.id, tg_table_name, tg_op, new.id);
    return null;
end;
$$;

create function private.tell_owner()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        perform private.tell_user(old.user_id, tg_table_name, tg_op, old.id);
    else
        perform private.tell_user(new.user_id, tg_table_name, tg_op, new.id);
    end if;
    return null;
end;
$$;

-- What is put into a collection, or taken out, is a change of the collection: one message, however many images.
create function private.tell_owner_of_items()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.tell_user(c.user_id, 'image_collections', 'UPDATE', c.id)
    from public.image_collections as c
    where c.id in (select i.collection_id from changed as i);
    return null;
end;
$$;

create trigger tell_user_of_profile
after update of email, first_name, last_name, company, phone, avatar_url, marketing_emails, notification_emails,
is_active, is_admin, subscription_status, subscription_plan on public.profiles
for each row execute function private.tell_user_of_profile();

create trigger tell_owner_of_credits
after insert on public.credit_transactions
for each row when (new.transaction_type not in ('usage', 'refund'))
execute function private.tell_owner();

create trigger tell_owner_of_image
after insert or delete or update of original_filename, is_favorite, final_url on public.images
for each row execute function private.tell_owner();

create trigger tell_owner_of_collection
after insert or update or delete on public.image_collections
for each row execute function private.tell_owner();

create trigger tell_owner_of_new_items
after insert on public.image_collection_items
referencing new table as changed
for each statement execute function private.tell_owner_of_items();

create trigger tell_owner_of_removed_items
after delete on public.image_collection_items
referencing old table as changed
for each statement execute function private.tell_owner_of_items();

create trigger tell_owner_of_new_operation
after insert on public.image_operations
for each row execute function private.tell_owner();

create trigger tell_owner_of_operation
after update of status on public.image_operations
for each row when (old.status is distinct from new.status)
execute function private.tell_owner();

create function private.broadcast_to_users(p_is_on boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_trigger record;
begin
    for v_trigger in
        select tgrelid::regclass as table_name, tgname as name
        from pg_catalog.pg_trigger
        where tgfoid in (
            'private.tell_owner()'::regprocedure, 'private.tell_user_of_profile()'::regprocedure,
            'private.tell_owner_of_items()'::regprocedure
        )
    loop
        execute format(
            'alter table %s %s trigger %I',
            v_trigger.table_name, case when p_is_on then 'enable' else 'disable' end, v_trigger.name
        );
    end loop;
end;
$$;

comment on function private.broadcast_to_users(boolean) is
'Whether users are told on their topics, user:<id>, of what changes; for the owner of the tables, in a migration.';

select private.broadcast_to_users(false);

-- Nobody but the database sends on these topics: there is no policy for insert.
create policy "Users listen to their own topic" on realtime.messages
for select to authenticated
using (extension = 'broadcast' and (select realtime.topic()) = 'user:' || (select auth.uid())::text);

select private.close_api();

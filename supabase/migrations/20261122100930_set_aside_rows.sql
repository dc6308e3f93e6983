-- Rows that a task cannot deal with: each stops itself, and no other.
--
-- Whatever goes through many rows in one transaction (a sweep, an expiry, a batch of mails) finds them, passing over
-- those that were set aside, and hands them to private.work_through. That does them all at once, as if it were not
-- there. Only where they fail because of one of them they are done one after the other, each in a subtransaction, and
-- those that fail again are set aside with the reason. An operator mends what is wrong and has them done after all.

create table public.set_aside_rows (
    task text not null check (char_length(task) between 1 and 100),
    row_id text not null check (char_length(row_id) between 1 and 200),
    -- No foreign key: whatever is wrong with an account, or holds it, must not keep its mark from being written.
    user_id uuid,
    input jsonb not null,
    sqlstate text not null,
    reason text not null,
    set_aside_at timestamptz not null default now(),
    primary key (task, row_id)
);

comment on table public.set_aside_rows is
'What a task could not do for one row, which would have stopped it for all others. Admins read; tasks write, and '
'retry_set_aside_rows does it after all.';
comment on column public.set_aside_rows.task is 'The function that met it, such as expire_credits.';
comment on column public.set_aside_rows.row_id is
'An operation, an account, an image, a campaign, a mail''s event; of a campaign''s recipient campaign:account.';
comment on column public.set_aside_rows.user_id is 'Whose it is, if it is an account''s; goes with that.';
comment on column public.set_aside_rows.input is 'What the task needs to do it again.';

create index idx_set_aside_rows_user_id on public.set_aside_rows (user_id);

alter table public.set_aside_rows enable row level security;

create policy "Admins view what was set aside" on public.set_aside_rows
for select to authenticated
using ((select private.is_admin()));

grant select on public.set_aside_rows to authenticated, service_role;

create function private.forget_set_aside_rows()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.set_aside_rows as s where s.user_id = old.id;
    return old;
end;
$$;

create trigger forget_set_aside_rows
before delete on public.profiles
for each row execute function private.forget_set_aside_rows();

-- Whether an error says that something is wrong with the row, and not that the database cannot do it now: a deadlock,
-- a lock that did not come, a full disk, a shutdown, a function that is missing in the midst of an upgrade. An
-- unreadable page (XX001) is wrong with the rows on it.
create function private.is_fault_of_row(p_sqlstate text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
    -- Cardinality, data, constraints, limits of an entry; what functions raise; what this project refuses.
    return left(p_sqlstate, 2) in ('21', '22', '23', '54', 'P0', 'PT') or p_sqlstate = 'XX001';
end;
$$;

create function private.ids_of(p_rows jsonb, p_field text)
returns uuid[]
language plpgsql
immutable
set search_path = ''
as $$
begin
    return array(
        select (r.item ->> p_field)::uuid from jsonb_array_elements(p_rows) with ordinality as r (item, place)
        order by r.place
    );
end;
$$;

-- Does a task for rows, and returns an array of what it did.
create function private.do_task(p_task text, p_rows jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
begin
    case p_task
        when 'requeue_lost_image_operations' then
            return private.take_back_operations(private.ids_of(p_rows, 'id'));
        when 'expire_credits' then
            return private.expire_credits_of(private.ids_of(p_rows, 'id'), (p_rows #>> '{0, now}')::timestamptz);
        when 'end_comped_subscriptions' then
            return private.end_comped_subscriptions_of(private.ids_of(p_rows, 'id'));
        when 'queue_expiring_credit_emails' then
            return private.tell_of_expiring_credits(private.ids_of(p_rows, 'id'));
        when 'queue_expiring_image_emails' then
            return private.tell_of_expiring_images(private.ids_of(p_rows, 'id'));
        when 'delete_expired_images' then
            return private.delete_images(private.ids_of(p_rows, 'id'));
        when 'expand_email_campaigns' then
            return private.expand_email_campaign((p_rows #>> '{0, id}')::uuid, (p_rows #>> '{0, limit}')::integer);
        when 'queue_campaign_emails' then
            return private.queue_campaign_emails(
                (p_rows #>> '{0, campaign_id}')::uuid, private.ids_of(p_rows, 'user_id'));
        when 'record_email_events' then
            return private.record_email_facts(array(
                select f from jsonb_populate_recordset(null::private.email_fact, p_rows) as f));
    end case;
end;
$$;

-- Does a task for each of these rows, objects with an id and, where it is an account's, its user_id. Returns an array
-- of what it did. An outage fails it as a whole.
create function private.work_through(p_task text, p_rows jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_row jsonb;
    v_done jsonb := '[]';
begin
    if p_rows = '[]' then
        return v_done;
    end if;
    begin
        return private.do_task(p_task, p_rows);
    exception
        when others then
            if not private.is_fault_of_row(sqlstate) then
                raise;
            end if;
    end;
    for v_row in select jsonb_array_elements(p_rows)
    loop
        begin
            v_done := v_done || private.do_task(p_task, jsonb_build_array(v_row));
        exception
            when others then
                if not private.is_fault_of_row(sqlstate) then
                    raise;
                end if;
                insert into public.set_aside_rows as s (task, row_id, user_id, input, sqlstate, reason)
                values (
                    p_task, v_row ->> 'id', (v_row ->> 'user_id')::uuid, v_row, sqlstate, left(sqlerrm, 1000)
                )
                on conflict (task, row_id) do update set
                    input = excluded.input, sqlstate = excluded.sqlstate, reason = excluded.reason,
                    set_aside_at = now();
        end;
    end loop;
    return v_done;
end;
$$;

create function public.retry_set_aside_rows(p_row_id text default null)
returns setof public.set_aside_rows
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    v_row public.set_aside_rows;
    v_is_found boolean := false;
begin
    for v_row in
        select s.* from public.set_aside_rows as s
        where p_row_id is null or s.row_id = p_row_id
        order by s.user_id, s.task, s.row_id
    loop
        v_is_found := true;
        -- The account first, and waited for: what is busy would be passed over.
        perform p.id from public.profiles as p where p.id = v_row.user_id for no key update;
        delete from public.set_aside_rows as s where (s.task, s.row_id) = (v_row.task, v_row.row_id);
        continue when not found; -- somebody else has come first
        perform private.work_through(v_row.task, jsonb_build_array(v_row.input));
        return query
        select s.* from public.set_aside_rows as s where (s.task, s.row_id) = (v_row.task, v_row.row_id);
    end loop;
    if p_row_id is not null and not v_is_found then
        perform private.refuse(
            'PT404', 'Nothing of this id was set aside', jsonb_build_object('row_id', p_row_id),
            'List what was: dtf operations aside');
    end if;
end;
$$;

comment on function public.retry_set_aside_rows(text) is
'Operators: does after all what was set aside, of one row or of all, and returns what still fails, with the reason. '
'Error: 404 nothing of this id was set aside.';
grant execute on function public.retry_set_aside_rows(text) to service_role;

create function public.count_set_aside_rows()
returns bigint
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return (select count(*) from public.set_aside_rows as s);
end;
$$;

comment on function public.count_set_aside_rows() is
'How many rows were set aside; 0 where nothing has to be mended.';
grant execute on function public.count_set_aside_rows() to service_role;

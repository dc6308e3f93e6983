-- The mails that the system writes by itself: each queued in the transaction of what it tells.
--
-- The triggers wait for what has happened to be written, so that they touch no function of another domain; most have a
-- condition, and writes that it does not meet pay next to nothing. Their data is ready to print; a test compares its
-- names with email_types.sample_data.

-- Money and days, ready to print.

create function private.printed_money(p_amount numeric, p_currency text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
    v_sign constant text := case upper(p_currency)
        when 'USD' then '$' when 'EUR' then '€' when 'GBP' then '£' when 'JPY' then '¥'
    end;
    v_amount constant text := to_char(
        p_amount,
        case private.currency_digits(p_currency)
            when 0 then 'FM999,999,999,990'
            when 3 then 'FM999,999,999,990.000'
            else 'FM999,999,999,990.00'
        end
    );
begin
    return coalesce(case when v_sign is null then v_amount || ' ' || upper(p_currency) else v_sign || v_amount end, '');
end;
$$;

create function private.printed_date(p_time timestamptz)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
    return coalesce(to_char(p_time at time zone 'UTC', 'FMDD FMMonth YYYY'), '');
end;
$$;

create function private.printed_balance(p_user_id uuid)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return (select private.counted(p.credits_remaining, 'credit') from public.profiles as p where p.id = p_user_id);
end;
$$;

create function private.printed_plan(p_plan_id uuid)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    return coalesce((select initcap(s.name) from public.subscription_plans as s where s.id = p_plan_id), '');
end;
$$;

-- Whether somebody was written to like this a short while ago.
create function private.was_mailed(p_user_id uuid, p_type text, p_within interval)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return exists (
        select from public.email_logs as l
        inner join public.email_templates as t on t.id = l.template_id
        where l.user_id = p_user_id and t.type = p_type and l.created_at > now() - p_within
    );
end;
$$;

-- What an account causes at no cost must not become many mails to somebody who never confirmed that the address is
-- his, also when the account is deleted and made anew. Counted by the address, of which only a keyed hash stays.
create table private.unconfirmed_mails (
    address_hash bytea primary key,
    since timestamptz not null default now(),
    mails integer not null default 1
);

comment on table private.unconfirmed_mails is
'How many mails went to addresses that nobody confirmed, within a day: keyed hashes, as in former_addresses.';

create index idx_unconfirmed_mails_since on private.unconfirmed_mails (since);

alter table private.unconfirmed_mails enable row level security;

-- Whether one more mail may go to an account for what it does at no cost; counts it.
create function private.may_cause_mail(p_user_id uuid)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_most constant integer := 5;
    c_window constant interval := '1 day'::interval;
    v_address bytea;
begin
    if private.has_confirmed_address(p_user_id) then
        return true;
    end if;
    select private.address_hash(p.email) into v_address from public.profiles as p where p.id = p_user_id;
    -- With those of others, a few at a time, so that no clock is needed.
    delete from private.unconfirmed_mails as m
    where
        m.since < now() - c_window and (
            m.address_hash = v_address or m.address_hash in (
                select old.address_hash from private.unconfirmed_mails as old
                where old.since < now() - c_window
                order by old.since
                limit 10
                for update skip locked
            )
        );
    insert into private.unconfirmed_mails as m (address_hash) values (v_address)
    on conflict (address_hash) do update set mails = m.mails + 1 where m.mails < c_most;
    return found;
end;
$$;

-- Welcome: when Auth calls the address confirmed, be it at once. One that an account had before is not welcomed again
-- unless somebody has confirmed it.

create function private.mail_welcome()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_credits constant integer := (select p.credits_remaining from public.profiles as p where p.id = new.id);
begin
    if not private.has_confirmed_address(new.id) and exists (
        select from private.former_addresses as f where f.address_hash = private.address_hash(new.email)
    ) then
        return null;
    elsif private.may_cause_mail(new.id) then
        perform private.queue_email(
            new.id, 'welcome', 'welcome:' || new.id,
            jsonb_build_object(
                'credits', case when v_credits > 0 then private.counted(v_credits, 'credit') else '' end));
    end if;
    return null;
end;
$$;

-- In the order of their names it comes after the trigger that makes the profile.
create trigger mail_welcome
after insert on auth.users
for each row when (new.email_confirmed_at is not null)
execute function private.mail_welcome();

create trigger mail_welcome_when_confirmed
after update of email_confirmed_at on auth.users
for each row when (old.email_confirmed_at is null and new.email_confirmed_at is not null)
execute function private.mail_welcome();

-- Payments. What Stripe is compared with may be years old: only what is news is told. That a plan is paid is told with
-- its first invoice.

create function private.mail_of_order()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_news constant interval := '30 days'::interval;
    v_product constant text := coalesce((
        select s.name from public.pay_as_you_go_packages as s where s.id = new.pay_as_you_go_package_id
    ), 'Plan ' || private.printed_plan(new.subscription_plan_id));
begin
    if new.created_at < now() - c_news then
        return null;
    elsif new.status = 'paid' then
        perform private.queue_email(
            new.user_id, 'receipt', 'receipt:' || new.id,
            jsonb_build_object(
                'product', v_product, 'credits', private.counted(new.credits, 'credit'),
                'amount', private.printed_money(new.amount, new.currency),
                'balance', private.printed_balance(new.user_id), 'date', private.printed_date(now()),
                'receipt_url', coalesce(new.receipt_url, '')));
    else
        perform private.queue_email(
            new.user_id, 'payment_failed', 'payment_failed:' || new.id,
            jsonb_build_object(
                'product', v_product, 'amount', private.printed_money(new.amount, new.currency), 'pay_url', '',
                'next_date', '', 'is_subscription', false));
    end if;
    return null;
end;
$$;

create trigger mail_of_order
after update of status on public.billing_orders
for each row when (
    old.status <> new.status
    and (new.status = 'failed' or (new.status = 'paid' and new.pay_as_you_go_package_id is not null))
)
execute function private.mail_of_order();

create function private.mail_of_paid_invoice()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_news constant interval := '30 days'::interval;
    v_plan constant text := private.printed_plan(new.subscription_plan_id);
    v_amount constant text := case
        when new.amount_paid > 0 then private.printed_money(new.amount_paid, new.currency) else ''
    end;
    v_credits constant bigint := coalesce((
        select sum(t.amount) from public.credit_transactions as t
        where
            t.user_id = new.user_id and t.metadata ->> 'stripe_invoice_id' = new.id
            and t.balance_after > t.balance_before
    ), 0);
    v_common constant jsonb := jsonb_build_object(
        'plan', v_plan, 'credits', private.counted(v_credits, 'credit'), 'amount', v_amount,
        'next_date', private.printed_date(new.period_end), 'receipt_url', coalesce(new.hosted_url, '')
    );
begin
    if coalesce(new.paid_at, new.created_at) < now() - c_news then
        return null;
    elsif new.reason = 'subscription_create' then
        perform private.queue_email(
            new.user_id, 'subscription_started', 'subscription_started:' || new.stripe_subscription_id,
            v_common || jsonb_build_object(
                -- A balance or a coupon may have paid for a period too: then that brought its credits.
                'is_trial', new.amount_paid = 0 and not exists (
                    select from public.credit_transactions as t
                    where t.user_id = new.user_id and starts_with(t.idempotency_key, 'invoice:' || new.id || ':')
                ),
                'is_gift', false));
    elsif new.reason = 'subscription_cycle' then
        perform private.queue_email(
            new.user_id, 'subscription_renewed', 'subscription_renewed:' || new.id,
            v_common || jsonb_build_object('balance', private.printed_balance(new.user_id)));
    elsif new.amount_paid > 0 then
        perform private.queue_email(
            new.user_id, 'receipt', 'receipt:' || new.id,
            jsonb_build_object(
                'product', 'Plan ' || v_plan, 'amount', v_amount,
                'credits', case when v_credits > 0 then private.counted(v_credits, 'credit') else '' end,
                'balance', private.printed_balance(new.user_id), 'date', private.printed_date(now()),
                'receipt_url', coalesce(new.hosted_url, '')));
    end if;
    return null;
end;
$$;

create trigger mail_of_paid_invoice
after insert or update of status, trouble on public.billing_invoices
for each row when (new.status = 'paid' and new.trouble is null)
execute function private.mail_of_paid_invoice();

-- Once for an invoice, however often Stripe tries again. The first payment of a subscription fails under the eyes of
-- who pays.
create function private.mail_of_failed_invoice()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_news constant interval := '30 days'::interval;
begin
    if new.created_at > now() - c_news then
        perform private.queue_email(
            new.user_id, 'payment_failed', 'payment_failed:' || new.id,
            jsonb_build_object(
                'product', private.printed_plan(new.subscription_plan_id),
                'amount', private.printed_money(new.amount_due, new.currency),
                'pay_url', coalesce(new.hosted_url, ''), 'next_date', private.printed_date(new.next_attempt_at),
                'is_subscription', true));
    end if;
    return null;
end;
$$;

create trigger mail_of_failed_invoice
after insert or update of failed_attempt on public.billing_invoices
for each row when (new.status = 'open' and new.failed_attempt is not null and new.reason <> 'subscription_create')
execute function private.mail_of_failed_invoice();

-- Subscriptions. Those of Stripe begin with their first invoice; the others are gifts.

create function private.mail_of_gift()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    v_credits constant integer := (
        select s.credits_per_month from public.subscription_plans as s where s.id = new.subscription_plan_id
    );
begin
    perform private.queue_email(
        new.user_id, 'subscription_started', 'subscription_started:' || new.id,
        jsonb_build_object(
            'plan', private.printed_plan(new.subscription_plan_id),
            'credits', private.counted(coalesce(v_credits, 0), 'credit'), 'amount', '',
            'next_date', private.printed_date(new.ended_at), 'receipt_url', '', 'is_trial', false, 'is_gift', true));
    return null;
end;
$$;

create trigger mail_of_gift
after insert on public.subscription_history
for each row when (new.stripe_subscription_id is null and new.status = 'active')
execute function private.mail_of_gift();

-- One mail a day for an end that was asked for, however often it is taken back and asked for again; and one for the end
-- itself where nobody had asked.
create function private.mail_of_cancellation()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    perform private.queue_email(
        new.user_id, 'subscription_cancelled',
        format(
            'subscription_cancelled:%s:%s', new.id,
            case
                when new.status = 'cancelled' then 'over'
                else to_char(coalesce(new.cancelled_at, new.cancel_at) at time zone 'UTC', 'YYYY-MM-DD')
                    || to_char(new.cancel_at at time zone 'UTC', ':YYYY-MM-DD')
            end),
        jsonb_build_object(
            'plan', private.printed_plan(new.subscription_plan_id),
            'end_date', private.printed_date(
                case when new.status = 'cancelled' then coalesce(new.ended_at, now()) else new.cancel_at end),
            'is_over', new.status = 'cancelled'));
    return null;
end;
$$;

create trigger mail_of_cancellation
after update of status, cancel_at on public.subscription_history
for each row when (
    old.cancel_at is null and old.status <> 'cancelled' and (new.cancel_at is not null or new.status = 'cancelled')
)
execute function private.mail_of_cancellation();

-- Whether somebody gets a reminder now. One mail speaks of all that ends within p_ahead, so the next one comes no
-- sooner. Asked before the limit, so that those who get none do not stand before the others.
create function private.may_be_reminded(p_user_id uuid, p_type text, p_ahead interval)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return not private.was_mailed(p_user_id, p_type, p_ahead) and exists (
        select from public.profiles as p where p.id = p_user_id and private.email_refusal(p, 'notification') is null
    );
end;
$$;

-- Credits.

create function private.mail_of_low_credits()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    if new.balance_before >= 5 and not private.was_mailed(new.user_id, 'credits_low', '1 day'::interval)
        and private.may_cause_mail(new.user_id) then
        perform private.queue_email(
            new.user_id, 'credits_low', 'credits_low:' || new.id,
            jsonb_build_object('balance', private.counted(new.balance_after, 'credit')));
    end if;
    return null;
end;
$$;

-- The conditions of the triggers on the ledger and the queue are short, because Postgres parses them anew in every
-- statement that writes the table.
create trigger mail_of_low_credits
after insert on public.credit_transactions
for each row when (new.balance_after < 5)
execute function private.mail_of_low_credits();

-- Queues a mail to these people about their credits that end within a week; the mails.
create function private.tell_of_expiring_credits(p_user_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    c_ahead constant interval := '7 days'::interval;
    v_person record;
    v_mails uuid[] := array[]::uuid[];
begin
    for v_person in
        select g.user_id, sum(g.remaining) as credits, min(g.expires_at) as first_end
        from public.credit_grants as g
        where
            g.user_id = any (p_user_ids)
            and not g.is_spent and g.expires_at > now() and g.expires_at <= now() + c_ahead
        group by g.user_id
        order by g.user_id
    loop
        v_mails := v_mails || private.queue_email(
            v_person.user_id, 'credits_expiring',
            format('credits_expiring:%s:%s', v_person.user_id, current_date),
            jsonb_build_object(
                'credits', private.counted(v_person.credits, 'credit'),
                'balance', private.printed_balance(v_person.user_id),
                'end_date', private.printed_date(v_person.first_end)));
    end loop;
    return to_jsonb(array_remove(v_mails, null));
end;
$$;

create function public.queue_expiring_credit_emails(p_limit integer default 1000)
returns integer
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    c_ahead constant interval := '7 days'::interval;
    v_people jsonb;
begin
    perform private.check_limit(p_limit, 1000);
    select coalesce(jsonb_agg(jsonb_build_object('id', g.user_id, 'user_id', g.user_id)), '[]') into v_people
    from (
        select g.user_id from public.credit_grants as g
        where not g.is_spent and g.expires_at > now() and g.expires_at <= now() + c_ahead
        group by g.user_id
        having private.may_be_reminded(g.user_id, 'credits_expiring', c_ahead)
        and not exists (
            select from public.set_aside_rows as s
            where s.task = 'queue_expiring_credit_emails' and s.row_id = g.user_id::text
        )
        order by g.user_id
        limit p_limit
    ) as g;
    return jsonb_array_length(private.work_through('queue_expiring_credit_emails', v_people));
end;
$$;

comment on function public.queue_expiring_credit_emails(integer) is
'Queues a mail to up to p_limit (1 to 1000) people whose credits expire within a week, at most one a week to each, and '
'returns how many: call again until it is 0. Error: 400 bad limit.';
grant execute on function public.queue_expiring_credit_emails(integer) to service_role;

-- Operations and images.

create function private.mail_of_failed_operation()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    -- The name of the file is its owner's words, and the error may quote what is in it.
    v_may_quote boolean;
begin
    if not private.was_mailed(new.user_id, 'operation_failed', '1 hour'::interval)
        and private.may_cause_mail(new.user_id) then
        v_may_quote := private.has_confirmed_address(new.user_id);
        perform private.queue_email(
            new.user_id, 'operation_failed', 'operation_failed:' || new.id,
            jsonb_build_object(
                'operation', (
                    select t.activity from public.operation_types as t where t.name = new.operation_type
                ),
                'file', coalesce((
                    select i.original_filename from public.images as i where i.id = new.image_id and v_may_quote
                ), ''),
                'error', case when v_may_quote then coalesce(new.error_message, '') else '' end,
                'credits', private.counted(new.credits_refunded, 'credit'),
                'is_refunded', new.credits_refunded > 0));
    end if;
    return null;
end;
$$;

-- What sets credits_refunded has ended an operation without a result (or a refund by hand of one that had ended so).
-- Nothing else does, and so Postgres need not weigh the condition when an operation is claimed or completed.
create trigger mail_of_failed_operation
after update of credits_refunded on public.image_operations
for each row when (new.status = 'failed' and old.status is distinct from 'failed')
execute function private.mail_of_failed_operation();

-- Queues a mail to these people about their images that go within three days; the mails.
create function private.tell_of_expiring_images(p_user_ids uuid[])
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    c_ahead constant interval := '3 days'::interval;
    v_person record;
    v_mails uuid[] := array[]::uuid[];
begin
    for v_person in
        select i.user_id, count(*) as images, min(i.expires_at) as first_end
        from public.images as i
        where i.user_id = any (p_user_ids) and i.expires_at > now() and i.expires_at <= now() + c_ahead
        group by i.user_id
        order by i.user_id
    loop
        v_mails := v_mails || private.queue_email(
            v_person.user_id, 'images_expiring',
            format('images_expiring:%s:%s', v_person.user_id, current_date),
            jsonb_build_object(
                'images', private.counted(v_person.images, 'image'),
                'end_date', private.printed_date(v_person.first_end)));
    end loop;
    return to_jsonb(array_remove(v_mails, null));
end;
$$;

create function public.queue_expiring_image_emails(p_limit integer default 1000)
returns integer
language plpgsql
security definer
set search_path = ''
set statement_timeout = '55s'
as $$
declare
    c_ahead constant interval := '3 days'::interval;
    v_people jsonb;
begin
    perform private.check_limit(p_limit, 1000);
    select coalesce(jsonb_agg(jsonb_build_object('id', i.user_id, 'user_id', i.user_id)), '[]') into v_people
    from (
        select i.user_id from public.images as i
        where i.expires_at > now() and i.expires_at <= now() + c_ahead
        group by i.user_id
        having private.may_be_reminded(i.user_id, 'images_expiring', c_ahead)
        and not exists (
            select from public.set_aside_rows as s
            where s.task = 'queue_expiring_image_emails' and s.row_id = i.user_id::text
        )
        order by i.user_id
        limit p_limit
    ) as i;
    return jsonb_array_length(private.work_through('queue_expiring_image_emails', v_people));
end;
$$;

comment on function public.queue_expiring_image_emails(integer) is
'Queues a mail to up to p_limit (1 to 1000) people whose images are deleted within three days, at most one in three '
'days to each, and returns how many: call again until it is 0. Error: 400 bad limit.';
grant execute on function public.queue_expiring_image_emails(integer) to service_role;

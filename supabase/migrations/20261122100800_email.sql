-- E-mail: the types of mail that there are, and the templates with their language.
--
-- A mail is a row of the outbox, written in the transaction of what it tells. Its text is a template:
-- Jinja2, of which only {{ name }}, {% if name %}, {% if not name %}, {% else %} and {% endif %} are allowed. Templates
-- are checked when they are saved, so that a slip is an answer to whoever made it and not a mail that never goes out.

create table public.email_types (
    name text primary key check (name ~ '^[a-z][a-z_]{0,49}$'),
    category text not null check (category in ('essential', 'notification', 'marketing')),
    description text not null,
    sample_data jsonb not null check (jsonb_typeof(sample_data) = 'object')
);

comment on table public.email_types is
'The kinds of mail. Admins read them; migrations write them.';
comment on column public.email_types.category is
'Who gets it: essential everybody, notification and marketing those who want it (see private.email_refusal).';
comment on column public.email_types.sample_data is
'Every variable that a template of the type may use, with an example: a text that is ready to print, or true or false '
'for {% if … %}. Previews show it.';

alter table public.email_types enable row level security;

create policy "Admins view types of mail" on public.email_types
for select to authenticated
using ((select private.is_admin()));

grant select on public.email_types to authenticated, service_role;

-- The first three are known of every mail: the claim and the sender add them.
insert into public.email_types (name, category, description, sample_data)
select
    t.name, t.category, t.description,
    '{"first_name": "Ada", "email": "ada@example.com", "app_url": "https://app.example.com"}'::jsonb
    || t.sample_data::jsonb
from (
    values
    ('welcome', 'essential', 'The address is confirmed. credits may be empty.', '{"credits": "2 credits"}'),
    (
        'receipt', 'essential', 'A package is paid, or the change to another plan, which may bring no credits.',
        '{"product": "20 credits", "credits": "20 credits", "amount": "$14.99", "balance": "22 credits", '
        '"date": "22 November 2026", "receipt_url": "https://pay.example.com/receipt"}'
    ),
    (
        'subscription_started', 'essential',
        'A plan begins: paid; on trial, then amount is empty and next_date its end; or as a gift until next_date.',
        '{"plan": "Starter", "credits": "60 credits", "amount": "$24.99", "next_date": "22 December 2026", '
        '"receipt_url": "https://pay.example.com/invoice", "is_trial": false, "is_gift": false}'
    ),
    (
        'subscription_renewed', 'essential', 'The next period of a plan is paid.',
        '{"plan": "Starter", "credits": "60 credits", "amount": "$24.99", "balance": "75 credits", '
        '"next_date": "22 December 2026", "receipt_url": "https://pay.example.com/invoice"}'
    ),
    (
        'subscription_cancelled', 'essential', 'The end of a plan was asked for, or has come (is_over).',
        '{"plan": "Starter", "end_date": "22 December 2026", "is_over": false}'
    ),
    (
        'payment_failed', 'essential',
        'A payment did not succeed. amount, pay_url and next_date (the next attempt) are empty where there is none.',
        '{"product": "Starter", "amount": "$24.99", "pay_url": "https://pay.example.com/invoice", '
        '"next_date": "25 November 2026", "is_subscription": true}'
    ),
    ('credits_low', 'notification', 'The balance has fallen below 5 credits.', '{"balance": "4 credits"}'),
    (
        'credits_expiring', 'notification', 'Credits end within a week.',
        '{"credits": "12 credits", "balance": "30 credits", "end_date": "29 November 2026"}'
    ),
    (
        'operation_failed', 'notification', 'An operation was given up.',
        '{"operation": "Upscaling", "file": "shirt.png", "error": "The picture is too large.", '
        '"credits": "1 credit", "is_refunded": true}'
    ),
    (
        'images_expiring', 'notification', 'Images are deleted within three days.',
        '{"images": "3 images", "end_date": "25 November 2026"}'
    ),
    (
        'campaign', 'marketing', 'A mail to many people.',
        '{"credits": "2 credits", "plan": "Free", "unsubscribe_url": "https://example.com/unsubscribe?token=…"}'
    )
) as t (name, category, description, sample_data);

create table public.email_templates (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    type text not null default 'campaign' references public.email_types (name),
    subject text not null,
    html_content text not null,
    text_content text,
    sendgrid_template_id text,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.email_templates is
'Texts of the mails. A type of mail that the system writes has one template, with the name of the type: without it, or '
'with an inactive one, that mail is not sent. Campaigns choose among the others. Admins read and write them.';
comment on column public.email_templates.html_content is
'What stands inside the layout that all mails share.';
comment on column public.email_templates.text_content is 'Null: made from the HTML.';
comment on column public.email_templates.sendgrid_template_id is
'A dynamic template at SendGrid, which then gets the variables instead of the texts here.';

create index idx_email_templates_type on public.email_templates (type);

create trigger bound_lengths
before insert or update of name, sendgrid_template_id on public.email_templates
for each row execute function private.bound_lengths('name', 1, 200, 'sendgrid_template_id', 1, 100);

create trigger update_email_templates_updated_at
before update on public.email_templates
for each row execute function public.update_updated_at_column();

alter table public.email_templates enable row level security;

create policy "Admins view templates" on public.email_templates
for select to authenticated
using ((select private.is_admin()));

create policy "Admins insert templates" on public.email_templates
for insert to authenticated
with check ((select private.is_admin()));

create policy "Admins update templates" on public.email_templates
for update to authenticated
using ((select private.is_admin()))
with check ((select private.is_admin()));

create policy "Admins delete templates" on public.email_templates
for delete to authenticated
using ((select private.is_admin()));

grant select on public.email_templates to authenticated;
grant insert (name, type, subject, html_content, text_content, sendgrid_template_id, is_active)
on public.email_templates to authenticated;
grant update (name, type, subject, html_content, text_content, sendgrid_template_id, is_active)
on public.email_templates to authenticated;
grant delete on public.email_templates to authenticated;
grant select, insert, update, delete on public.email_templates to service_role;

create function private.refuse_template(p_field text, p_line bigint, p_problem text, p_token text, p_hint text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT400', format('%s, line %s: %s', p_field, p_line, p_problem),
        jsonb_build_object('field', p_field, 'line', p_line, 'token', left(p_token, 100)), p_hint);
end;
$$;

-- Checks one name that a template uses.
create function private.check_template_name(
    p_field text,
    p_line bigint,
    p_token text,
    p_name text,
    p_is_printed boolean,
    p_sample_data jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    if not p_sample_data ? p_name then
        perform private.refuse_template(
            p_field, p_line, format('there is no variable %s', left(p_name, 100)), p_token,
            'Use one of: ' || (
                select string_agg(k.name, ', ' order by k.name) from jsonb_object_keys(p_sample_data) as k (name)
            ));
    elsif p_is_printed and jsonb_typeof(p_sample_data -> p_name) = 'boolean' then
        perform private.refuse_template(
            p_field, p_line, format('%s is true or false and cannot be printed', p_name), p_token,
            format('Ask for it: {%% if %s %%} … {%% endif %%}', p_name));
    end if;
end;
$$;

-- Checks one text of a template: nothing but the few tags of the language, balanced, with names that are known.
create function private.check_template_text(p_field text, p_text text, p_sample_data jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    -- Jinja2 makes Python of a template, and Python has a limit of about a hundred.
    c_deepest constant integer := 20;
    v_line bigint;
    v_token text;
    v_name text;
    -- The lines of the conditions that are open, the innermost last, and whether each has had its else.
    v_open bigint[] := array[]::bigint[];
    v_has_else boolean[] := array[]::boolean[];
begin
    for v_line, v_token in
        select l.number, t.token[1]
        from regexp_split_to_table(p_text, '\n') with ordinality as l (content, number)
        cross join lateral regexp_matches(
            l.content, '(\{\{[^{}]*\}\}|\{%[^{}]*%\}|\{\{|\{%|\{#|\}\}|%\})', 'g'
        ) with ordinality as t (token, place)
        order by l.number, t.place
    loop
        v_name := coalesce(
            substring(v_token from '^\{\{ *([a-z][a-z0-9_]*) *\}\}$'),
            substring(v_token from '^\{% *if +(?:not +)?([a-z][a-z0-9_]*) *%\}$'));
        if v_name is not null then
            perform private.check_template_name(
                p_field, v_line, v_token, v_name, starts_with(v_token, '{{'), p_sample_data);
            if starts_with(v_token, '{%') then
                v_open := v_open || v_line;
                v_has_else := v_has_else || false;
            end if;
            if cardinality(v_open) > c_deepest then
                perform private.refuse_template(
                    p_field, v_line, format('more than %s conditions within each other', c_deepest), v_token,
                    'Close some of them before.');
            end if;
        elsif v_token ~ '^\{% *else *%\}$' and not v_has_else[cardinality(v_open)] then
            v_has_else[cardinality(v_open)] := true;
        elsif v_token ~ '^\{% *endif *%\}$' and cardinality(v_open) > 0 then
            v_open := trim_array(v_open, 1);
            v_has_else := trim_array(v_has_else, 1);
        elsif v_token ~ '^\{% *(else|endif) *%\}$' then
            perform private.refuse_template(
                p_field, v_line, format('%s without its if', v_token), v_token, 'Write {% if name %} before it.');
        else
            perform private.refuse_template(
                p_field, v_line, format('%s is not part of the language', left(v_token, 100)), v_token,
                'Use {{ name }}, {% if name %}, {% if not name %}, {% else %} and {% endif %}, each on one line; '
                'keep other braces apart.');
        end if;
    end loop;
    if cardinality(v_open) > 0 then
        perform private.refuse_template(
            p_field, v_open[cardinality(v_open)], 'this if has no end', null, 'Close it with {% endif %}.');
    end if;
end;
$$;

create function private.check_email_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    c_longest_subject constant integer := 200;
    -- Gmail cuts mails off at about 100 KB. What is sent is longer, with its layout and styles: the sender looks at that.
    c_most_bytes constant integer := 100000;
    v_type public.email_types;
begin
    select y.* into v_type from public.email_types as y where y.name = new.type;
    if not found then
        perform private.refuse(
            'PT400', format('There is no type of mail %s', left(new.type, 100)), '{"field": "type"}',
            'Use one of: ' || (select string_agg(y.name, ', ' order by y.name) from public.email_types as y));
    elsif v_type.category <> 'marketing' and new.name <> new.type then
        perform private.refuse(
            'PT400', format('The template of the type %s must be named %1$s', new.type), '{"field": "name"}',
            'A mail that the system writes has one template.');
    elsif v_type.category = 'marketing' and exists (
        select from public.email_types as y where y.name = new.name and y.category <> 'marketing'
    ) then
        perform private.refuse(
            'PT400', format('The name %s is that of a type of mail', new.name), '{"field": "type"}',
            format('Set the type to %s too, or choose another name.', new.name));
    elsif new.subject !~ '\S' or char_length(new.subject) > c_longest_subject or new.subject ~ '[\n\r]' then
        perform private.refuse(
            'PT400', format('The subject must be one line of 1 to %s characters', c_longest_subject),
            '{"field": "subject"}', 'Shorten it.');
    elsif greatest(octet_length(new.html_content), octet_length(new.text_content)) > c_most_bytes then
        perform private.refuse(
            'PT413', format('The text is longer than %s bytes', c_most_bytes), '{"field": "html_content"}',
            'Shorten it, and link to pictures instead of embedding them.');
    end if;
    perform private.check_template_text('subject', new.subject, v_type.sample_data);
    perform private.check_template_text('html_content', new.html_content, v_type.sample_data);
    perform private.check_template_text('text_content', new.text_content, v_type.sample_data);
    return new;
end;
$$;

create trigger check_email_template
before insert or update of name, type, subject, html_content, text_content on public.email_templates
for each row execute function private.check_email_template();

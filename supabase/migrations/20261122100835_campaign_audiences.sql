-- The audience of a campaign: what its target_audience says, and whom that finds.

create function private.refuse_audience(p_path text, p_problem text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    perform private.refuse(
        'PT400', format('target_audience%s %s', coalesce('.' || p_path, ''), p_problem),
        jsonb_build_object('column', 'target_audience', 'path', p_path),
        'Use subscription_status, plan, credits (min, max), signed_up and last_activity (after, before), as the comment '
        'on the column shows them.');
end;
$$;

-- Checks that a part of an audience is an object with no other keys than these.
create function private.check_audience_keys(p_part jsonb, p_path text, p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_unknown text;
begin
    if jsonb_typeof(p_part) <> 'object' then
        perform private.refuse_audience(p_path, 'must be an object');
    end if;
    select k.key into v_unknown from jsonb_object_keys(p_part) as k (key) where k.key <> all (p_keys) limit 1;
    if found then
        perform private.refuse_audience(p_path, format('has an unknown key: %s', left(v_unknown, 100)));
    end if;
end;
$$;

create function private.audience_names(p_audience jsonb, p_key text)
returns text[]
language plpgsql
set search_path = ''
as $$
declare
    v_value constant jsonb := p_audience -> p_key;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) = 'array' and v_value <> '[]' then
        if not exists (select from jsonb_array_elements(v_value) as e (item) where jsonb_typeof(e.item) <> 'string') then
            return array(select jsonb_array_elements_text(v_value));
        end if;
    end if;
    perform private.refuse_audience(p_key, 'must be an array of names');
    return null;
end;
$$;

create function private.audience_number(p_audience jsonb, p_key text, p_bound text)
returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_value constant jsonb := p_audience -> p_key -> p_bound;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) <> 'number' or v_value::text !~ '^\d{1,9}$' then
        perform private.refuse_audience(p_key || '.' || p_bound, 'must be a whole number from 0 to 999999999');
    end if;
    return v_value::integer;
end;
$$;

-- A time without a zone would be another one on each server; a day is one in UTC.
create function private.audience_time(p_audience jsonb, p_key text, p_bound text)
returns timestamptz
language plpgsql
set search_path = ''
set timezone = 'UTC'
as $$
declare
    v_value constant jsonb := p_audience -> p_key -> p_bound;
    v_text constant text := p_audience -> p_key ->> p_bound;
begin
    if v_value is null then
        return null;
    elsif jsonb_typeof(v_value) = 'string'
        and v_text ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?))?$' then
        begin
            return v_text::timestamptz;
        exception
            when datetime_field_overflow or invalid_datetime_format or invalid_time_zone_displacement_value then
                null; -- there is no such day, hour or zone
        end;
    end if;
    perform private.refuse_audience(
        p_key || '.' || p_bound, 'must be a day such as 2026-12-31 or a time such as 2026-12-31T18:00Z');
    return null;
end;
$$;

-- What a target_audience says; null where it says nothing. Refuses what is not written as documented.
create function private.parse_audience(
    p_audience jsonb,
    out statuses text[],
    out plans text[],
    out credits_min integer,
    out credits_max integer,
    out signed_up_after timestamptz,
    out signed_up_before timestamptz,
    out active_after timestamptz,
    out active_before timestamptz
)
language plpgsql
set search_path = ''
as $$
declare
    v_key text;
begin
    if p_audience is null then
        return;
    end if;
    perform private.check_audience_keys(
        p_audience, null, array['subscription_status', 'plan', 'credits', 'signed_up', 'last_activity']);
    foreach v_key in array array['credits', 'signed_up', 'last_activity']
    loop
        if p_audience ? v_key then
            perform private.check_audience_keys(
                p_audience -> v_key, v_key,
                case v_key when 'credits' then array['min', 'max'] else array['after', 'before'] end);
        end if;
    end loop;

    statuses := private.audience_names(p_audience, 'subscription_status');
    plans := private.audience_names(p_audience, 'plan');
    credits_min := private.audience_number(p_audience, 'credits', 'min');
    credits_max := private.audience_number(p_audience, 'credits', 'max');
    signed_up_after := private.audience_time(p_audience, 'signed_up', 'after');
    signed_up_before := private.audience_time(p_audience, 'signed_up', 'before');
    active_after := private.audience_time(p_audience, 'last_activity', 'after');
    active_before := private.audience_time(p_audience, 'last_activity', 'before');
end;
$$;

-- The audience, in the order of the ids: those after p_after who signed up before p_before, and why one of them gets
-- no mail, if so.
-- What the audience says nothing about must not be in the plan; only a custom plan can leave it out.
create function private.find_audience(p_audience jsonb, p_before timestamptz, p_after uuid, p_limit integer)
returns table (user_id uuid, email text, refusal text)
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_custom_plan
as $$
declare
    v_audience record := private.parse_audience(p_audience);
begin
    return query
    select p.id, p.email, private.email_refusal(p, 'marketing')
    from public.profiles as p
    where
        (p_after is null or p.id > p_after)
        and p.created_at <= p_before
        and (v_audience.statuses is null or p.subscription_status = any (v_audience.statuses))
        and (v_audience.plans is null or p.subscription_plan = any (v_audience.plans))
        and (v_audience.credits_min is null or p.credits_remaining >= v_audience.credits_min)
        and (v_audience.credits_max is null or p.credits_remaining <= v_audience.credits_max)
        and (v_audience.signed_up_after is null or p.created_at >= v_audience.signed_up_after)
        and (v_audience.signed_up_before is null or p.created_at < v_audience.signed_up_before)
        and (v_audience.active_after is null or coalesce(p.last_activity_at, p.created_at) >= v_audience.active_after)
        and (v_audience.active_before is null or coalesce(p.last_activity_at, p.created_at) < v_audience.active_before)
    order by p.id
    limit p_limit;
end;
$$;

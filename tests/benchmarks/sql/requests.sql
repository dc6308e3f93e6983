-- A request in one round trip, as the API makes it in one transaction: who asks, then what.
create schema api;

create function api.request(p_user_id uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
begin
    -- PostgREST sets the first; the auth.uid() of some servers reads the second.
    perform set_config('request.jwt.claims', format('{"sub":"%s","role":"authenticated"}', p_user_id), true);
    perform set_config('request.jwt.claim.sub', p_user_id::text, true);
    return (public.request_image_operation(p_user_id, 'upscale')).id;
end;
$$;

grant usage on schema api to authenticated;
grant execute on function api.request(uuid) to authenticated;

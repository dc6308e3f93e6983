-- The options of each operation, checked when it is requested: a bad option must not cost a credit.
-- The engines type the same options; a test holds the two together.

-- Whether an option's value is allowed. Where an integer is asked for, 8.0 is none: jsonb keeps it apart from 8,
-- and so do the engines.
create function private.is_valid_operation_option(p_key text, p_value jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
    c_uuid constant text := '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';
    -- What Unicode calls white space: Postgres trims the space only.
    c_white_space constant text := E' \t\n\v\f\r\x1c\x1d\x1e\x1f'
        || U&'\0085\00a0\1680\2000\2001\2002\2003\2004\2005\2006\2007\2008\2009\200a\2028\2029\202f\205f\3000';
    v_type constant text := jsonb_typeof(p_value);
    -- No option is an array or an object. Their text is not even made: 27 KB of them can come to a gigabyte.
    v_text constant text := case when v_type in ('string', 'number') then p_value #>> '{}' end;
    v_integer constant integer := case when v_type = 'number' and v_text ~ '^\d{1,9}$' then v_text::integer end;
begin
    return coalesce(
        case p_key
            when 'input' then v_type = 'null' or v_type = 'string' and v_text ~ c_uuid
            when 'scale' then v_type = 'number' and v_text::numeric in (2, 4)
            when 'denoise' then v_type = 'string' and v_text in ('auto', 'none', 'light', 'medium', 'strong')
            when 'style' then v_type = 'string' and v_text in ('auto', 'art', 'photo')
            when 'holes' then v_type = 'string' and v_text in ('auto', 'keep', 'remove')
            when 'tolerance' then v_type = 'null' or v_type = 'number' and v_text::numeric between 1 and 50
            when 'colors' then v_type = 'null' or v_integer between 2 and 64
            when 'detail' then v_type = 'string' and v_text in ('low', 'medium', 'high')
            when 'prompt' then v_type = 'string' and char_length(btrim(v_text, c_white_space)) between 1 and 300
            when 'size' then v_integer between 256 and 4096
            when 'color' then v_type = 'null' or v_type = 'string' and v_text ~ '^#[0-9a-fA-F]{6}$'
            when 'font' then v_type = 'string' and v_text in ('auto', 'fredoka', 'amatic', 'manrope', 'serif')
        end,
        false
    );
end;
$$;

revoke execute on function private.is_valid_operation_option(text, jsonb) from public;

-- What each option may be, in words, for the hint of a refusal.
create function private.describe_operation_option(p_key text)
returns text
language sql
immutable
set search_path = ''
as $$
    select case p_key
        when 'input' then 'the id of a completed operation of the same image, or null'
        when 'scale' then '2 or 4'
        when 'denoise' then '"auto", "none", "light", "medium" or "strong"'
        when 'style' then '"auto", "art" or "photo"'
        when 'holes' then '"auto", "keep" or "remove"'
        when 'tolerance' then 'a number from 1 to 50, or null'
        when 'colors' then 'an integer from 2 to 64, or null'
        when 'detail' then '"low", "medium" or "high"'
        when 'prompt' then 'a text of 1 to 300 characters'
        when 'size' then 'an integer from 256 to 4096'
        when 'color' then '"#rrggbb" or null'
        when 'font' then '"auto", "fredoka", "amatic", "manrope" or "serif"'
    end;
$$;

revoke execute on function private.describe_operation_option(text) from public;

create function private.check_operation_options(p_operation_type text, p_options jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
    v_known constant text[] := case p_operation_type
        when 'upscale' then array['input', 'scale', 'denoise', 'style']
        when 'background_removal' then array['input', 'holes', 'tolerance']
        when 'vectorize' then array['input', 'colors', 'detail']
        when 'generate' then array['prompt', 'size', 'color', 'font']
    end;
    v_option text;
begin
    if v_known is null then
        perform private.refuse(
            'PT400', 'Unknown operation type',
            jsonb_build_object('argument', 'p_operation_type', 'value', left(p_operation_type, 100)),
            'Pass upscale, background_removal, vectorize or generate.');
    -- Its size as it is stored: the text of a number such as 1e131071 is ten thousand times as long.
    elsif pg_column_size(p_options) > 8192 then
        perform private.refuse(
            'PT413', 'The options are larger than 8 KiB', '{"argument": "p_options"}', 'Pass the documented options.');
    elsif jsonb_typeof(p_options) <> 'object' then
        perform private.refuse(
            'PT400', 'The options must be a JSON object', '{"argument": "p_options"}', 'Pass {} for the defaults.');
    elsif p_operation_type = 'generate' and not p_options ? 'prompt' then
        perform private.refuse(
            'PT400', 'The option "prompt" is missing', '{"option": "prompt"}',
            'Pass ' || private.describe_operation_option('prompt') || '.');
    end if;

    if p_options - v_known <> '{}' then
        v_option := left((select o.key from jsonb_object_keys(p_options - v_known) as o (key) limit 1), 100);
        perform private.refuse(
            'PT400', format('Unknown option "%s" for %s', v_option, p_operation_type),
            jsonb_build_object('option', v_option, 'known', v_known),
            'Known options: ' || array_to_string(v_known, ', ') || '.');
    end if;
    -- Over the known ones: a loop over a query costs as much as three statements.
    foreach v_option in array v_known
    loop
        if p_options ? v_option
            and not private.is_valid_operation_option(v_option, p_options -> v_option)
        then
            perform private.refuse(
                'PT400', format('The option "%s" has a wrong value', v_option),
                jsonb_build_object(
                    'option', v_option,
                    'value', case
                        when jsonb_typeof(p_options -> v_option) in ('array', 'object')
                            then jsonb_typeof(p_options -> v_option)
                        else left((p_options -> v_option)::text, 200)
                    end),
                'Pass ' || private.describe_operation_option(v_option) || '.');
        end if;
    end loop;
end;
$$;

revoke execute on function private.check_operation_options(text, jsonb) from public;

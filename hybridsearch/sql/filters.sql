-- A filter that comes as JSON, as a condition on a row: for callers who have no SQLAlchemy.
--
--   {"category": "chairs", "price": {"gte": 10, "lt": 50}, "color": ["red", "blue"], "sold_at": null, "tags": {"contains": ["oak"]}}
--
-- Columns and values are quoted here and nowhere else; what a value means is up to the column's type.

-- What was given, as a message repeats it.
create or replace function hybridsearch.shortened(given text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return case when length(given) > 100 then left(given, 100) || '…' else coalesce(given, 'null') end;
comment on function hybridsearch.shortened(text) is 'A text of at most a hundred characters, for a message';

-- A column's type without the length, the precision or the domain around it, to which a value would be cut: no price of
-- numeric(10,2) is at least 9.994 because 9.99 is. A length of -1 also keeps char and bit, which mean char(1) and bit(1),
-- from being what a char(n) and a bit(n) are called.
create or replace function hybridsearch.bare_type(type_ oid)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive base as (
        select given.oid, given.typtype, given.typbasetype from pg_type as given where given.oid = type_
        union all
        select inner_.oid, inner_.typtype, inner_.typbasetype
        from base
        join pg_type as inner_ on inner_.oid = base.typbasetype
        where base.typtype = 'd'
    )
    select format_type(base.oid, -1) from base where base.typtype <> 'd'
$$;
comment on function hybridsearch.bare_type(oid) is 'The name of a type as that of a value that is to be compared, not stored';

create or replace function hybridsearch.condition(source regclass, alias text, filter jsonb)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    entry record; test record;
    type_ text;
    conditions text[] := '{}';
begin
    if filter is null or filter = '{}' then
        return null;
    elsif jsonb_typeof(filter) <> 'object' then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('filter is a JSON %s: give an object of columns and values', jsonb_typeof(filter));
    end if;
    for entry in select key, value from jsonb_each(filter) loop
        select hybridsearch.bare_type(atttypid) into type_
        from pg_attribute
        where attrelid = source and attname = entry.key and attnum > 0 and not attisdropped;
        if not found then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('filter: %s has no column "%s"', source, hybridsearch.shortened(entry.key)),
                hint = (select 'its columns are ' || string_agg(attname, ', ' order by attnum)
                        from pg_attribute where attrelid = source and attnum > 0 and not attisdropped);
        elsif entry.value = '{}' then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('filter on "%s" is {}: give operators, such as {"gte": 1}', entry.key);
        end if;
        for test in
            select each.key as operator, each.value from jsonb_each(
                case when jsonb_typeof(entry.value) = 'object' then entry.value else jsonb_build_object('eq', entry.value) end) as each
        loop
            conditions := conditions || hybridsearch.comparison(format('%I.%I', alias, entry.key), entry.key, type_, test.operator, test.value);
        end loop;
    end loop;
    return array_to_string(conditions, ' and ');
end
$$;
comment on function hybridsearch.condition(regclass, text, jsonb) is
    'A JSON filter ({"column": value, "column": {"gte": value}, "column": [values]}) as a condition in SQL';

create or replace function hybridsearch.comparison(subject text, name text, type_ text, operator text, value jsonb)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    sign constant text := jsonb_build_object(
        'eq', '=', 'ne', '<>', 'lt', '<', 'lte', '<=', 'gt', '>', 'gte', '>=', 'contains', '@>') ->> operator;
    is_json constant boolean := type_ in ('json', 'jsonb');
    is_array constant boolean := type_ like '%[]';
begin
    if sign is null then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('filter on "%s": there is no operator "%s"', name, hybridsearch.shortened(operator)),
            hint = 'the operators are eq, ne, lt, lte, gt, gte, contains; an array means any of its values, null that there is none';
    elsif jsonb_typeof(value) = 'null' and sign in ('=', '<>') then
        return subject || case sign when '=' then ' is null' else ' is not null' end;
    elsif jsonb_typeof(value) = 'null' and not is_json then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('filter on "%s": null is neither less nor more than anything, nor contained: eq and ne take it', name);
    end if;
    begin
        execute format('select null::%s %s null::%s', type_, sign, type_);
    exception when undefined_function then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('filter on "%s": %s has no operator "%s"', name, type_, operator);
    end;
    if is_array then
        return format('%s %s %s', subject, sign, hybridsearch.typed(name, type_, (
            select coalesce(array_agg(item), '{}')::text
            from jsonb_array_elements_text(case jsonb_typeof(value) when 'array' then value else jsonb_build_array(value) end) as item)));
    elsif jsonb_typeof(value) = 'array' and sign in ('=', '<>') and not is_json then
        -- All of them at once: there may be a hundred thousand. null, to which nothing is equal, is asked for by itself.
        return format(
            case when sign = '=' and value @> 'null' then '(%1$s = any(%2$s) or %1$s is null)'
                 when sign = '=' then '%1$s = any(%2$s)'
                 when value @> 'null' then '(%1$s <> all(%2$s) and %1$s is not null)'
                 else '%1$s <> all(%2$s)' end,
            subject,
            hybridsearch.typed(name, type_ || '[]', (
                select coalesce(array_agg(item) filter (where item is not null), '{}')::text
                from jsonb_array_elements_text(value) as item)));
    end if;
    return format('%s %s %s', subject, sign, hybridsearch.typed(name, type_, case when is_json then value::text else value #>> '{}' end));
end
$$;
comment on function hybridsearch.comparison(text, text, text, text, jsonb) is 'One comparison of a JSON filter, in SQL';

-- A value as a literal of the column's type, once it is sure that it is one.
create or replace function hybridsearch.typed(name text, type_ text, value text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('select %L::%s', value, type_);
    return format('%L::%s', value, type_);
exception when data_exception or syntax_error_or_access_rule_violation or feature_not_supported then
    raise exception using errcode = 'invalid_parameter_value',
        message = format('filter on "%s": %L is no %s', name, hybridsearch.shortened(value), type_);
end
$$;
comment on function hybridsearch.typed(text, text, text) is 'A value of a JSON filter as a literal of a column''s type';

-- What the search functions of all indexes have in common: checks of their arguments, vectors from the query cache, and a
-- search that takes the index by name.
select set_config('hybridsearch.search_path', current_setting('search_path'), true),
       set_config('search_path', format('pg_catalog, %I, pg_temp', namespace.nspname), true)
from pg_catalog.pg_extension as extension
join pg_catalog.pg_namespace as namespace on namespace.oid = extension.extnamespace
where extension.extname = 'vector';

-- The text, or null where there is nothing to search for.
create or replace function hybridsearch.checked_query(query text)
returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if length(query) > 10000 then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('the query has %s characters, at most 10000 are allowed: shorten it', length(query));
    end if;
    return case when query ~ '\S' then query end;
end
$$;
comment on function hybridsearch.checked_query(text) is 'A query that can be searched for, or null for a blank one';

create or replace function hybridsearch.checked_count(name text, count integer)
returns integer
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if count between 1 and 1000 then
        return count;
    end if;
    raise exception using errcode = 'invalid_parameter_value', message = format('%s is %s: give 1 to 1000', name, coalesce(count::text, 'null'));
end
$$;
comment on function hybridsearch.checked_count(text, integer) is 'A number of documents from 1 to 1000';

create or replace function hybridsearch.checked_number(name text, number double precision)
returns double precision
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if number between 0 and 1e9 then
        return number;
    end if;
    raise exception using errcode = 'invalid_parameter_value',
        message = format('%s is %s: give a number from 0 to 1000000000', name, coalesce(number::text, 'null'));
end
$$;
comment on function hybridsearch.checked_number(text, double precision) is 'A number from 0 up that is no NaN and not infinite';

create or replace function hybridsearch.checked_legs(legs text[], known text[])
returns text[]
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if legs is null then
        return known;
    elsif cardinality(legs) = 0 or not legs <@ known or exists (select from unnest(legs) as leg where leg is null) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('legs is %s: give any of %s', hybridsearch.shortened(legs::text), array_to_string(known, ', '));
    end if;
    return legs;
end
$$;
comment on function hybridsearch.checked_legs(text[], text[]) is 'The legs that are searched: those given, else all of the index';

-- {"dense": 1, …} for every leg of the index.
create or replace function hybridsearch.checked_weights(weights jsonb, known text[])
returns jsonb
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    entry record;
    complete jsonb := (select jsonb_object_agg(leg, 1) from unnest(known) as leg);
begin
    if weights is null then
        return complete;
    elsif jsonb_typeof(weights) <> 'object' then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('weights is a JSON %s: give an object of legs and numbers', jsonb_typeof(weights));
    end if;
    for entry in select key, value from jsonb_each(weights) loop
        if entry.key <> all(known) then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('weight for an unknown leg "%s": the legs are %s', hybridsearch.shortened(entry.key), array_to_string(known, ', '));
        elsif jsonb_typeof(entry.value) <> 'number'
           or not ((entry.value #>> '{}')::numeric between 1e-9 and 1e9 or (entry.value #>> '{}')::numeric = 0) then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('weight %s of leg "%s": give a number from 0 to 1000000000', hybridsearch.shortened(entry.value::text), entry.key);
        end if;
    end loop;
    complete := complete || weights;
    if not exists (select from jsonb_each(complete) where value <> '0') then
        raise exception using errcode = 'invalid_parameter_value', message = 'all weights are 0: nothing would be ranked';
    end if;
    return complete;
end
$$;
comment on function hybridsearch.checked_weights(jsonb, text[]) is 'The weight of every leg of an index, 1 where none is given';

create or replace function hybridsearch.checked_wait(wait_ms integer)
returns integer
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if wait_ms > 60000 then
        raise exception using errcode = 'invalid_parameter_value', message = format('wait_ms is %s: give at most 60000, a minute', wait_ms);
    end if;
    return wait_ms;
end
$$;
comment on function hybridsearch.checked_wait(integer) is 'How long to wait for a worker, in milliseconds: at most a minute; not at all for null, 0 and less';

-- Numbers that halfvec holds, whichever type the index has: those of Python's check.
create or replace function hybridsearch.checked_dense(given vector, dimensions integer)
returns vector
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
    if vector_dims(given) <> dimensions then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('dense has %s dimensions, not %s as the index', vector_dims(given), dimensions);
    elsif exists (select from unnest(given::real[]) as number where abs(number) > 65504) then
        raise exception using errcode = 'invalid_parameter_value', message = 'dense holds numbers beyond 65504: give a vector of norm 1';
    elsif vector_norm(given::halfvec::vector) = 0 then
        raise exception using errcode = 'invalid_parameter_value',
            message = 'dense is 0 in every dimension: it has no direction, so nothing is near it';
    end if;
    return given;
end
$$;
comment on function hybridsearch.checked_dense(vector, integer) is 'A vector that an index of so many dimensions can be searched by';

create or replace function hybridsearch.checked_sparse(given sparsevec, index text, legs text[], dimensions integer)
returns sparsevec
language plpgsql immutable parallel safe
set search_path from current
as $$
begin
    if given is not null and 'sparse' <> all(legs) then
        raise exception using errcode = 'invalid_parameter_value', message = format('index "%s" has no sparse leg', index);
    elsif split_part(given::text, '/', 2)::integer <> dimensions then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('sparse has %s dimensions, not %s as the index', split_part(given::text, '/', 2), dimensions);
    elsif l2_norm(given) > 1e30 then
        raise exception using errcode = 'invalid_parameter_value', message = 'sparse holds weights beyond 1e30, whose products are no numbers';
    end if;
    return given;
end
$$;
comment on function hybridsearch.checked_sparse(sparsevec, text, text[], integer) is 'Term weights that an index can be searched by';

-- A vector of the cache, cut to the dimensions that the index keeps, of norm 1 again.
create or replace function hybridsearch.fitted(numbers real[], dimensions integer)
returns vector
language sql immutable parallel safe
set search_path from current
return case when cardinality(numbers) > dimensions then l2_normalize(numbers[1:dimensions]::vector) else numbers::vector end;
comment on function hybridsearch.fitted(real[], integer) is 'The first dimensions of a vector, of norm 1';

create or replace function hybridsearch.sparse_vector(ids integer[], weights real[], dimensions integer)
returns sparsevec
language sql immutable parallel safe
set search_path from current
set extra_float_digits = 1
as $$
    select format('{%s}/%s', string_agg((entry.id + 1) || ':' || entry.weight, ','), dimensions)::sparsevec
    from unnest(ids, weights) as entry(id, weight)
    having count(*) > 0
$$;
comment on function hybridsearch.sparse_vector(integer[], real[], integer) is 'Token ids, from 0, and their weights as a sparsevec';

-- For callers who choose the index at run time. key holds the primary key of the model''s table. (Before, it had no syntax.)
drop function if exists hybridsearch.search(text, text, integer, jsonb, text[], jsonb, integer, double precision, vector, sparsevec, integer);
create or replace function hybridsearch.search(
    index text, query text, limit_ integer default 10, filter jsonb default null, legs text[] default null, weights jsonb default null,
    candidates integer default 100, rrf_k double precision default 60, dense vector default null, sparse sparsevec default null,
    wait_ms integer default 300, syntax text default 'web'
)
returns table (key jsonb, score double precision, ranks jsonb, note text)
language plpgsql stable rows 10
set search_path from current
as $$
declare
    known record;
begin
    select d.namespace, d.definition ->> 'name' as name, d.definition ->> 'table' as source, d.definition -> 'keys' as keys into known
    from hybridsearch.definition as d
    where d.name = search.index;
    if not found then
        raise exception using errcode = 'invalid_parameter_value', message = format('there is no index "%s"', hybridsearch.shortened(index)),
            hint = (select 'the indexes are ' || string_agg(d.name, ', ' order by d.name) from hybridsearch.definition as d);
    end if;
    return query execute format(
        'select jsonb_build_object(%s), f.score,
                jsonb_strip_nulls(jsonb_build_object(''dense'', f.rank_dense, ''sparse'', f.rank_sparse, ''lexical'', f.rank_lexical)), f.note
         from %I.%I($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as f',
        (select string_agg(format('%L, f.%I', column_.name, known.source || '_' || column_.name), ', ')
         from json_object_keys(known.keys) as column_(name)),
        known.namespace, known.name || '_search')
    using query, limit_, filter, legs, weights, candidates, rrf_k, dense, sparse, wait_ms, syntax;
end
$$;
comment on function hybridsearch.search(text, text, integer, jsonb, text[], jsonb, integer, double precision, vector, sparsevec, integer, text) is
    'Hybrid search in an index by its name; columns: key, the primary key of the document, score, and ranks, its rank in each leg. index: the name of the index, with its schema where it is declared with one. query: the words; also "phrases", -exclusions and prefix*. limit_: how many documents, 1 to 1000. filter: {"column": value, "column": {"gte": value}, "column": [any, of, these]}. legs: any of dense, sparse, lexical. weights: {"dense": 1, "lexical": 2}. candidates: what each leg hands to the fusion, 1 to 1000. rrf_k: constant of reciprocal rank fusion. dense, sparse: vectors of the query, where it is not to be encoded. wait_ms: how long to wait for a worker that encodes it, at most 60000. syntax: web, or plain for a query without operators. Column note says which leg was left out and why.';

select set_config('search_path', current_setting('hybridsearch.search_path'), true);

-- What the search functions of an index (index/best.sql) share. Nothing here writes: it runs on a hot standby.

-- pgvector may be installed in any schema: the functions below remember where (`from current`), whatever the caller's is.
select set_config('hybridsearch.search_path', current_setting('search_path'), true),
       set_config('search_path', format('pg_catalog, %I, pg_temp', namespace.nspname), true)
from pg_catalog.pg_extension as extension
join pg_catalog.pg_namespace as namespace on namespace.oid = extension.extnamespace
where extension.extname = 'vector';

-- pgvector's own sum(vector) adds in float8 and copies; this adds float4 in place of it.
create or replace aggregate hybridsearch.vsum(vector) (sfunc = vector_add, stype = vector);

-- A vector of 16,000 times the same number, by concatenation: many times faster than a cast from an array.
create or replace function hybridsearch.constant(number real)
returns vector
language sql immutable parallel safe
set search_path from current
as $$
    select d.x || d.x
    from (select c.x || c.x as x
          from (select b.x || b.x as x
                from (select a.x || a.x as x
                      from (select array_fill(number, array[1000])::vector as x offset 0) as a offset 0) as b offset 0) as c offset 0) as d
$$;
comment on function hybridsearch.constant(real) is 'A vector of a range: 16,000 times the same number';

select set_config('search_path', current_setting('hybridsearch.search_path'), true);

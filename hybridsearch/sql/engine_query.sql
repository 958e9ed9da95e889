-- What the search functions of an index (index/best.sql, index/best_sparse.sql) share. Nothing here writes: it runs on a hot standby.

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

-- A number from 0 as a real, where the cast alone would raise an error for one that is too small.
create or replace function hybridsearch.as_real(number float8)
returns real
language sql immutable parallel safe
return case when number < 1e-37 then 0 else number end::real;
comment on function hybridsearch.as_real(float8) is 'A number from 0 as a real; 0 for one that is too small';

-- Where to cut sums over documents, so that about `want` of them are above it, and no fewer; 0 where there are not so many.
-- sums: of ranges, each a vector; base: what every sum has on top; highest: no sum is higher; held: how many documents have
-- a sum at all.
create or replace function hybridsearch.threshold(sums vector[], base float8, highest float8, held float8, want float8)
returns float8
language plpgsql immutable
set search_path from current
as $$
declare
    above float8 := 0; below float8 := highest; middle float8;
    count_above float8 := greatest(held, want + 1); count_below float8 := 0.5;
    -- In pieces: what to subtract from a piece is made in a fifth of the time.
    pieces constant vector[] := array(select subvector(x, 2000 * piece + 1, 2000) from unnest(sums) as x, generate_series(0, 7) as piece);
    cut vector; found int8;
begin
    for i in 1..20 loop
        middle := above + (below - above)
            * least(0.65, greatest(0.15, ln(count_above / (want * 1.2 + 0.5)) / ln(count_above / count_below)));
        cut := array_fill(hybridsearch.as_real(base + middle), array[500])::vector;
        cut := cut || cut || cut || cut;
        select sum(bit_count(binary_quantize(x - cut))) into found from unnest(pieces) as x;
        if found >= want then
            above := middle;
            count_above := found;
            exit when found < want * 1.4 + 3;
        else
            below := middle;
            count_below := greatest(found, 0.5);
        end if;
        exit when below - above < 1e-4 * highest;
    end loop;
    return above;
end
$$;
comment on function hybridsearch.threshold(vector[], float8, float8, float8, float8) is
    'Where to cut sums over documents, so that about so many are above it';

-- The places of the ones in the bits of a range, from 1: in pieces of 2,000, whose text is split at them. (Behind the last
-- one comes a gap, too: what it adds up to is beyond the piece.)
create or replace function hybridsearch.ones(bits bit varying)
returns table (place int4)
language sql immutable parallel safe
begin atomic
    select (piece * 2000 + f.upto)::int4
    from generate_series(0, 7) as piece,
         lateral (select substring(bits from piece * 2000 + 1 for 2000) as part offset 0) as g,
         lateral (select sum(octet_length(u.gap) + 1) over (rows unbounded preceding) as upto
                  from string_to_table(g.part::text, '1') as u(gap)) as f
    where bit_count(bits) > 0 and bit_count(g.part) > 0 and f.upto <= 2000;
end;
comment on function hybridsearch.ones(bit varying) is 'The places of the ones in the bits of a range, from 1';

-- A document and its weight as an element of the text of a range's sparsevec. (Stable, as || is: else it is not inlined.)
create or replace function hybridsearch.element(number int4, weight real)
returns text
language sql stable parallel safe
return (mod(number, 16000) + 1) || ':' || weight;
comment on function hybridsearch.element(int4, real) is 'A document and its weight as an element of the text of a range';

-- The code of a frequency in a list, and whether it gives the frequency back. (Without settings of their own: inlined.)
create or replace function hybridsearch.code(tf float8, norm float8)
returns int4
language sql immutable parallel safe
return greatest(1, ceil(2047 * tf / (tf + norm)))::int4;
comment on function hybridsearch.code(float8, float8) is 'The code of a frequency in a list: its weight in 2047ths, rounded up';

create or replace function hybridsearch.code_tells(code int4, tf float8, norm float8)
returns boolean
language sql immutable parallel safe
return code < 2047 and round(norm * code / nullif(2047 - code, 0)) = tf;
comment on function hybridsearch.code_tells(int4, float8, float8) is 'Whether a code, with its document''s norm, gives the frequency back';

-- The weight that a code of a list stands for, of which 2047 is the highest: no less than what was coded.
create or replace function hybridsearch.code_weight(code int4, top real)
returns real
language sql immutable parallel safe
return greatest((code & 2047) * (top::float8 / 2047) * 1.0000001, 1e-37)::real;
comment on function hybridsearch.code_weight(int4, real) is 'The weight that a code stands for; no less than what was coded';

-- The elements of the text of a sparsevec: tokens from 1, and their weights.
create or replace function hybridsearch.elements(vector text)
returns table (token int4, weight real)
language sql immutable parallel safe
begin atomic
    select split_part(element, ':', 1)::int4, split_part(element, ':', 2)::real
    from string_to_table(substr(vector, 2, strpos(vector, '}') - 2), ',') as element
    where element <> '';
end;
comment on function hybridsearch.elements(text) is 'The elements of the text of a sparsevec: tokens from 1, and weights';

select set_config('search_path', current_setting('hybridsearch.search_path'), true);

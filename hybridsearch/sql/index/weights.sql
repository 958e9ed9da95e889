-- needs: sparse
-- The upkeep of the index of the encoder's term weights. docs/sparse-engine.md has the format; nothing is removed from it
-- but here: a search leaves out what has no chunk any more.

-- Merge at most `most` chunks into the postings; return how many were taken. One transaction, one at a time; readers and
-- writers go on.
create or replace function {{fn:weigh}}(most int4 default 100000)
returns int4
language plpgsql
set search_path from current
set jit = off
set work_mem = '128MB'
set enable_hashagg = off
set extra_float_digits = 1           -- weights pass through text: every bit of them
as $$
#variable_conflict use_column
declare
    taken int4;
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, {{literal:weight}}::regclass::oid::int4);
    if not exists (select from {{piece}}) then
        -- Nothing was ever merged: what is there may be older than the postings. (A vector without weights has no posting.)
        insert into {{unweighed}} (chunk) select id from {{chunk}} where sparse is not null on conflict do nothing;
    end if;
    create temp table hybridsearch_weighed on commit drop as
    with chosen as materialized (
        select chunk from {{unweighed}} order by chunk limit most for update skip locked
    ),
    taken as (
        delete from {{unweighed}} as u using chosen where u.chunk = chosen.chunk returning u.chunk
    )
    select taken.chunk, c.sparse
    from taken
    left join {{chunk}} as c on c.id = taken.chunk;
    get diagnostics taken = row_count;
    create temp table hybridsearch_entry on commit drop as
    with numbered as (
        insert into {{piece}} (chunk)
        select chunk from pg_temp.hybridsearch_weighed where sparse is not null order by chunk
        returning number, chunk
    )
    select e.token, n.number, n.number / 16000 as range, e.weight,
           count(*) over (partition by e.token, n.number / 16000) as many
    from numbered as n
    join pg_temp.hybridsearch_weighed as w using (chunk)
    cross join lateral hybridsearch.elements(w.sparse::text) as e;
    analyze pg_temp.hybridsearch_entry;
    -- A token with 64 postings in a range has a row of that range.
    create temp table hybridsearch_dense on commit drop as
    select distinct e.token, e.range
    from pg_temp.hybridsearch_entry as e
    left join {{weight}} as p on p.token = e.token and p.place = e.range
    where e.many >= 64 or p.token is not null;
    insert into {{weight}} as p (token, place, pieces, top, weights)
    select e.token, e.range, count(*), max(e.weight),
           ('{' || string_agg(hybridsearch.element(e.number, e.weight), ',') || '}/16000')::sparsevec
    from pg_temp.hybridsearch_entry as e
    join pg_temp.hybridsearch_dense using (token, range)
    group by e.token, e.range
    on conflict (token, place) do update
    set pieces = p.pieces + excluded.pieces,
        top = greatest(p.top, excluded.top),
        weights = (p.weights::vector + excluded.weights::vector)::sparsevec;
    -- The rest, with the codes that are there already, in the measure of the highest weight.
    create temp table hybridsearch_list on commit drop as
    select l.token, l.place, coalesce(p.pieces, 0) as before, coalesce(p.pieces, 0) + l.many as pieces, t.top,
           case when p.top < t.top
                then array(select code & ~2047 | ceil((code & 2047) * (p.top::float8 / t.top))::int4 from unnest(p.codes) as code)
                else coalesce(p.codes, '{}')
           end || array(select (number & 1048575) << 11 | greatest(1, ceil(2047 * (weight / t.top::float8)))::int4
                    from unnest(l.numbers, l.weights) as u(number, weight)) as codes
    from (select e.token, -1 - (e.number >> 20) as place, count(*)::int4 as many, max(e.weight) as top,
                 array_agg(e.number) as numbers, array_agg(e.weight) as weights
          from pg_temp.hybridsearch_entry as e
          left join pg_temp.hybridsearch_dense as d using (token, range)
          where d.token is null
          group by e.token, e.number >> 20) as l
    left join {{weight}} as p on p.token = l.token and p.place = l.place
    cross join lateral (select greatest(p.top, l.top) as top offset 0) as t;
    insert into {{weight}} as p (token, place, pieces, top, codes)
    select token, place, pieces, top, codes from pg_temp.hybridsearch_list
    on conflict (token, place) do update
    set pieces = excluded.pieces, top = excluded.top, codes = excluded.codes;
    perform {{fn:weigh_lists}}();
    drop table pg_temp.hybridsearch_weighed, pg_temp.hybridsearch_entry, pg_temp.hybridsearch_dense, pg_temp.hybridsearch_list;
    return taken;
end
$$;
comment on function {{fn:weigh}}(int4) is 'Merge chunks into the postings of the encoder''s term weights, in one bounded step';

-- A list that has gained 64 postings is looked through for ranges with 64 in them, which become rows of ranges.
create or replace function {{fn:weigh_lists}}()
returns void
language sql
set search_path from current
set jit = off
set work_mem = '128MB'
as $$
    with entry as materialized (
        select l.token, l.place, l.top, u.code, n.number,
               count(*) over (partition by l.token, n.number / 16000) >= 64 as dense
        from pg_temp.hybridsearch_list as l
        cross join unnest(l.codes) as u(code)
        cross join lateral (select (u.code >> 11) + (-1 - l.place) * 1048576 as number) as n
        where l.before / 64 < l.pieces / 64
    ),
    moved as (
        insert into {{weight}} as p (token, place, pieces, top, weights)
        select token, number / 16000, count(*), max(top),
               ('{' || string_agg(hybridsearch.element(number, hybridsearch.code_weight(code, top)), ',')
                || '}/16000')::sparsevec
        from entry
        where dense
        group by token, number / 16000
        on conflict (token, place) do update
        set pieces = p.pieces + excluded.pieces,
            top = greatest(p.top, excluded.top),
            weights = (p.weights::vector + excluded.weights::vector)::sparsevec
    )
    update {{weight}} as p
    set codes = e.codes, pieces = cardinality(e.codes)
    from (select token, place, coalesce(array_agg(code) filter (where not dense), '{}') as codes
          from entry
          group by token, place
          having bool_or(dense)) as e
    where p.token = e.token and p.place = e.place
$$;
comment on function {{fn:weigh_lists}}() is 'A part of weigh: lists that have grown become rows of ranges';

-- Drop from one span what has no chunk any more; return how many postings that were. Ranges with few chunks left go
-- whole: their chunks are merged anew, under new numbers. One transaction, one at a time.
create or replace function {{fn:weigh_anew}}(span int4)
returns int8
language plpgsql
set search_path from current
set jit = off
set work_mem = '128MB'
set extra_float_digits = 1
as $$
#variable_conflict use_column
declare
    -- A range may lie in two spans: whole ranges are looked at.
    lowest constant int4 := span * 1048576::int8 / 16000;
    highest constant int4 := (span * 1048576::int8 + 1048575) / 16000;
    emptied int4[]; gone int8;
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, {{literal:weight}}::regclass::oid::int4);
    delete from {{piece}} as i
    where i.number between lowest * 16000 and highest * 16000::int8 + 15999
      and not exists (select from {{chunk}} as c where c.id = i.chunk);
    -- The last range is still being filled.
    select array_agg(r.range) into emptied
    from generate_series(lowest, least(highest, (select max(number) / 16000 - 1 from {{piece}}))) as r(range)
    where (select count(*) from {{piece}} as i where i.number between r.range * 16000 and r.range * 16000::int8 + 15999) < 8000;
    with renewed as (
        delete from {{piece}} as i
        using unnest(emptied) as r(range)
        where i.number between r.range * 16000 and r.range * 16000::int8 + 15999
        returning i.chunk
    )
    insert into {{unweighed}} (chunk) select chunk from renewed;
    with whole as (
        delete from {{weight}} where place = any(emptied) returning pieces as gone
    ),
    live as materialized (
        select i.number / 16000 as range,
               ('{' || string_agg((mod(i.number, 16000) + 1) || ':1', ',') || '}/16000')::sparsevec::vector as live
        from {{piece}} as i
        where i.number between lowest * 16000 and highest * 16000::int8 + 15999
        group by i.number / 16000
        having count(*) < 16000
    ),
    ranges as (
        update {{weight}} as p
        set weights = k.weights, pieces = k.pieces
        from (select o.token, o.place, (o.weights::vector * live.live)::sparsevec as weights, b.pieces, o.pieces - b.pieces as gone
              from live
              join {{weight}} as o on o.place = live.range
              cross join lateral (select bit_count(binary_quantize(o.weights::vector * live.live))::int4 as pieces offset 0) as b
              where b.pieces < o.pieces) as k
        where p.token = k.token and p.place = k.place
        returning k.gone
    ),
    lists as (
        update {{weight}} as p
        set codes = k.codes, pieces = cardinality(k.codes)
        from (select o.token, o.place, o.pieces, x.codes
              from {{weight}} as o
              cross join lateral (select coalesce(array_agg(code), '{}') as codes
                                  from unnest(o.codes) as code
                                  join {{piece}} as i on i.number = (code >> 11) + span * 1048576) as x
              where o.place = -1 - span
              offset 0) as k
        where p.token = k.token and p.place = k.place and cardinality(k.codes) < k.pieces
        returning k.pieces - cardinality(k.codes) as gone
    )
    select coalesce(sum(x.gone), 0) into gone
    from (table whole union all table ranges union all table lists) as x;
    delete from {{weight}} where pieces = 0;
    return gone;
end
$$;
comment on function {{fn:weigh_anew}}(int4) is 'Drop from one span of the encoder''s term weights what belongs to chunks that are gone';

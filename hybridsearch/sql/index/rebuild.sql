-- engine: sql
-- Write a part of one lexical index anew beside the rest: the documents of its lowest ranges get new numbers, in whole
-- ranges, with the words and the idf of now; the old ranges go, with the postings of removed documents that are in them.
-- Return how many documents that were (1 where none is left of them), about `most`; 0 where none is below `before`. One
-- transaction, one at a time; readers go on. A document keeps its hash, unless its row has changed.
create or replace function {{fn:rebuild}}(before int4, most int4 default 1048576)
returns int4
language plpgsql
set search_path from current
set jit = off
set work_mem = '128MB'
as $$
#variable_conflict use_column
declare
    lowest int4; highest int4; renewed int4;
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, {{literal:posting}}::regclass::oid::int4);
    select min(id) / 16000 * 16000 into lowest from {{document}} where id < before;
    if lowest is null then
        return 0;
    end if;
    select greatest(lowest, id / 16000 * 16000 - 16000) into highest
    from {{document}} where id < before order by id offset most limit 1;
    highest := coalesce(highest, (before - 1) / 16000 * 16000) + 15999;
    create temp table hybridsearch_renewed on commit drop as
    with unmerged as (
        delete from {{pending}} where document between lowest and highest and sign = 1 returning document
    )
    select d.id, d.length, d.terms, d.id not in (select document from unmerged) as merged
    from {{document}} as d
    where d.id between lowest and highest;
    -- What goes with the ranges and was not of a document that is still there, belonged to removed ones.
    with ranges as (
        delete from {{posting}} where place between lowest / 16000 and highest / 16000 returning term_id, documents as n
    ),
    lists as materialized (
        select p.term_id, p.place, p.documents, c.below, c.upto
        from {{posting}} as p
        cross join lateral (select (-1 - p.place) << 20 as first offset 0) as span
        cross join lateral (
            select width_bucket(greatest(lowest - span.first, 0) << 11, p.codes) as below,
                   width_bucket(least(highest - span.first, 1048575) << 11 | 2047, p.codes) as upto
            offset 0) as c
        where p.place between -1 - (highest >> 20) and -1 - (lowest >> 20) and c.upto > c.below
    ),
    -- Written once: what has nothing else, below, by the build alone.
    emptied as (
        delete from {{posting}} as p
        using lists as l
        where p.term_id = l.term_id and p.place = l.place and l.upto - l.below = l.documents
    ),
    cut as (
        update {{posting}} as p
        set codes = p.codes[: l.below] || p.codes[l.upto + 1 :],
            frequencies = p.frequencies[: l.below] || p.frequencies[l.upto + 1 :],
            documents = l.documents - (l.upto - l.below)
        from lists as l
        where p.term_id = l.term_id and p.place = l.place and l.upto - l.below < l.documents
    ),
    removed as (
        select g.term_id, sum(g.n) as n
        from (table ranges
              union all
              select term_id, upto - below from lists
              union all
              select term, -1 from pg_temp.hybridsearch_renewed, unnest(terms) as term where merged) as g
        group by g.term_id
        having sum(g.n) <> 0
    )
    -- Above 0 until the removal itself is merged.
    insert into {{posting}} as p (term_id, place, documents)
    select term_id, -2147483648, n from removed
    on conflict (term_id, place) do update
    set documents = p.documents + excluded.documents;
    delete from {{posting}} where documents = 0;
    -- Where no weight is left, those to come are made with the average and the parameters of now.
    update {{statistics}} as z
    set documents = z.documents - x.documents,
        length = z.length - x.length,
        average = case when bare and x.average > 0 then x.average else z.average end,
        k1 = case when bare then x.k1 else z.k1 end,
        b = case when bare then {{b}} else z.b end
    from (select count(*) filter (where merged) as documents,
                 coalesce(sum(length::float8) filter (where merged), 0) as length,
                 avg(length::float8) as average,
                 case when {{k1}} between 0.1 and 100 then {{k1}} else 1.2 end as k1
          from pg_temp.hybridsearch_renewed) as x,
         (select not exists (select from {{posting}} where place > -2147483648) as bare) as y;
    drop table pg_temp.hybridsearch_renewed;
    renewed := {{fn:build}}('', 2147483647, lowest, highest);
    -- Those without a row. One that has changed may have the words of another content than its hash says.
    delete from {{document}} where id between lowest and highest;
    update {{document}} as d
    set hash = ''
    where d.id >= before and exists (select from {{changed_keys:c}} where {{same_keys:c,d}});
    return greatest(1, renewed);
end
$$;
comment on function {{fn:rebuild}}(int4, int4) is 'Write the lowest ranges of the lexical index anew, in one bounded step';

-- Give documents the next numbers: they leave their ranges, as if each had another content, and keep their hash. Return how
-- many; those that have changed, or have no row any more, are left as they are.
create or replace function {{fn:renumber}}(numbers int4[])
returns int4
language plpgsql
set search_path from current
set jit = off
as $$
#variable_conflict use_column
declare
    chosen int4[]; renewed int4[];
begin
    -- Locked in one order with whoever writes vectors.
    select array_agg(d.id) into chosen
    from (select d.id
          from {{document}} as d
          where d.id = any(numbers)
            and exists (select from {{table}} as m where {{same_row:m,d}})
            and not exists (select from {{changed_keys:c}} where {{same_keys:c,d}})
          order by d.id
          for update of d) as d;
    with unmerged as (
        delete from {{pending}} where document = any(chosen) and sign = 1 returning document
    )
    insert into {{pending}} (document, sign, length, terms, frequencies)
    select d.id, -1, d.length, array(select term from unnest(d.terms) as term order by term), '{}'
    from {{document}} as d
    where d.id = any(chosen) and d.id not in (select document from unmerged);
    with given as (
        update {{document}} set id = default where id = any(chosen) returning id
    )
    select array_agg(id) into renewed from given;
    perform {{fn:add}}(renewed);
    -- One that changes meanwhile may have the words of another content than its hash says.
    update {{document}} as d
    set hash = ''
    where d.id = any(renewed) and exists (select from {{changed_keys:c}} where {{same_keys:c,d}});
    return coalesce(cardinality(renewed), 0);
end
$$;
comment on function {{fn:renumber}}(int4[]) is 'Give documents of the lexical index the next numbers';

-- The upkeep of lexical indexes: compact merges what is pending into the postings, clean drops what was removed.
-- docs/sparse-engine.md has the format. The tables are given by regclass. Documents go in and out by index/words.sql.
--
-- A posting row is, by its `place`,
--   range (place >= 0): weights sparsevec(16000), element mod(document, 16000) + 1 = idf * tf / (tf + norm), idf the row's own;
--   list  (below 0):    codes of the span -1 - place, sorted: (document & 1048575) << 11 | ceil(2047 * tf / (tf + norm)),
--                       and where a code does not give its tf back, tf in `frequencies` (null where it does);
--   removals (lowest):  documents = minus the number of removed documents that are still in the rows of ranges;
-- with norm = k1 * (1 - b + b * length / average), all three from `statistics`, where they do not change while there are weights.

select set_config('hybridsearch.search_path', current_setting('search_path'), true),
       set_config('search_path', format('pg_catalog, %I, pg_temp', namespace.nspname), true)
from pg_catalog.pg_extension as extension
join pg_catalog.pg_namespace as namespace on namespace.oid = extension.extnamespace
where extension.extname = 'vector';

-- Before the first documents: the row of statistics.
create or replace function hybridsearch.prepare(statistics regclass, k1 float8, b float8)
returns void
language plpgsql
set search_path from current
as $$
begin
    -- Not `on conflict` alone, which waits for a merge that is just writing the row.
    execute format(
        'insert into %1$s (id, documents, length, average, k1, b)
         select 1, 0, 0, 1, $1, $2
         where not exists (select from %1$s)
         on conflict do nothing',
        statistics)
    -- k1 = 0 would leave nothing of the frequencies in the rows; a query's own k1 need not be that of the rows.
    using case when k1 between 0.1 and 100 then k1 else 1.2 end, b;
end
$$;

-- Merge at most `batch` pending rows, and about `entries` postings, into the postings; return how many rows were taken.
-- One transaction, one at a time; readers and writers go on.
drop function if exists hybridsearch.compact(regclass, regclass, regclass, regclass, int4, int8);
create or replace function hybridsearch.compact(
    postings regclass, pending regclass, statistics regclass, documents regclass, terms regclass,
    batch int4 default 16000, entries int8 default 2000000
)
returns int4
language plpgsql
set search_path from current
set jit = off
set work_mem = '64MB'
set enable_hashagg = off
set extra_float_digits = 1           -- weights pass through text: every bit of them
as $$
declare
    removals constant int4 := -2147483648;
    taken int4; s record; emptied int4[];
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, postings::oid::int4);
    execute format(
        'create temp table hybridsearch_taken on commit drop as
         with chosen as materialized (
             select z.document, z.sign
             from (select document, sign, sum(cardinality(terms)) over (order by document, sign) - cardinality(terms) as before
                   from (select document, sign, terms from %1$s order by document, sign limit %2$s) as p) as z
             where z.before < %3$s
         ),
         locked as materialized (
             select p.ctid from %1$s as p join chosen using (document, sign) for update of p skip locked
         ),
         taken as (
             delete from %1$s as p using locked where p.ctid = locked.ctid returning p.*
         )
         select * from taken',
        pending, batch, entries);
    get diagnostics taken = row_count;
    if taken = 0 then
        drop table pg_temp.hybridsearch_taken;
        return 0;
    end if;
    execute format(
        'update %s as s
         set documents = s.documents + x.documents,
             length = s.length + x.length,
             average = case when s.length + x.length > 0 and not exists (select from %s where place > %s)
                            then (s.length + x.length) / (s.documents + x.documents) else s.average end
         from (select sum(sign) as documents, sum(sign * length::float8) as length from pg_temp.hybridsearch_taken) as x
         returning s.documents, s.average, s.k1, s.b',
        statistics, postings, removals) into strict s;
    -- Every posting: its tf, its weight and code, and whether it goes to a row of a range, or is to be taken out of one.
    execute format(
        'create temp table hybridsearch_moved on commit drop as
         with posting as materialized (
             select x.*, x.document / 16000 as range, -1 - (x.document >> 20) as list,
                    x.tf / (x.tf + x.norm) as weight,
                    hybridsearch.code(x.tf, x.norm) as code,
                    count(*) over (partition by x.term, x.sign, x.document / 16000) as many
             from (select taken.document, taken.sign, u.term, coalesce(u.tf, 1)::float8 as tf,
                          greatest($1 * (1 - $2 + $2 * taken.length / $3), 1e-30)::float8 as norm
                   from pg_temp.hybridsearch_taken as taken,
                        unnest(taken.terms, taken.frequencies) as u(term, tf)) as x
         )
         select m.term, m.range, m.list, m.document, m.sign, m.tf, m.weight, m.code, p.idf,
                case when m.sign > 0 then p.term_id is not null or m.many >= 64
                     else p.codes[width_bucket((m.document & 1048575) << 11 | 2047, p.codes)] >> 11 is distinct from m.document & 1048575
                end as sparse,
                hybridsearch.code_tells(m.code, m.tf, m.norm) as coded
         from posting as m
         left join %s as p on p.term_id = m.term and p.place = case when m.sign > 0 then m.range else m.list end',
        postings) using s.k1, s.b, s.average;
    -- New rows of ranges take the idf of now.
    execute format(
        'update pg_temp.hybridsearch_moved as m
         set idf = ln(1 + (greatest($1, z.n) - z.n + 0.5) / (z.n + 0.5))
         from (select x.term, greatest(1, coalesce((select sum(p.documents) from %s as p where p.term_id = x.term), 0) + x.n)::float8 as n
               from (select term, count(*) as n
                     from pg_temp.hybridsearch_moved
                     where sign > 0
                     group by term
                     having bool_or(sparse and idf is null)) as x) as z
         where m.term = z.term and m.idf is null and m.sparse',
        postings) using s.documents::float8;
    execute format(
        'insert into %s as p (term_id, place, documents, idf, weights)
         select term, range, count(*), min(idf),
                (''{'' || string_agg((mod(document, 16000) + 1) || '':'' || (weight * idf)::real, '','') || ''}/16000'')::sparsevec
         from pg_temp.hybridsearch_moved
         where sign > 0 and sparse
         group by term, range
         on conflict (term_id, place) do update
         set documents = p.documents + excluded.documents,
             weights = (p.weights::vector + excluded.weights::vector)::sparsevec',
        postings);
    -- What goes out of a list, goes here, as a code of weight 0; a list that has nothing else goes itself.
    create temp table hybridsearch_listed on commit drop as
    select term, list, count(*) filter (where sign < 0) as gone, count(*) filter (where sign > 0) as come,
           array_agg((document & 1048575) << 11 | case when sign > 0 then code else 0 end order by document, sign) as codes,
           case when not bool_and(coded or sign < 0)
                then array_agg(case when sign > 0 and not coded then tf::real end order by document, sign) end as frequencies
    from pg_temp.hybridsearch_moved
    where not sparse
    group by term, list;
    execute format(
        'with emptied as (
             delete from %s as p
             using pg_temp.hybridsearch_listed as c
             where p.term_id = c.term and p.place = c.list and c.come = 0 and p.documents = c.gone
             returning p.term_id, p.place
         ),
         done as (
             delete from pg_temp.hybridsearch_listed as c using emptied as e where c.term = e.term_id and c.list = e.place
         )
         select array_agg(distinct term_id) from emptied',
        postings) into emptied;
    execute format(
        'insert into %s as p (term_id, place, documents, codes, frequencies)
         select term, list, come, codes, frequencies
         from pg_temp.hybridsearch_listed
         on conflict (term_id, place) do update
         set (documents, codes, frequencies) = (
                 select count(*), array_agg(x.code order by x.code),
                        case when bool_or(x.tf is not null) then array_agg(x.tf order by x.code) end
                 from (select u.code, u.tf, min(u.code & 2047) over (partition by u.code >> 11) as least
                       from (select * from unnest(p.codes, p.frequencies)
                             union all
                             select * from unnest(excluded.codes, excluded.frequencies)) as u(code, tf)) as x
                 where x.least > 0)',
        postings);
    execute format(
        'insert into %s as p (term_id, place, documents)
         select term, $1, -count(*)
         from pg_temp.hybridsearch_moved
         where sign < 0 and sparse
         group by term
         on conflict (term_id, place) do update
         set documents = p.documents + excluded.documents',
        postings) using removals;
    -- A list with 64 postings in one range becomes a row of that range.
    execute format(
        'create temp table hybridsearch_grown on commit drop as
         select p.term_id as term, p.place as list, m.range,
                width_bucket(m.lowest, p.codes) as below, width_bucket(m.highest, p.codes) as upto,
                p.codes, p.frequencies
         from (select distinct term, list, range,
                      (greatest(range * 16000, (document >> 20) << 20) & 1048575) << 11 as lowest,
                      (least(range * 16000 + 15999, ((document >> 20) << 20) + 1048575) & 1048575) << 11 | 2047 as highest
               from pg_temp.hybridsearch_moved
               where sign > 0 and not sparse) as m
         join %s as p on p.term_id = m.term and p.place = m.list
         where p.documents >= 64 and width_bucket(m.highest, p.codes) - width_bucket(m.lowest, p.codes) >= 64',
        postings);
    if exists (select from pg_temp.hybridsearch_grown) then
        perform hybridsearch.grow(postings, documents, s.documents::float8, s.average, s.k1, s.b);
    end if;
    drop table pg_temp.hybridsearch_taken, pg_temp.hybridsearch_moved, pg_temp.hybridsearch_listed, pg_temp.hybridsearch_grown;
    perform hybridsearch.forget_terms(terms, postings, pending, emptied);
    return taken;
end
$$;
comment on function hybridsearch.compact(regclass, regclass, regclass, regclass, regclass, int4, int8) is
    'Merge pending documents and removals into the postings of a lexical index, in one bounded step';

-- The second half of compact: take the pieces of lists in hybridsearch_grown over into rows of ranges.
create or replace function hybridsearch.grow(
    postings regclass, documents regclass, total float8, average float8, k1 float8, b float8
)
returns void
language plpgsql
set search_path from current
set jit = off
set work_mem = '64MB'
set enable_hashagg = off
set extra_float_digits = 1           -- weights pass through text: every bit of them
as $$
begin
    execute format(
        'insert into %1$s as p (term_id, place, documents, idf, weights)
         select g.term, g.range, count(*), min(z.idf),
                (''{'' || string_agg((mod(e.document, 16000) + 1) || '':'' || (t.tf / (t.tf + n.norm) * z.idf)::real, '','') || ''}/16000'')::sparsevec
         from pg_temp.hybridsearch_grown as g
         cross join lateral (
             select coalesce(min(p.idf) filter (where p.place = g.range),
                             ln(1 + (greatest($1, y.n) - y.n + 0.5) / (y.n + 0.5)))::real as idf
             from %1$s as p,
                  (select greatest(1, sum(documents))::float8 as n from %1$s where term_id = g.term) as y
             where p.term_id = g.term
             group by y.n) as z
         cross join lateral (
             select (x.code >> 11) + (-1 - g.list) * 1048576 as document, x.code & 2047 as code, x.tf
             from unnest(g.codes[g.below + 1 : g.upto], g.frequencies[g.below + 1 : g.upto]) as x(code, tf)) as e
         -- A removed document has no length any more: any weight will do.
         cross join lateral (
             select greatest($3 * (1 - $4 + $4 * coalesce((select d.length from %2$s as d where d.id = e.document), 1) / $2), 1e-30) as norm
             offset 0) as n
         cross join lateral (
             select coalesce(e.tf, greatest(1, round(n.norm * e.code / nullif(2047 - e.code, 0))), 1)::float8 as tf offset 0) as t
         group by g.term, g.range
         on conflict (term_id, place) do update
         set documents = p.documents + excluded.documents,
             weights = (p.weights::vector + excluded.weights::vector)::sparsevec',
        postings, documents) using total, average, k1, b;
    -- A list may lose several pieces; an empty one goes with the next cleaning.
    execute format(
        'update %s as p
         set documents = cardinality(y.codes), codes = y.codes, frequencies = y.frequencies
         from (select g.term, g.list,
                      coalesce(array_agg(x.code order by x.code) filter (where x.code is not null), ''{}'') as codes,
                      case when bool_or(x.tf is not null) then array_agg(x.tf order by x.code) end as frequencies
               from (select distinct on (term, list) * from pg_temp.hybridsearch_grown order by term, list) as g
               left join lateral (
                   select u.code, u.tf
                   from unnest(g.codes, g.frequencies) with ordinality as u(code, tf, place)
                   where not exists (select
                                     from pg_temp.hybridsearch_grown as o
                                     where o.term = g.term and o.list = g.list and u.place > o.below and u.place <= o.upto)) as x on true
               group by g.term, g.list) as y
         where p.term_id = y.term and p.place = y.list',
        postings);
end
$$;

-- Drop the postings of removed documents, of the terms from `lowest` to `highest`: from their rows of one range, or, where
-- that is below 0, from their lists. Return how many went.
create or replace function hybridsearch.clean(postings regclass, documents regclass, range_ int4, lowest int4, highest int4)
returns int8
language plpgsql
set search_path from current
set jit = off
set extra_float_digits = 1
as $$
declare
    removals constant int4 := -2147483648;
    live vector; gone int8;
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, postings::oid::int4);
    execute format(
        'select (''{'' || coalesce(string_agg((id - $1 * 16000 + 1) || '':1'', '',''), '''') || ''}/16000'')::sparsevec::vector
         from %s
         where id between $1 * 16000 and $1 * 16000 + 15999',
        documents) into live using range_;
    execute format(
        'with ranges as (
             update %1$s as p
             set weights = (p.weights::vector * $1)::sparsevec, documents = bit_count(binary_quantize(p.weights::vector * $1))
             from %1$s as o
             where o.term_id = p.term_id and o.place = p.place
               and $2 >= 0 and p.term_id between $3 and $4 and p.place = $2
               and bit_count(binary_quantize(p.weights::vector * $1)) < p.documents
             returning p.term_id, o.documents - p.documents as gone
         ),
         lists as (
             update %1$s as p
             set codes = coalesce(y.codes, ''{}''), frequencies = y.frequencies, documents = coalesce(cardinality(y.codes), 0)
             from (select o.term_id, o.place, o.documents, x.codes, x.frequencies
                   from %1$s as o
                   cross join lateral (
                       select array_agg(u.code order by u.code) as codes,
                              case when bool_or(u.tf is not null) then array_agg(u.tf order by u.code) end as frequencies
                       from unnest(o.codes, o.frequencies) as u(code, tf)
                       where exists (select from %2$s as d where d.id = (u.code >> 11) + (-1 - o.place) * 1048576)) as x
                   where $2 < 0 and o.term_id between $3 and $4 and o.place between -2147483647 and -1
                   offset 0) as y
             where p.term_id = y.term_id and p.place = y.place and coalesce(cardinality(y.codes), 0) < y.documents
             returning p.term_id, y.documents - p.documents as gone
         ),
         -- Above 0 until the removal itself is merged.
         added as (
             insert into %1$s as p (term_id, place, documents)
             select g.term_id, $5, sum(g.gone)
             from (table ranges union all table lists) as g
             group by g.term_id
             on conflict (term_id, place) do update
             set documents = p.documents + excluded.documents
             returning 1
         )
         select coalesce(sum(gone), 0) from (table ranges union all table lists) as g',
        postings, documents) into gone using live, range_, lowest, highest, removals;
    -- What has nothing left, of what was looked at: lists of which a merge has made rows of ranges are among it.
    if gone > 0 or range_ < 0 then
        execute format(
            'delete from %s
             where documents = 0
               and (term_id between $1 and $2 and place <= $3 or term_id between $1 and $2 and place = $4)',
            postings) using lowest, highest, case when range_ < 0 then -1 else removals end, range_;
    end if;
    return gone;
end
$$;
comment on function hybridsearch.clean(regclass, regclass, int4, int4, int4) is
    'Drop the postings of removed documents from the rows that some terms have of one range, or from their lists';

-- Forget those of some words, by their numbers, that are in no document any more; return how many. None while somebody
-- adds documents, who has looked their words up. What is left is their numbers, under a text that no word has: the next new
-- words take them, else the numbers of words that come and go would lie ever further apart in each index.
create or replace function hybridsearch.forget_terms(terms regclass, postings regclass, pending regclass, numbers int4[])
returns int4
language plpgsql
set search_path from current
set jit = off
as $$
declare
    gone int4;
begin
    if numbers is null then
        return 0;
    end if;
    perform pg_advisory_xact_lock(x'68796272'::int4, postings::oid::int4);
    if not pg_try_advisory_xact_lock(x'68796272'::int4, terms::oid::int4) then
        return 0;
    end if;
    -- By sorting or hashing: a subquery of `not in` that does not fit in memory is read once a word.
    execute format('select array(select unnest($1) except select unnest(w.terms) from %s as w)', pending)
    into numbers using numbers;
    execute format(
        'update %s as t
         set term = e''\x01'' || t.id
         where t.id = any($1) and t.term > e''\x02''
           and not exists (select from %s as p where p.term_id = t.id)',
        terms, postings) using numbers;
    get diagnostics gone = row_count;
    return gone;
end
$$;
comment on function hybridsearch.forget_terms(regclass, regclass, regclass, int4[]) is
    'Forget those of some words of a lexical index that are in no document any more';

select set_config('search_path', current_setting('hybridsearch.search_path'), true);

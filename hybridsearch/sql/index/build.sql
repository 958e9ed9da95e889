-- engine: sql
-- The first fill of a lexical index, and its rebuild: many rows at once, in whole ranges, past {{pending}}. What passes from
-- one step to the next stands in unlogged tables that nobody else ever sees (made and dropped in one transaction), since
-- PostgreSQL's parallel workers cannot read temporary ones. docs/sparse-engine.md has the format, and what a step costs.

-- Number the next rows, as the table is read, that have no document, and write their postings. Return how many there
-- were, 0 at the end. One transaction, one at a time; readers go on. The hash of a document is that of `recipe`, which says
-- how rows are indexed, and of its fields.
--
-- Or, where `highest` is given, number those anew that have numbers from `lowest` to it, and no posting; they keep their hash.
create or replace function {{fn:build}}(recipe text, most int4 default 1048576, lowest int4 default 0, highest int4 default -1)
returns int4
language plpgsql
set search_path from current
set jit = off
set work_mem = '128MB'
set parallel_setup_cost = 0         -- a text, and a block, cost far more than the planner thinks
set parallel_tuple_cost = 0
set min_parallel_table_scan_size = 0
set parallel_leader_participation = off     -- who works on a part itself leaves the others' rows waiting
set hash_mem_multiplier = 2
set extra_float_digits = 1          -- weights pass through text: every bit of them
as $$
#variable_conflict use_column
declare
    sequence regclass := pg_get_serial_sequence({{literal:document}}, 'id');
    workers int4 := greatest(1, least(current_setting('max_parallel_workers_per_gather')::int4, current_setting('max_parallel_workers')::int4));
    first int4; built int4; s record; least_dense float8; classes int4; ranges int4; postings float8;
begin
    if workers = 1 then
        perform set_config('parallel_leader_participation', 'on', true);
    end if;
    perform pg_advisory_xact_lock(x'68796272'::int4, {{literal:posting}}::regclass::oid::int4);
    first := (nextval(sequence) / 16000 + 1) * 16000;       -- whole ranges, of this build alone
    create unlogged table {{build_numbers}} as
    select first - 1 + (row_number() over ())::int4 as document, {{keys:x}}
    from (select {{keys:m}}
          from {{table}} as m
          left join {{document}} as doc on {{same_row:m,doc}}
          where case when highest < 0 then doc.id is null else doc.id between lowest and highest end
          limit most) as x;
    get diagnostics built = row_count;
    if built = 0 then
        drop table {{build_numbers}};
        return 0;
    end if;
    perform setval(sequence, first + built - 1);
    analyze {{build_numbers}};
    -- 1. The words of each row. They are numbered as the table is read, so that they come in about the order of their numbers
    -- again, without sorting texts.
    create unlogged table {{build_rows}} as
    select x.document, {{keys:x}}, x.hash, coalesce((x.counted).length, 0) as length, (x.counted).words, (x.counted).frequencies
    from (select o.document, {{keys:m}}, {{hash:m}} as hash,
                 {{counted:m}} as counted
          from {{build_numbers}} as o
          join {{table}} as m on ({{keys:m}}) = ({{keys:o}})
          offset 0) as x;
    create index on {{build_rows}} using brin (document) with (pages_per_range = 16);
    update {{statistics}} as z
    set documents = z.documents + x.documents,
        length = z.length + x.length,
        -- Until there is a weight that was made with another; what is left of removals has none.
        average = case when x.length_of_all > 0 and not exists (select from {{posting}} where place > -2147483648)
                       then x.length_of_all / x.all_documents else z.average end
    from (select o.documents, o.length, v.documents + o.documents + p.documents as all_documents,
                 v.length + o.length + p.length as length_of_all
          from (select count(*) as documents, coalesce(sum(length::float8), 0) as length from {{build_rows}}) as o,
               (select coalesce(sum(sign), 0) as documents, coalesce(sum(sign * length::float8), 0) as length from {{pending}}) as p,
               {{statistics}} as v) as x
    returning z.documents, z.average, z.k1, z.b into strict s;
    -- 2. The dictionary, and of each word of these documents its number, and its idf where it goes to rows of ranges.
    execute (select 'create unlogged table {{build_words}} as select word collate "C" as word, sum(n) as n from ('
                    || string_agg(format('select * from {{fn:build_counts}}(%s, %s)', first + (built * (part - 1)::int8 / workers),
                                         first + (built * part::int8 / workers) - 1), ' union all ')
                    || ') as x group by 1'
             from generate_series(1, workers) as part);
    insert into {{term}} (term)
    select word
    from {{build_words}} as w
    where not exists (select from {{term}} as known where known.term = w.word)
    order by word
    on conflict do nothing;
    least_dense := 64 * greatest(1, built / 16000.0);
    create unlogged table {{build_terms}} as
    select w.word, known.id, w.n,
           case when w.n >= least_dense then ln(1 + (greatest(s.documents - z.n, 0) + 0.5) / (z.n + 0.5))::real end as idf
    from {{build_words}} as w
    join {{term}} as known on known.term = w.word
    left join (select p.term_id, sum(p.documents) as n from {{posting}} as p group by p.term_id) as merged on merged.term_id = known.id
    cross join lateral (select (w.n + coalesce(merged.n, 0))::float8 as n) as z;
    create unique index on {{build_terms}} (word);      -- so that a word is looked up once, and no further
    analyze {{build_terms}};
    -- 3. The terms of each document, and the rows of ranges: some ranges at once, so that every table stays in memory.
    select sum(n) / built * 16000 into postings from {{build_terms}};           -- of a range
    ranges := greatest(1, least(4, built / 16000 / (2 * workers), 4e6 / postings));
    -- The server takes every array that is added up for 8 kB, four a document, and would keep most of them in files.
    perform set_config('hash_mem_multiplier', case when postings <= 4e6 then '10' else '2' end, true);
    execute (select 'create unlogged table {{build_parts}} as '
                    || string_agg(format('select * from {{fn:build_ranges}}(%s, %s, %L, %L, %L)',
                                         block * 16000, (block + ranges) * 16000 - 1, s.average, s.k1, s.b), ' union all ')
             from generate_series(first / 16000, (first + built - 1) / 16000, ranges) as block);
    -- One that is numbered anew keeps its hash.
    insert into {{document}} as d (id, {{companion_keys}}, hash, length, terms)
    select o.document, {{keys:o}}, o.hash, o.length, coalesce(e.terms, '{}')
    from {{build_rows}} as o
    left join {{build_parts}} as e on e.document = o.document
    order by o.document
    on conflict ({{companion_keys}}) do update
    set id = excluded.id, length = excluded.length, terms = excluded.terms;
    insert into {{posting}} (term_id, place, documents, idf, weights)
    select e.term_id, e.place, e.documents, e.idf, e.weights
    from {{build_parts}} as e
    where e.document is null
    order by e.term_id, e.place;
    -- 4. The lists, the terms in classes: as many as fit in memory.
    perform set_config('hash_mem_multiplier', '10', true);      -- as above; a class has about 8 million codes
    select 2 ^ greatest(1, ceil(log(2, sum(n) / 8e6))) into classes from {{build_terms}} where idf is null;
    execute (select 'create unlogged table {{build_lists}} as '
                    || string_agg(format('select * from {{fn:build_lists}}(%s, %s, %s)', span, class, classes), ' union all ')
             from generate_series(first >> 20, (first + built - 1) >> 20) as span, generate_series(0, classes - 1) as class);
    insert into {{posting}} as p (term_id, place, documents, codes, frequencies)
    select l.term_id, l.place, cardinality(l.codes), l.codes, l.frequencies
    from {{build_lists}} as l
    order by l.term_id, l.place
    on conflict (term_id, place) do update
    set documents = p.documents + excluded.documents,
        -- The new documents have the higher numbers.
        codes = p.codes || excluded.codes,
        frequencies = case when p.frequencies is not null or excluded.frequencies is not null
                           then coalesce(p.frequencies, array_fill(null::real, array[cardinality(p.codes)]))
                                || coalesce(excluded.frequencies, array_fill(null::real, array[cardinality(excluded.codes)])) end;
    drop table {{build_numbers}}, {{build_rows}}, {{build_words}}, {{build_terms}}, {{build_parts}}, {{build_lists}};
    return built;
end
$$;
comment on function {{fn:build}}(text, int4, int4, int4) is
    'Number and index the words of the next rows that have no document, in one bounded step of whole ranges';

-- A part of build: in how many of the documents from `first` to `last` each word is.
create or replace function {{fn:build_counts}}(first int4, last int4)
returns table (word text, n int8)
language plpgsql stable parallel safe cost 1000000000
set search_path from current
set jit = off
set work_mem = '256MB'
as $$
#variable_conflict use_column
begin
    return query
    select x.word, count(*)
    from (select unnest(o.words) as word from {{build_rows}} as o where o.document between first and last) as x
    group by x.word;
end
$$;
comment on function {{fn:build_counts}}(int4, int4) is 'A part of a build: in how many documents each word is';

-- A part of build: the documents from `first` to `last`, a few ranges. A row of postings for each term and range, and a row for
-- each document that has words: its terms, and its entries in lists, each a term and, below it, the 31 bits of a code in one
-- number; once more those whose code does not give the frequency, with it.
create or replace function {{fn:build_ranges}}(first int4, last int4, average float8, k1 float8, b float8)
returns table (
    document int4, terms int4[], listed int8[], uncoded int8[], frequencies real[],
    term_id int4, place int4, documents int8, idf real, weights sparsevec
)
language plpgsql stable parallel safe cost 1000000000
set search_path from current
set jit = off
set work_mem = '256MB'
set enable_sort = off               -- the rows come in the order of their documents: hashing is the faster way to group them
set extra_float_digits = 1
as $$
#variable_conflict use_column
begin
    return query
    with row_ as not materialized (
        -- What is the same for every word that is in a document once, as most are in lists, is computed once.
        select n.document, n.norm, n.low, n.code, hybridsearch.code_tells(n.code, 1, n.norm) as coded,
               n.words, n.frequencies
        from (select x.document, x.norm, (x.document & 1048575)::int8 << 11 as low,
                     hybridsearch.code(1, x.norm) as code, x.words, x.frequencies
              from (select o.document, o.words, o.frequencies, greatest(k1 * (1 - b + b * o.length / average), 1e-30)::float8 as norm
                    from {{build_rows}} as o
                    where o.document between first and last
                    offset 0) as x
              offset 0) as n
        offset 0
    ),
    entry as not materialized (
        -- Several unnest() in the list of columns go through an array together, where those in FROM would each copy it first.
        select r.document, r.norm, r.low, r.code, r.coded, unnest(r.words) as word, unnest(r.frequencies) as tf
        from row_ as r
    )
    select e.document, array_agg(e.id), array_agg(e.key) filter (where e.key is not null),
           array_agg(e.key) filter (where e.tf is not null), array_agg(e.tf) filter (where e.tf is not null),
           null::int4, null::int4, null::int8, null::real, null::sparsevec
    from (select c.document, c.id, (c.id::int8 << 31) | c.low | c.code as key,
                 case when c.code is not null
                       and not case when c.tf = 1 then c.coded else hybridsearch.code_tells(c.code, c.tf, c.norm) end then c.tf end as tf
          from (select r.document, r.low, r.tf, r.norm, r.coded, known.id,
                       case when known.idf is null
                            then case when r.tf = 1 then r.code else hybridsearch.code(r.tf, r.norm) end end as code
                from entry as r
                join {{build_terms}} as known on known.word = r.word
                offset 0) as c
          offset 0) as e
    group by e.document
    union all
    select null, null, null, null, null, known.id, r.document / 16000, count(*), known.idf,
           ('{' || string_agg(hybridsearch.element(r.document, (r.tf / (r.tf + r.norm) * known.idf)::real), ',') || '}/16000')::sparsevec
    from entry as r
    join {{build_terms}} as known on known.word = r.word
    where known.idf is not null
    group by known.id, known.idf, r.document / 16000;
end
$$;
comment on function {{fn:build_ranges}}(int4, int4, float8, float8, float8) is 'A part of a build: a few ranges of documents';

-- A part of build: the lists of one span of documents, of the terms of one class. Sorted as single numbers, and then grouped
-- by hashing, which keeps that order and finds each group where it has just been.
create or replace function {{fn:build_lists}}(span int4, class int4, classes int4)
returns table (term_id int4, place int4, codes int4[], frequencies real[])
language plpgsql stable parallel safe cost 1000000000
set search_path from current
set jit = off
set work_mem = '256MB'
set enable_sort = off
as $$
#variable_conflict use_column
begin
    return query
    select l.term::int4, -1 - span, l.codes,
           case when u.term is not null
                then array(select x.tf
                           from unnest(l.codes) with ordinality as c(code, place)
                           left join unnest(u.codes, u.tfs) as x(code, tf) on x.code = c.code
                           order by c.place) end
    from (select e.key >> 31 as term, array_agg((e.key & 2147483647)::int4) as codes
          from (select x.key
                from (select unnest(o.listed) as key from {{build_parts}} as o where o.document >> 20 = span) as x
                where x.key & ((classes - 1)::int8 << 31) = class::int8 << 31
                order by x.key) as e
          group by e.key >> 31) as l
    left join (select u.key >> 31 as term, array_agg((u.key & 2147483647)::int4) as codes, array_agg(u.tf) as tfs
               from {{build_parts}} as o
               cross join unnest(o.uncoded, o.frequencies) as u(key, tf)
               where o.document >> 20 = span and u.key & ((classes - 1)::int8 << 31) = class::int8 << 31
               group by u.key >> 31) as u on u.term = l.term;
end
$$;
comment on function {{fn:build_lists}}(int4, int4, int4) is 'A part of a build: the lists of some terms';

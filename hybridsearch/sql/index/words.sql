-- engine: sql
-- The words of the table's rows on their way into one lexical index. The rows are read as they are, in the database: no
-- text travels. docs/sparse-engine.md has the format.

-- Add documents: numbers that stand in {{document}}, which gets their lengths and terms, and are in no posting yet.
create or replace function {{fn:add}}(numbers int4[])
returns void
language plpgsql
set search_path from current
set jit = off
as $$
#variable_conflict use_column
declare
    d int4[]; t text[]; f real[]; fresh text[]; free int4[];
begin
    -- Nobody drops words until these are written; a snapshot of before may show words that were.
    perform pg_advisory_xact_lock_shared(x'68796272'::int4, {{literal:term}}::regclass::oid::int4);
    select array_agg(entry.id), array_agg(entry.term), array_agg(entry.frequency) into d, t, f
    from (select doc.id, word.term, word.frequency
          from {{document}} as doc
          join {{table}} as m on {{same_row:m,doc}}
          cross join lateral {{words:m}} as word
          where doc.id = any(numbers)) as entry;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform from {{term}} as known where known.term = any(t) for key share;
    end if;
    -- In the order of the terms, so that two writers who bring the same new words cannot deadlock. The numbers of words
    -- that were forgotten come first.
    select array_agg(given.word order by given.word) into fresh
    from (select distinct word collate "C" as word from unnest(t) as word) as given
    where not exists (select from {{term}} as known where known.term = given.word);
    select array_agg(known.id) into free
    from (select id from {{term}} where term < e'\x02' order by term limit coalesce(cardinality(fresh), 0) for update skip locked) as known;
    delete from {{term}} where id = any(free);
    insert into {{term}} (id, term)
    select given.id, given.word
    from unnest(free, fresh) as given(id, word)
    where given.id is not null
    on conflict do nothing;
    insert into {{term}} (term)
    select word
    from unnest(fresh) as word
    where not exists (select from {{term}} as known where known.term = word)
    on conflict do nothing;
    with entry as materialized (
        select given.number, array_agg(term.id order by term.id) as ids, array_agg(given.tf order by term.id) as tfs,
               sum(given.tf::float8)::real as length
        from unnest(d, t, f) as given(number, word, tf)
        join {{term}} as term on term.term = given.word
        group by given.number
    ),
    counted as (
        update {{document}} as doc
        set length = entry.length, terms = entry.ids
        from entry
        where doc.id = entry.number
    )
    insert into {{pending}} (document, sign, length, terms, frequencies)
    select number, 1, coalesce(entry.length, 0), coalesce(entry.ids, '{}'), coalesce(entry.tfs, '{}')
    from (select distinct number from unnest(numbers) as number) as given
    left join entry using (number);
end
$$;
comment on function {{fn:add}}(int4[]) is 'Index the words of documents that were just numbered';

-- Remove documents. One that is not yet merged just goes; of a merged one, a row of sign -1 is merged later.
create or replace function {{fn:remove}}(numbers int4[])
returns void
language sql
set search_path from current
set jit = off
as $$
    with unmerged as (
        -- Waits for a compaction that has just taken the row, and then finds it gone: the document is merged.
        delete from {{pending}} where document = any(numbers) and sign = 1 returning document
    ),
    gone as (
        delete from {{document}} where id = any(numbers) returning id, length, terms
    )
    insert into {{pending}} (document, sign, length, terms, frequencies)
    select id, -1, length, array(select term from unnest(terms) as term order by term), '{}'
    from gone
    where id not in (select document from unmerged)
$$;
comment on function {{fn:remove}}(int4[]) is 'Take documents out of the lexical index and out of the numbering';

-- Build many at once: number the next rows, in the order of their keys, that have no document, and write their postings
-- in whole ranges, past {{pending}}. Return how many there were, 0 at the end. One transaction, one at a time; readers go
-- on. The hash of a document is that of `recipe`, which says how rows are indexed, and of its fields.
--
-- Or, where `highest` is given, number those anew that have numbers from `lowest` to it, and no posting; they keep their hash.
create or replace function {{fn:build}}(recipe text, most int4 default 1048576, lowest int4 default 0, highest int4 default -1)
returns int4
language plpgsql
set search_path from current
set jit = off
set work_mem = '128MB'
set parallel_setup_cost = 0         -- the words of a text cost far more than the planner thinks
set parallel_tuple_cost = 0
set extra_float_digits = 1          -- weights pass through text: every bit of them
as $$
#variable_conflict use_column
declare
    bounded bool; upto record; sequence regclass := pg_get_serial_sequence({{literal:document}}, 'id');
    first int4; built int4; s record; least_dense float8; block int4;
begin
    perform pg_advisory_xact_lock(x'68796272'::int4, {{literal:posting}}::regclass::oid::int4);
    select {{keys:m}} into upto
    from {{table}} as m
    where highest < 0 and not exists (select from {{document}} as doc where {{same_row:m,doc}})
    order by {{keys:m}}
    offset most - 1 limit 1;
    bounded := found;
    first := (nextval(sequence) / 16000 + 1) * 16000;       -- whole ranges, of this build alone
    create temp table hybridsearch_built on commit drop as
    select first - 1 + (row_number() over (order by {{keys:x}}))::int4 as document, {{keys:x}}, x.hash,
           coalesce((x.counted).length, 0) as length, (x.counted).words, (x.counted).frequencies
    from (select {{keys:m}}, sha256(convert_to(recipe || json_build_array({{field_texts:m}})::text, 'UTF8')) as hash,
                 {{counted:m}} as counted
          from {{table}} as m
          left join {{document}} as doc on {{same_row:m,doc}}
          where case when highest < 0 then doc.id is null else doc.id between lowest and highest end
            and (not bounded or ({{keys:m}}) <= ({{keys:upto}}))
          offset 0) as x;
    get diagnostics built = row_count;
    if built = 0 then
        drop table pg_temp.hybridsearch_built;
        return 0;
    end if;
    perform setval(sequence, first + built - 1);
    update {{statistics}} as z
    set documents = z.documents + x.documents,
        length = z.length + x.length,
        average = case when z.documents = 0 and x.length > 0 and not exists (select from {{posting}})
                       then x.length / x.documents else z.average end
    from (select count(*) as documents, sum(length::float8) as length from pg_temp.hybridsearch_built) as x
    returning z.documents, z.average, z.k1, z.b into strict s;
    -- The dictionary, and of each word of these documents its number, and its idf where it goes to rows of ranges.
    least_dense := 64 * greatest(1, built / 16000.0);
    create temp table hybridsearch_word on commit drop as
    select word collate "C" as word, count(*) as n
    from pg_temp.hybridsearch_built, unnest(words) as word
    group by word;
    insert into {{term}} (term)
    select word
    from pg_temp.hybridsearch_word as w
    where not exists (select from {{term}} as known where known.term = w.word)
    order by word
    on conflict do nothing;
    create temp table hybridsearch_known on commit drop as
    select w.word, known.id,
           case when w.n >= least_dense then ln(1 + (greatest(s.documents - z.n, 0) + 0.5) / (z.n + 0.5))::real end as idf
    from pg_temp.hybridsearch_word as w
    join {{term}} as known on known.term = w.word
    left join (select p.term_id, sum(p.documents) as n from {{posting}} as p group by p.term_id) as merged on merged.term_id = known.id
    cross join lateral (select (w.n + coalesce(merged.n, 0))::float8 as n) as z;
    analyze pg_temp.hybridsearch_known;
    create index on pg_temp.hybridsearch_built using brin (document) with (pages_per_range = 16);
    create temp table hybridsearch_listed (id int4, document int4, tf real, norm float8) on commit drop;
    for block in first / 16000 .. (first + built - 1) / 16000 by 2 loop
        perform {{fn:build_block}}(block * 16000, block * 16000 + 31999, s.average, s.k1, s.b);
    end loop;
    insert into {{posting}} as p (term_id, place, documents, codes, frequencies)
    select l.id, -1 - l.span, count(*), array_agg(l.code),
           case when bool_or(l.tf is not null) then array_agg(l.tf) end
    from (select c.id, c.document >> 20 as span, (c.document & 1048575) << 11 | c.code as code,
                 case when c.code < 2047 and round(c.norm * c.code / nullif(2047 - c.code, 0)) = c.tf then null else c.tf end as tf
          from (select *, greatest(1, ceil(2047 * e.tf / (e.tf + e.norm)))::int4 as code from pg_temp.hybridsearch_listed as e offset 0) as c
          order by id, span, code) as l
    group by l.id, l.span
    on conflict (term_id, place) do update
    set documents = p.documents + excluded.documents,
        -- The new documents have the higher numbers.
        codes = p.codes || excluded.codes,
        frequencies = case when p.frequencies is not null or excluded.frequencies is not null
                           then coalesce(p.frequencies, array_fill(null::real, array[cardinality(p.codes)]))
                                || coalesce(excluded.frequencies, array_fill(null::real, array[cardinality(excluded.codes)])) end;
    drop table pg_temp.hybridsearch_built, pg_temp.hybridsearch_word, pg_temp.hybridsearch_known, pg_temp.hybridsearch_listed;
    return built;
end
$$;
comment on function {{fn:build}}(text, int4, int4, int4) is
    'Number and index the words of the next rows that have no document, in one bounded step of whole ranges';

-- A part of build: the documents from `first` to `last`, a few ranges, so that every sort stays in memory.
create or replace function {{fn:build_block}}(first int4, last int4, average float8, k1 float8, b float8)
returns void
language plpgsql
set search_path from current
set jit = off
set work_mem = '256MB'
set enable_sort = off               -- the rows come in the order of their documents: hashing is the faster way to group them
set extra_float_digits = 1
as $$
#variable_conflict use_column
begin
    with entry as materialized (
        select o.document, o.norm, known.id, known.idf, u.tf
        from (select document, words, frequencies, greatest(k1 * (1 - b + b * length / average), 1e-30)::float8 as norm
              from pg_temp.hybridsearch_built
              where document between first and last
              offset 0) as o
        cross join unnest(o.words, o.frequencies) as u(word, tf)
        join pg_temp.hybridsearch_known as known on known.word = u.word
    ),
    -- One that is numbered anew keeps its hash.
    documents as (
        insert into {{document}} as d (id, {{companion_keys}}, hash, length, terms)
        select o.document, {{keys:o}}, o.hash, o.length, coalesce(e.ids, '{}')
        from pg_temp.hybridsearch_built as o
        left join (select document, array_agg(id) as ids from entry group by document) as e on e.document = o.document
        where o.document between first and last
        order by o.document
        on conflict ({{companion_keys}}) do update
        set id = excluded.id, length = excluded.length, terms = excluded.terms
    ),
    ranges as (
        insert into {{posting}} (term_id, place, documents, idf, weights)
        select e.id, e.document / 16000, count(*), min(e.idf),
               ('{' || string_agg(hybridsearch.element(e.document, (e.tf / (e.tf + e.norm) * e.idf)::real), ',') || '}/16000')::sparsevec
        from entry as e
        where e.idf is not null
        group by e.id, e.document / 16000
    )
    insert into pg_temp.hybridsearch_listed (id, document, tf, norm)
    select id, document, tf, norm from entry where idf is null;
end
$$;
comment on function {{fn:build_block}}(int4, int4, float8, float8, float8) is 'A part of a build: a few ranges of documents';

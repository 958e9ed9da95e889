-- engine: sql
-- The words of the table's rows on their way into one lexical index. The rows are read as they are, in the database: no
-- text travels. docs/sparse-engine.md has the format.

-- Add documents: numbers that stand in {{document}}, which gets their lengths and terms, and are in no posting yet.
create or replace function {{fn:add}}(numbers int4[])
returns void
language plpgsql
set search_path from current
set jit = off
set plan_cache_mode = force_generic_plan    -- as in follow.sql: each row, and each word, is looked up by itself
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
          cross join lateral (select * from {{table}} as m where {{same_row:m,doc}} offset 0) as m
          cross join lateral {{words:m}} as word
          where doc.id = any(numbers)) as entry;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform from {{term}} as known where known.term = any(t) for key share;
    end if;
    -- In the order of the terms, so that two writers who bring the same new words cannot deadlock. The numbers of words
    -- that were forgotten come first.
    select array_agg(given.word order by given.word) into fresh
    from (select distinct word collate "C" as word from unnest(t) as word) as given
    left join lateral (select true as there from {{term}} as known where known.term = given.word limit 1) as known on true
    where known.there is null;
    if fresh is not null then
        select array_agg(known.id) into free
        from (select id from {{term}} where term < e'\x02' order by term limit cardinality(fresh) for update skip locked) as known;
        delete from {{term}} where id = any(free);
        insert into {{term}} (id, term)
        select given.id, given.word
        from unnest(free, fresh) as given(id, word)
        where given.id is not null
        on conflict do nothing;
        insert into {{term}} (term)
        select given.word
        from unnest(free, fresh) as given(id, word)
        where given.id is null
        on conflict do nothing;
    end if;
    with entry as materialized (
        select given.number, array_agg(term.id order by term.id) as ids, array_agg(given.tf order by term.id) as tfs,
               sum(given.tf::float8)::real as length
        from unnest(d, t, f) as given(number, word, tf)
        cross join lateral (select known.id from {{term}} as known where known.term = given.word offset 0) as term
        group by given.number
    ),
    counted as (
        update {{document}} as doc
        set length = entry.length, terms = entry.ids
        from entry
        where doc.id = any(numbers) and doc.id = entry.number
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

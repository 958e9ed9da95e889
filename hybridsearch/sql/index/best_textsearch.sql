-- engine: pg_textsearch
-- The query side of an index with the engine pg_textsearch: its index scan gives documents, best first. The statement is
-- dynamic: the extension, and with it the operator, may stand in any schema.

-- words: the words of the query, times: how often each is in it. Only documents whose row in the table is still there;
-- where `allowed` is given, only those numbers. k1 and b are those that the index was made with, the formula is Lucene's. It knows no row that is
-- not indexed yet, so `unnumbered` adds none.
create or replace function {{fn:best}}(
    words text[], times int4[], k int4, k1 float8 default {{k1}}, b float8 default {{b}}, allowed int4[] default null,
    unnumbered bool default false, formula text default {{idf}}, epsilon float8 default {{epsilon}}
)
returns table ({{key_definitions}}, score float8)
language plpgsql stable rows 100
set search_path from current
set jit = off
as $$
#variable_conflict use_column
declare
    query text := hybridsearch.spelled(words, times);
    place name;
begin
    if query = '' then
        return;
    end if;
    select namespace.nspname into strict place
    from pg_catalog.pg_extension as extension
    join pg_catalog.pg_namespace as namespace on namespace.oid = extension.extnamespace
    where extension.extname = 'pg_textsearch';
    return query execute format(
        'with found as (
             select d.*, w.content operator(%1$I.<@>) %1$I.to_bm25query($1, $2) as distance
             from {{word}} as w
             join {{document}} as d on d.id = w.document
             join {{table}} as m on {{same_row:m,d}}
             where $4 is null or w.document = any($4)
             order by w.content operator(%1$I.<@>) %1$I.to_bm25query($1, $2)
             limit $3
         )
         select {{companion_keys:f}}, -f.distance from found as f where f.distance < 0',
        place)
    using query, {{literal:word_bm25}}, k, allowed;
end
$$;
comment on function {{fn:best}}(text[], int4[], int4, float8, float8, int4[], bool, text, float8) is
    'The k best rows of the table by pg_textsearch, as keys with scores';

-- Add documents: numbers that stand in {{document}}, which gets their lengths. The rows are read as they are.
create or replace function {{fn:add}}(numbers int4[])
returns void
language sql
set search_path from current
set jit = off
as $$
    with entry as materialized (
        select doc.id, w.words, w.times, w.length
        from {{document}} as doc
        cross join lateral (select * from {{table}} as m where {{same_row:m,doc}} offset 0) as m
        cross join lateral (select array_agg(word.term order by word.term) as words,
                                   array_agg(word.frequency::int4 order by word.term) as times,
                                   sum(word.frequency::float8)::real as length
                            from {{words:m}} as word) as w
        where doc.id = any(numbers) and w.words is not null
    ),
    counted as (
        update {{document}} as doc set length = entry.length from entry where doc.id = entry.id
    )
    insert into {{word}} (document, content)
    select id, hybridsearch.spelled(words, times) from entry
$$;
comment on function {{fn:add}}(int4[]) is 'Index the words of documents that were just numbered';

-- Remove documents.
create or replace function {{fn:remove}}(numbers int4[])
returns void
language sql
set search_path from current
as $$
    with gone as (
        delete from {{word}} where document = any(numbers)
    )
    delete from {{document}} where id = any(numbers)
$$;
comment on function {{fn:remove}}(int4[]) is 'Take documents out of the lexical index and out of the numbering';

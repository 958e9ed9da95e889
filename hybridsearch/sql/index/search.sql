-- engine: sql, pg_textsearch
-- Hybrid search for those who have SQL alone: the ranking that Python gives for the same vectors, as a function.
create or replace function {{fn:search}}(
    query text,
    limit_ integer default 10,
    filter jsonb default null,
    legs text[] default null,
    weights jsonb default null,
    candidates integer default 100,
    rrf_k double precision default 60,
    dense vector default null,
    sparse sparsevec default null,
    wait_ms integer default 300,
    syntax text default 'web'
)
returns table ({{key_definitions}}, score double precision, rank_dense integer, rank_sparse integer, rank_lexical integer, note text)
language plpgsql stable rows 10
set search_path from current
set jit = off
set hnsw.ef_search = 100             -- what set_config changes below is undone at the end
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    searched_for constant text := hybridsearch.checked_query(query);
    wanted constant integer := hybridsearch.checked_count('limit_', limit_);
    depth constant integer := greatest(wanted, hybridsearch.checked_count('candidates', candidates));
    k constant float8 := hybridsearch.checked_number('rrf_k', rrf_k);
    chosen constant text[] := hybridsearch.checked_legs(legs, {{legs}});
    weight constant jsonb := hybridsearch.checked_weights(weights, {{legs}});
    condition text := hybridsearch.condition({{literal:table}}::regclass, 'm', filter);
    former constant text := current_setting('hnsw.iterative_scan', true);     -- null before pgvector 0.8
    former_memory constant text := current_setting('hnsw.scan_mem_multiplier', true);
    patience constant integer := hybridsearch.checked_wait(wait_ms);
    near {{dense}} := hybridsearch.checked_dense(dense, {{dimensions}})::{{dense}};
    tokens {{sparse}} := hybridsearch.checked_sparse(sparse, {{name}}, {{legs}}, {{sparse_dimensions}});
    words text[]; times int4[];
    allowed int4[];                     -- the documents of which the filter holds; null without one
    unnumbered text[];                  -- the rows of which it holds that have no number yet
    is_near boolean; few boolean := false;
    wide integer := depth;              -- how many of the best of all are looked at for those that the filter lets through
    asked record; encoded record; said text;
begin
    if searched_for is null then
        return;
    end if;
    -- The words, without the operators; phrases and exclusions are conditions on rows, as the filter is.
    select min(part.content) filter (where part.kind = 'words') as words,
           array_agg(part.content) filter (where part.kind = 'prefix') as prefixes,
           string_agg(format('(%s) %s (select * from %s(%L, %L))', {{literal:keys:m}},
                             case when part.kind like 'not %' then 'not in' else 'in' end,
                             {{literal:fn:having}}, part.content, part.kind like '%phrase'), ' and ')
               filter (where part.kind not in ('words', 'prefix')) as narrowed
    into asked
    from hybridsearch.parsed(searched_for, syntax) as part;
    condition := nullif(concat_ws(' and ', condition, asked.narrowed), '');
    -- The vectors: those given, else those of the text.
    if (near is null and 'dense' = any(chosen)) or (tokens is null and 'sparse' = any(chosen)) then
        select * into encoded from hybridsearch.encoding({{name}}, asked.words, patience);
        said := encoded.note;
        near := coalesce(near, hybridsearch.fitted(encoded.dense, {{dimensions}}));
        tokens := coalesce(tokens, hybridsearch.sparse_vector(encoded.sparse_ids, encoded.sparse_weights, {{sparse_dimensions}}));
    end if;
    if 'lexical' = any(chosen) then
        -- A term may come twice, from two of the analysers; one that begins with a prefix counts once.
        select array_agg(z.term), array_agg(z.times) into words, times
        from (select every.term, max(every.times)::int4 as times
              from (select word.term, sum(word.frequency) as times
                    from hybridsearch.terms({{config}}, asked.words) as word
                    group by word.term
                    union all
                    select beginning.term, 1
                    from {{beginning:asked.prefixes}} as beginning(term)
                    where asked.prefixes is not null) as every
              group by every.term) as z;
    end if;
    if condition is not null then
        execute format('select coalesce(array_agg(d.id), ''{}'') from %s as d join %s as m on %s where %s',
                       {{literal:document}}, {{literal:table}}, {{literal:same_row:m,d}}, condition) into allowed;
    end if;
    if condition is not null and to_regprocedure({{literal:fn:changes}} || '()') is not null then
        execute format('select coalesce(array_agg(jsonb_build_array(%s)::text), ''{}'') from %s() as c join %s as m on %s where c.old_terms is null and %s',
                       {{literal:keys:m}}, {{literal:fn:changes}}, {{literal:table}}, {{literal:same_row:m,c}}, condition) into unnumbered;
    end if;
    is_near := near is not null and 'dense' = any(chosen);
    -- A selective filter: comparing all that it lets through costs less than a scan that looks for them (docs/query.md).
    if allowed is not null then
        few := cardinality(allowed) <= greatest(1000, sqrt(4.0 * depth * (
            select greatest(reltuples, 0) from pg_class where oid = {{literal:chunk}}::regclass)));
        wide := greatest(depth, least(1000, 5 * depth));
    end if;
    perform set_config('hnsw.ef_search', greatest(100, {{scanned:depth}})::text, true);
    if former is not null then
        perform set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.scan_mem_multiplier', '4', true);
    end if;
    return query
        with met as (
            -- All the keys before this one. No sort comes in: the scan has this order, and stops with the LIMIT.
            select {{companion_keys:c}}, c.dense <=> near as distance, {{key_value:c}} as key,
                   array_agg({{key_value:c}}) over (order by {{approximate:c,near}} rows between unbounded preceding and 1 preceding) as before
            from {{chunk}} as c
            join {{table}} as m on {{same_row:m,c}}
            where is_near and not few
              and (allowed is null
                   or (select d.id from {{document}} as d where {{same_keys:d,c}}) in (select unnest(allowed)))
        ),
        scanned as materialized (
            select {{companion_keys:met}}, met.distance
            from met
            where met.before is null or met.key <> all(met.before)
            limit {{scanned:depth}}
        ),
        -- Few pass, or the scan has ended before it had enough: all that pass.
        compared as materialized (
            select {{companion_keys:c}}, min(c.dense <=> near) as distance
            from {{chunk}} as c
            join {{table}} as m on {{same_row:m,c}}
            where is_near and not few and former is not null
              and (select count(*) from scanned) < depth
              and (allowed is null
                   or (select d.id from {{document}} as d where {{same_keys:d,c}}) in (select unnest(allowed)))
            group by {{companion_keys:c}}
            order by distance, {{companion_keys:c}}
            limit depth
        ),
        measured as materialized (
            select {{companion_keys:c}}, min(c.dense <=> near) as distance
            from unnest(allowed) as a(id)
            join {{document}} as d on d.id = a.id
            join {{table}} as m on {{same_row:m,d}}
            join {{chunk}} as c on {{same_keys:c,d}}
            where is_near and few
            group by {{companion_keys:c}}
            order by distance, {{companion_keys:c}}
            limit depth
        ),
        dense_leg as materialized (
            select {{companion_keys:n}}, min(n.distance) as distance
            from (table scanned union all table compared union all table measured) as n
            where n.distance <= 2.5         -- a vector of norm 0 has no distance from any other, but NaN
            group by {{companion_keys:n}}
            order by distance, {{companion_keys:n}}
            limit depth
        ),
        -- Where enough of the best of all pass, they are the best of those that pass; else all that pass are compared.
        sparse_of_all as materialized (
            select {{companion_keys:b}}, b.distance
            from {{best_sparse:tokens, wide}} as b
            where 'sparse' = any(chosen) and not few
        ),
        sparse_of_passing as materialized (
            select {{companion_keys:b}}, b.distance
            from sparse_of_all as b
            where allowed is null
               or (select d.id from {{document}} as d where {{same_keys:d,b}}) in (select unnest(allowed))
        ),
        sparse_compared as materialized (
            select {{companion_keys:c}}, min({{sparse_distance:c,tokens}}) as distance
            from unnest(allowed) as a(id)
            join {{document}} as d on d.id = a.id
            join {{table}} as m on {{same_row:m,d}}
            join {{chunk}} as c on {{same_keys:c,d}}
            where 'sparse' = any(chosen)
              and {{sparse_distance:c,tokens}} < 0
              and (few or ((select count(*) from sparse_of_passing) < depth and (select count(*) from sparse_of_all) >= wide))
            group by {{companion_keys:c}}
            order by distance, {{companion_keys:c}}
            limit depth
        ),
        sparse_leg as materialized (
            select {{companion_keys:x}}, min(x.distance) as distance
            from (table sparse_of_passing union all table sparse_compared) as x
            group by {{companion_keys:x}}
            order by distance, {{companion_keys:x}}
            limit depth
        ),
        lexical_leg as materialized (
            select {{companion_keys:best}}, -best.score as distance
            from {{fn:best}}(words, times, depth, {{k1}}, {{b}}, allowed, unnumbered is not null) as best
            where 'lexical' = any(chosen)
              -- Rows that are too new to have a number come beside the allowed ones.
              and (allowed is null
                   or (select d.id from {{document}} as d where {{same_keys:d,best}}) in (select unnest(allowed))
                   or jsonb_build_array({{companion_keys:best}})::text = any(unnumbered))
        ),
        entry as (
            select {{companion_keys:x}}, row_number() over (order by x.distance, {{companion_keys:x}}) as dense_, null::int8 as sparse_, null::int8 as lexical_
            from dense_leg as x
            union all
            select {{companion_keys:x}}, null, row_number() over (order by x.distance, {{companion_keys:x}}), null
            from sparse_leg as x
            union all
            select {{companion_keys:x}}, null, null, row_number() over (order by x.distance, {{companion_keys:x}})
            from lexical_leg as x
        ),
        fused as (
            select {{companion_keys:e}},
                   max(e.dense_)::int4 as dense_, max(e.sparse_)::int4 as sparse_, max(e.lexical_)::int4 as lexical_
            from entry as e
            group by {{companion_keys:e}}
        )
        select {{companion_keys:f}}, z.score, f.dense_, f.sparse_, f.lexical_, said
        from fused as f
        cross join lateral (
            -- Added in one order, so that equal ranks give equal sums to the last bit.
            select coalesce((weight ->> 'dense')::float8 / (k + f.dense_), 0)
                 + coalesce((weight ->> 'sparse')::float8 / (k + f.sparse_), 0)
                 + coalesce((weight ->> 'lexical')::float8 / (k + f.lexical_), 0) as score) as z
        order by z.score desc, {{companion_keys:f}}
        limit wanted;
    if former is not null then
        perform set_config('hnsw.iterative_scan', former, true), set_config('hnsw.scan_mem_multiplier', former_memory, true);
    end if;
end
$$;
comment on function {{fn:search}}(text, integer, jsonb, text[], jsonb, integer, double precision, vector, sparsevec, integer, text) is
    'Hybrid search. query: the words; also "phrases", -exclusions and prefix*. limit_: how many documents, 1 to 1000. filter: {"column": value, "column": {"gte": value}, "column": [any, of, these]}. legs: any of dense, sparse, lexical. weights: {"dense": 1, "lexical": 2}. candidates: what each leg hands to the fusion, 1 to 1000. rrf_k: constant of reciprocal rank fusion. dense, sparse: vectors of the query, where it is not to be encoded. wait_ms: how long to wait for a worker that encodes it, at most 60000. syntax: web, or plain for a query without operators. Column note says which leg was left out and why.';

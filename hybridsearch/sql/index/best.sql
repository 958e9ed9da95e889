-- engine: sql
-- The query side of one lexical index: the k best documents by exact BM25. docs/sparse-engine.md has the format of the
-- postings, the cost model and the reasons. Nothing here writes: it runs on a hot standby. The statements are static,
-- so that PostgreSQL plans them once a connection; a function for every index is what that takes.
--
-- 16,000 document numbers make a range (the most that a pgvector `vector` holds), 1,048,576 make a span.

-- words: the words of the query, times: how often each is in it. Only documents whose row in the table is still there;
-- where `allowed` is given, only those numbers. Best first, ties by key.
--
-- Rows that changed and whose words are not indexed yet, the 200 that changed last (but for those of a statement that
-- changed more, which would hide all before them), are scored as they are in the table, and count in N, n and the average
-- length. One that has a number keeps it; one that is new has none, so where `allowed` is given it is left out, or with
-- `unnumbered`, it comes beside the k best for the caller to filter.
--
-- formula is that of the idf: lucene, or okapi, whose values below 0 are epsilon times the average of all terms.
create or replace function {{fn:best}}(
    words text[], times int4[], k int4, k1 float8 default {{k1}}, b float8 default {{b}}, allowed int4[] default null,
    unnumbered bool default false, formula text default {{idf}}, epsilon float8 default {{epsilon}}
)
returns table ({{key_definitions}}, score float8)
language plpgsql stable rows 100
set search_path from current
set enable_hashagg = off            -- its state is 64 kB a range: sorted groups are three times as fast
set enable_seqscan = off            -- a plan made while the tables were small serves when they are large
set jit = off
set work_mem = '32MB'
set plan_cache_mode = force_generic_plan
set extra_float_digits = 1          -- weights pass through text: every bit of them
as $$
#variable_conflict use_column
declare
    total_documents float8; average float8;             -- of this snapshot
    stored record;                                      -- what the stored weights were made with: average, k1, b
    query int4[]; query_times int4[];                   -- the words as terms, below 0 where the dictionary has none
    stale int4[] := '{}';                               -- numbers whose rows changed: what is indexed of them does not count
    ld int4[]; lt int4[]; lf real[]; ll real[];         -- those rows as they are: number (below 0: none yet), term, frequency, length
    live int4[]; {{key_variables:live}}                 -- and their keys
    old_terms int4[];                                   -- what their numbers had of the query's terms
    changed_documents float8 := 0; changed_length float8 := 0;
    t int4[]; w float8[]; q int4[];                     -- the terms that occur; idf x times; times
    g float8[];                                         -- okapi: what to add up in place of w; rows have Lucene's idf
    pd int4[]; pt int4[]; pf real[];                    -- matches among the pending documents: document, term, frequency
    list_range int4[]; list_vector sparsevec[];         -- list rows, turned into rows of ranges
    sample int4[]; sums vector[]; share float8;         -- a sample of the ranges, their summed vectors
    total float8; matches float8; most float8;
    high float8; low float8; slack float8 := 0;         -- exact score <= high * sum, and >= low * (sum - slack)
    lift real := 0; few bool; everything bool := false; spread float8 := 1;
    want float8; held float8; tries int := 0;
    threshold float8; cut vector;
    cd int4[]; cs real[];                               -- candidates by falling sum, and their sums
    taken int; done int; least_score float8; wanted int4[];
    od int4[]; os float8[]; {{key_variables:best}}      -- the best by falling score: number, score, key
begin
    if cardinality(allowed) = 0 and not unnumbered then
        return;
    end if;
    select array_agg(coalesce(term.id, -u.place::int4) order by u.place), array_agg(u.times order by u.place)
    into query, query_times
    from unnest(words, times) with ordinality as u(word, times, place)
    left join {{term}} as term on term.term = u.word;

    -- 0. What changed and is not indexed yet.
    if exists (select from {{change}}) then
        with change as (
            select {{companion_keys:z}}, sum(z.size) over (order by z.id desc) as upto
            from (select *, case when pg_column_size({{first_key:y}}) > 8000 then 1000 else cardinality({{first_key:y}}) end as size
                  from (select * from {{change}} order by id desc limit 200) as y) as z
            where z.size <= 200
        ),
        changed as materialized (
            select (row_number() over ())::int4 as place, {{companion_keys:g}}
            from (select distinct k.*
                  from change as z
                  cross join unnest({{companion_keys:z}}) as k({{companion_keys}})
                  where z.upto <= 200) as g
        ),
        seen as materialized (
            select {{companion_keys:g}}, d.id as old, d.length as old_length, d.terms as old_terms, m.ctid is not null as there,
                   coalesce(d.id, -g.place) as document, w.length, w.words as own, w.frequencies
            from changed as g
            left join {{document}} as d on {{same_keys:d,g}}
            left join {{table}} as m on {{same_row:m,g}}
            left join lateral (select coalesce(sum(word.frequency::float8), 0)::real as length, array_agg(word.term) as words,
                                      array_agg(word.frequency) as frequencies
                               from {{words:m}} as word) as w on m.ctid is not null
        )
        select x.*, y.*, o.terms
        into stale, changed_documents, changed_length, live, {{key_names:live}}, ld, lt, lf, ll, old_terms
        from (select coalesce(array_agg(r.old) filter (where r.old is not null), '{}') as stale,
                     count(*) filter (where r.there) - count(r.old) as difference,
                     coalesce(sum(r.length::float8), 0) - coalesce(sum(r.old_length::float8), 0) as length,
                     array_agg(r.document), {{companion_key_arrays:r}}
              from seen as r) as x,
             (select array_agg(r.document) as documents, array_agg(q.term) as terms, array_agg(u.frequency) as frequencies,
                     array_agg(r.length) as lengths
              from seen as r
              cross join unnest(r.own, r.frequencies) as u(word, frequency)
              join unnest(words, query) as q(word, term) on q.word = u.word) as y,
             (select array_agg(u.term) as terms
              from seen as r
              cross join unnest(query) as u(term)
              where u.term = any(r.old_terms)) as o;
        if allowed is not null and unnumbered then
            k := k + coalesce(cardinality(live), 0);
        end if;
    end if;
    -- 1. Statistics of this snapshot: of the merged documents, and of the pending ones.
    select coalesce(s.average, 1) as average, coalesce(s.k1, 1) as k1, coalesce(s.b, 0) as b,
           coalesce(s.documents, 0) + p.documents + changed_documents as documents,
           coalesce(s.length, 0) + p.length + changed_length as length, p.pending
    into stored
    from (select count(*) as pending,
                 coalesce(sum(sign), 0)::float8 as documents,
                 coalesce(sum(sign * length::float8), 0) as length
          from {{pending}}) as p
    left join {{statistics}} as s on true;      -- no row: nothing was ever indexed
    if stored.documents <= 0 then
        return;
    end if;
    total_documents := stored.documents;
    average := greatest(stored.length / stored.documents, 1e-30);

    -- 2. The pending documents that have a term of the query; sign -1 takes a merged one away.
    if stored.pending > 0 then
        -- A binary search for each term: the operator && would compare every term with every other.
        select array_agg(z.document), array_agg(z.term), array_agg(z.sign * coalesce(z.frequencies[z.place], 1))
        into pd, pt, pf
        from (select p.document, p.sign, p.terms, p.frequencies, u.term, width_bucket(u.term, p.terms) as place
              from {{pending}} as p
              cross join unnest(query) as u(term)
              offset 0) as z
        where z.terms[z.place] = z.term;
    end if;

    -- 3. The terms: n of each by adding up its rows, idf, and how far it has moved since the rows were written.
    select array_agg(z.term), array_agg(z.idf * z.times), array_agg(z.times), sum(z.idf * z.times), sum(z.n),
           max(z.idf / z.least_idf), min(z.idf / z.most_idf), max(z.idf * z.times), not bool_or(z.ranges)
    into t, w, q, total, matches, high, low, most, few
    from (select y.term, max(u.times) as times, sum(y.n) as n, min(y.idf) as least_idf, max(y.idf) as most_idf,
                 ln(case when formula = 'okapi' then 0 else 1 end
                    + (greatest(total_documents - sum(y.n), 0) + 0.5) / (sum(y.n) + 0.5)) as idf,
                 bool_or(y.idf is not null) as ranges
          from (select p.term_id as term, p.documents as n, p.idf
                from {{posting}} as p
                where p.term_id = any(query)
                union all
                select x.term, case when x.frequency > 0 then 1 else -1 end, null
                from unnest(pt, pf) as x(term, frequency)
                union all
                select x.term, 1, null from unnest(lt) as x(term)
                union all
                select x.term, -1, null from unnest(old_terms) as x(term)) as y
          join unnest(query, query_times) as u(term, times) on u.term = y.term
          group by y.term
          having sum(y.n) > 0) as z;
    if t is null then
        return;
    end if;
    if formula = 'okapi' then
        if 0 > any(w) then
            least_score := epsilon * coalesce({{fn:average_idf}}(total_documents), 0);
            w := array(select case when u.w < 0 then least_score * u.times else u.w end
                       from unnest(w, q) with ordinality as u(w, times, place)
                       order by u.place);
        end if;
        -- The rows are multiplied by the quotient of the two idfs, so the sums are of the query's own.
        high := 1;
        low := 1;
        everything := 0 >= any(w);      -- what adds nothing, or takes away, bounds nothing
        g := case when everything then array_fill(1::float8, array[cardinality(w)]) else w end;
        select sum(x), max(x) into total, most from unnest(g) as x;
    end if;
    high := greatest(coalesce(high, 1), 1);
    low := least(coalesce(low, 1), 1);
    spread := high / low;
    -- The saturation of the rows against that of the query: between their quotients at length 0 and at length infinity.
    select high * greatest(1, at.zero, at.infinity), low * least(1, at.zero, at.infinity) into high, low
    from (select case when b = 1 and stored.b = 1 then null
                      else coalesce(stored.k1 * (1 - stored.b) / nullif(k1 * (1 - b), 0), 'infinity') end as zero,
                 case when b = 0 and stored.b = 0 then null
                      else coalesce(stored.k1 * stored.b * average / nullif(k1 * b * stored.average, 0), 'infinity') end as infinity) as at;
    if high > 1000 then         -- bounds that bound nothing: score everything
        everything := true;
        high := 1;
    end if;
    high := high * (1 + 2e-6 + 2e-7 * cardinality(t));      -- the sums are float4
    low := low * (1 - 2e-6 - 2e-7 * cardinality(t));
    if cardinality(allowed) <= least(20000, total_documents / 10) then
        lift := 2 * total * greatest(high, spread);         -- lifts the allowed documents above all others
        high := high * 1.00005;
        spread := 1;
    elsif allowed is not null then
        spread := greatest(1, total_documents / cardinality(allowed));
    else
        spread := 1;
    end if;

    few := few and matches <= 3000;
    if few then
        -- 4a. Rare terms only: all their postings, added up.
        select array_agg(z.document), array_agg(z.sum) into cd, cs
        from (select (code >> 11) + (-1 - p.place) * 1048576 as document, sum((code & 2047) * (u.w / 2047))::real as sum
              from unnest(t, coalesce(g, w)) as u(term, w)
              join {{posting}} as p on p.term_id = u.term and p.place between -2147483647 and -1
              cross join unnest(p.codes) as code
              group by 1
              order by 2 desc) as z
        where allowed is null or z.document in (select unnest(allowed));    -- a hash, where any(allowed) is a loop
        lift := 0;
    else
        -- 4b. List rows as rows of ranges, one for all terms: each becomes a vector of 64 kB; the allowed documents are one
        -- more, that lifts them above all others.
        select array_agg(z.range), array_agg(z.vector) into list_range, list_vector
        from (select y.document / 16000 as range,
                     ('{' || string_agg((mod(y.document, 16000) + 1) || ':' || y.x, ',') || '}/16000')::sparsevec as vector
              from (select (code >> 11) + (-1 - p.place) * 1048576 as document, sum(((code & 2047) * (u.w / 2047))::real) as x
                    from unnest(t, coalesce(g, w)) as u(term, w)
                    join {{posting}} as p on p.term_id = u.term and p.place between -2147483647 and -1
                    cross join unnest(p.codes) as code
                    group by 1
                    offset 0) as y
              group by y.document / 16000
              union all
              select a.document / 16000,
                     ('{' || string_agg(distinct (mod(a.document, 16000) + 1) || ':' || lift, ',') || '}/16000')::sparsevec
              from unnest(allowed) as a(document)
              where lift > 0
              group by a.document / 16000) as z;
        slack := most * cardinality(t) / 2047;
        -- 5. A sample: the ranges that hold most of the query's weight, added up.
        select array_agg(z.range), sum(z.weight) / nullif(max(z.total), 0), sum(z.n) into sample, share, held
        from (select y.range, sum(y.weight) as weight, sum(y.n) as n, sum(sum(y.weight)) over () as total
              from (select p.place as range, p.documents as n, p.documents * u.w as weight
                    from unnest(t, coalesce(g, w)) as u(term, w)
                    join {{posting}} as p on p.term_id = u.term and p.place >= 0
                    union all
                    select range, 5, 50 from unnest(list_range) as range) as y
              group by y.range
              order by weight desc, y.range
              limit greatest(1, total_documents / 16000 / 20)::int4) as z;
        select array_agg(z.range), array_agg(z.sum) into sample, sums
        from (select y.range,
                     hybridsearch.vsum(case when y.times = 1 then y.vector::vector
                                            else y.vector::vector * hybridsearch.constant(y.times::real) end) as sum
              from (select p.place as range, p.weights as vector, case when u.g is null then u.times else u.g / p.idf end as times
                    from unnest(t, q, g) as u(term, times, g)
                    join {{posting}} as p on p.term_id = u.term and p.place = any(sample)
                    union all
                    select l.range, l.vector, 1 from unnest(list_range, list_vector) as l(range, vector) where l.range = any(sample)) as y
              group by y.range) as z;
    end if;

    loop
        tries := tries + 1;
        -- 6. A threshold on the sums, from the sample: at first a guess, certain in the second try.
        if few or everything then
            threshold := 0;
        elsif tries <= 2 and sums is not null then
            want := spread * case when tries = 1 then least(k, ceil(2 * k * share) + 2) else k end;
            threshold := hybridsearch.threshold(sums, lift * 0.999999, total, held, want);
            threshold := greatest(0, threshold - slack) * low / high;
        else
            threshold := case when cardinality(od) >= k and tries < 5 then least(least_score / high * 0.999998, threshold * 0.9) else 0 end;
        end if;
        -- 7. All documents above it. The sums are float4: a little below; what has no term drops out when it is scored.
        if not few then
            cut := hybridsearch.constant((lift * 0.999999 + threshold)::real);
            select array_agg(h.document), array_agg(h.sum) into cd, cs
            from (select z.range * 16000 + b.place - 1 as document, vector_norm(subvector(z.sum, b.place, 1)) - lift as sum
                  from (select y.range, y.sum, binary_quantize(y.sum - cut) as bits
                        from (select l.range, l.sum from unnest(sample, sums) as l(range, sum)
                              union all
                              select r.range,
                                     hybridsearch.vsum(case when r.times = 1 then r.vector::vector
                                                            else r.vector::vector * hybridsearch.constant(r.times::real) end) as sum
                              from (select p.place as range, p.weights as vector, case when u.g is null then u.times else u.g / p.idf end as times
                                    from unnest(t, q, g) as u(term, times, g)
                                    join {{posting}} as p on p.term_id = u.term and p.place >= 0 and p.place <> all(sample)
                                    union all
                                    select l.range, l.vector, 1
                                    from unnest(list_range, list_vector) as l(range, vector)
                                    where l.range <> all(sample)) as r
                              group by r.range
                              offset 0) as y
                        offset 0) as z
                  cross join lateral hybridsearch.ones(z.bits) as b
                  order by 2 desc) as h
            where allowed is null or lift > 0 or h.document in (select unnest(allowed));
        end if;
        taken := coalesce(cardinality(cd), 0);
        least_score := 0;
        if taken > k and not everything then
            -- Those that could reach what the k-th sum is worth at least; where that bound is a weak one, five times k.
            select least(count(*), greatest(5 * k, k + 50)) into taken
            from unnest(cs) as x
            where (x + lift * 1e-6) * high >= (cs[k] - lift * 1e-6 - slack) * low;
        end if;
        -- 8. Their exact scores, the best first, until no sum that is left could reach the k-th score.
        done := 0;
        loop
            wanted := cd[done + 1 : taken];
            if done = 0 and pd is not null then     -- those that are pending; an allowed one may be above, too
                wanted := wanted || array(select u.document
                                          from unnest(pd, pf) as u(document, frequency)
                                          where u.frequency > 0 and (allowed is null or u.document in (select unnest(allowed))));
            end if;
            with chosen as materialized (
                select d.id as document, {{companion_keys:d}}, d.length::float8 as length,
                       greatest(stored.k1 * (1 - stored.b + stored.b * d.length / stored.average), 1e-30) as norm
                from {{document}} as d
                where d.id = any(wanted) and d.id <> all(stale)
            ),
            hit as (
                -- tf behind weight = tf / (tf + norm). The weight went through float4 twice: within that error, the
                -- nearest multiple of 0.05 is what was indexed, so that equal documents get equal scores.
                select y.document, y.length, y.w,
                       case when abs(y.tf - round(y.tf * 20) / 20) <= 4e-7 * y.tf * (1 + y.tf / y.norm)
                            then round(y.tf * 20) / 20
                            else y.tf
                       end::real as frequency
                from (select x.document, x.length, x.w, x.norm, x.norm * x.weight / (1 - x.weight) as tf
                      from (select a.document, a.length, a.norm, u.w,
                                   -- a few: walk the sparse row; many: spread it out once
                                   least(0.9999999,
                                         case when taken - done <= 60
                                              then -(p.weights <#> ('{' || (mod(a.document, 16000) + 1) || ':1}/16000')::sparsevec)
                                              else vector_norm(subvector(p.spread, mod(a.document, 16000) + 1, 1))
                                         end / p.idf) as weight
                            from (select document / 16000 as range, array_agg(document) as documents,
                                         array_agg(length) as lengths, array_agg(norm) as norms
                                  from chosen
                                  group by 1) as s
                            cross join unnest(t, w) as u(term, w)
                            cross join lateral (select p.weights, p.idf, case when taken - done > 60 then p.weights::vector end as spread
                                                from {{posting}} as p
                                                where p.term_id = u.term and p.place = s.range
                                                offset 0) as p
                            cross join lateral unnest(s.documents, s.lengths, s.norms) as a(document, length, norm)
                            offset 0) as x
                      where x.weight > 0
                      offset 0) as y
                union all
                select f.document, f.length, f.w,
                       coalesce(f.frequency, round(f.norm * (f.code & 2047) / nullif(2047 - (f.code & 2047), 0)))
                from (select g.document, g.length, g.norm, g.w, g.codes[g.at] as code, g.frequencies[g.at] as frequency
                      from (select l.document, l.length, l.norm, p.w, p.codes, p.frequencies,
                                   width_bucket((l.document & 1048575) << 11 | 2047, p.codes) as at
                            from chosen as l
                            -- || '{}': out of the TOAST table once a row, not once a document
                            join (select u.w, p.place, p.codes || '{}' as codes, p.frequencies || '{}' as frequencies
                                  from unnest(t, w) as u(term, w)
                                  join {{posting}} as p on p.term_id = u.term and p.place between -2147483647 and -1
                                  offset 0) as p on p.place = -1 - (l.document >> 20)
                            offset 0) as g
                      offset 0) as f
                where f.code >> 11 = f.document & 1048575
                union all
                select l.document, l.length, u.w, c.frequency
                from unnest(pd, pt, pf) as c(document, term, frequency)
                join unnest(t, w) as u(term, w) on u.term = c.term
                join chosen as l on l.document = c.document
                where done = 0
                union all
                select c.document, c.length, u.w, c.frequency
                from unnest(ld, lt, lf, ll) as c(document, term, frequency, length)
                join unnest(t, w) as u(term, w) on u.term = c.term
                where done = 0 and (allowed is null or c.document in (select unnest(allowed)) or (c.document < 0 and unnumbered))
            )
            select array_agg(z.document), array_agg(z.score), {{companion_key_arrays:z}}, min(z.score)
            into od, os, {{key_names:best}}, least_score
            from (select x.*
                  from (select x.document, x.score, {{companion_keys:y}}
                        from (select h.document,
                                     sum(h.w * h.frequency / (h.frequency + k1 * (1 - b + b * h.length / average)) order by h.w, h.frequency) as score
                              from hit as h
                              where h.frequency > 0
                              group by h.document) as x
                        join (select l.document, {{companion_keys:l}} from chosen as l
                              union all
                              select * from unnest(live, {{key_names:live}})) as y on y.document = x.document
                        union all
                        select before.* from unnest(od, os, {{key_names:best}}) as before where done > 0
                        order by score desc, {{companion_keys}}) as x
                  -- Looked up in this order, until k are there.
                  cross join lateral (select from {{table}} as m where {{same_row:m,x}} limit 1) as there
                  limit k) as z;
            done := taken;
            if coalesce(cardinality(od), 0) < k then
                least_score := 0;
            end if;
            if not everything then
                taken := (select count(*) from unnest(cs) as x where (x + lift * 1e-6) * high >= least_score);
            end if;
            exit when taken <= done;
        end loop;
        exit when threshold <= 0 or (cardinality(od) >= k and least_score >= threshold * high);
    end loop;
    return query
        select {{companion_keys:f}}, f.score * (k1 + 1)
        from unnest(os, {{key_names:best}}) as f(score, {{companion_keys}});
end
$$;
comment on function {{fn:best}}(text[], int4[], int4, float8, float8, int4[], bool, text, float8) is
    'The k best rows of the table by exact BM25, as keys with scores';

-- The average of Okapi's idf over all terms, of which a floor for those below 0 is made: a read of all rows of postings,
-- which only a query with a term in more than half of the documents pays for.
create or replace function {{fn:average_idf}}(total float8)
returns float8
language sql stable
set search_path from current
set jit = off
as $$
    select avg(ln((greatest(total - z.n, 0) + 0.5) / (z.n + 0.5)))
    from (select y.term, sum(y.n)::float8 as n
          from (select p.term_id as term, p.documents as n
                from {{posting}} as p
                union all
                select u.term, p.sign
                from {{pending}} as p
                cross join unnest(p.terms) as u(term)) as y
          group by y.term
          having sum(y.n) > 0) as z
$$;
comment on function {{fn:average_idf}}(float8) is 'The average of Okapi''s idf over all terms of the index, for so many documents';

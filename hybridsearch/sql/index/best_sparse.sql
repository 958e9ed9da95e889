-- needs: sparse
-- The k best documents by the encoder's term weights, exactly: by the inner product of their best chunk with the query.
-- docs/sparse-engine.md has the format of the postings, the cost model and the reasons. Nothing here writes: it runs on a
-- hot standby.
--
-- The postings give an upper bound of every product: the query's weights are rounded up to five binary digits, those of
-- list rows to 1/2047 of the row's highest. What could be among the best is scored by the chunks themselves. Best first,
-- ties by key; only documents whose row in the table is still there.
create or replace function {{fn:best_sparse}}(tokens sparsevec, k int4)
returns table ({{key_definitions}}, distance float8)
language plpgsql stable rows 100
set search_path from current
set enable_hashagg = off
set enable_seqscan = off            -- a plan made while the tables were small serves when they are large
set jit = off
set work_mem = '32MB'
set plan_cache_mode = force_generic_plan
set extra_float_digits = 1
as $$
#variable_conflict use_column
declare
    t int4[]; w int4[]; unit float8;                    -- the query's tokens, and their weights in units, rounded up
    total float8;                                       -- in units, as all that follows; no sum is higher
    waiting int8[]; pending int8[]; pending_scores float8[];            -- the best chunk of the best documents that are not merged
    list_range int4[]; list_token int4[]; list_vector sparsevec[];
    sample int4[]; sums vector[]; share float8; held float8; want float8;
    threshold float8; cut vector; zero constant vector := hybridsearch.constant(0);
    cd int4[]; cs real[];                               -- candidates by falling bound, and their bounds
    tries int := 0; taken int; done int; best int8[]; scores float8[]; least_score float8;
begin
    select array_agg(e.token), array_agg(greatest(1, ceil(e.weight / e.most * 31))::int4), max(e.most) / 31
    into t, w, unit
    from (select token, weight::float8, max(weight::float8) over () as most
          from hybridsearch.elements(tokens::text) as element
          where weight > 0) as e;
    if t is null then
        return;
    end if;
    -- 1. What is not merged, compared as it is: all there is before the first merge. The ids as an array, and OFFSET 0: each
    -- is looked up, whatever the planner thinks of their number; a join would compare every chunk there is.
    if exists (select from {{piece}}) then
        waiting := array(select u.chunk from {{unweighed}} as u);
    else
        waiting := array(select a.id from {{chunk}} as a);
    end if;
    select array_agg(z.id), array_agg(z.score) into pending, pending_scores
    from (select (array_agg(c.id order by c.distance))[1] as id, -min(c.distance) as score
          from unnest(waiting) as u(chunk)
          cross join lateral (select a.id, {{companion_keys:a}}, a.sparse <#> tokens as distance
                              from {{chunk}} as a
                              where a.id = u.chunk
                              offset 0) as c
          join {{table}} as m on {{same_row:m,c}}
          where c.distance < 0
          group by {{companion_keys:c}}
          order by 2 desc, {{companion_keys:c}}
          limit k) as z;
    -- 2. List rows as rows of ranges.
    select array_agg(z.range), array_agg(z.token), array_agg(z.vector) into list_range, list_token, list_vector
    from (select y.number / 16000 as range, y.token, 
                 ('{' || string_agg(hybridsearch.element(y.number, y.weight), ',') || '}/16000')::sparsevec as vector
          from (select p.token, (u.code >> 11) + (-1 - p.place) * 1048576 as number,
                       hybridsearch.code_weight(u.code, p.top) as weight
                from {{weight}} as p
                cross join unnest(p.codes) as u(code)
                where p.token = any(t) and p.place < 0
                offset 0) as y
          group by y.token, y.number / 16000) as z;
    -- 3. A sample: the ranges that hold most of the query's weight, added up.
    select array_agg(z.range), sum(z.weight) / nullif(max(z.total), 0), sum(z.n) into sample, share, held
    from (select y.range, sum(y.weight) as weight, sum(y.n) as n, sum(sum(y.weight)) over () as total,
                 count(*) over () as ranges, row_number() over (order by sum(y.weight) desc, y.range) as place
          from (select p.place as range, p.pieces as n, p.pieces * p.top::float8 * u.w as weight
                from unnest(t, w) as u(token, w)
                join {{weight}} as p on p.token = u.token and p.place >= 0
                union all
                select range, 5, 0 from unnest(list_range) as range) as y
          group by y.range) as z
    where z.place <= greatest(1, z.ranges / 20);
    select sum(z.most) into total
    from (select max(p.top::float8) * max(u.w) as most
          from unnest(t, w) as u(token, w)
          join {{weight}} as p on p.token = u.token
          group by u.token) as z;
    select array_agg(z.sum) into sums
    from (select hybridsearch.vsum(y.vector::vector * u.w) as sum
          from (select p.place as range, p.token, p.weights as vector
                from {{weight}} as p
                where p.token = any(t) and p.place = any(sample)
                union all
                select l.range, l.token, l.vector
                from unnest(list_range, list_token, list_vector) as l(range, token, vector)
                where l.range = any(sample)) as y
          join (select u.token, hybridsearch.constant(u.w::real) as w from unnest(t, w) as u(token, w) offset 0) as u using (token)
          group by y.range) as z;
    loop
        tries := tries + 1;
        -- 4. A threshold on the bounds: at first a guess from the sample, of which the k-th score is the proof.
        if sums is null or tries > 3 then
            threshold := 0;
        elsif cardinality(best) >= k then
            threshold := least_score / unit * 0.99999;
        else
            want := case tries when 1 then least(k, ceil(2 * k * share) + 2) else 4 * want end;
            threshold := hybridsearch.threshold(sums, 0, total * 1.0001, held, want);
        end if;
        -- 5. All chunks above it: the rows of each binary digit of the query's weights are added up, and these sums, each
        -- twice the next (Horner). A multiplication of every row would take longer.
        cut := hybridsearch.constant(hybridsearch.as_real(threshold * 0.99999));
        select array_agg(h.number), array_agg(h.bound) into cd, cs
        from (select z.range * 16000 + b.place - 1 as number, vector_norm(subvector(z.sum, b.place, 1)) as bound
              from (select r.range, h0.sum, binary_quantize(h0.sum - cut) as bits
                    from (select y.range,
                                 coalesce(hybridsearch.vsum(y.vector::vector) filter (where y.w & 16 > 0), zero) as b4,
                                 coalesce(hybridsearch.vsum(y.vector::vector) filter (where y.w & 8 > 0), zero) as b3,
                                 coalesce(hybridsearch.vsum(y.vector::vector) filter (where y.w & 4 > 0), zero) as b2,
                                 coalesce(hybridsearch.vsum(y.vector::vector) filter (where y.w & 2 > 0), zero) as b1,
                                 coalesce(hybridsearch.vsum(y.vector::vector) filter (where y.w & 1 > 0), zero) as b0
                          from (select p.place as range, p.weights as vector, u.w
                                from unnest(t, w) as u(token, w)
                                join {{weight}} as p on p.token = u.token and p.place >= 0
                                union all
                                select l.range, l.vector, u.w
                                from unnest(list_range, list_token, list_vector) as l(range, token, vector)
                                join unnest(t, w) as u(token, w) using (token)) as y
                          group by y.range
                          offset 0) as r
                    cross join lateral (select r.b4 + r.b4 + r.b3 as sum offset 0) as h3
                    cross join lateral (select h3.sum + h3.sum + r.b2 as sum offset 0) as h2
                    cross join lateral (select h2.sum + h2.sum + r.b1 as sum offset 0) as h1
                    cross join lateral (select h1.sum + h1.sum + r.b0 as sum offset 0) as h0
                    offset 0) as z
              cross join lateral hybridsearch.ones(z.bits) as b
              order by 2 desc) as h;
        taken := coalesce(cardinality(cd), 0);
        if taken > 2 * k + 20 then
            taken := 2 * k + 20;
        end if;
        -- 6. Their products, the best bounds first, until no bound that is left could reach the k-th score.
        best := pending; scores := pending_scores; done := 0;
        loop
            select array_agg(z.id), array_agg(z.score), min(z.score) into best, scores, least_score
            from (select (array_agg(x.id order by x.score desc))[1] as id, max(x.score) as score
                  from (select c.id, {{companion_keys:c}}, -(c.sparse <#> tokens) as score
                        from unnest(cd[done + 1 : taken]) as a(number)
                        join {{piece}} as i on i.number = a.number
                        join {{chunk}} as c on c.id = i.chunk
                        join {{table}} as m on {{same_row:m,c}}
                        union all
                        select c.id, {{companion_keys:c}}, p.score
                        from unnest(best, scores) as p(id, score)
                        join {{chunk}} as c on c.id = p.id) as x
                  where x.score > 0
                  group by {{companion_keys:x}}
                  order by 2 desc, {{companion_keys:x}}
                  limit k) as z;
            done := taken;
            if coalesce(cardinality(best), 0) < k then
                least_score := 0;
            end if;
            taken := (select count(*) from unnest(cs) as bound where bound * unit * 1.00001 >= least_score);
            exit when taken <= done;
        end loop;
        exit when threshold <= 0 or (cardinality(best) >= k and least_score >= threshold * unit);
    end loop;
    return query
        select {{companion_keys:c}}, -x.score
        from unnest(best, scores) as x(id, score)
        join {{chunk}} as c on c.id = x.id
        order by x.score desc, {{companion_keys:c}};
end
$$;
comment on function {{fn:best_sparse}}(sparsevec, int4) is
    'The k best rows of the table by the encoder''s term weights, as keys with negated inner products';

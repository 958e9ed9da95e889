-- engine: sql
-- What the lexical leg reads from the table because it is not indexed yet, by the same rule as the function best: the rows
-- that changed last, up to 200 (and no statement's of more), with what is indexed of them (null for a new one) and what
-- they hold now (null for one that is gone). For explanations, whose sums have to come out as the leg's.
create or replace function {{fn:changes}}()
returns table ({{key_definitions}}, old_length real, old_terms int4[], length real, words text[])
language plpgsql stable rows 200
set search_path from current
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
    return query
        with change as (
            select {{companion_keys:z}}, sum(z.size) over (order by z.id desc) as upto
            from (select *, case when pg_column_size({{first_key:y}}) > 8000 then 1000 else cardinality({{first_key:y}}) end as size
                  from (select * from {{change}} order by id desc limit 200) as y) as z
            where z.size <= 200
        ),
        changed as materialized (
            select distinct k.*
            from change as z
            cross join unnest({{companion_keys:z}}) as k({{companion_keys}})
            where z.upto <= 200
        )
        select {{companion_keys:g}}, d.length, d.terms, w.length, w.words
        from changed as g
        left join {{document}} as d on {{same_keys:d,g}}
        left join {{table}} as m on {{same_row:m,g}}
        left join lateral (select coalesce(sum(word.frequency::float8), 0)::real as length, array_agg(word.term) as words
                           from {{words:m}} as word) as w on m.ctid is not null;
end
$$;
comment on function {{fn:changes}}() is 'Rows that the lexical leg reads from the table because they are not indexed yet';

-- engine: sql
-- What a query's operators stand for (hybridsearch/syntax.py): phrases and excluded words are conditions on rows, a prefix is
-- the terms that begin with it.

-- The rows that have a phrase, as it is written, in one field; or a word, in any of its forms. A phrase is looked for in the
-- rows as they are, of those that have all its words; words are looked up among the documents' terms, and of rows that are
-- not indexed yet among those that they have now. A word without a term, such as "the", is in no row. Without `matched` the
-- rows are those that have the words of the phrase, for a caller who looks for it in some of them alone.
create or replace function {{fn:having}}(content text, phrase bool, config regconfig default {{config}}, matched bool default true)
returns table ({{key_definitions}})
language plpgsql stable rows 1000
set search_path from current
set jit = off
as $$
#variable_conflict use_variable
declare
    pattern constant text := case when phrase and matched then hybridsearch.phrase_pattern(content) end;
    asked constant text[] := (
        select array_agg(word.term)
        from hybridsearch.terms(config, case when phrase then hybridsearch.surely_indexed(content) else content end) as word);
    ids constant int4[] := (
        select array_agg(coalesce(term.id, 0)) from unnest(asked) as word left join {{term}} as term on term.term = word);
begin
    if asked is null and not phrase then
        return;
    end if;
    return query
        with live as materialized (
            select {{companion_keys:c}}, asked is null or c.words @> asked as has_words from {{fn:changes}}() as c
        ),
        -- Reading a text costs a hundred times what looking into the documents' terms does: that comes first.
        having_words as materialized (
            select {{companion_keys:d}}
            from {{document}} as d
            where (ids is null or d.terms @> ids) and ({{companion_keys:d}}) not in (select {{companion_keys:l}} from live as l)
            union all
            select {{companion_keys:l}} from live as l where l.has_words
        )
        select {{keys:m}}
        from having_words as h
        join {{table}} as m on {{same_row:m,h}}
        where pattern is null or {{matching:m,pattern}};
end
$$;
comment on function {{fn:having}}(text, bool, regconfig, bool) is 'The rows that have a phrase, or a word in any of its forms';

-- The 64 shortest terms that begin so, of each prefix.
create or replace function {{fn:beginning}}(prefixes text[])
returns setof text
language sql stable rows 64
set search_path from current
as $$
    select found.term
    from unnest(prefixes) as given(prefix)
    cross join lateral (select t.term
                        from {{term}} as t
                        where t.term >= lower(given.prefix) and t.term < lower(given.prefix) || chr(1114111)
                        order by length(t.term), t.term
                        limit 64) as found
$$;
comment on function {{fn:beginning}}(text[]) is 'The shortest terms that begin with one of the prefixes';

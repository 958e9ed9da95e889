-- engine: memory, pg_textsearch
-- The rows that have a phrase, as it is written, in one field; or a word, in any of its forms: of an engine that keeps no
-- terms the rows are read for both. A word without a term, such as "the", is in no row.
create or replace function {{fn:having}}(content text, phrase bool, config regconfig default {{config}})
returns table ({{key_definitions}})
language plpgsql stable rows 1000
set search_path from current
set jit = off
as $$
#variable_conflict use_variable
declare
    pattern constant text := case when phrase then hybridsearch.phrase_pattern(content) end;
    asked constant text[] := (select array_agg(word.term) from hybridsearch.terms(config, content) as word);
begin
    if phrase then
        return query select {{keys:m}} from {{table}} as m where {{matching:m,pattern}};
    elsif asked is not null then
        return query
            select {{keys:m}} from {{table}} as m where (select array_agg(word.term) from {{words:m}} as word) @> asked;
    end if;
end
$$;
comment on function {{fn:having}}(text, bool, regconfig) is 'The rows that have a phrase, or a word in any of its forms';

-- The text of a column of any type, for its words. A text is itself; a document of JSON or an array is written without its
-- punctuation, as the encoders' texts are (hybridsearch.template.as_text); anything else as PostgreSQL writes it.

create or replace function hybridsearch.as_text(content text)
returns text
language sql immutable parallel safe
as $$ select content $$;

-- {"colour": "red", "size": {"height": 2, "width": null}, "tags": ["a", "b"]}: colour: red; size height: 2; tags: a, b
create or replace function hybridsearch.json_text(content jsonb, path text default '')
returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    case jsonb_typeof(content)
        when 'object' then
            return coalesce(
                (select string_agg(case when jsonb_typeof(item.value) = 'object'
                                        then hybridsearch.json_text(item.value, btrim(path || ' ' || item.key))
                                        else btrim(path || ' ' || item.key) || ': ' || hybridsearch.json_text(item.value)
                                   end, '; ')
                 from jsonb_each(content) as item
                 where hybridsearch.json_text(item.value) <> ''),
                '');
        when 'array' then
            return coalesce(
                (select string_agg(hybridsearch.json_text(item.value), ', ' order by item.place)
                 from jsonb_array_elements(content) with ordinality as item(value, place)
                 where hybridsearch.json_text(item.value) <> ''),
                '');
        else
            return coalesce(btrim(content #>> '{}'), '');
    end case;
end
$$;

create or replace function hybridsearch.as_text(content anyelement)
returns text
language sql stable parallel safe
as $$
    select case when content is null then null
                when pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(content)) in ('object', 'array')
                then hybridsearch.json_text(pg_catalog.to_jsonb(content))
                else content::text
           end
$$;
-- `json`, unlike `jsonb`, keeps escapes that stand for no text: a NUL, half a surrogate pair. They are spaces.
create or replace function hybridsearch.as_text(content json)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select hybridsearch.json_text(
        regexp_replace(
            content::text,
            '(?<!\\)((?:\\\\)*)(?:\\u0000|\\u[dD][89abAB][[:xdigit:]]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][[:xdigit:]]{2})\\u[dD][c-fC-F][[:xdigit:]]{2})',
            '\1 ', 'g')::jsonb)
$$;
comment on function hybridsearch.as_text(json) is 'The text of a document of JSON, for its words';
comment on function hybridsearch.as_text(anyelement) is 'The text of a column of any type, for its words';

-- The words of a row, as one value.
do $$
begin
    if to_regtype('hybridsearch.counted') is null then
        create type hybridsearch.counted as (words text[], frequencies real[], length real);
    end if;
end
$$;

-- The words of a row: of several texts, each with its weight. Nearly every text is read in one go, without the tables that
-- hybridsearch.terms makes on its way: one without scripts that need it, and none of whose words is so often, or so far
-- back, that a tsvector would not count it. `cost` lets the planner share the work out among parallel workers.
create or replace function hybridsearch.counted(config regconfig, weights float8[], contents text[])
returns hybridsearch.counted
language plpgsql immutable parallel safe cost 10000
set search_path = pg_catalog, pg_temp
as $$
declare
    found hybridsearch.counted; most int4; plain bool; coded bool;
begin
    config := coalesce(config, 'pg_catalog.simple'::regconfig);
    if cardinality(contents) = 1 then
        plain := length(contents[1]) <= 30000 and not hybridsearch.is_unspaced(contents[1]);
        coded := hybridsearch.is_coded(contents[1]);
    else
        select not bool_or(length(content) > 30000 or hybridsearch.is_unspaced(content)), bool_or(hybridsearch.is_coded(content))
        into plain, coded
        from unnest(contents) as content;
    end if;
    if plain and coded then
        select array_agg(z.term), array_agg(z.frequency), sum(z.frequency::float8), max(z.most)
        into found.words, found.frequencies, found.length, most
        from (select x.term, sum(x.weight * x.times)::real as frequency, max(x.times) as most
              from (select v.weight, v.content, v.vector, tsvector_to_array(v.vector) as known
                    from (select given.weight, given.content, to_tsvector(config, given.content) as vector
                          from unnest(weights, contents) as given(weight, content)
                          where given.content is not null
                          offset 0) as v
                    offset 0) as given
              cross join lateral (
                  select word.lexeme, given.weight, cardinality(word.positions)
                  from unnest(given.vector) as word(lexeme, positions, classes)
                  union all
                  select code.term, given.weight, count(*)::int4
                  from hybridsearch.codes(given.content) as code(term)
                  where code.term <> all (given.known)
                  group by code.term) as x(term, weight, times)
              group by x.term) as z;
    elsif plain and cardinality(contents) = 1 then
        select array_agg(z.lexeme), array_agg(z.frequency), sum(z.frequency::float8), max(z.most)
        into found.words, found.frequencies, found.length, most
        from (select word.lexeme, (weights[1] * n.times)::real as frequency, n.times as most
              from unnest(to_tsvector(config, contents[1])) as word(lexeme, positions, classes)
              cross join lateral (select cardinality(word.positions) as times) as n) as z;
    elsif plain then
        select array_agg(z.lexeme), array_agg(z.frequency), sum(z.frequency::float8), max(z.most)
        into found.words, found.frequencies, found.length, most
        from (select word.lexeme, sum(given.weight * cardinality(word.positions))::real as frequency,
                     max(cardinality(word.positions)) as most
              from unnest(weights, contents) as given(weight, content),
                   unnest(to_tsvector(config, given.content)) as word
              group by word.lexeme) as z;
    end if;
    if plain and coalesce(most, 0) < 255 then
        return found;
    end if;
    select array_agg(z.term), array_agg(z.frequency), sum(z.frequency::float8)
    into found.words, found.frequencies, found.length
    from (select word.term, sum(given.weight * word.frequency)::real as frequency
          from unnest(weights, contents) as given(weight, content),
               hybridsearch.terms(config, given.content) as word
          where given.content is not null
          group by word.term) as z;
    return found;
end
$$;
comment on function hybridsearch.counted(regconfig, float8[], text[]) is
    'The terms of several texts, each with its weighted number of occurrences, as one value';

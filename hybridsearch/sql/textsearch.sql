-- For engines that analyse text themselves, pg_textsearch: our terms, written as words that the configuration "simple"
-- takes as they are, so that the analysis stays that of hybridsearch.terms and the extension only ranks.

-- Lower-case Latin words stay; others become x0 and their bytes in hexadecimal, or x1 and a hash where that is too long
-- for a lexeme (2,046 bytes). Two terms never become one: a word of letters has no digit.
create or replace function hybridsearch.spelled(term text)
returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select case when term ~ '^[a-z]+$' and length(term) <= 1000 then term
                when octet_length(term) <= 1000 then 'x0' || encode(convert_to(term, 'UTF8'), 'hex')
                else 'x1' || md5(term)
           end
$$;
comment on function hybridsearch.spelled(text) is
    'A term as one word of lower-case letters and digits, for an engine that analyses text itself';

-- Words as a text: each spelled, as often as it occurs.
create or replace function hybridsearch.spelled(terms text[], times integer[])
returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(string_agg(repeat(hybridsearch.spelled(word.term) || ' ', word.times), '' order by word.place), '')
    from unnest(terms, times) with ordinality as word(term, times, place)
$$;
comment on function hybridsearch.spelled(text[], integer[]) is
    'A text of terms, each spelled as one word and as often as it occurs';

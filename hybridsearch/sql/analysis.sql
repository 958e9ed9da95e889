-- Text analysis: one function, hybridsearch.terms, for documents and queries, so that Python, triggers and psql see the
-- same terms. It is made of three: words (a text search configuration), bigrams (scripts without spaces), codes (part
-- numbers and names that a parser of prose takes apart).

-- Runs of a script that is written without spaces, as overlapping bigrams; a run of one character is a term by itself.
-- Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean.
create or replace function hybridsearch.bigrams(content text)
returns setof text
language sql immutable strict parallel safe rows 20
set search_path = pg_catalog, pg_temp
as $$
    -- substr counts characters from the beginning: of a long run the pairs are taken from the first character on, and from
    -- the second, in time that grows with its length and not with the square of it.
    with run as materialized (
        select found.match[1] as run
        from regexp_matches(
                 content,
                 '([\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+)',
                 'g') as found(match)
    )
    select case when length(run.run) = 1 then run.run else substr(run.run, place, 2) end
    from run
    cross join generate_series(1, greatest(length(run.run) - 1, 1)) as place
    where length(run.run) <= 500
    union all
    select pair.match[1]
    from run
    cross join lateral (select regexp_matches(run.run, '(..)', 'g') union all select regexp_matches(substr(run.run, 2), '(..)', 'g')) as pair(match)
    where length(run.run) > 500
$$;
comment on function hybridsearch.bigrams(text) is
    'Overlapping character bigrams of the runs written without spaces (Chinese, Japanese, Korean, Thai and kin)';

-- The words of a text under a text search configuration, with how often each occurs.
-- A tsvector keeps at most 255 positions of a lexeme, none beyond 16,383, and must stay below 1 MB. A text that could
-- meet one of the three is cut at white space into pieces that cannot, and the counts are added up.
create or replace function hybridsearch.words(config regconfig, content text)
returns table (term text, frequency integer)
language plpgsql immutable strict parallel safe rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    vector tsvector;
    whole boolean := length(content) <= 30000;
begin
    if whole then
        vector := to_tsvector(config, content);
        if length(content) > 510 then
            whole := not exists (select from unnest(vector) as word where cardinality(word.positions) >= 255);
        end if;
    end if;
    if whole then
        return query
            select word.lexeme, cardinality(word.positions)
            from unnest(vector) as word;
    else
        return query
            select word.lexeme, sum(cardinality(word.positions))::integer
            from regexp_matches(content, '.{1,250}(?=\s|$)|\S{1,250}', 'g') as piece(match),
                 unnest(to_tsvector(config, piece.match[1])) as word
            group by word.lexeme;
    end if;
end
$$;
comment on function hybridsearch.words(regconfig, text) is
    'Lexemes of a text under a text search configuration, each with its exact number of occurrences';

-- Part numbers, model names and measures, whole and in parts: DV7-1211ea gives dv7-1211ea, dv7, 1211ea, dv, 1211, ea;
-- C++ gives c++; 2.13GHz gives 2.13ghz, 2.13, ghz. What a configuration makes of them is added by hybridsearch.words. As
-- in a tsvector, nothing longer than 2,046 bytes is a term. (Without settings of its own, so that it is inlined.)
create or replace function hybridsearch.codes(content text)
returns setof text
language sql immutable parallel safe rows 20
begin atomic
    select part.code
    from (select lower(run.match[1]) as whole
          from regexp_matches(content, '([[:alnum:]]+(?:[-._/][[:alnum:]]+)*(?:\+\+?|#)?)', 'g') as run(match)
          where run.match[1] ~ '[[:digit:]].*[[:alpha:]]|[[:alpha:]].*[[:digit:]]|[+#]$'
          offset 0) as found
    cross join lateral (
        select found.whole
        union all
        select part.match[1]
        from regexp_matches(found.whole, '([[:alnum:]]+)', 'g') as part(match)
        where part.match[1] <> found.whole
        union all
        select piece.match[1]
        -- No part number is longer; each piece is compared with all parts.
        from regexp_matches(case when length(found.whole) <= 255 then found.whole end,
                            '([[:alpha:]]{2,}|[[:digit:]]+(?:\.[[:digit:]]+)?)', 'g') as piece(match)
        where length(piece.match[1]) > 1
          and not piece.match[1] = any (string_to_array(translate(found.whole, '-_/', '...'), '.'))) as part(code)
    where octet_length(part.code) <= 2046;
end;
comment on function hybridsearch.codes(text) is
    'Part numbers, model names and measures in a text, lower-cased, whole and in parts';

-- Whether a text has a script that is written without spaces, or what may be a part number: more than words.
create or replace function hybridsearch.is_unspaced(content text)
returns boolean
language sql immutable parallel safe
return content operator(pg_catalog.~) '[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]';
comment on function hybridsearch.is_unspaced(text) is 'Whether a text has characters of a script that is written without spaces';

create or replace function hybridsearch.is_coded(content text)
returns boolean
language sql immutable parallel safe
return content operator(pg_catalog.~)
    '[[:digit:]][-._/[:alnum:]]*[[:alpha:]]|[[:alpha:]][-._/[:alnum:]]*[[:digit:]]|[[:alnum:]][+#]';
comment on function hybridsearch.is_coded(text) is 'Whether a text has what may be a part number';

-- The terms of a text and how often each occurs: what is indexed, and what is searched for.
-- config may be null for "no configuration known": the words are then taken as they are ("simple"). A configuration whose
-- parser is not PostgreSQL's own (zhparser, pg_jieba) gets the runs without spaces as well, and there are no bigrams.
create or replace function hybridsearch.terms(config regconfig, content text)
returns table (term text, frequency integer)
language plpgsql immutable parallel safe rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    unspaced boolean := hybridsearch.is_unspaced(content);
    coded boolean := hybridsearch.is_coded(content);
begin
    config := coalesce(config, 'pg_catalog.simple'::regconfig);
    if unspaced then
        unspaced := exists (select from pg_ts_config where oid = config and cfgparser = 3722);     -- pg_catalog.default
    end if;
    if not unspaced and not coded then
        return query select word.term, word.frequency from hybridsearch.words(config, content) as word;
        return;
    end if;
    return query
        with word as materialized (
            select found.term, found.frequency
            from hybridsearch.words(
                     config,
                     case when unspaced
                          then regexp_replace(content, '[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+', ' ', 'g')
                          else content
                     end) as found
        )
        select word.term, word.frequency from word
        union all
        select pair, count(*)::integer from hybridsearch.bigrams(content) as pair where unspaced group by pair
        union all
        select code, count(*)::integer
        -- offset: codes is inlined, and the words would be looked through for each run anew
        from (select code from hybridsearch.codes(content) as code where coded offset 0) as found
        where not exists (select from word where word.term = code)
        group by code;
end
$$;
comment on function hybridsearch.terms(regconfig, text) is
    'The terms of a text, each with its number of occurrences: what the lexical index holds and is asked for';

-- Which configuration a name means: as PostgreSQL writes it ("german", "public.mine"), in any case, or as a language code
-- ("de", "pt-BR"). Null for a name that means none. Of two with one name that of PostgreSQL itself comes first, then that
-- in public: the functions of an index have a search_path of their own, so the caller's cannot decide.
create or replace function hybridsearch.known_configuration(name text)
returns regconfig
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select config.oid::regconfig
    from unnest(array[
             name,
             lower(name),
             '{"ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
               "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
               "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali",
               "nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian",
               "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish"}'::jsonb
                 ->> lower(split_part(translate(name, '_', '-'), '-', 1))]) with ordinality as given(name, place)
    join pg_ts_config as config on config.cfgname in (given.name, substr(given.name, strpos(given.name, '.') + 1))
    join pg_namespace as namespace on namespace.oid = config.cfgnamespace
    where given.name in (config.cfgname, namespace.nspname || '.' || config.cfgname)
    order by given.place, namespace.nspname <> 'pg_catalog', namespace.nspname <> 'public', config.oid
    limit 1
$$;
comment on function hybridsearch.known_configuration(text) is
    'The text search configuration that a name or a language code means; null for none';

-- The same, and PostgreSQL's own error for a name that means none.
create or replace function hybridsearch.configuration(name text)
returns regconfig
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(hybridsearch.known_configuration(name), name::regconfig)
$$;
comment on function hybridsearch.configuration(text) is
    'The text search configuration that a name or a language code means; an error for none';

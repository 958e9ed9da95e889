-- What people write into a search box, for those who have SQL alone: hybridsearch/syntax.py has the grammar, and reads the
-- same from Python. A test compares the two, on thousands of texts.

-- The regular expressions of the grammar: syntax.PATTERNS, to the letter. token takes a text apart.
create or replace function hybridsearch.query_patterns(
    out token text, out word text, out plain_word text, out unspaced text, out space text
)
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select format(
               '(-?)(?:"([^"\n]+)"|“([^“”\n]+)”)(?![^%1$s%2$s%4$s%5$s])(-*)'                    -- 1 to 4: a phrase
               '|-([^%1$s%2$s%3$s%5$s][^%1$s]*)'                                                -- 5: what is excluded
               '|([^%1$s%2$s%5$s](?:[^%1$s%2$s]*[^%1$s%2$s%5$s])?)\*(?=[%1$s.,;:!?)]|$)'        -- 6: a prefix
               '|([%1$s]+|(?:[^%1$s%2$s%5$s][^%1$s%2$s]*|)[^%1$s%2$s%4$s%5$s]["“]-*|[^%1$s%2$s%5$s][^%1$s%2$s]*|[^%1$s]-*)',
               space, mark, digit, unspaced, joint),
           format('[^%s%s%s]', space, mark, joint),
           format('^[^%s%s%s%s%s]+$', space, mark, unspaced, digit, joint),
           format('[%s]', unspaced),
           format('[%s]+', space)
    from (values (
        '\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000',
        '\u0021-\u002a\u002c\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007e\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8'
        '\u00bb\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05f3\u05f4\u0609-\u060d'
        '\u061b-\u061f\u066a-\u066d\u06d4\u0964\u0965\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u206f\u20a0-\u20cf'
        '\u2190-\u245f\u2500-\u2bff\u2e00-\u2fff\u3001-\u3004\u3008-\u303f\ue000-\uf8ff\ufe00-\ufe1f\ufe30-\ufe6f'
        '\ufeff-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001faff\U000e0000-\U0010ffff',
        '0-9\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19',
        '\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf'
        '\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff',
        '_./+-')) as class(space, mark, digit, unspaced, joint)
$$;
comment on function hybridsearch.query_patterns() is 'The regular expressions by which a query is read';

-- A query without its operators (kind words, one row), and these: phrase, not phrase, not word, prefix. By the syntax plain
-- every character is taken as it stands.
create or replace function hybridsearch.parsed(query text, syntax text default 'web')
returns table (kind text, content text)
language plpgsql immutable parallel safe rows 3
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    pattern record;
    kinds text[]; contents text[]; words text;
begin
    if syntax is null or syntax not in ('web', 'plain') then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('syntax is %s: give web or plain', hybridsearch.shortened(syntax));
    elsif syntax = 'web' and query ~ '["“*-]' then
        pattern := hybridsearch.query_patterns();
        select array_agg(is_.kind) filter (where is_.kind is not null),
               array_agg(coalesce(phrase, word, prefix)) filter (where is_.kind is not null),
               btrim(regexp_replace(string_agg(case when is_.kind is null then whole
                                                    when is_.kind = 'phrase' then ' ' || phrase || ' ' || hyphens
                                                    when is_.kind = 'prefix' then prefix
                                                    else ' ' || coalesce(hyphens, '') end, '' order by place),
                                    pattern.space, ' ', 'g'), ' ')
        into kinds, contents, words
        from (select place, part[1] as whole, part[2] = '-' as minus, coalesce(part[3], part[4]) as phrase, part[5] as hyphens,
                     rtrim(part[6], '.,;:!?()[]{}<>"''“”„«»*') as word, part[7] as prefix
              from regexp_matches(query, '(' || pattern.token || ')', 'g') with ordinality as found(part, place)) as token
        cross join lateral (
            select case when length(phrase) <= 200 and phrase ~ pattern.word then case when minus then 'not phrase' else 'phrase' end
                        when word ~ pattern.plain_word then 'not word'
                        when word is not null then 'not phrase'
                        when length(prefix) >= 2 or prefix ~ pattern.unspaced then 'prefix' end as kind) as is_;
        if cardinality(kinds) <= 16 and words ~ pattern.word then
            return query select 'words', words union all select * from unnest(kinds, contents);
            return;
        end if;
    end if;
    return query select 'words', query;
end
$$;
comment on function hybridsearch.parsed(text, text) is
    'A query without its operators ("words"), and its phrases, exclusions ("not word", "not phrase") and prefixes';

-- A regular expression for a phrase: its words in order. Between words stands anything but letters and digits, or in a
-- script without spaces nothing.
create or replace function hybridsearch.phrase_pattern(phrase text)
returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    pattern record := hybridsearch.query_patterns();
begin
    return (
        with token as (
            select place, word, lag(word) over (order by place) as before, lead(word) over (order by place) as after
            from regexp_split_to_table(phrase, pattern.space) with ordinality as part(content, place)
            cross join lateral btrim(content, '.,;:!?()[]{}<>"''“”„«»') as word
            where word <> ''
        )
        select string_agg(
                   case when before is not null and (right(before, 1) ~ pattern.unspaced or left(word, 1) ~ pattern.unspaced) then '[^[:alnum:]]*'
                        when before is not null then '[^[:alnum:]]+'
                        when left(word, 1) ~ '[[:alnum:]]' and left(word, 1) !~ pattern.unspaced then '(^|[^[:alnum:]])'
                        else '' end
                   || regexp_replace(word, '([][\\.*+?^$(){}|])', '\\\1', 'g')
                   || case when after is null and right(word, 1) ~ '[[:alnum:]]' and right(word, 1) !~ pattern.unspaced then '($|[^[:alnum:]])'
                           else '' end,
                   '' order by place)
        from token);
end
$$;
comment on function hybridsearch.phrase_pattern(text) is 'A regular expression for the words of a phrase in their order';

-- The words of a phrase whose terms any text with the phrase has, in whatever context they stand there.
create or replace function hybridsearch.surely_indexed(phrase text)
returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    pattern record := hybridsearch.query_patterns();
    runs constant text := format('(%s{2,}|%s+)', pattern.unspaced, replace(pattern.unspaced, '[', '[^'));
begin
    return (
        select coalesce(string_agg(run[1], ' '), '')
        from regexp_split_to_table(phrase, pattern.space) as part
        cross join lateral btrim(part, '.,;:!?()[]{}<>"''“”„«»') as token
        -- A single character of a script without spaces is a term of a text only where it stands alone.
        cross join lateral regexp_matches(token, case when token ~ '^[[:alpha:]]+$' then runs else '([[:alnum:]]+)' end, 'g') as run
        where token ~ '^[[:alpha:]]+$'
           or (run[1] !~ '^([[:digit:]]+|[[:alpha:]]+)$' and run[1] !~ pattern.unspaced));
end
$$;
comment on function hybridsearch.surely_indexed(text) is 'The words of a phrase whose terms every text with the phrase has';

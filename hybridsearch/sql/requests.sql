-- Vectors for a query that comes with nothing but its text: from the shared cache, else from a running worker.
--
-- The request has to be committed before a worker sees it, and the caller's transaction may be read-only, on a replica,
-- or of an isolation level that sees nothing new. So both the request and the wait run in a session of their own, opened
-- by dblink (in contrib, and on managed services).

-- What a worker holds while it answers requests for an encoder: (this number, hash of the fingerprint).
create or replace function hybridsearch.answering_lock()
returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return 1751740017;
comment on function hybridsearch.answering_lock() is 'First half of the advisory lock that a worker holds while it encodes queries';

-- The second session: leaves a request, and looks for the answer until the time is over. A procedure, since it commits;
-- it may have no search_path of its own for the same reason.
create or replace procedure hybridsearch.ask(
    fingerprint text, query text, wait_ms integer,
    inout dense real[] default null, inout sparse_ids integer[] default null, inout sparse_weights real[] default null, inout note text default null
)
language plpgsql
as $$
declare
    began constant timestamptz := pg_catalog.clock_timestamp();
    give_up constant timestamptz := began operator(pg_catalog.+) pg_catalog.make_interval(secs => wait_ms / 1000.0::pg_catalog.float8);
    wanted constant bytea := pg_catalog.sha256(pg_catalog.convert_to(query, 'UTF8'));
    -- Held, shared, by each session that waits for this query: whoever gives up withdraws the request if it is the last.
    waiting constant integer := hybridsearch.answering_lock() operator(pg_catalog.+) 1;
    same constant integer := pg_catalog.hashtext(pg_catalog.format('%s %s', fingerprint, query));
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
    if not exists (select
                   from pg_locks
                   where locktype = 'advisory' and granted and objsubid = 2
                     and database = (select oid from pg_database where datname = current_database())
                     and classid = hybridsearch.answering_lock()::oid
                     and objid = (hashtext(ask.fingerprint)::int8 & 4294967295)::oid) then
        note := 'no worker is running that could encode the query';
        return;
    end if;
    perform pg_advisory_lock_shared(waiting, same);
    insert into hybridsearch.encoding_request (fingerprint, digest, query)
    values (ask.fingerprint, wanted, ask.query)
    on conflict do nothing;
    perform pg_notify('hybridsearch_query', ask.fingerprint);
    commit;
    loop
        select known.dense, known.sparse_ids, known.sparse_weights into dense, sparse_ids, sparse_weights
        from hybridsearch.query_encoding as known
        where known.fingerprint = ask.fingerprint and known.digest = wanted;
        exit when found or clock_timestamp() not between began and give_up;  -- before: the clock was set back
        perform pg_sleep(0.002);
        commit;
    end loop;
    perform pg_advisory_unlock_shared(waiting, same);
    if dense is not null then
        return;
    end if;
    -- Until this is committed, nobody else can begin to wait: no request of theirs is taken away.
    if pg_try_advisory_xact_lock(waiting, same) then
        delete from hybridsearch.encoding_request as request
        where request.fingerprint = ask.fingerprint and request.digest = wanted;
    end if;
    note := format('no worker encoded the query within %s ms', wait_ms);
end
$$;
comment on procedure hybridsearch.ask(text, text, integer, real[], integer[], real[], text) is
    'Ask a running worker to encode a query, wait for it, and say why there is no answer; called through dblink';

create or replace function hybridsearch.connection_value(value text)
returns text
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return '''' || replace(replace(value, '\', '\\'), '''', '\''') || '''';
comment on function hybridsearch.connection_value(text) is 'A value of a connection string, quoted';

-- How the second session is opened: hybridsearch.dblink (a connection string, or the name of a foreign server), else a
-- foreign server called hybridsearch, else this database as this role through the server''s own socket.
create or replace function hybridsearch.own_connection()
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        nullif(current_setting('hybridsearch.dblink', true), ''),
        (select srvname::text from pg_foreign_server where srvname = 'hybridsearch'),
        format('dbname=%s user=%s port=%s host=%s connect_timeout=1',
               hybridsearch.connection_value(current_database()::text), hybridsearch.connection_value(current_user::text),
               current_setting('port'),
               hybridsearch.connection_value(coalesce(nullif(trim(split_part(current_setting('unix_socket_directories'), ',', 1)), ''), 'localhost'))))
$$;
comment on function hybridsearch.own_connection() is 'The connection that hybridsearch opens by dblink to ask for the encoding of a query';

-- The vectors of a query for an index, or why there are none.
create or replace function hybridsearch.encoding(index text, query text, wait_ms integer)
returns table (dense real[], sparse_ids integer[], sparse_weights real[], note text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    encoder text := (select filled.fingerprint from hybridsearch.index as filled where filled.name = encoding.index);
    wanted constant bytea := sha256(convert_to(query, 'UTF8'));
    place name;
    answer text;
begin
    if encoder is null then
        return query select null::real[], null::integer[], null::real[], format('index %s was never filled', index);
        return;
    end if;
    return query
        select known.dense, known.sparse_ids, known.sparse_weights, null::text
        from hybridsearch.query_encoding as known
        where known.fingerprint = encoder and known.digest = wanted;
    if found then
        return;
    end if;
    select namespace.nspname into place
    from pg_extension as extension
    join pg_namespace as namespace on namespace.oid = extension.extnamespace
    where extension.extname = 'dblink';
    if wait_ms is null or wait_ms <= 0 then
        answer := 'the query is not among the recent ones, and no time was given to wait for a worker';
    elsif place is null then
        answer := 'the extension dblink, by which a worker is asked, is not installed: create extension dblink';
    else
        begin
            return query execute format(
                'select * from %I.dblink(hybridsearch.own_connection(), $1)
                 as answer(dense real[], sparse_ids integer[], sparse_weights real[], note text)', place)
            using format('call hybridsearch.ask(%L, %L, %s)', encoder, query, wait_ms);
            return;
        exception when others then
            answer := format('a worker cannot be asked: %s', sqlerrm);
        end;
    end if;
    return query select null::real[], null::integer[], null::real[], answer;
end
$$;
comment on function hybridsearch.encoding(text, text, integer) is
    'The vectors of a query: from the shared cache, else from a running worker within so many milliseconds; note says why there are none';

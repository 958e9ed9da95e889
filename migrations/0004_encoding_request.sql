-- Queries that wait for a worker to encode them: how a bare SQL prompt gets vectors. Rows live for less than a second, so
-- nothing is lost with them, and they need no write-ahead log.
create unlogged table hybridsearch.encoding_request (
    fingerprint  text not null,
    digest       bytea not null,
    query        text not null,
    requested_at timestamptz not null default clock_timestamp(),
    primary key (fingerprint, digest)
);
comment on table hybridsearch.encoding_request is 'Queries that wait to be encoded by a worker with the encoder of that fingerprint';

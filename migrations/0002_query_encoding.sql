-- Encodings of recent queries, shared by all processes, so that a repeated query costs no encoding anywhere.
-- A query is known by its hash alone: what people search for is not kept here.
create table hybridsearch.query_encoding (
    fingerprint    text not null,
    digest         bytea not null,
    dense          real[] not null,
    sparse_ids     integer[],
    sparse_weights real[],
    used_at        timestamptz not null default now(),
    primary key (fingerprint, digest)
);
create index query_encoding_used_at on hybridsearch.query_encoding (used_at);
comment on table hybridsearch.query_encoding is 'Encodings of recent queries, by encoder fingerprint and SHA-256 of the text';

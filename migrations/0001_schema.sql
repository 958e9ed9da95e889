-- The schema of hybridsearch: what carries data under a fixed name.
-- Run once, in one transaction, by `hybridsearch migrate`, which has made the schema and the ledger before.

-- halfvec, sparsevec and their HNSW indexes; 0.7 or later, which `hybridsearch migrate` checks before it gets here.
create extension if not exists vector;

-- One row for every index that has been filled: which encoder made its vectors, so that no other one is mixed in.
create table hybridsearch.index (
    name        text primary key,
    encoder     text not null,
    fingerprint text not null,
    dimensions  integer not null,
    filled_at   timestamptz not null default now()
);
comment on table hybridsearch.index is 'Filled search indexes, each with the encoder that made its vectors';
comment on column hybridsearch.index.fingerprint is 'Model, revision and settings of the encoder; vectors of two fingerprints are never compared';

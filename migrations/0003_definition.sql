-- What each search index is, so that the routines made for it can be made again when a release changes them.
create table hybridsearch.definition (
    name       text primary key,
    namespace  text not null,
    definition json not null,
    checksum   text not null,
    routines   text[] not null,
    triggers   text[] not null,
    defined_at timestamptz not null default now()
);
comment on table hybridsearch.definition is 'Declared search indexes, each with the functions and triggers that were made for it';
comment on column hybridsearch.definition.checksum is 'SHA-256 of the text that made the routines';

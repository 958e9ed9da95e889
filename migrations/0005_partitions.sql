-- A partition that is attached, detached or truncated fires no trigger: workers compare these with what there is.
alter table hybridsearch.index add column partitions text[];
comment on column hybridsearch.index.partitions is
    'Partitions of the model''s table as last seen, as oid/relfilenode; empty where it has none, null before the first look';

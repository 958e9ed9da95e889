-- engine: memory
-- The engine keeps no words: it analyses the rows before a search. A document is a number and a hash.

create or replace function {{fn:add}}(numbers int4[])
returns void
language sql
set search_path from current
as '';
comment on function {{fn:add}}(int4[]) is 'Index the words of documents that were just numbered: nothing is stored';

create or replace function {{fn:remove}}(numbers int4[])
returns void
language sql
set search_path from current
as 'delete from {{document}} where id = any(numbers)';
comment on function {{fn:remove}}(int4[]) is 'Take documents out of the numbering';

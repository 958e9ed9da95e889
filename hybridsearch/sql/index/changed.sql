-- The index follows the model's table: in the writer's transaction, triggers note the keys of the rows that changed, and
-- drop the chunks of rows that are gone. docs/freshness.md has the reasons and the costs.
--
-- A statement that inserts or deletes costs one row of `change` for each 100,000 of its rows: an array has an end, and is
-- written anew whenever some of its keys are taken. An update is looked at row by row: PostgreSQL allows no list of
-- columns on a trigger with transition tables, and those would cost an update that changes no indexed field as much as
-- one that does. The keys that it changes are gathered all the same.

-- Of INSERT and COPY, and what MERGE inserts. A search_path of its own costs as much as the rest of it: so every function
-- and operator here names its schema.
create or replace function {{fn:inserted}}()
returns trigger
language plpgsql security definer
as $$
declare
    noted int4;
begin
    insert into {{change}} ({{companion_keys}})
    select {{key_arrays:n}} from (select * from new_rows limit 100000) as n having pg_catalog.count(*) operator(pg_catalog.>) 0
    returning pg_catalog.cardinality({{first_key}}) into noted;
    if noted operator(pg_catalog.=) 100000 then
        -- To number the rows costs more than to note them, so few rows are not.
        insert into {{change}} ({{companion_keys}})
        select {{key_arrays:n}}
        from (select {{keys:n}}, pg_catalog.row_number() over () as "number of the row" from new_rows as n offset 100000) as n
        group by n."number of the row" operator(pg_catalog./) 100000;
    end if;
    if noted is not null and {{notifies}} then
        perform pg_catalog.pg_notify('hybridsearch', {{name}});
    end if;
    return null;
end
$$;
comment on function {{fn:inserted}}() is 'Notes the keys of the rows that a statement inserted';

-- Of DELETE, and what MERGE deletes; of TRUNCATE.
create or replace function {{fn:changed}}()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    noted int4;
begin
    if tg_op = 'DELETE' then
        insert into {{change}} ({{companion_keys}})
        select {{key_arrays:o}} from (select * from old_rows limit 100000) as o having count(*) > 0
        returning cardinality({{first_key}}) into noted;
        if noted is null then
            return null;
        elsif noted = 100000 then
            insert into {{change}} ({{companion_keys}})
            select {{key_arrays:o}}
            from (select {{keys:o}}, row_number() over () as "number of the row" from old_rows as o offset 100000) as o
            group by o."number of the row" / 100000;
        end if;
        delete from {{chunk}} as c using old_rows as o where {{same_row:o,c}};
    else
        -- A key that is null stands for every document whose row is gone: those that were indexed after this
        -- transaction's snapshot cannot be seen here.
        insert into {{change}} ({{companion_keys}})
        select {{companion_key_arrays:d}} from (select) as nothing left join {{document}} as d on false;
        begin
            lock table {{chunk}} in access exclusive mode nowait;
            truncate {{chunk}};
        exception when lock_not_available then
            null;   -- A search that has it may wait for the table: the chunks go with the documents.
        end;
    end if;
    if {{notifies}} then
        perform pg_notify('hybridsearch', {{name}});
    end if;
    return null;
end
$$;
comment on function {{fn:changed}}() is 'Notes the keys of the rows that a statement deleted or truncated';

-- Of a row: where its key is updated; and of every change to a partition, or by replication, where no statement's triggers
-- fire.
create or replace function {{fn:changed_row}}()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op <> 'DELETE' then
        insert into {{change}} ({{companion_keys}}) values ({{key_array:new}});
    end if;
    if tg_op = 'DELETE' or (tg_op = 'UPDATE' and ({{keys:old}}) is distinct from ({{keys:new}})) then
        insert into {{change}} ({{companion_keys}}) values ({{key_array:old}});
        delete from {{chunk}} as c where {{same_row:old,c}};
    end if;
    if {{notifies}} then
        perform pg_notify('hybridsearch', {{name}});
    end if;
    return null;
end
$$;
comment on function {{fn:changed_row}}() is 'Notes the key of a row that was inserted, updated or deleted';

-- Of an update: for a row, its key is added to a setting of the transaction, which a savepoint takes back as it does rows;
-- for the statement, and between where there are some 200, they are written to one row of `change`. No search_path either.
create or replace function {{fn:updated}}()
returns trigger
language plpgsql security definer
as $$
declare
    change {{change}}%rowtype;
begin
    if tg_level operator(pg_catalog.=) 'ROW' then
        if pg_catalog.octet_length(pg_catalog.concat({{gather:new}})) operator(pg_catalog.<) 1000 then
            return null;
        end if;
    elsif {{none_gathered}} then
        return null;
    end if;
    {{take_gathered:change}}
    insert into {{change}} ({{companion_keys}}) values ({{companion_keys:change}});
    if {{notifies}} then
        perform pg_catalog.pg_notify('hybridsearch', {{name}});
    end if;
    return null;
end
$$;
comment on function {{fn:updated}}() is 'Notes the keys of the rows of which a statement updated an indexed field';

do $do$
declare
    source constant regclass := $name${{table}}$name$;
begin
    if (select relkind = 'p' from pg_catalog.pg_class where oid = source) then
        -- A statement's triggers fire for the table that it names; those of a row, for every partition, now and later.
        create or replace trigger {{trigger:changed_row}}
            after insert or delete on {{table}}
            for each row execute function {{fn:changed_row}}();
        alter table {{table}} enable always trigger {{trigger:changed_row}};
        create or replace trigger {{trigger:updated}}
            after update on {{table}}
            for each row
            when ({{differs}})
            execute function {{fn:changed_row}}();
        alter table {{table}} enable always trigger {{trigger:updated}};
    else
        create or replace trigger {{trigger:inserted}}
            after insert on {{table}}
            referencing new table as new_rows
            for each statement execute function {{fn:inserted}}();
        create or replace trigger {{trigger:deleted}}
            after delete on {{table}}
            referencing old table as old_rows
            for each statement execute function {{fn:changed}}();
        create or replace trigger {{trigger:updated}}
            after update on {{table}}
            for each row
            when ({{differs}})
            execute function {{fn:updated}}();
        create or replace trigger {{trigger:updated_all}}
            after update on {{table}}
            for each statement execute function {{fn:updated}}();
        -- Where session_replication_role is replica those stay silent; logical replication fires triggers of rows alone.
        create or replace trigger {{trigger:changed_row}}
            after insert or delete on {{table}}
            for each row execute function {{fn:changed_row}}();
        alter table {{table}} enable replica trigger {{trigger:changed_row}};
        create or replace trigger {{trigger:updated_row}}
            after update on {{table}}
            for each row
            when ({{differs}})
            execute function {{fn:changed_row}}();
        alter table {{table}} enable replica trigger {{trigger:updated_row}};
    end if;
    create or replace trigger {{trigger:moved}}
        after update on {{table}}
        for each row
        when (({{keys:old}}) is distinct from ({{keys:new}}))
        execute function {{fn:changed_row}}();
    alter table {{table}} enable always trigger {{trigger:moved}};
    create or replace trigger {{trigger:truncated}}
        after truncate on {{table}}
        for each statement execute function {{fn:changed}}();
    alter table {{table}} enable always trigger {{trigger:truncated}};
end
$do$;

-- How the columns of the postings are stored, which no Alembic revision writes: before the first data, as it holds
-- for new rows alone. Compression finds nothing in these columns, and reading a row out of line costs more than a larger
-- one. A role that does not own the tables leaves them as they are: the index is correct, and slower. Tables that the index does not have are passed over.
do $$
declare
    wanted record;
begin
    for wanted in
        select attribute.attrelid::regclass as relation, column_.name, column_.storage
        from (values (to_regclass($name${{posting}}$name$), 'codes', 'm', 'main'),
                     (to_regclass($name${{posting}}$name$), 'weights', 'e', 'external'),
                     (to_regclass($name${{pending}}$name$), 'terms', 'e', 'external'),
                     (to_regclass($name${{pending}}$name$), 'frequencies', 'e', 'external'),
                     (to_regclass($name${{weight}}$name$), 'codes', 'm', 'main'),
                     (to_regclass($name${{weight}}$name$), 'weights', 'e', 'external')) as column_(relation, name, code, storage)
        join pg_attribute as attribute on attribute.attrelid = column_.relation and attribute.attname = column_.name
        join pg_class as class on class.oid = column_.relation
        where attribute.attstorage <> column_.code and pg_has_role(class.relowner, 'USAGE')
    loop
        execute format('alter table %s alter %I set storage %s', wanted.relation, wanted.name, wanted.storage);
    end loop;
end
$$;

-- The first stage of the way from a changed row to the index: its words, and its place among those that wait for vectors.
-- One call is one step of a worker: its statements, sent one by one, cost more than what they do. Under READ COMMITTED each
-- still sees what was committed before it began. docs/freshness.md has the reasons.
--
-- Their plans are kept for as long as the session: to make one takes longer than to run it. It may be made when a table is
-- empty, and serve when it holds a million rows: so each key is looked up by itself (`offset 0`), and nothing else is left to
-- the planner.

-- Take the oldest keys off {{change}}, up to `most`, and index the words of their rows. One at a time does so, under the
-- advisory lock `key`: with `wait` the other's transaction is waited for. Return nothing where there is nothing to do, or the
-- other does it; else a row with how many were read, how many of them were removed, and whether the table was truncated.
-- Where the work fails at what rows hold, return the keys taken, each with the time since when it waits: nothing else is done.
create or replace function {{fn:follow}}(key int8, recipe text, most int4, wait bool)
returns table (read int4, removed int4, truncated bool, since timestamptz, {{key_definitions}})
language plpgsql
set search_path from current
set jit = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    {{key_variables:noted}}
    times timestamptz[]; whole int8[]; cut int8; done int4;
begin
    if wait then
        perform pg_advisory_xact_lock(key);
    elsif not pg_try_advisory_xact_lock(key) then
        return;
    end if;
    with oldest as materialized (
        select z.*, least(z.size, most - z.upto + z.size)::int4 as part
        from (select y.*, cardinality({{first_key:y}}) as size, sum(cardinality({{first_key:y}})) over (order by y.id) as upto
              from (select * from {{change}} order by id limit most) as y) as z
        where z.upto - z.size < most
    ),
    taken as (
        select distinct on (w.written) w.*, min(w.queued_at) over (partition by w.written) as since
        from (select o.id, o.queued_at, k.*, row({{companion_keys:k}})::text as written
              from oldest as o
              cross join lateral unnest({{each_key:o.?[:o.part]}}) with ordinality as k({{companion_keys}}, place)) as w
        order by w.written, w.id desc, w.place desc
    )
    select bool_or({{first_key:t}} is null),
           array_agg(t.since) filter (where {{first_key:t}} is not null),
           {{each_key:array_agg(t.?) filter (where t.? is not null)}},
           array(select o.id from oldest as o where o.part = o.size),
           (select o.id from oldest as o where o.part < o.size), (select o.part from oldest as o where o.part < o.size)
    into truncated, times, {{key_names:noted}}, whole, cut, done
    from (select * from taken order by id, place) as t;
    if truncated is null then
        return;
    end if;
    delete from {{change}} as c where c.id = any(whole);
    if cut is not null then     -- the last, where it holds more than are taken
        update {{change}} as c set ({{companion_keys}}) = row({{each_key:c.?[done + 1:]}}) where c.id = cut;
    end if;
    begin
        select f.read, f.removed into read, removed from {{fn:follow_keys}}(recipe, times, null, {{key_names:noted}}) as f;
        return next;
    exception
        -- What may be the fault of a row: as hybridsearch.isolation has it, which then finds the row.
        when cardinality_violation or data_exception or program_limit_exceeded or integrity_constraint_violation
             or external_routine_exception or external_routine_invocation_exception or plpgsql_error or internal_error then
            return query select null::int4, null::int4, truncated, k.* from unnest(times, {{key_names:noted}}) as k;
    end;
end
$$;
comment on function {{fn:follow}}(int8, text, int4, bool) is 'Index the words of the rows that have waited longest';

-- Index the words of rows that changed. `since` says when each of them was noted; `errors`, where it is given, which of them
-- cannot be read, and why: of those nothing stays but the error, in {{queue}}. A row is compared by the hash of its fields and
-- of `recipe`, which says how rows are indexed.
create or replace function {{fn:follow_keys}}(
    recipe text, since timestamptz[], errors text[], {{key_arguments:noted}}, out read int4, out removed int4
)
language plpgsql
set search_path from current
set jit = off
as $$
#variable_conflict use_column
declare
    {{key_variables:seen}}
    kinds text[]; times timestamptz[]; said text[]; hashes bytea[]; versions text[]; stale int4[]; kept int4[]; fresh int4[];
    places tid[];
begin
    with looked as (
        select k.*, m.hash, coalesce(m.version, d.id::text, row({{companion_keys:k}})::text) as same, m.version, d.id as number,
               case when m.hash is null then 'gone'
                    when d.hash is distinct from m.hash then 'changed'
                    when d.encoded_at is null or c.there is null then 'kept'
               end as kind
        from unnest(since, errors, {{key_names:noted}}) with ordinality as k(since, error, {{companion_keys}}, place)
        left join lateral (
            select {{hash:m}} as hash,
                   -- What tells one version of a row from every other, past and to come.
                   concat_ws(' ', m.tableoid, m.xmin, m.ctid) as version
            from {{table}} as m
            where {{same_row:m,k}} and k.error is null      -- a row that cannot be read is not
            offset 0
        ) as m on true
        left join lateral (select d.id, d.hash, d.encoded_at from {{document}} as d where {{same_keys:d,k}} offset 0) as d on true
        -- A row that was deleted has lost its chunks at once, also where it is back with the same content.
        left join lateral (select true as there from {{chunk}} as c where {{same_keys:c,k}} limit 1) as c on true
    ),
    -- Keys may be equal by their type (citext) and not the same: each row, and each document without one, comes once, under
    -- the key that was noted last.
    seen as (
        select distinct on (l.same) * from looked as l order by l.same, l.place desc
    )
    select count(*), count(s.number) filter (where s.kind = 'gone'),
           array_agg(s.number) filter (where s.kind in ('changed', 'gone') and s.number is not null),
           array_agg(s.number) filter (where s.kind = 'kept'),
           array_agg(s.kind), array_agg(s.since), array_agg(s.error), array_agg(s.hash), array_agg(s.version),
           {{companion_key_arrays:s}}
    into read, removed, stale, kept, kinds, times, said, hashes, versions, {{key_names:seen}}
    from seen as s;
    -- Documents, then chunks, then places in the queue, each in one order with whoever writes vectors: neither waits for the
    -- other in turn.
    if stale is not null or kept is not null then
        perform
        from (select unnest(stale || kept) as number order by number) as k
        cross join lateral (select from {{document}} as d where d.id = k.number for update) as d;
    end if;
    if stale is not null then
        perform {{fn:remove}}(stale);
    end if;
    if kept is not null then
        update {{document}} as d set encoded_at = null where d.id = any(kept) and d.encoded_at is not null;
    end if;
    if 'changed' = any(kinds) then
        with added as (
            insert into {{document}} ({{companion_keys}}, hash, length, terms)
            select {{companion_keys:k}}, k.hash, 0, '{}'
            from unnest(kinds, hashes, {{key_names:seen}}) as k(kind, hash, {{companion_keys}})
            where k.kind = 'changed'
            returning id
        )
        select array_agg(a.id) into fresh from added as a;
        perform {{fn:add}}(fresh);
        -- Rows that were written between the look at their hash and the reading of their words are looked at again: a content
        -- that goes and comes back in that time would leave the words of the one between under its own hash.
        with moved as (
            select {{companion_keys:k}}
            from unnest(kinds, versions, {{key_names:seen}}) as k(kind, version, {{companion_keys}})
            left join lateral (
                select concat_ws(' ', m.tableoid, m.xmin, m.ctid) as version from {{table}} as m where {{same_row:m,k}} offset 0
            ) as m on true
            where k.kind = 'changed' and k.version is distinct from m.version
        ),
        distrusted as (
            update {{document}} as d set hash = '' from moved as k where d.id = any(fresh) and {{same_keys:d,k}}
        )
        insert into {{change}} ({{companion_keys}})
        select {{companion_key_arrays:k}} from moved as k having count(*) > 0;
    end if;
    if 'gone' = any(kinds) then
        delete from {{chunk}}
        where id = any(array(select c.id
                             from unnest(kinds, {{key_names:seen}}) as k(kind, {{companion_keys}})
                             cross join lateral (select c.id from {{chunk}} as c where {{same_keys:c,k}} offset 0) as c
                             where k.kind = 'gone'));
    end if;
    select array_agg(q.ctid) filter (where k.kind = 'gone')
    into places
    from (select k.kind, {{companion_keys:q}}
          from unnest(kinds, {{key_names:seen}}) as k(kind, {{companion_keys}})
          cross join lateral (select {{companion_keys:q}} from {{queue}} as q where {{same_keys:q,k}} offset 0) as q
          where k.kind is not null
          order by {{companion_keys:q}}) as k
    cross join lateral (select q.ctid from {{queue}} as q where {{same_keys:q,k}} for update) as q;
    delete from {{queue}} where ctid = any(places);
    if errors is not null then
        insert into {{queue}} ({{companion_keys}}, queued_at, failed_at, error)
        select {{companion_keys:k}}, k.since, clock_timestamp(), k.error
        from unnest(times, said, {{key_names:seen}}) as k(since, error, {{companion_keys}})
        where k.error is not null
        on conflict do nothing;
    end if;
    if 'changed' = any(kinds) then
        -- One that waits, or was set aside, has a fresh start.
        insert into {{queue}} as q ({{companion_keys}}, queued_at)
        select {{companion_keys:k}}, k.since
        from unnest(kinds, times, {{key_names:seen}}) as k(kind, since, {{companion_keys}})
        where k.kind = 'changed'
        on conflict ({{companion_keys}}) do update
        set {{each_key:? = excluded.?}}, next_at = clock_timestamp(), attempts = 0, claimed_by = null, error = null,
            failed_at = null,
            -- A document that is changed faster than it is encoded has waited since the first change.
            queued_at = least(case when q.failed_at is null then q.queued_at end, excluded.queued_at);
    end if;
    if kept is not null then
        insert into {{queue}} ({{companion_keys}}, queued_at)
        select {{companion_keys:k}}, k.since
        from unnest(kinds, times, {{key_names:seen}}) as k(kind, since, {{companion_keys}})
        where k.kind = 'kept'
        on conflict ({{companion_keys}}) do nothing;
    end if;
    if (fresh is not null or kept is not null) and {{notifies}} then
        perform pg_notify('hybridsearch', {{name}});
    end if;
end
$$;
comment on function {{fn:follow_keys}}(text, timestamptz[], text[], {{key_arguments:noted}}) is
    'Index the words of rows that changed, and let them wait for their vectors';

-- Retention per tenant: partitions end with the longest retention, and what ends before that is deleted from them.

create table integration.sweep (
    relation text not null check (relation in ('event', 'event_dedupe', 'attempt')),
    day date not null,
    others_due boolean not null,
    exceptions text[] not null,
    position bigint not null default 0 check (position >= 0),
    kept boolean not null default false,
    swept_at timestamptz,
    primary key (relation, day),
    check (others_due or exceptions <> '{}')
);
comment on table integration.sweep is
    'Days of which some tenants'' rows have outlived their retention, and how far these rows are deleted.';
comment on column integration.sweep.others_due is 'Whose rows are due: all but those of the exceptions, or theirs alone.';
comment on column integration.sweep.position is
    'How far the day is swept: a block of its partition, or for dedupe keys, microseconds since midnight.';
comment on column integration.sweep.kept is 'Some rows that are due are still needed: the day is swept again a day later.';
comment on column integration.sweep.swept_at is 'When its end was reached; null while it is not.';
alter table integration.sweep enable row level security;
alter table integration.sweep force row level security;

-- Days that have rows to delete, once: an unchanged set of tenants is not swept twice. Those beyond the longest
-- retention are left to integration.maintain, which drops the whole of them.
create function integration.plan_sweeps(relation text, days int, tenant_days jsonb) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    with bounds as (
        select (now() at time zone 'UTC')::date as today,
               greatest(plan_sweeps.days, (select max(t.value::int) from jsonb_each_text(tenant_days) t)) as longest
    ),
    days as (
        select p.day, p.day < b.today - plan_sweeps.days as others_due, b.today
        from bounds b, integration.partitions(case plan_sweeps.relation when 'attempt' then 'attempt' else 'event' end) p
        where p.day >= b.today - b.longest
    ),
    due as (
        select d.day, d.others_due, array(
            select t.key from jsonb_each_text(tenant_days) t
            where (d.day < d.today - t.value::int) <> d.others_due order by t.key
        ) as exceptions
        from days d
    ),
    forgotten as (
        delete from integration.sweep s
        where s.relation = plan_sweeps.relation
          and not exists (select from due d where d.day = s.day and (d.others_due or d.exceptions <> '{}'))
    )
    insert into integration.sweep as s (relation, day, others_due, exceptions)
    select plan_sweeps.relation, d.day, d.others_due, d.exceptions from due d where d.others_due or d.exceptions <> '{}'
    on conflict (relation, day) do update
        set others_due = excluded.others_due, exceptions = excluded.exceptions, position = 0, kept = false, swept_at = null
        where (s.others_due, s.exceptions) is distinct from (excluded.others_due, excluded.exceptions)
$$;

-- One batch of one day, and how far it went, in one transaction: a kill repeats or loses nothing.
create function integration.sweep(relation text, days int, tenant_days jsonb, blocks int, keys int)
returns table (swept_day date, deleted bigint, finished boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
-- Unfinished jobs have no index by event: read them once for a batch, never once for an event, whatever is estimated.
set enable_nestloop = off set enable_hashjoin = on set enable_seqscan = on as $$
declare
    chosen record;
    low timestamptz;
    high timestamptz;
    ahead bigint;
    first tid;
    beyond tid;
    since timestamptz;
    until timestamptz;
    dispatched pg_snapshot;
    remaining boolean := false;
begin
    perform set_config('lock_timeout', '2s', true);
    if not pg_try_advisory_xact_lock(7308613720) then
        return; -- another dispatcher is at work
    end if;
    perform integration.plan_sweeps(relation, days, tenant_days);
    select s.*, s.swept_at is not null as again into chosen from integration.sweep s
    where s.relation = sweep.relation
      and (s.swept_at is null or (s.kept and s.swept_at < now() - interval '1 day'))
    order by s.day limit 1;
    if not found then
        return;
    end if;
    if chosen.again then
        chosen.position := 0;
        chosen.kept := false;
    end if;
    low := chosen.day::timestamp at time zone 'UTC';
    high := (chosen.day + 1)::timestamp at time zone 'UTC';
    deleted := 0;
    if relation = 'event_dedupe' then
        since := low + chosen.position * interval '1 microsecond';
        select max(k.at) into until from (
            select d.at from integration.event_dedupe d where d.at >= since and d.at < high order by d.at limit keys
        ) k;
        finished := until is null;
        delete from integration.event_dedupe d
        where d.at >= since and d.at <= until and (d.tenant_id = any (chosen.exceptions)) <> chosen.others_due;
        get diagnostics deleted = row_count;
        ahead := extract(epoch from until - low) * 1000000 + 1;
    else
        -- Through the parent: a partition itself shows nobody anything.
        ahead := chosen.position + blocks;
        first := format('(%s,0)', chosen.position)::tid;
        beyond := format('(%s,0)', ahead)::tid;
        -- Another dispatcher may just have dropped the partition.
        finished := ahead >= coalesce(pg_relation_size(
            to_regclass(format('integration.%I', relation || to_char(chosen.day, '_YYYYMMDD')))), 0)
            / current_setting('block_size')::int;
    end if;
    if relation = 'attempt' then
        delete from integration.attempt a
        where a.at >= low and a.at < high and a.ctid >= first and a.ctid < beyond
          and (a.tenant_id = any (chosen.exceptions)) <> chosen.others_due;
        get diagnostics deleted = row_count;
    elsif relation = 'event' then
        select c.lower into dispatched from integration.dispatch_cursor c;
        delete from integration.event e
        where e.at >= low and e.at < high and e.ctid >= first and e.ctid < beyond
          and (e.tenant_id = any (chosen.exceptions)) <> chosen.others_due
          and (e.xid < pg_snapshot_xmin(dispatched) or pg_visible_in_snapshot(e.xid, dispatched))
          and not exists (select from integration.dead_letter d where d.event_id = e.id)
          and not exists (select from integration.job j where j.event_id = e.id and j.event_at >= low and j.event_at < high);
        get diagnostics deleted = row_count;
        remaining := exists (
            select from integration.event e
            where e.at >= low and e.at < high and e.ctid >= first and e.ctid < beyond
              and (e.tenant_id = any (chosen.exceptions)) <> chosen.others_due
        );
    end if;
    update integration.sweep s
    set position = case when finished then 0 else ahead end, kept = chosen.kept or remaining,
        swept_at = case when finished then now() end
    where s.relation = sweep.relation and s.day = chosen.day;
    swept_day := chosen.day;
    return next;
end $$;
comment on function integration.sweep is
    'Delete a batch of what outlived its tenant''s retention in partitions that others still need; no row: nothing is left.';

do $$
begin
    -- The functions run as the schema's owner, on whom forced row-level security falls as on anybody else.
    execute format('create policy owner on integration.sweep to %I using (true)', current_user);
end $$;
revoke all on function integration.plan_sweeps, integration.sweep from public;
grant execute on function integration.sweep to integration_dispatcher;

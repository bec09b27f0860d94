-- The first schema: outbox, routing, lanes, jobs, attempts, dead letters.
-- Least-privilege roles and forced row-level security hold from here on.

-- Roles ---------------------------------------------------------------------------------------------------------------
-- Group roles without login, shared by every database of the server; programs log in as members of one of them.
do $$
declare
    name text;
begin
    foreach name in array array[
        'integration_emitter',     -- owns emit_event; nobody logs in as it
        'integration_producer',    -- services: may emit, sees nothing
        'integration_dispatcher',  -- events of all tenants in, jobs out
        'integration_worker',      -- every pool's role is a member; row-level security narrows it to the pool
        'integration_operator',    -- publishes connections, routes, pools
        'integration_reader'       -- people and dashboards: reads, changes nothing
    ] loop
        if not exists (select from pg_roles where rolname = name) then
            begin
                execute format('create role %I nologin', name);
            exception when duplicate_object or unique_violation then
                null; -- another database of this server is being migrated at the same moment
            end;
        end if;
    end loop;
end $$;

grant usage on schema integration to
    integration_emitter, integration_producer, integration_dispatcher, integration_worker, integration_operator,
    integration_reader;

-- Events: the outbox and the source of every replay ------------------------------------------------------------------
create table integration.event_type (
    type text primary key,
    version int not null check (version >= 1),
    required_keys text[] not null
);
comment on table integration.event_type is 'Canonical event types, loaded from the contracts by the migration program.';

create sequence integration.event_id;
create table integration.event (
    id bigint not null default nextval('integration.event_id'),
    at timestamptz not null default clock_timestamp(),
    xid xid8 not null default pg_current_xact_id(),
    nonce int not null default (random() * 4294967295 - 2147483648)::int,
    tenant_id text not null,
    type text not null,
    subject text not null,
    data jsonb not null,
    primary key (id, at)
) partition by range (at);
create index event_xid on integration.event (xid);
create table integration.event_default partition of integration.event default;
comment on table integration.event is 'Immutable facts, written in the producer''s own transaction; one partition a day.';
comment on column integration.event.id is
    'Taken inside the producer''s transaction: per subject in commit order wherever producers lock what they change.';
comment on column integration.event.xid is
    'The emitting transaction. Dispatch reads the events whose transaction became visible between two snapshots.';
comment on column integration.event.nonce is 'Random part of the public id, so that a restored database repeats none.';

create table integration.event_dedupe (
    tenant_id text not null,
    dedupe_key text not null,
    event_id text not null,
    fingerprint bigint not null,
    at timestamptz not null default now(),
    primary key (tenant_id, dedupe_key)
);
create index event_dedupe_at on integration.event_dedupe (at);
comment on table integration.event_dedupe is 'Keys under which producers have emitted, kept as long as events are.';

create table integration.dispatcher_sleep (
    only_row boolean primary key default true check (only_row),
    asleep boolean not null
);
insert into integration.dispatcher_sleep (asleep) values (true);
comment on table integration.dispatcher_sleep is
    'emit_event notifies only while this says asleep: the commit of a notifying transaction takes a database-wide lock.';

create table integration.dispatch_cursor (
    only_row boolean primary key default true check (only_row),
    lower pg_snapshot not null,
    upper pg_snapshot,
    last_event_id bigint not null default 0,
    revision bigint not null default 0,
    system_identifier bigint not null
);
insert into integration.dispatch_cursor (lower, system_identifier)
    select pg_current_snapshot(), system_identifier from pg_control_system();
comment on table integration.dispatch_cursor is
    'What is dispatched: every event visible in `lower`; of those between `lower` and `upper`, the ones up to last_event_id.';
comment on column integration.dispatch_cursor.revision is
    'Compare-and-swap between dispatchers: of two that read the same events, one moves the cursor, the other starts anew.';
comment on column integration.dispatch_cursor.system_identifier is
    'The cluster whose transaction numbers these are; another one means a restored dump.';

-- Routing -------------------------------------------------------------------------------------------------------------
create table integration.routing (
    only_row boolean primary key default true check (only_row),
    epoch bigint not null default 0
);
insert into integration.routing default values;
comment on table integration.routing is 'Counts publications: who holds an older epoch reads connections and routes again.';

create table integration.pool (
    id int generated always as identity primary key,
    name text not null unique,
    role name not null unique
);
comment on table integration.pool is 'The unit of isolation: the workers of one Deployment and their database role.';

create table integration.tenant_role (
    role name not null,
    tenant_id text not null,
    primary key (role, tenant_id)
);
comment on table integration.tenant_role is 'Whose events a pool''s role may read.';

create table integration.connection (
    id int generated always as identity primary key,
    uid uuid not null unique,
    tenant_id text not null,
    namespace text not null,
    name text not null,
    provider text not null,
    generation bigint not null default 1,
    spec jsonb not null,
    unique (namespace, name)
);
comment on table integration.connection is 'One tenant''s link to one partner account. The spec holds references to Secrets, never values.';

create table integration.route (
    id int generated always as identity primary key,
    connection_id int not null references integration.connection on delete cascade,
    tenant_id text not null,
    name text not null,
    events text[] not null,
    filter text,
    ordered boolean not null,
    active boolean not null default true,
    unique (connection_id, name)
);
comment on column integration.route.active is 'A route that left the spec stays as a name for the jobs and attempts it made.';

-- Workers and lanes ---------------------------------------------------------------------------------------------------
create table integration.worker_session (
    id bigint generated always as identity primary key,
    pool_id int not null references integration.pool,
    name text not null,
    lease_until timestamptz not null,
    unique (pool_id, name)
) with (fillfactor = 50);
comment on table integration.worker_session is
    'The fence: whatever a worker writes locks its own row here first; a lost lease is a deleted row.';

create table integration.lane (
    connection_id int primary key references integration.connection on delete cascade,
    tenant_id text not null,
    pool_id int not null references integration.pool,
    owner bigint references integration.worker_session on delete set null,
    revision bigint not null default 0,
    state text not null default 'Open' check (state in ('Open', 'Quarantined')),
    suspended boolean not null default false,
    consecutive_failures int not null default 0 check (consecutive_failures >= 0),
    quarantined_at timestamptz,
    quarantine_reason text,
    probes int not null default 0 check (probes >= 0),
    probe_at timestamptz,
    paused_until timestamptz,
    tokens float8,
    tokens_at timestamptz,
    check ((state = 'Quarantined') = (quarantined_at is not null)),
    check ((state = 'Quarantined') = (quarantine_reason is not null)),
    check (state = 'Quarantined' or probe_at is null)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index lane_pool on integration.lane (pool_id);
create index lane_owner on integration.lane (owner);
comment on table integration.lane is
    'The runtime row of a connection. One worker session owns it at a time, so throttle and order are exact in its memory.';
comment on column integration.lane.owner is 'A worker_session; a lane changes hands only by release or by the session''s death.';
comment on column integration.lane.revision is 'Compare-and-swap between the owner and whoever publishes or releases.';
comment on column integration.lane.probe_at is 'When one job tries whether the partner is back; null: only a person or a new spec releases.';
comment on column integration.lane.tokens is 'Left in the bucket when the last owner gave the lane back; null while an owner has them.';
comment on column integration.lane.paused_until is 'The partner asked for silence until then.';

-- Jobs: unfinished work only ------------------------------------------------------------------------------------------
create sequence integration.job_id;
create table integration.job (
    pool_id int not null,
    id bigint not null,
    connection_id int not null,
    route_id int not null,
    event_id bigint not null,
    event_at timestamptz not null,
    subject bigint,
    state smallint not null default 0 check (state in (0, 1, 2)),
    attempts smallint not null default 0 check (attempts >= 0),
    run_at timestamptz,
    primary key (pool_id, id),
    check ((state = 1) = (run_at is not null))
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index job_ready on integration.job (connection_id, id) where state = 0;
create index job_deferred on integration.job (connection_id, run_at, id) where state = 1;
create index job_held on integration.job (connection_id, subject, id) where state = 2;
comment on table integration.job is 'One event for one connection, until it is delivered or dead-lettered. (connection, event, route) is its identity.';
comment on column integration.job.subject is 'Hash of the event''s subject where the route keeps order; null where it does not.';
comment on column integration.job.state is '0 ready; 1 deferred until run_at; 2 held behind an earlier job of its subject.';

create table integration.attempt (
    at timestamptz not null,
    event_id bigint not null,
    job_id bigint not null,
    tenant_id text not null,
    connection_id int not null,
    route_id int not null,
    number smallint not null,
    outcome text not null,
    status_code smallint,
    duration_ms real not null,
    worker bigint not null,
    detail text
) partition by range (at);
create index attempt_event on integration.attempt (event_id);
create table integration.attempt_default partition of integration.attempt default;
comment on table integration.attempt is 'Every try of every job; append-only, one partition a day.';

create table integration.dead_letter (
    job_id bigint primary key,
    tenant_id text not null,
    connection_id int not null,
    route_id int not null,
    event_id bigint not null,
    event_at timestamptz not null,
    subject bigint,
    attempts smallint not null,
    reason text not null,
    detail text not null default '',
    dead_at timestamptz not null default now()
);
create index dead_letter_connection on integration.dead_letter (connection_id, job_id);
create index dead_letter_event on integration.dead_letter (event_id);
comment on table integration.dead_letter is 'Jobs that will not be tried again by themselves, with the reason.';

-- Row-level security --------------------------------------------------------------------------------------------------
do $$
declare
    name text;
begin
    foreach name in array array[
        'event', 'event_default', 'event_dedupe', 'pool', 'tenant_role', 'connection', 'route', 'worker_session',
        'lane', 'job', 'attempt', 'attempt_default', 'dead_letter'
    ] loop
        execute format('alter table integration.%I enable row level security', name);
        execute format('alter table integration.%I force row level security', name);
    end loop;
    foreach name in array array[
        'event', 'pool', 'tenant_role', 'connection', 'route', 'worker_session', 'lane', 'job', 'attempt', 'dead_letter'
    ] loop
        execute format('create policy reader on integration.%I for select to integration_reader using (true)', name);
        execute format('grant select on integration.%I to integration_reader', name);
    end loop;
end $$;
grant select on integration.event_type, integration.routing, integration.dispatch_cursor to integration_reader;

-- the emitter
create policy emitter on integration.event for insert to integration_emitter with check (true);
create policy emitter_reads on integration.event_dedupe for select to integration_emitter using (true);
create policy emitter on integration.event_dedupe for insert to integration_emitter with check (true);
grant insert on integration.event to integration_emitter;
grant insert, select on integration.event_dedupe to integration_emitter;
grant usage on sequence integration.event_id to integration_emitter;
grant select on integration.event_type, integration.dispatcher_sleep to integration_emitter;

-- the dispatcher
create policy dispatcher on integration.event for select to integration_dispatcher using (true);
create policy dispatcher on integration.connection for select to integration_dispatcher using (true);
create policy dispatcher on integration.route for select to integration_dispatcher using (true);
create policy dispatcher on integration.lane for select to integration_dispatcher using (true);
create policy dispatcher on integration.pool for select to integration_dispatcher using (true);
create policy dispatcher_reads on integration.job for select to integration_dispatcher using (true);
create policy dispatcher on integration.job for insert to integration_dispatcher with check (true);
create policy dispatcher on integration.dead_letter for insert to integration_dispatcher with check (true);
create policy dispatcher_reads on integration.dead_letter for select to integration_dispatcher using (true);
grant select on integration.event, integration.connection, integration.route, integration.lane, integration.pool,
    integration.routing to integration_dispatcher;
grant select, insert on integration.job, integration.dead_letter to integration_dispatcher;
grant select, update on integration.dispatch_cursor, integration.dispatcher_sleep to integration_dispatcher;
grant usage on sequence integration.job_id to integration_dispatcher;

-- workers: the rows of their pool
create policy worker on integration.pool for select to integration_worker using (role = current_user);
create policy worker on integration.tenant_role for select to integration_worker using (role = current_user);
create policy worker on integration.event for select to integration_worker
    using (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
create policy worker on integration.lane to integration_worker
    using (pool_id = any (array(select p.id from integration.pool p where p.role = current_user)));
create policy worker on integration.connection for select to integration_worker
    using (id in (select l.connection_id from integration.lane l));
create policy worker on integration.route for select to integration_worker
    using (connection_id in (select l.connection_id from integration.lane l));
create policy worker on integration.worker_session to integration_worker
    using (pool_id = any (array(select p.id from integration.pool p where p.role = current_user)));
-- `is true` keeps the planner from taking this condition for an access path: a plan made on the empty table would read
-- all jobs of the pool instead of those the statement names.
create policy worker on integration.job to integration_worker
    using ((pool_id = any (array(select p.id from integration.pool p where p.role = current_user))) is true);
create policy worker on integration.attempt for insert to integration_worker
    with check (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
create policy worker on integration.dead_letter for insert to integration_worker
    with check (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
grant select on integration.pool, integration.tenant_role, integration.event, integration.connection, integration.route,
    integration.routing, integration.dispatch_cursor to integration_worker;
grant select, insert, delete, update (lease_until) on integration.worker_session to integration_worker;
grant select, update (owner, revision, state, consecutive_failures, quarantined_at, quarantine_reason, probes, probe_at,
    paused_until, tokens, tokens_at) on integration.lane to integration_worker;
grant select, delete, update (state, attempts, run_at) on integration.job to integration_worker;
grant insert on integration.attempt, integration.dead_letter to integration_worker;

-- the operator
create policy operator on integration.pool to integration_operator using (true);
create policy operator on integration.tenant_role to integration_operator using (true);
create policy operator on integration.connection to integration_operator using (true);
create policy operator on integration.route to integration_operator using (true);
create policy operator on integration.lane to integration_operator using (true);
create policy operator on integration.job for select to integration_operator using (true);
create policy operator_deletes on integration.job for delete to integration_operator using (true);
grant select, insert, update, delete on integration.pool, integration.tenant_role, integration.connection,
    integration.route, integration.lane to integration_operator;
grant select, delete on integration.job to integration_operator;
grant select, update on integration.routing to integration_operator;

-- Emitting ------------------------------------------------------------------------------------------------------------
create function integration.check_event(tenant text, type text, subject text, data jsonb, dedupe_key text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    required text[];
begin
    if tenant is null or tenant !~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$' then
        raise exception 'invalid event: tenant % is not a tenant id', coalesce(quote_literal(left(tenant, 80)), 'null')
            using errcode = '22023', hint = 'Give the tenant''s id: lower-case letters, digits and hyphens, at most 63.';
    end if;
    if subject is null or length(subject) not between 1 and 512 then
        raise exception 'invalid event: the subject has % characters', coalesce(length(subject)::text, 'no')
            using errcode = '22023', hint = 'Give the id of what the event is about, 1 to 512 characters.';
    end if;
    if length(dedupe_key) not between 1 and 200 then
        raise exception 'invalid event: the dedupe key has % characters', length(dedupe_key)
            using errcode = '22023', hint = 'Give 1 to 200 characters, or null for none.';
    end if;
    if data is null or jsonb_typeof(data) <> 'object' then
        raise exception 'invalid event: data is %, not a JSON object', coalesce(jsonb_typeof(data), 'null')
            using errcode = '22023', hint = 'Give the event''s data as a JSON object.';
    end if;
    if pg_column_size(data) > 65536 and octet_length(data::text) > 262144 then
        raise exception 'invalid event: data has % bytes, the limit is 262144', octet_length(data::text)
            using errcode = '22023', hint = 'Put large content elsewhere and reference it from the event.';
    end if;
    select t.required_keys into required from integration.event_type t where t.type = check_event.type;
    if not found then
        if type is null or length(type) > 128 or type !~ '^ext(\.[a-z][a-z0-9_-]*){2,}$' then
            raise exception 'invalid event: type % is not known', coalesce(quote_literal(left(type, 200)), 'null')
                using errcode = '22023',
                      hint = 'Use a canonical type (see integration.event_type) or one of your own: ext.<vendor>.<name>.';
        end if;
    elsif not data ?& required then
        raise exception 'invalid event: data of % lacks %', type,
            (select string_agg(quote_ident(k), ', ') from unnest(required) k where not data ? k)
            using errcode = '22023', hint = 'See the schema of this event type in the contracts.';
    end if;
end $$;

create function integration.emit_event(tenant text, type text, subject text, data jsonb, dedupe_key text default null)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    new_id bigint;
    new_nonce int := (random() * 4294967295 - 2147483648)::int;
    public_id text;
    new_fingerprint bigint;
    known record;
begin
    perform integration.check_event(tenant, type, subject, data, dedupe_key);
    new_id := nextval('integration.event_id');
    public_id := 'evt_' || to_hex(new_id) || '_' || lpad(to_hex(new_nonce), 8, '0');
    if dedupe_key is not null then
        new_fingerprint := hashtextextended(jsonb_build_array(type, subject, data)::text, 0);
        insert into integration.event_dedupe (tenant_id, dedupe_key, event_id, fingerprint)
            values (tenant, emit_event.dedupe_key, public_id, new_fingerprint) on conflict do nothing;
        if not found then
            select d.event_id, d.fingerprint into strict known from integration.event_dedupe d
                where d.tenant_id = tenant and d.dedupe_key = emit_event.dedupe_key;
            if known.fingerprint <> new_fingerprint then
                raise exception 'invalid event: dedupe key % was used for another event, %', quote_literal(dedupe_key), known.event_id
                    using errcode = '23505', hint = 'One key names one event; use another key for other content.';
            end if;
            return known.event_id;
        end if;
    end if;
    insert into integration.event (id, nonce, tenant_id, type, subject, data)
        values (new_id, new_nonce, tenant, type, subject, data);
    if (select s.asleep from integration.dispatcher_sleep s) then
        perform pg_notify('integration_events', '');
    end if;
    return public_id;
end $$;
comment on function integration.emit_event is
    'Emit one event in the caller''s transaction and return its public id; with a dedupe key, at most one event per key.';

create function integration.emit_events(tenant text, types text[], subjects text[], data jsonb[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    emitted bigint;
    suspect record;
begin
    -- All at once, what is plainly right; one by one, with its own error, what may be wrong.
    for suspect in
        select e.* from unnest(types, subjects, emit_events.data) as e (type, subject, data)
        left join integration.event_type t on t.type = e.type
        where not coalesce(e.data ?& t.required_keys and jsonb_typeof(e.data) = 'object'
            and pg_column_size(e.data) <= 65536 and length(e.subject) between 1 and 512, false)
    loop
        perform integration.check_event(tenant, suspect.type, suspect.subject, suspect.data, null);
    end loop;
    perform integration.check_event(tenant, types[1], subjects[1], emit_events.data[1], null) where cardinality(types) > 0;
    insert into integration.event (tenant_id, type, subject, data)
        select tenant, e.type, e.subject, e.data
        from unnest(types, subjects, emit_events.data) as e (type, subject, data);
    get diagnostics emitted = row_count;
    if emitted > 0 and (select s.asleep from integration.dispatcher_sleep s) then
        perform pg_notify('integration_events', '');
    end if;
    return emitted;
end $$;
comment on function integration.emit_events is
    'Emit many events of one tenant, in the order given, in the caller''s transaction; all or none.';

do $$
begin
    execute format('grant integration_emitter to %I', current_user);
exception when invalid_grant_operation then
    null; -- a superuser that is already everything
end $$;
grant create on schema integration to integration_emitter;
alter function integration.emit_event owner to integration_emitter;
alter function integration.emit_events owner to integration_emitter;
revoke create on schema integration from integration_emitter;
revoke all on function integration.emit_event, integration.emit_events, integration.check_event from public;
grant execute on function integration.check_event to integration_emitter;
grant execute on function integration.emit_event, integration.emit_events to integration_producer;

-- Partitions and retention --------------------------------------------------------------------------------------------
create function integration.create_partition(parent text, day date) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    partition text := parent || to_char(day, '_YYYYMMDD');
    low timestamptz := day::timestamp at time zone 'UTC';
    high timestamptz := (day + 1)::timestamp at time zone 'UTC';
begin
    if to_regclass('integration.' || partition) is not null then
        return false;
    end if;
    execute format('create table integration.%I (like integration.%I including defaults)', partition, parent);
    -- Rows that came before their partition existed wait in the default partition.
    execute format('lock table integration.%I in access exclusive mode', parent || '_default');
    execute format(
        'with late as (delete from integration.%I where at >= $1 and at < $2 returning *) insert into integration.%I select * from late',
        parent || '_default', partition) using low, high;
    -- Nobody reads a partition but through its parent: no policy lets anyone in.
    execute format('alter table integration.%I enable row level security', partition);
    execute format('alter table integration.%I force row level security', partition);
    execute format('alter table integration.%I attach partition integration.%I for values from (%L) to (%L)',
        parent, partition, low, high);
    return true;
end $$;

create function integration.partitions(parent text) returns table (partition text, day date)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select c.relname::text, to_date(right(c.relname, 8), 'YYYYMMDD')
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ('integration.' || parent)::regclass and c.relname ~ '_[0-9]{8}$'
$$;

create function integration.maintain(
    event_days int, attempt_days int, dead_letter_days int, ahead_days int default 7
) returns table (action text, relation text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    today date := (now() at time zone 'UTC')::date;
    dispatched pg_snapshot;
    parent text;
    candidate record;
    low timestamptz;
    high timestamptz;
    needed boolean;
    removed bigint;
begin
    perform set_config('lock_timeout', '2s', true);
    foreach parent in array array['event', 'attempt'] loop
        for offset_days in -1..ahead_days loop
            if integration.create_partition(parent, today + offset_days) then
                action := 'created'; relation := parent || to_char(today + offset_days, '_YYYYMMDD');
                return next;
            end if;
        end loop;
    end loop;
    for candidate in select * from integration.partitions('attempt') p where p.day < today - attempt_days order by p.day loop
        execute format('drop table integration.%I', candidate.partition);
        action := 'dropped'; relation := candidate.partition;
        return next;
    end loop;
    delete from integration.dead_letter where dead_at < now() - make_interval(days => dead_letter_days);
    get diagnostics removed = row_count;
    if removed > 0 then
        action := 'deleted ' || removed; relation := 'dead_letter';
        return next;
    end if;
    delete from integration.event_dedupe where at < now() - make_interval(days => event_days);
    -- An event stays while anything unfinished refers to it, or while it waits for the dispatcher.
    select c.lower into dispatched from integration.dispatch_cursor c;
    for candidate in select * from integration.partitions('event') p where p.day < today - event_days order by p.day loop
        low := candidate.day::timestamp at time zone 'UTC';
        high := (candidate.day + 1)::timestamp at time zone 'UTC';
        -- Through the parent: a partition itself shows nobody anything.
        needed := exists (
                select from integration.event e
                where e.at >= low and e.at < high and e.xid >= pg_snapshot_xmin(dispatched)
                  and not pg_visible_in_snapshot(e.xid, dispatched)
            )
            or exists (select from integration.dead_letter d where d.event_at >= low and d.event_at < high)
            or exists (select from integration.job j where j.event_at >= low and j.event_at < high);
        if needed then
            action := 'kept, still needed'; relation := candidate.partition;
        else
            execute format('drop table integration.%I', candidate.partition);
            action := 'dropped'; relation := candidate.partition;
        end if;
        return next;
    end loop;
end $$;
comment on function integration.maintain is
    'Create the partitions of the coming days and drop what has outlived its retention; events that are still needed stay.';

do $$
declare
    name text;
begin
    -- maintain() runs as the schema's owner, on whom forced row-level security falls as on anybody else.
    foreach name in array array['event', 'event_dedupe', 'attempt', 'dead_letter', 'job', 'event_default', 'attempt_default'] loop
        execute format('create policy owner on integration.%I to %I using (true)', name, current_user);
    end loop;
end $$;
revoke all on function integration.maintain, integration.create_partition, integration.partitions from public;
grant execute on function integration.maintain to integration_dispatcher;

select integration.maintain(30, 30, 90);

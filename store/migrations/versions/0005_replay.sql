-- Replays: what was delivered or given up is delivered again, on somebody's request and for a reason.

-- Who may ask for it --------------------------------------------------------------------------------------------------
do $$
begin
    if not exists (select from pg_roles where rolname = 'integration_support') then
        begin
            create role integration_support nologin;
        exception when duplicate_object or unique_violation then
            null; -- another database of this server is being migrated at the same moment
        end;
    end if;
end $$;
grant usage on schema integration to integration_support;

-- Lineage: which replay made a job, and what came of it ---------------------------------------------------------------
alter table integration.job add column replay_id bigint;
alter table integration.attempt add column replay_id bigint;
alter table integration.dead_letter add column replay_id bigint;
comment on column integration.job.replay_id is 'The replay that made this job; null for what the dispatcher made.';
create index job_replay on integration.job (connection_id, replay_id) where replay_id is not null;
create index attempt_replay on integration.attempt (replay_id, outcome) where replay_id is not null;
create index dead_letter_replay on integration.dead_letter (replay_id) where replay_id is not null;

-- Whether a newer event of the same subject has gone out decides whether an old one may be sent again.
-- It costs 3 µs of CPU an event (measured), which takes some hundred to be emitted and delivered.
create index event_subject on integration.event (hashtextextended(subject, 0), id);

-- Replays -------------------------------------------------------------------------------------------------------------
create table integration.replay (
    id bigint generated always as identity primary key,
    tenant_id text not null,
    connection_id int not null references integration.connection on delete cascade,
    requested_by text not null check (length(requested_by) between 1 and 200),
    reason text not null check (length(reason) between 1 and 1000),
    requested_at timestamptz not null default now(),
    source text not null check (source in ('Events', 'Jobs', 'DeadLetters')),
    since timestamptz,
    until timestamptz not null,
    types text[] not null check (cardinality(types) between 1 and 100),
    cause text,
    event_ids bigint[] check (cardinality(event_ids) between 1 and 1000),
    route_ids int[],
    letter_ids bigint[],
    dispatched pg_snapshot not null,
    dispatching pg_snapshot,
    dispatching_to bigint not null,
    include_superseded boolean not null,
    new_message_ids boolean not null,
    expected bigint check (expected >= 0),
    state text not null default 'Running' check (state in ('Running', 'Completed', 'Cancelled', 'Failed')),
    detail text not null default '',
    cancelled_by text check (length(cancelled_by) between 1 and 200),
    revision bigint not null default 0,
    cursor bigint not null default 0,
    read_to_end boolean not null default false,
    queued bigint not null default 0 check (queued >= 0),
    superseded bigint not null default 0 check (superseded >= 0),
    unfinished bigint not null default 0 check (unfinished >= 0),
    gone bigint not null default 0 check (gone >= 0),
    filter_failed bigint not null default 0 check (filter_failed >= 0),
    moved_at timestamptz not null default now(),
    ended_at timestamptz,
    check (since < until),
    check ((state = 'Running') = (ended_at is null)),
    check ((state = 'Cancelled') = (cancelled_by is not null)),
    check (state <> 'Completed' or read_to_end),
    check ((source = 'Jobs') = (letter_ids is not null)),
    check ((letter_ids is null) = (route_ids is null)),
    check (letter_ids is null or (cardinality(letter_ids), cardinality(route_ids))
        is not distinct from (cardinality(event_ids), cardinality(event_ids))),
    check (source = 'DeadLetters' or cause is null)
);
create index replay_running on integration.replay (connection_id, id) where state = 'Running';
comment on table integration.replay is
    'A request to deliver again: what, to which connection, who asked and why, and how far it has come.';
comment on column integration.replay.state is
    'Running until all its jobs have ended; Completed; Cancelled by a person; Failed, as the detail says.';
comment on column integration.replay.dispatched is
    'With dispatching and dispatching_to the dispatch cursor at the request: only what had been dispatched is selected.';
comment on column integration.replay.until is
    'No later than the request, so that neither live events nor what dies again of its own jobs are selected.';
comment on column integration.replay.letter_ids is
    'Where jobs are named, the dead letters among them, beside events and routes; null for those that were delivered.';
comment on column integration.replay.expected is 'Jobs that a dry run at the request found; null where there was none.';
comment on column integration.replay.cursor is
    'How far it has read: an event''s id, a dead letter''s job id, or how many of the jobs that were named.';
comment on column integration.replay.revision is
    'Compare-and-swap: of two that read the same part, or of one and a cancellation, one moves on.';

create table integration.replay_edit (
    replay_id bigint primary key references integration.replay on delete cascade,
    tenant_id text not null,
    connection_id int not null,
    data jsonb not null check (jsonb_typeof(data) = 'object' and octet_length(data::text) <= 262144),
    changes jsonb not null check (jsonb_typeof(changes) = 'array' and jsonb_array_length(changes) > 0)
);
comment on table integration.replay_edit is
    'What a replay sends instead of its event''s data, and how it differs. The event itself never changes.';

create table integration.dead_letter_end (
    job_id bigint primary key,
    tenant_id text not null,
    connection_id int not null,
    route_id int not null,
    event_id bigint not null,
    event_at timestamptz not null,
    attempts smallint not null,
    cause text not null,
    detail text not null,
    dead_at timestamptz not null,
    replay_id bigint,
    ended_at timestamptz not null default now(),
    action text not null check (action in ('Resent', 'Discarded')),
    resent_by_replay bigint,
    ended_by text not null check (length(ended_by) between 1 and 200),
    reason text not null check (length(reason) between 1 and 1000),
    check ((action = 'Resent') = (resent_by_replay is not null))
);
create index dead_letter_end_event on integration.dead_letter_end (event_id);
create index dead_letter_end_replay on integration.dead_letter_end (replay_id) where replay_id is not null;
comment on table integration.dead_letter_end is 'Dead letters that a person has resent or discarded: who, when and why.';
comment on column integration.dead_letter_end.replay_id is 'The replay whose job died; null for a job of the dispatcher.';

create function integration.selects(patterns text[], type text) returns boolean
language sql immutable parallel safe as $$
    select exists (
        select from unnest(patterns) p
        where p = type or (right(p, 1) = '*' and starts_with(type, left(p, -1)))
    )
$$;
comment on function integration.selects is 'Whether one of some type patterns selects a type, as contracts.patterns says.';

-- Row-level security --------------------------------------------------------------------------------------------------
do $$
declare
    name text;
begin
    foreach name in array array['replay', 'replay_edit', 'dead_letter_end'] loop
        execute format('alter table integration.%I enable row level security', name);
        execute format('alter table integration.%I force row level security', name);
        execute format('create policy reader on integration.%I for select to integration_reader using (true)', name);
        execute format('grant select on integration.%I to integration_reader', name);
    end loop;
    foreach name in array array[
        'event', 'connection', 'route', 'lane', 'job', 'attempt', 'worker', 'dead_letter', 'replay', 'replay_edit',
        'dead_letter_end'
    ] loop
        execute format('create policy support_reads on integration.%I for select to integration_support using (true)', name);
        execute format('grant select on integration.%I to integration_support', name);
    end loop;
end $$;

-- support: asks for replays and cancels them, edits what they send, discards dead letters
create policy support on integration.replay for insert to integration_support with check (true);
create policy support_cancels on integration.replay for update to integration_support using (true);
create policy support on integration.replay_edit for insert to integration_support with check (true);
create policy support on integration.dead_letter for delete to integration_support using (true);
create policy support on integration.dead_letter_end for insert to integration_support with check (true);
grant select on integration.dispatch_cursor, integration.routing to integration_support;
grant insert on integration.replay, integration.replay_edit, integration.dead_letter_end to integration_support;
grant update (state, detail, cancelled_by, revision, ended_at) on integration.replay to integration_support;
grant delete on integration.dead_letter to integration_support;

-- the dispatcher: carries replays out
create policy dispatcher_reads on integration.replay for select to integration_dispatcher using (true);
create policy dispatcher on integration.replay for update to integration_dispatcher using (true);
create policy dispatcher_forgets on integration.replay for delete to integration_dispatcher using (true);
create policy dispatcher_deletes on integration.dead_letter for delete to integration_dispatcher using (true);
create policy dispatcher_reads on integration.dead_letter_end for select to integration_dispatcher using (true);
create policy dispatcher on integration.dead_letter_end for insert to integration_dispatcher with check (true);
create policy dispatcher_forgets on integration.dead_letter_end for delete to integration_dispatcher using (true);
grant select, delete on integration.replay to integration_dispatcher;
grant update (state, detail, revision, cursor, read_to_end, queued, superseded, unfinished, gone, filter_failed, moved_at,
    ended_at) on integration.replay to integration_dispatcher;
grant delete on integration.dead_letter to integration_dispatcher;
grant select, insert, delete on integration.dead_letter_end to integration_dispatcher;

-- workers: what to send for the replays of their lanes
create policy worker on integration.replay for select to integration_worker
    using (connection_id in (select l.connection_id from integration.lane l));
create policy worker on integration.replay_edit for select to integration_worker
    using (connection_id in (select l.connection_id from integration.lane l));
grant select (id, connection_id, new_message_ids) on integration.replay to integration_worker;
grant select (replay_id, connection_id, data) on integration.replay_edit to integration_worker;

revoke all on function integration.selects from public;
grant execute on function integration.selects to integration_reader, integration_support, integration_dispatcher;

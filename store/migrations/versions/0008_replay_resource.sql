-- Replays that people ask for with a resource. The operator, which reads no events, hands on what the resource says; the
-- dispatcher finds out what that means and makes a replay for each connection.

create table integration.replay_resource (
    uid uuid primary key,
    tenant_id text not null,
    namespace text not null,
    name text not null,
    spec jsonb not null check (jsonb_typeof(spec) = 'object'),
    asked_at timestamptz not null default now(),
    state text not null default 'Asked' check (state in ('Asked', 'Started', 'Refused', 'Cancelled')),
    detail text not null default '',
    look_at timestamptz not null default now(),
    decided_at timestamptz,
    check ((state = 'Asked') = (decided_at is null))
);
create index replay_resource_asked on integration.replay_resource (look_at) where state = 'Asked';
comment on table integration.replay_resource is
    'An IntegrationReplay as the operator handed it on, by the uid of the object: handed on again, it is the same one.';
comment on column integration.replay_resource.state is
    'Asked until the dispatcher has looked; Started with a replay for each connection; Refused; Cancelled before that.';
comment on column integration.replay_resource.look_at is
    'When the dispatcher looks at it: one that waits is looked at again later, so that it holds up no other.';
comment on column integration.replay_resource.detail is 'What it waits for, or why it was refused or cancelled.';

alter table integration.replay
    add column resource_uid uuid references integration.replay_resource,
    add column dry_run boolean not null default false,
    add column sample text[] not null default '{}',
    add check (resource_uid is not null or not dry_run),
    add check (dry_run or sample = '{}'),
    add check (cardinality(sample) <= 5);
create index replay_resource_uid on integration.replay (resource_uid) where resource_uid is not null;
comment on column integration.replay.resource_uid is 'The resource it was asked for with; null if that was a command.';
comment on column integration.replay.dry_run is 'Whether it only counts: no job is made, and queued are those that would be.';
comment on column integration.replay.sample is 'Of a dry run, public ids of the first events that would be queued.';

-- Row-level security --------------------------------------------------------------------------------------------------
alter table integration.replay_resource enable row level security;
alter table integration.replay_resource force row level security;
create policy reader on integration.replay_resource for select to integration_reader using (true);
create policy support_reads on integration.replay_resource for select to integration_support using (true);
grant select on integration.replay_resource to integration_reader, integration_support;

-- the operator: hands resources on, cancels their replays, and reads how far they are, in numbers
create policy operator_reads on integration.replay_resource for select to integration_operator using (true);
create policy operator on integration.replay_resource for insert to integration_operator with check (true);
create policy operator_cancels on integration.replay_resource for update to integration_operator using (true);
create policy operator_reads on integration.replay for select to integration_operator using (resource_uid is not null);
create policy operator_cancels on integration.replay for update to integration_operator using (resource_uid is not null);
create policy operator_counts on integration.attempt for select to integration_operator using (replay_id is not null);
create policy operator_counts on integration.dead_letter_end for select to integration_operator
    using (replay_id is not null);
grant select, insert on integration.replay_resource to integration_operator;
grant update (state, detail, decided_at) on integration.replay_resource to integration_operator;
grant select (id, resource_uid, connection_id, state, detail, requested_at, ended_at, revision, queued, superseded,
    unfinished, gone, filter_failed, sample) on integration.replay to integration_operator;
grant update (state, detail, cancelled_by, revision, ended_at) on integration.replay to integration_operator;
grant select (replay_id, outcome) on integration.attempt to integration_operator;
grant select (replay_id) on integration.dead_letter, integration.dead_letter_end to integration_operator;

-- the dispatcher: starts what was handed on, of jobs that are named finds out where they went, and counts in dry runs
create policy dispatcher_reads on integration.replay_resource for select to integration_dispatcher using (true);
create policy dispatcher on integration.replay_resource for update to integration_dispatcher using (true);
create policy dispatcher_forgets on integration.replay_resource for delete to integration_dispatcher using (true);
create policy dispatcher_starts on integration.replay for insert to integration_dispatcher
    with check (resource_uid is not null);
create policy dispatcher_finds on integration.attempt for select to integration_dispatcher using (true);
grant select, delete on integration.replay_resource to integration_dispatcher;
grant update (state, detail, look_at, decided_at) on integration.replay_resource to integration_dispatcher;
grant insert, update (sample) on integration.replay to integration_dispatcher;
grant select (event_id, job_id, tenant_id, connection_id, route_id, outcome) on integration.attempt
    to integration_dispatcher;

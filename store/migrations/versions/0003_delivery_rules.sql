-- What the rules of delivery remember: how lanes became what they are, learned limits, dead letters that block.

-- Lanes ---------------------------------------------------------------------------------------------------------------
alter table integration.lane
    add column probe_asked_by text check (probe_asked_by in ('Person', 'Spec', 'Credential')),
    add column ramp_percent smallint check (ramp_percent in (10, 25, 50)),
    add column effective_rps float8 check (effective_rps > 0),
    add column effective_concurrency int check (effective_concurrency >= 1),
    add check (state = 'Quarantined' or probe_asked_by is null),
    add check (state = 'Open' or ramp_percent is null);
comment on column integration.lane.probe_asked_by is 'Who asked for the next probe; null: it comes by itself.';
comment on column integration.lane.ramp_percent is 'Part of its limits that a lane has which recovers from quarantine.';
comment on column integration.lane.effective_rps is
    'Requests per second that are in force, while they are fewer than the spec''s: learned from refusals, or a ramp.';
comment on column integration.lane.effective_concurrency is
    'Requests at once that are in force, while they are fewer than the spec''s: the partner is slow, or a ramp.';
grant update (probe_asked_by, ramp_percent, effective_rps, effective_concurrency) on integration.lane
    to integration_worker;

-- Transitions ---------------------------------------------------------------------------------------------------------
create table integration.lane_transition (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    connection_id int not null references integration.connection on delete cascade,
    tenant_id text not null,
    from_state text not null,
    to_state text not null,
    actor text not null check (actor in ('Worker', 'Person', 'Spec', 'Credential')),
    reason text not null check (reason <> ''),
    held int not null check (held >= 0),
    check (from_state in ('Open', 'Quarantined', 'Recovering at 10 %', 'Recovering at 25 %', 'Recovering at 50 %')),
    check (to_state in ('Open', 'Quarantined', 'Recovering at 10 %', 'Recovering at 25 %', 'Recovering at 50 %')),
    check (from_state <> to_state)
);
create index lane_transition_connection on integration.lane_transition (connection_id, id);
create index lane_transition_at on integration.lane_transition (at);
comment on table integration.lane_transition is 'Every change of a lane''s state, append-only: who stopped what, why, and how it came back.';
comment on column integration.lane_transition.held is 'Undelivered jobs at that moment, counted up to 100,000.';

alter table integration.lane_transition enable row level security;
alter table integration.lane_transition force row level security;
create policy reader on integration.lane_transition for select to integration_reader using (true);
create policy worker on integration.lane_transition for insert to integration_worker
    with check (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
create policy dispatcher_reads on integration.lane_transition for select to integration_dispatcher using (true);
create policy dispatcher on integration.lane_transition for delete to integration_dispatcher using (true);
grant select on integration.lane_transition to integration_reader;
grant insert on integration.lane_transition to integration_worker;
grant select, delete on integration.lane_transition to integration_dispatcher;

-- Dead letters that block ---------------------------------------------------------------------------------------------
alter table integration.dead_letter
    add column blocks boolean not null default false,
    add check (not blocks or subject is not null);
create index dead_letter_blocking on integration.dead_letter (connection_id, subject) where blocks;
comment on column integration.dead_letter.blocks is
    'Later jobs of its subject wait until a person resends or discards it (routes[].onDeadLetter: Block).';
create policy worker_reads on integration.dead_letter for select to integration_worker
    using (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
grant select (connection_id, tenant_id, subject, blocks) on integration.dead_letter to integration_worker;

-- People resend and discard dead letters with the operator's rights; what a partner answered stays closed to it.
create policy operator_reads on integration.dead_letter for select to integration_operator using (true);
create policy operator_deletes on integration.dead_letter for delete to integration_operator using (true);
create policy operator_inserts on integration.job for insert to integration_operator with check (true);
grant select (job_id, connection_id, route_id, event_id, event_at, subject), delete on integration.dead_letter
    to integration_operator;
grant insert on integration.job to integration_operator;

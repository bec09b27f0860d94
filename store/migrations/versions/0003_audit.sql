-- What an audit asks of attempts: digest, timings, particulars of what failed, and the name of the worker.

-- Attempts ------------------------------------------------------------------------------------------------------------
-- No checks and no defaults: the columns cost no rewrite of what is there, and new partitions attach as before.
alter table integration.attempt
    add column resolving_ms real,
    add column answering_ms real,
    add column body_digest bytea,
    add column particulars jsonb;
comment on column integration.attempt.resolving_ms is 'What finding the host''s addresses took; null if they were known.';
comment on column integration.attempt.answering_ms is
    'From handing the request to the HTTP client until the head of the answer; null if none came.';
comment on column integration.attempt.body_digest is 'SHA-256 of the body that was sent; null if there was no request.';
comment on column integration.attempt.particulars is
    'Method, address and headers, redacted, of an attempt that did not deliver; null of one that did.';

-- Workers by name -----------------------------------------------------------------------------------------------------
create table integration.worker (
    session bigint primary key,
    pool_id int not null,
    name text not null check (name <> ''),
    seen_at timestamptz not null default now()
);
comment on table integration.worker is
    'Every worker session that there was: a session''s own row ends with its lease, and attempts outlive it.';
comment on column integration.worker.seen_at is 'When upkeep last found the session alive, to the day; retention counts from it.';
alter table integration.worker enable row level security;
alter table integration.worker force row level security;
create policy reader on integration.worker for select to integration_reader using (true);
-- Its own sessions only, and it does not choose their numbers: else one pool could take those that others come to have.
create policy worker on integration.worker for insert to integration_worker
    with check (exists (select from integration.worker_session s where s.id = session and s.pool_id = worker.pool_id));
grant select on integration.worker to integration_reader;
grant insert on integration.worker to integration_worker;
revoke insert on integration.worker_session from integration_worker;
grant insert (pool_id, name, lease_until) on integration.worker_session to integration_worker;
-- Upkeep tells the living from the dead and forgets those whose attempts are no longer kept.
create policy dispatcher on integration.worker to integration_dispatcher using (true);
create policy dispatcher on integration.worker_session for select to integration_dispatcher using (true);
grant select, delete, update (seen_at) on integration.worker to integration_dispatcher;
grant select on integration.worker_session to integration_dispatcher;

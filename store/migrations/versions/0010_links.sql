-- What connectors remember: which of a tenant's records is which at a partner, who may make the missing ones, and what
-- was found out about the partner's account. Never a credential.

-- A row is a claim until the record is there, and then a link; a process that dies in between leaves a claim whose time
-- ends, and the next holder looks for the record before it makes one.
create table integration.mapping (
    tenant_id text not null,
    account text not null check (length(account) between 1 and 200),
    kind text not null check (length(kind) between 1 and 63),
    queast_id text not null check (length(queast_id) between 1 and 500),
    remote_id text check (length(remote_id) between 1 and 200),
    linked_at timestamptz,
    forget_at timestamptz,
    token bigint,
    held_until timestamptz,
    tried_since timestamptz,
    primary key (tenant_id, account, kind, queast_id),
    check (num_nulls(remote_id, linked_at) in (0, 2)),
    check (num_nulls(token, held_until, tried_since) = case when remote_id is null then 0 else 3 end),
    check (remote_id is not null or forget_at is null)
);
create index mapping_forget on integration.mapping (forget_at) where forget_at is not null;
comment on table integration.mapping is
    'A tenant''s record and the partner''s record that is the same thing, in one account of the partner.';
comment on column integration.mapping.account is 'As hubspot:4711; records of connections to one account are the same.';
comment on column integration.mapping.queast_id is 'A company''s id, or for notes and the like the message id.';
comment on column integration.mapping.forget_at is 'When nobody can ask for it any more; null: it is kept for good.';
comment on column integration.mapping.token is 'Of a claim: who has it; a holder whose time is over has another one''s.';
comment on column integration.mapping.held_until is 'Of a claim: until then nobody else may make the record.';
comment on column integration.mapping.tried_since is 'Of a claim: when the first of its holders may have begun.';

create sequence integration.claim_token;

create table integration.partner_fact (
    connection_id int not null references integration.connection,
    tenant_id text not null,
    name text not null check (length(name) between 1 and 100),
    value jsonb not null check (pg_column_size(value) <= 4 * 1024 * 1024),
    learned_at timestamptz not null default now(),
    primary key (connection_id, name)
);
comment on table integration.partner_fact is
    'What a connection found out about its partner''s account; all of it can be found out again.';

-- Rights --------------------------------------------------------------------------------------------------------------
alter table integration.mapping enable row level security;
alter table integration.mapping force row level security;
alter table integration.partner_fact enable row level security;
alter table integration.partner_fact force row level security;
create policy reader on integration.mapping for select to integration_reader using (true);
create policy reader on integration.partner_fact for select to integration_reader using (true);
create policy worker on integration.mapping to integration_worker
    using (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
create policy worker on integration.partner_fact to integration_worker
    using (connection_id in (select l.connection_id from integration.lane l)
        and tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
create policy dispatcher_reads on integration.mapping for select to integration_dispatcher using (forget_at is not null);
create policy dispatcher_forgets on integration.mapping for delete to integration_dispatcher
    using (forget_at is not null);
create policy operator_reads on integration.partner_fact for select to integration_operator using (true);
create policy operator_forgets on integration.partner_fact for delete to integration_operator using (true);
grant select on integration.mapping, integration.partner_fact to integration_reader;
grant select, insert, update, delete on integration.mapping, integration.partner_fact to integration_worker;
grant usage on sequence integration.claim_token to integration_worker;
grant select, delete on integration.mapping to integration_dispatcher;
grant select (connection_id), delete on integration.partner_fact to integration_operator;

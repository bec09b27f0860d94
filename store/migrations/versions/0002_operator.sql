-- What the operator needs: terms of office, pools with logins of their own, connections that end for good.

-- The leader's term: a former leader that wakes up late writes nothing ------------------------------------------------
create table integration.operator_term (
    only_row boolean primary key default true check (only_row),
    lease_created timestamptz not null,
    transitions bigint not null check (transitions >= 0),
    holder text not null check (holder <> '')
);
comment on table integration.operator_term is
    'The newest leader''s time in office. Whatever an operator writes holds this row locked and finds its own term in it.';
comment on column integration.operator_term.lease_created is
    'Creation time of the Lease: one that was deleted and made anew counts its transitions from the beginning.';

-- Connections ---------------------------------------------------------------------------------------------------------
alter table integration.connection
    add column epoch bigint not null default 0,
    add column deleted_at timestamptz;
comment on column integration.connection.epoch is 'The routing epoch with which this connection last changed.';
comment on column integration.connection.deleted_at is
    'When it ended for good. The row stays under a freed name: history, dead letters and attempts still resolve.';

create index lane_quarantined on integration.lane (probe_at) where state = 'Quarantined';

-- Pools ---------------------------------------------------------------------------------------------------------------
alter table integration.pool add column credential text;
comment on column integration.pool.credential is 'Which password the pool''s role has, by an id that says nothing of it.';

-- Rights --------------------------------------------------------------------------------------------------------------
grant select on integration.operator_term to integration_reader;
grant select, insert, update on integration.operator_term to integration_operator;

-- Undelivered jobs of an ended connection become dead letters, which the operator cannot read.
create policy operator on integration.dead_letter for insert to integration_operator with check (true);
grant insert on integration.dead_letter to integration_operator;
-- A dispatcher's batch that was routed before a connection ended is refused: see `store.removal`.
grant select (revision), update (revision) on integration.dispatch_cursor to integration_operator;
-- A pool that goes takes its workers' sessions with it.
create policy operator_reads on integration.worker_session for select to integration_operator using (true);
create policy operator on integration.worker_session for delete to integration_operator using (true);
grant select, delete on integration.worker_session to integration_operator;

-- Logins of pools -----------------------------------------------------------------------------------------------------
-- The operator may make no roles. These functions do it for it, as the schema's owner, and only for roles that are
-- named as a pool's are, are recorded as one, and are members of nothing but the workers' group.
create function integration.pool_role(pool text) returns name
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    found_role name;
    foreign_groups bigint;
begin
    select p.role into found_role from integration.pool p where p.name = pool;
    if not found then
        raise exception 'there is no pool %', quote_literal(left(pool, 200))
            using errcode = '22023', hint = 'Create the pool before its login.';
    end if;
    if found_role !~ '^integration_pool_[0-9a-f]{16}$' then
        raise exception 'role % is not one that belongs to a pool', quote_ident(found_role)
            using errcode = '42501', hint = 'Logins of other roles are made by people.';
    end if;
    select count(*) filter (where g.rolname is distinct from 'integration_worker') into foreign_groups
    from pg_roles r
    left join pg_auth_members m on m.member = r.oid
    left join pg_roles g on g.oid = m.roleid
    where r.rolname = found_role;
    if foreign_groups > 0 or exists (
        select from pg_roles r where r.rolname = found_role
        and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)
    ) then
        raise exception 'role % exists and is not a pool''s', quote_ident(found_role)
            using errcode = '42501', hint = 'Drop or rename it; it has rights that no pool''s role has.';
    end if;
    return found_role;
end $$;

create function integration.set_pool_credential(pool text, credential text, verifier text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    role_name name := integration.pool_role(pool);
begin
    if coalesce(verifier !~ '^SCRAM-SHA-256\$[0-9]{4,7}:[A-Za-z0-9+/]{22,86}={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$', true) then
        raise exception 'that is not a SCRAM-SHA-256 verifier'
            using errcode = '22023', hint = 'Passwords come here as verifiers only.';
    end if;
    if exists (select from pg_roles where rolname = role_name) then
        execute format('alter role %I login password %L', role_name, verifier);
    else
        execute format('create role %I login password %L', role_name, verifier);
        execute format('grant integration_worker to %I', role_name);
    end if;
    if not has_database_privilege(role_name, current_database(), 'connect') then
        execute format('grant connect on database %I to %I', current_database(), role_name);
    end if;
    update integration.pool p set credential = set_pool_credential.credential where p.name = pool;
end $$;
comment on function integration.set_pool_credential is
    'Give a pool''s role, made if need be, a login with this SCRAM verifier, and record the id of the password.';

create function integration.drop_pool(pool text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    role_name name := integration.pool_role(pool);
begin
    delete from integration.pool p where p.name = pool; -- refused by foreign keys while it has lanes or sessions
    if not exists (select from pg_roles where rolname = role_name) then
        return;
    end if;
    -- Ending a role's sessions takes its rights. Who made the role may give himself those, and they end with it.
    if not pg_has_role(role_name, 'usage') then
        execute format('grant %I to %I', role_name, current_user)
            || case when current_setting('server_version_num')::int >= 160000 then ' with inherit true' else '' end;
    end if;
    perform pg_terminate_backend(pid) from pg_stat_activity where usename = role_name;
    if exists (
        select from pg_database d, aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee
        where d.datname = current_database() and r.rolname = role_name
    ) then
        execute format('revoke connect on database %I from %I', current_database(), role_name);
    end if;
    execute format('drop role %I', role_name);
end $$;
comment on function integration.drop_pool is 'Delete an empty pool, end the sessions of its role and drop the role.';

revoke all on function integration.pool_role, integration.set_pool_credential, integration.drop_pool from public;
grant execute on function integration.set_pool_credential, integration.drop_pool to integration_operator;

do $$
begin
    -- These functions run as the schema's owner, on whom forced row-level security falls as on anybody else.
    execute format('create policy owner on integration.pool to %I using (true)', current_user);
end $$;

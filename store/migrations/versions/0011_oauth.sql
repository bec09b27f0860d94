-- OAuth grants. Tokens are sealed before they come here, by the pool whose they are: the database holds no key. A grant
-- has a version that counts; tokens are written over the version that they were got for, and over no other.
create table integration.oauth_token (
    connection_id int primary key references integration.connection,
    tenant_id text not null,
    version bigint not null default 0 check (version >= 0),
    sealed bytea check (octet_length(sealed) <= 65536),
    key_name text check (length(key_name) between 1 and 253),
    obtained_at timestamptz,
    expires_at timestamptz,
    details jsonb not null default '{}' check (pg_column_size(details) <= 8192),
    refused_at timestamptz,
    refusal text check (length(refusal) between 1 and 500),
    holder bigint,
    held_until timestamptz,
    tried_since timestamptz,
    rests_until timestamptz,
    check (num_nulls(holder, held_until) in (0, 2)),
    check (num_nulls(sealed, key_name, obtained_at, expires_at) = case version when 0 then 4 else 0 end),
    check (num_nulls(refused_at, refusal) in (0, 2))
);
create index oauth_token_age on integration.oauth_token (obtained_at) where refused_at is null;
comment on table integration.oauth_token is 'The grant of a connection: what its partner''s owner allowed us to do.';
comment on column integration.oauth_token.version is '0: nobody has come to the end of beginning one.';
comment on column integration.oauth_token.sealed is 'Both tokens, AES-256-GCM, bound to connection and version.';
comment on column integration.oauth_token.details is 'What the partner said of the grant; shown, and never a secret.';
comment on column integration.oauth_token.refusal is 'Why the partner wants no more of this version; the tokens stay.';
comment on column integration.oauth_token.holder is 'Who has the right to renew this version, until held_until.';
comment on column integration.oauth_token.tried_since is 'Since when somebody may have renewed this version in vain.';
comment on column integration.oauth_token.rests_until is 'A renewal failed; nobody tries again before.';

-- A person asks for a flow, the pool's worker offers the partner's page and keeps what only it can open, the partner's
-- answer comes through the ingress, and the worker makes the grant of it. The ingress holds no key: it seals the code
-- for the worker with the flow's own public key.
create table integration.oauth_flow (
    id bigint generated always as identity primary key,
    connection_id int not null references integration.connection,
    tenant_id text not null,
    connection_name text not null check (length(connection_name) between 3 and 320),
    state_digest bytea not null unique check (octet_length(state_digest) = 32),
    redirect_uri text not null check (length(redirect_uri) between 1 and 2048),
    requested_by text not null check (length(requested_by) between 1 and 200),
    requested_at timestamptz not null default now(),
    expires_at timestamptz not null,
    status text not null default 'Requested'
        check (status in ('Requested', 'Offered', 'Answered', 'Connected', 'Failed')),
    authorize_url text check (length(authorize_url) between 1 and 65536),
    public_key bytea check (octet_length(public_key) = 32),
    sealed bytea check (octet_length(sealed) <= 4096),
    code bytea check (octet_length(code) <= 8192),
    detail text not null default '' check (length(detail) <= 1000),
    check (num_nulls(authorize_url, public_key, sealed) in (0, 3)),
    check (status <> 'Offered' or sealed is not null),
    check ((status = 'Answered') = (code is not null)),
    check (status not in ('Connected', 'Failed') or sealed is null)
);
create index oauth_flow_open on integration.oauth_flow (connection_id) where status in ('Requested', 'Answered');
create index oauth_flow_expiry on integration.oauth_flow (expires_at);
comment on table integration.oauth_flow is 'One try of a person to have a partner grant access; kept for a day.';
comment on column integration.oauth_flow.state_digest is 'SHA-256 of the state in the link, which is written nowhere.';
comment on column integration.oauth_flow.sealed is 'PKCE verifier and private key, sealed by the pool.';
comment on column integration.oauth_flow.code is 'The authorization code, sealed with public_key (HPKE, RFC 9180).';

-- What the ingress may do, and nothing else --------------------------------------------------------------------------
do $$
begin
    if not exists (select from pg_roles where rolname = 'integration_ingress') then
        begin
            create role integration_ingress nologin;
        exception when duplicate_object or unique_violation then
            null; -- another database of this server is being migrated at the same moment
        end;
    end if;
end $$;
grant usage on schema integration to integration_ingress;

create function integration.oauth_flow_of(digest bytea)
returns table (status text, expired boolean, public_key bytea, connection_name text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
select f.status, f.expires_at <= now(), f.public_key, f.connection_name
from integration.oauth_flow f where f.state_digest = digest
$$;
comment on function integration.oauth_flow_of is 'The flow that a state belongs to, by its digest.';

create function integration.answer_oauth_flow(digest bytea, sealed_code bytea, refusal text) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
with answered as (
    update integration.oauth_flow
    set status = case when sealed_code is null then 'Failed' else 'Answered' end, code = sealed_code,
        detail = coalesce(left(refusal, 1000), ''), sealed = case when sealed_code is not null then sealed end,
        public_key = case when sealed_code is not null then public_key end,
        authorize_url = case when sealed_code is not null then authorize_url end
    where state_digest = digest and status = 'Offered' and expires_at > now()
    returning 1
)
select exists (select from answered)
$$;
comment on function integration.answer_oauth_flow is
    'Take in a partner''s answer, once: a code, sealed, or why there is none. False: not offered, answered, or expired.';
revoke all on function integration.oauth_flow_of, integration.answer_oauth_flow from public;
grant execute on function integration.oauth_flow_of, integration.answer_oauth_flow to integration_ingress;

-- Rights -------------------------------------------------------------------------------------------------------------
do $$
declare
    name text;
begin
    foreach name in array array['oauth_token', 'oauth_flow'] loop
        execute format('alter table integration.%I enable row level security', name);
        execute format('alter table integration.%I force row level security', name);
        execute format('create policy reader on integration.%I for select to integration_reader using (true)', name);
        execute format('create policy operator_reads on integration.%I for select to integration_operator using (true)', name);
        execute format('create policy operator_forgets on integration.%I for delete to integration_operator using (true)', name);
        execute format('create policy worker on integration.%I to integration_worker
            using (connection_id in (select l.connection_id from integration.lane l)
                and tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user))', name);
        execute format('grant delete on integration.%I to integration_operator', name);
    end loop;
    execute format('create policy owner on integration.oauth_flow to %I using (true)', current_user);
end $$;
create policy support on integration.oauth_flow for insert to integration_support with check (true);
create policy support_reads on integration.oauth_flow for select to integration_support using (true);
create policy dispatcher_reads on integration.oauth_flow for select to integration_dispatcher using (expires_at < now());
create policy dispatcher_forgets on integration.oauth_flow for delete to integration_dispatcher
    using (expires_at < now() - interval '1 day');
grant select (connection_id, tenant_id, version, key_name, obtained_at, expires_at, details, refused_at, refusal,
    held_until, tried_since, rests_until, holder) on integration.oauth_token to integration_reader, integration_operator;
grant select (id, connection_id, tenant_id, requested_by, requested_at, expires_at, status, detail)
    on integration.oauth_flow to integration_reader, integration_operator;
grant select, insert, update on integration.oauth_token to integration_worker;
grant select, update on integration.oauth_flow to integration_worker;
grant insert (connection_id, tenant_id, connection_name, state_digest, redirect_uri, requested_by, expires_at), select (id, connection_id,
    expires_at, status, authorize_url, detail) on integration.oauth_flow to integration_support;
grant select (id, expires_at), delete on integration.oauth_flow to integration_dispatcher;

-- Demand -------------------------------------------------------------------------------------------------------------
-- As in the ninth migration; but a grant to look after is a demand as well.
create or replace function integration.lane_demand(counted_at_most int, soon_seconds float8)
returns table (pool text, waited_seconds float8, backlog int, requests_per_second float8, concurrency int)
language sql stable as $$
-- Connections with jobs are found by hopping through the partial indexes, one probe a connection; those without cost
-- nothing, however many there are.
with recursive ready (connection_id) as (
    (select connection_id from integration.job where state = 0 order by connection_id, id limit 1)
    union all
    select (select j.connection_id from integration.job j where j.state = 0 and j.connection_id > r.connection_id
            order by j.connection_id, j.id limit 1)
    from ready r where r.connection_id is not null
),
deferred (connection_id) as (
    (select connection_id from integration.job where state = 1 order by connection_id, run_at, id limit 1)
    union all
    select (select j.connection_id from integration.job j where j.state = 1 and j.connection_id > d.connection_id
            order by j.connection_id, j.run_at, j.id limit 1)
    from deferred d where d.connection_id is not null
),
busy as (
    select connection_id from ready where connection_id is not null
    union
    select connection_id from deferred where connection_id is not null
),
open_lane as (
    select l.connection_id, l.pool_id,
           (select case when j.replay_id is null then now() - j.event_at else interval '0' end
            from integration.job j where j.state = 0
            and j.connection_id = l.connection_id order by j.connection_id, j.id limit 1) as ready_for,
           (select now() - j.run_at from integration.job j where j.state = 1
            and j.connection_id = l.connection_id order by j.connection_id, j.run_at, j.id limit 1) as due_for
    from busy join integration.lane l using (connection_id)
    where l.state = 'Open' and not l.suspended
      and (l.paused_until is null or l.paused_until <= now() + make_interval(secs => soon_seconds))
      and not exists (
          select from integration.throttle_scope s where s.id = l.scope_id and now() + make_interval(secs => soon_seconds)
              < greatest(s.paused_until, case when s.spent >= s.daily_limit then s.resets_at end)
      )
),
counted as (
    select o.connection_id, o.pool_id,
           greatest(o.ready_for, case when o.due_for >= interval '0' then o.due_for end) as waited,
           case when o.ready_for is null then 0 else (
               select count(*) from (select from integration.job j where j.state = 0
                   and j.connection_id = o.connection_id order by j.connection_id, j.id limit counted_at_most) r
           ) end
           + case when o.due_for is null or o.due_for < interval '0' then 0 else (
               select count(*) from (select from integration.job j where j.state = 1
                   and j.connection_id = o.connection_id and j.run_at <= now()
                   order by j.connection_id, j.run_at, j.id limit counted_at_most) d
           ) end as backlog
    from open_lane o
),
-- A flow to go on with, or a grant that was not renewed for most of a day: some partners forget those that sleep. Also of
-- connections that are suspended.
due as (
    select connection_id from integration.oauth_flow where status in ('Requested', 'Answered') and expires_at > now()
    union
    select connection_id from integration.oauth_token
    where refused_at is null and obtained_at < now() - interval '20 hours'
      and (rests_until is null or rests_until < now()) and (held_until is null or held_until < now())
),
granting as (
    select l.connection_id, l.pool_id, interval '0' as waited, 1::bigint as backlog
    from integration.lane l join due using (connection_id)
),
probing as (
    select l.connection_id, l.pool_id, now() - l.probe_at as waited, 1::bigint as backlog
    from integration.lane l
    where l.state = 'Quarantined' and l.probe_at <= now() and not l.suspended and (
        exists (select from integration.job j where j.state = 0 and j.connection_id = l.connection_id)
        or exists (select from integration.job j where j.state = 1 and j.connection_id = l.connection_id)
        or exists (select from integration.job j where j.state = 2 and j.connection_id = l.connection_id)
    )
    and not exists (
        select from integration.throttle_scope s where s.id = l.scope_id and now() + make_interval(secs => soon_seconds)
            < greatest(s.paused_until, case when s.spent >= s.daily_limit then s.resets_at end)
    )
)
select p.name, extract(epoch from d.waited)::float8, least(d.backlog, counted_at_most)::int,
       least(coalesce(l.effective_rps, (c.spec #>> '{delivery,throttle,requestsPerSecond}')::float8),
             s.requests_per_second),
       coalesce(l.effective_concurrency, (c.spec #>> '{delivery,throttle,concurrency}')::int)
from (
    select connection_id, pool_id, max(waited) as waited, max(backlog) as backlog
    from (select * from counted where backlog > 0 union all select * from probing union all select * from granting) e
    group by connection_id, pool_id
) d
join integration.pool p on p.id = d.pool_id
join integration.connection c on c.id = d.connection_id
join integration.lane l on l.connection_id = d.connection_id
left join integration.throttle_scope s on s.id = l.scope_id
order by p.name, d.connection_id
$$;

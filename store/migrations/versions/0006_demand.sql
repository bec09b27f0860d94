-- What the operator and autoscalers ask each few seconds: what pools have to do, and how connections stand.

-- Demand --------------------------------------------------------------------------------------------------------------
-- A function: the operator asks it for all pools, and an autoscaler, logged in as a pool's role, for that one.

create function integration.lane_demand(counted_at_most int, soon_seconds float8)
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
probing as (
    select l.connection_id, l.pool_id, now() - l.probe_at as waited, 1::bigint as backlog
    from integration.lane l
    where l.state = 'Quarantined' and l.probe_at <= now() and not l.suspended and (
        exists (select from integration.job j where j.state = 0 and j.connection_id = l.connection_id)
        or exists (select from integration.job j where j.state = 1 and j.connection_id = l.connection_id)
        or exists (select from integration.job j where j.state = 2 and j.connection_id = l.connection_id)
    )
)
select p.name, extract(epoch from d.waited)::float8, least(d.backlog, counted_at_most)::int,
       coalesce(l.effective_rps, (c.spec #>> '{delivery,throttle,requestsPerSecond}')::float8),
       coalesce(l.effective_concurrency, (c.spec #>> '{delivery,throttle,concurrency}')::int)
from (select * from counted where backlog > 0 union all select * from probing) d
join integration.pool p on p.id = d.pool_id
join integration.connection c on c.id = d.connection_id
join integration.lane l on l.connection_id = d.connection_id
order by p.name, d.connection_id
$$;
comment on function integration.lane_demand is
    'Lanes that can deliver now, of the pools that the caller may see: how many jobs, counted up to a limit; how long '
    'the first that nothing holds up has waited; how fast it may go. A pause that ends in soon_seconds is over.';

-- A worker is counted with 1,000 deliveries a second and a backlog should be gone in 30 seconds; a connection belongs to
-- one worker at a time, so more workers than connections do not help. `integration_operator.scaling` says the same.
create function integration.wanted_workers() returns int
language sql stable as $$
select coalesce(least(greatest(ceil(sum(least(backlog, requests_per_second * 30.0)) / 30000.0), 1), count(*)), 0)::int
from integration.lane_demand(10000, 5.0)
$$;
comment on function integration.wanted_workers is
    'How many workers the caller''s pool should have, before any bounds; for autoscalers that log in as the pool''s role.';

revoke all on function integration.lane_demand, integration.wanted_workers from public;
grant execute on function integration.lane_demand to integration_operator, integration_worker;
grant execute on function integration.wanted_workers to integration_worker;

-- Standing ------------------------------------------------------------------------------------------------------------
create index lane_slowed on integration.lane (connection_id) where effective_rps is not null;
create index lane_narrowed on integration.lane (connection_id) where effective_concurrency is not null;
create policy operator_reads on integration.dead_letter for select to integration_operator using (true);
grant select (connection_id) on integration.dead_letter to integration_operator;

-- Dead letters that block ---------------------------------------------------------------------------------------------
-- Whoever resends or discards one has the lane's owner read the lane again.
create policy dispatcher_updates on integration.lane for update to integration_dispatcher using (true);
create policy support_updates on integration.lane for update to integration_support using (true);
grant update (revision) on integration.lane to integration_dispatcher, integration_support;
grant update (epoch) on integration.routing to integration_dispatcher, integration_support;

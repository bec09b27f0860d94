-- Limits that several connections share, and daily budgets: kept in rows, because the lanes under them may have different
-- owners. Lanes under none know nothing of all this.

-- Scopes --------------------------------------------------------------------------------------------------------------
create table integration.throttle_scope (
    id int generated always as identity primary key,
    tenant_id text not null,
    name text not null check (length(name) between 1 and 63),
    requests_per_second float8 check (requests_per_second > 0),
    burst int check (burst >= 1),
    concurrency int check (concurrency >= 1),
    tokens float8 not null default 'infinity' check (tokens >= 0),
    tokens_at timestamptz not null default now(),
    daily_limit int check (daily_limit >= 1),
    reset_zone text,
    resets_at timestamptz,
    spent int not null default 0 check (spent >= 0),
    paused_until timestamptz,
    unique (tenant_id, name),
    check (num_nulls(requests_per_second, burst, concurrency) = case when starts_with(name, '~') then 3 else 0 end),
    check (num_nulls(daily_limit, reset_zone, resets_at) in (0, 3)),
    check (daily_limit is not null or spent = 0),
    check (daily_limit is not null or not starts_with(name, '~'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index throttle_scope_spent on integration.throttle_scope (id) where spent >= daily_limit;
comment on table integration.throttle_scope is
    'What some connections of a tenant may do together: the smallest limits that any of them states. One whose name '
    'begins with ~ holds the daily budget of a single connection, whose other limits its lane''s owner keeps.';
comment on column integration.throttle_scope.tokens is
    'In the bucket at tokens_at. With what workers have drawn and not used there are never more than burst.';
comment on column integration.throttle_scope.spent is
    'Calls of the day that ends at resets_at: counted when they are drawn, so that no crash makes them more than the limit.';

comment on column integration.throttle_scope.paused_until is 'The partner asked one of the connections for silence until then.';

create table integration.throttle_share (
    connection_id int primary key,
    scope_id int not null references integration.throttle_scope on delete cascade,
    session bigint not null references integration.worker_session on delete cascade,
    calls int not null check (calls >= 0),
    permits int not null check (permits >= 0),
    asks int not null default 0 check (asks >= 0),
    asks_since timestamptz,
    comes_at timestamptz,
    check (num_nulls(asks_since, comes_at) = case when asks > 0 then 0 else 2 end)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index throttle_share_scope on integration.throttle_share (scope_id);
create index throttle_share_session on integration.throttle_share (session);
comment on table integration.throttle_share is
    'What a lane has of its scope, as its owner told last; gone with the owner''s session, and so free for others.';
comment on column integration.throttle_share.calls is 'Requests under way.';
comment on column integration.throttle_share.permits is 'Drawn and not used yet.';
comment on column integration.throttle_share.asks is 'How many more it waits for; 0 if it does not wait.';
comment on column integration.throttle_share.comes_at is 'When it will ask again; one that does not come loses its turn.';

alter table integration.lane add column scope_id int references integration.throttle_scope;
create index lane_scope on integration.lane (scope_id) where scope_id is not null;
comment on column integration.lane.scope_id is 'What it draws its permits from; null: its owner decides alone.';

-- Rights --------------------------------------------------------------------------------------------------------------
-- Workers change nothing here but through draw_permits, which looks whose the session is.
alter table integration.throttle_scope enable row level security;
alter table integration.throttle_scope force row level security;
alter table integration.throttle_share enable row level security;
alter table integration.throttle_share force row level security;
create policy reader on integration.throttle_scope for select to integration_reader using (true);
create policy reader on integration.throttle_share for select to integration_reader using (true);
create policy operator on integration.throttle_scope to integration_operator using (true);
create policy operator on integration.throttle_share to integration_operator using (true);
create policy dispatcher on integration.throttle_scope for select to integration_dispatcher using (true);
create policy worker on integration.throttle_scope for select to integration_worker
    using (tenant_id in (select t.tenant_id from integration.tenant_role t where t.role = current_user));
grant select on integration.throttle_scope to integration_reader, integration_dispatcher, integration_worker;
grant select, insert, update, delete on integration.throttle_scope to integration_operator;
grant select on integration.throttle_share to integration_reader;
grant select, delete on integration.throttle_share to integration_operator;
do $$
begin
    -- draw_permits runs as the schema's owner, who sees of lanes and sessions what the pool's role sees that calls it.
    execute format('create policy owner on integration.throttle_scope to %I using (true)', current_user);
    execute format('create policy owner on integration.throttle_share to %I using (true)', current_user);
    execute format('create policy owner on integration.lane for select to %I using (pool_id = any (array('
        'select p.id from integration.pool p where p.role = session_user)))', current_user);
    execute format('create policy owner on integration.worker_session for select to %I using (pool_id = any (array('
        'select p.id from integration.pool p where p.role = session_user)))', current_user);
end $$;

-- Days ----------------------------------------------------------------------------------------------------------------
create function integration.next_midnight(zone text, moment timestamptz) returns timestamptz
language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
    select (date_trunc('day', moment at time zone zone) + interval '1 day') at time zone zone
$$;
comment on function integration.next_midnight is 'When the next day begins in a time zone.';

create function integration.knows_zone(zone text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    perform now() at time zone zone;
    return true;
exception when invalid_parameter_value then
    return false;
end $$;
comment on function integration.knows_zone is 'Whether this server''s time zone data have a zone.';

-- Publication ---------------------------------------------------------------------------------------------------------
create function integration.arrange_scopes(tenants text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform from integration.throttle_scope s where s.tenant_id = any (tenants) order by s.id for no key update;

    -- A changed limit is in force with the commit, and not for what has accrued before. What is spent of a day stays
    -- spent, whatever happens to the limit.
    insert into integration.throttle_scope as s
        (tenant_id, name, requests_per_second, burst, concurrency, daily_limit, reset_zone, resets_at)
    select w.*, integration.next_midnight(w.reset_zone, now())
    from (
        select l.tenant_id, coalesce(t.stated ->> 'scope', '~' || l.connection_id) as name,
               min((t.stated ->> 'requestsPerSecond')::float8) filter (where t.stated ? 'scope'),
               min((t.stated ->> 'burst')::int) filter (where t.stated ? 'scope'),
               min((t.stated ->> 'concurrency')::int) filter (where t.stated ? 'scope'),
               min((t.stated #>> '{dailyBudget,limit}')::int),
               (array_agg(t.stated #>> '{dailyBudget,resetZone}'
                          order by (t.stated #>> '{dailyBudget,limit}')::int, t.stated #>> '{dailyBudget,resetZone}')
                filter (where t.stated ? 'dailyBudget'))[1] as reset_zone
        from integration.lane l
        join integration.connection c on c.id = l.connection_id
        cross join lateral (select c.spec #> '{delivery,throttle}' as stated) t
        where l.tenant_id = any (tenants) and t.stated ?| array['scope', 'dailyBudget']
        group by 1, 2
    ) w
    order by w.tenant_id, w.name
    on conflict (tenant_id, name) do update
    set requests_per_second = excluded.requests_per_second, burst = excluded.burst, concurrency = excluded.concurrency,
        tokens = case when s.burst is null then s.tokens else least(
            s.tokens + s.requests_per_second * greatest(extract(epoch from now() - s.tokens_at), 0),
            greatest(s.burst - (select coalesce(sum(h.permits), 0) from integration.throttle_share h
                                where h.scope_id = s.id), 0)) end,
        tokens_at = greatest(s.tokens_at, now()),
        daily_limit = excluded.daily_limit, reset_zone = excluded.reset_zone,
        resets_at = case when s.reset_zone = excluded.reset_zone then s.resets_at else excluded.resets_at end,
        spent = case when excluded.daily_limit is null or s.resets_at <= now() then 0 else s.spent end
    where (s.requests_per_second, s.burst, s.concurrency, s.daily_limit, s.reset_zone) is distinct from
          (excluded.requests_per_second, excluded.burst, excluded.concurrency, excluded.daily_limit, excluded.reset_zone);

    update integration.lane l set scope_id = w.scope_id
    from (
        select o.connection_id, s.id as scope_id
        from integration.lane o
        join integration.connection c on c.id = o.connection_id
        cross join lateral (select c.spec #> '{delivery,throttle}' as stated) t
        left join integration.throttle_scope s on s.tenant_id = o.tenant_id and s.name = coalesce(
            t.stated ->> 'scope', case when t.stated ? 'dailyBudget' then '~' || o.connection_id end)
        where o.tenant_id = any (tenants)
    ) w
    where l.connection_id = w.connection_id and l.scope_id is distinct from w.scope_id;

    -- What a lane had of a scope that it has left is free.
    delete from integration.throttle_share h using integration.throttle_scope s
    where s.id = h.scope_id and s.tenant_id = any (tenants) and not exists (
        select from integration.lane l where l.connection_id = h.connection_id and l.scope_id = h.scope_id
    );

    -- One without connections that has been used today is kept: the partner has counted those calls.
    delete from integration.throttle_scope s
    where s.tenant_id = any (tenants) and (s.spent = 0 or s.resets_at <= now())
      and not exists (select from integration.lane l where l.scope_id = s.id);
end $$;
comment on function integration.arrange_scopes is
    'Bring the throttle scopes of some tenants to what the connections that have a lane state.';

-- Drawing -------------------------------------------------------------------------------------------------------------
-- A permit is one call: a token, a place among the requests at once, and one of the day's calls. Workers tell absolute
-- numbers, so whoever repeats a call whose answer was lost loses the permits in it and takes no other twice.
--
-- Exact: tokens and drawn permits together are never more than burst. A used permit counts as drawn until it is told,
-- and what would have accrued beyond burst meanwhile is lost. `used_ago` is the age of the latest use, so that telling
-- late costs little.
--
-- Fair: whoever gets less than he wants stands in a queue, for as many as his weight says. Nobody takes what those
-- before him wait for, and while others wait nobody takes more than his share. One that does not come at the time he was
-- told to has lost his turn.
--
-- Locks, in this order: the caller's session (`store.scopes`), then scopes by their ids, then what the caller's own lanes
-- have of them. Publications lock scopes after lanes, by their ids as well, all of a tenant before they change anything of
-- one. Nothing else is waited for while a scope is locked, so it is for no longer than these statements take.
create function integration.draw_permits(
    worker bigint, lanes int[], weights int[], under_way int[], in_hand int[], used_ago float8[], unused int[],
    rests float8[], wanted int[]
) returns table (connection int, granted int, wait_seconds float8, day_ends_in_seconds float8, crowded boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    grace constant interval := '1 s';
    look_again_seconds constant float8 := 1.0;
    scope integration.throttle_scope;
    lane record;
    moment timestamptz;
    rate float8;
    burst float8;
    concurrency int;
    elapsed float8;
    used float8;
    back int;
    held_before int;
    held int;
    occupied_before int;
    occupied int;
    spent_today int;
    drawn int;
    left_today int;
    since timestamptz;
    silent_until timestamptz;
    before_me int;
    others int;
    asking int;
    free float8;
    places int;
    paused_seconds float8;
begin
    if not exists (select from integration.worker_session s where s.id = worker) then
        raise exception 'session % is not one of this role', worker using errcode = '42501';
    end if;
    for scope in
        select s.* from integration.throttle_scope s
        where s.id = any (array(select l.scope_id from integration.lane l
                                where l.owner = worker and l.connection_id = any (lanes)))
        order by s.id for no key update
    loop
        moment := clock_timestamp();
        rate := coalesce(scope.requests_per_second, 0);
        burst := coalesce(scope.burst::float8, 'infinity');
        concurrency := coalesce(scope.concurrency, 1000000);
        spent_today := scope.spent;
        drawn := 0;

        -- What the worker tells.
        select coalesce(sum(s.permits), 0), coalesce(sum(s.permits + s.calls), 0) into held_before, occupied_before
        from integration.throttle_share s where s.scope_id = scope.id;
        insert into integration.throttle_share as s (connection_id, scope_id, session, calls, permits)
        select t.lane, scope.id, worker, t.calls, t.permits
        from unnest(lanes, under_way, in_hand) as t (lane, calls, permits)
        join integration.lane l on l.connection_id = t.lane and l.owner = worker and l.scope_id = scope.id
        on conflict (connection_id) do update
        set scope_id = excluded.scope_id, session = excluded.session, calls = excluded.calls, permits = excluded.permits;
        select coalesce(sum(s.permits), 0), coalesce(sum(s.permits + s.calls), 0) into held, occupied
        from integration.throttle_share s where s.scope_id = scope.id;
        select coalesce(min(t.ago), 0), coalesce(sum(t.unused), 0), moment + make_interval(secs => max(t.rests))
        into used, back, silent_until
        from unnest(lanes, used_ago, unused, rests) as t (lane, ago, unused, rests)
        join integration.throttle_share s on s.connection_id = t.lane and s.scope_id = scope.id and s.session = worker;

        -- What time has brought.
        elapsed := greatest(extract(epoch from moment - scope.tokens_at), 0);
        used := least(used, elapsed);
        scope.tokens := least(scope.tokens + rate * (elapsed - used), greatest(burst - held_before, 0));
        scope.tokens := least(scope.tokens + rate * used + back, greatest(burst - held, 0));
        if scope.daily_limit is not null then
            spent_today := greatest(spent_today - back, 0);
            if moment >= scope.resets_at then
                spent_today := 0;
                scope.resets_at := integration.next_midnight(scope.reset_zone, moment);
            end if;
        end if;

        -- After a pause the bucket is empty.
        if silent_until > greatest(scope.paused_until, moment) then
            scope.paused_until := silent_until;
            scope.tokens := 0;
            scope.tokens_at := silent_until;
        else
            silent_until := null;
        end if;
        paused_seconds := coalesce(greatest(extract(epoch from scope.paused_until - moment), 0), 0);

        -- Who gets what: first those that have waited longest.
        day_ends_in_seconds := extract(epoch from scope.resets_at - moment);
        for lane in
            select t.lane as id, t.weight, t.wanted, s.asks, s.asks_since
            from unnest(lanes, weights, wanted) as t (lane, weight, wanted)
            join integration.throttle_share s on s.connection_id = t.lane and s.scope_id = scope.id and s.session = worker
            order by case when s.asks > 0 then s.asks_since else moment end, t.lane
        loop
            since := coalesce(lane.asks_since, moment);
            select coalesce(sum(s.asks) filter (where (s.asks_since, s.connection_id) < (since, lane.id)), 0),
                   coalesce(sum(s.asks), 0)
            into before_me, others
            from integration.throttle_share s
            where s.scope_id = scope.id and s.connection_id <> lane.id and s.asks > 0 and s.comes_at > moment - grace;
            left_today := greatest(coalesce(scope.daily_limit - spent_today, lane.wanted), 0);
            asking := least(lane.wanted, coalesce(nullif(lane.asks, 0), lane.weight), burst, concurrency);
            free := least(scope.tokens, concurrency - occupied, lane.wanted + others);
            granted := greatest(0, least(
                lane.wanted, left_today, floor(free) - before_me,
                greatest(asking, floor(free * lane.weight / (lane.weight + others)))));

            if paused_seconds > 0 then
                granted := 0;
            end if;
            scope.tokens := scope.tokens - granted;
            occupied := occupied + granted;
            drawn := drawn + granted;
            if scope.daily_limit is not null then
                spent_today := spent_today + granted;
            end if;
            if lane.wanted = granted then
                asking := 0;
                wait_seconds := 0;
            elsif paused_seconds > 0 then
                asking := 0;
                wait_seconds := paused_seconds;
            elsif left_today = granted then
                asking := 0;
                wait_seconds := day_ends_in_seconds;
            else
                if granted < asking then
                    asking := asking - granted;
                else -- its turn is over
                    asking := least(lane.wanted - granted, lane.weight, burst, concurrency);
                    since := moment;
                    before_me := others;
                end if;
                wait_seconds := greatest((before_me + asking - scope.tokens) / nullif(rate, 0), 0);
                places := concurrency - occupied - before_me;
                if places < 1 then -- woken when there is one, or sees for itself
                    wait_seconds := greatest(wait_seconds, look_again_seconds);
                end if;
            end if;
            update integration.throttle_share s
            set permits = s.permits + granted, asks = asking, asks_since = case when asking > 0 then since end,
                comes_at = case when asking > 0 then moment + make_interval(secs => wait_seconds) end
            where s.connection_id = lane.id;
            connection := lane.id;
            crowded := occupied >= concurrency;
            return next;
        end loop;

        -- Who only waits moves no token, and takes none from the rest by cutting them off at burst early.
        if drawn > 0 or back > 0 or held <> held_before or spent_today <> scope.spent or silent_until is not null then
            update integration.throttle_scope s
            set tokens = scope.tokens, tokens_at = greatest(moment, scope.tokens_at), spent = spent_today,
                resets_at = scope.resets_at, paused_until = scope.paused_until
            where s.id = scope.id;
        end if;
        if occupied_before >= concurrency and occupied < concurrency and exists (
            select from integration.throttle_share s
            where s.scope_id = scope.id and s.session <> worker and s.asks > 0 and s.comes_at > moment - grace
        ) then
            perform pg_notify('integration_permits', '');
        end if;
    end loop;
end $$;
comment on function integration.draw_permits is
    'Take note of what lanes of a worker have of their scopes, and draw more: for each lane how many permits it got, when '
    'to ask for the rest, when the day of its budget ends, and whether somebody may wait for its requests to end.';

revoke all on function integration.next_midnight, integration.knows_zone, integration.arrange_scopes,
    integration.draw_permits from public;
grant execute on function integration.next_midnight, integration.knows_zone, integration.arrange_scopes to integration_operator;
grant execute on function integration.draw_permits to integration_worker;

-- Demand and standing -------------------------------------------------------------------------------------------------
-- As in the sixth migration; but a lane rests with its scope, and goes no faster than its scope.
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
from (select * from counted where backlog > 0 union all select * from probing) d
join integration.pool p on p.id = d.pool_id
join integration.connection c on c.id = d.connection_id
join integration.lane l on l.connection_id = d.connection_id
left join integration.throttle_scope s on s.id = l.scope_id
order by p.name, d.connection_id
$$;

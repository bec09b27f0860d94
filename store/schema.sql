-- The schema as all migrations together make it, for reading. Written by the tests: after a new migration, run
--     REGENERATE_SCHEMA=1 python -m pytest tests/integration/store/test_migrating.py

CREATE SCHEMA integration;

CREATE FUNCTION integration.answer_oauth_flow(digest bytea, sealed_code bytea, refusal text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.answer_oauth_flow(digest bytea, sealed_code bytea, refusal text) IS 'Take in a partner''s answer, once: a code, sealed, or why there is none. False: not offered, answered, or expired.';

CREATE FUNCTION integration.arrange_scopes(tenants text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.arrange_scopes(tenants text[]) IS 'Bring the throttle scopes of some tenants to what the connections that have a lane state.';

CREATE FUNCTION integration.check_event(tenant text, type text, subject text, data jsonb, dedupe_key text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
end $_$;

CREATE FUNCTION integration.create_partition(parent text, day date) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
end $_$;

CREATE FUNCTION integration.draw_permits(worker bigint, lanes integer[], weights integer[], under_way integer[], in_hand integer[], used_ago double precision[], unused integer[], rests double precision[], wanted integer[]) RETURNS TABLE(connection integer, granted integer, wait_seconds double precision, day_ends_in_seconds double precision, crowded boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.draw_permits(worker bigint, lanes integer[], weights integer[], under_way integer[], in_hand integer[], used_ago double precision[], unused integer[], rests double precision[], wanted integer[]) IS 'Take note of what lanes of a worker have of their scopes, and draw more: for each lane how many permits it got, when to ask for the rest, when the day of its budget ends, and whether somebody may wait for its requests to end.';

CREATE FUNCTION integration.drop_pool(pool text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.drop_pool(pool text) IS 'Delete an empty pool, end the sessions of its role and drop the role.';

CREATE FUNCTION integration.emit_event(tenant text, type text, subject text, data jsonb, dedupe_key text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.emit_event(tenant text, type text, subject text, data jsonb, dedupe_key text) IS 'Emit one event in the caller''s transaction and return its public id; with a dedupe key, at most one event per key.';

CREATE FUNCTION integration.emit_events(tenant text, types text[], subjects text[], data jsonb[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.emit_events(tenant text, types text[], subjects text[], data jsonb[]) IS 'Emit many events of one tenant, in the order given, in the caller''s transaction; all or none.';

CREATE FUNCTION integration.knows_zone(zone text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform now() at time zone zone;
    return true;
exception when invalid_parameter_value then
    return false;
end $$;

COMMENT ON FUNCTION integration.knows_zone(zone text) IS 'Whether this server''s time zone data have a zone.';

CREATE FUNCTION integration.lane_demand(counted_at_most integer, soon_seconds double precision) RETURNS TABLE(pool text, waited_seconds double precision, backlog integer, requests_per_second double precision, concurrency integer)
    LANGUAGE sql STABLE
    AS $$
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

COMMENT ON FUNCTION integration.lane_demand(counted_at_most integer, soon_seconds double precision) IS 'Lanes that can deliver now, of the pools that the caller may see: how many jobs, counted up to a limit; how long the first that nothing holds up has waited; how fast it may go. A pause that ends in soon_seconds is over.';

CREATE FUNCTION integration.maintain(event_days integer, attempt_days integer, dead_letter_days integer, ahead_days integer DEFAULT 7) RETURNS TABLE(action text, relation text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION integration.maintain(event_days integer, attempt_days integer, dead_letter_days integer, ahead_days integer) IS 'Create the partitions of the coming days and drop what has outlived its retention; events that are still needed stay.';

CREATE FUNCTION integration.next_midnight(zone text, moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (date_trunc('day', moment at time zone zone) + interval '1 day') at time zone zone
$$;

COMMENT ON FUNCTION integration.next_midnight(zone text, moment timestamp with time zone) IS 'When the next day begins in a time zone.';

CREATE FUNCTION integration.oauth_flow_of(digest bytea) RETURNS TABLE(status text, expired boolean, public_key bytea, connection_name text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
select f.status, f.expires_at <= now(), f.public_key, f.connection_name
from integration.oauth_flow f where f.state_digest = digest
$$;

COMMENT ON FUNCTION integration.oauth_flow_of(digest bytea) IS 'The flow that a state belongs to, by its digest.';

CREATE FUNCTION integration.partitions(parent text) RETURNS TABLE(partition text, day date)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    select c.relname::text, to_date(right(c.relname, 8), 'YYYYMMDD')
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ('integration.' || parent)::regclass and c.relname ~ '_[0-9]{8}$'
$_$;

CREATE FUNCTION integration.plan_sweeps(relation text, days integer, tenant_days jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with bounds as (
        select (now() at time zone 'UTC')::date as today,
               greatest(plan_sweeps.days, (select max(t.value::int) from jsonb_each_text(tenant_days) t)) as longest
    ),
    days as (
        select p.day, p.day < b.today - plan_sweeps.days as others_due, b.today
        from bounds b, integration.partitions(case plan_sweeps.relation when 'attempt' then 'attempt' else 'event' end) p
        where p.day >= b.today - b.longest
    ),
    due as (
        select d.day, d.others_due, array(
            select t.key from jsonb_each_text(tenant_days) t
            where (d.day < d.today - t.value::int) <> d.others_due order by t.key
        ) as exceptions
        from days d
    ),
    forgotten as (
        delete from integration.sweep s
        where s.relation = plan_sweeps.relation
          and not exists (select from due d where d.day = s.day and (d.others_due or d.exceptions <> '{}'))
    )
    insert into integration.sweep as s (relation, day, others_due, exceptions)
    select plan_sweeps.relation, d.day, d.others_due, d.exceptions from due d where d.others_due or d.exceptions <> '{}'
    on conflict (relation, day) do update
        set others_due = excluded.others_due, exceptions = excluded.exceptions, position = 0, kept = false, swept_at = null
        where (s.others_due, s.exceptions) is distinct from (excluded.others_due, excluded.exceptions)
$$;

CREATE FUNCTION integration.pool_role(pool text) RETURNS name
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
end $_$;

CREATE FUNCTION integration.selects(patterns text[], type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select exists (
        select from unnest(patterns) p
        where p = type or (right(p, 1) = '*' and starts_with(type, left(p, -1)))
    )
$$;

COMMENT ON FUNCTION integration.selects(patterns text[], type text) IS 'Whether one of some type patterns selects a type, as contracts.patterns says.';

CREATE FUNCTION integration.set_pool_credential(pool text, credential text, verifier text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
end $_$;

COMMENT ON FUNCTION integration.set_pool_credential(pool text, credential text, verifier text) IS 'Give a pool''s role, made if need be, a login with this SCRAM verifier, and record the id of the password.';

CREATE FUNCTION integration.sweep(relation text, days integer, tenant_days jsonb, blocks integer, keys integer) RETURNS TABLE(swept_day date, deleted bigint, finished boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_nestloop TO 'off'
    SET enable_hashjoin TO 'on'
    SET enable_seqscan TO 'on'
    AS $$
declare
    chosen record;
    low timestamptz;
    high timestamptz;
    ahead bigint;
    first tid;
    beyond tid;
    since timestamptz;
    until timestamptz;
    dispatched pg_snapshot;
    remaining boolean := false;
begin
    perform set_config('lock_timeout', '2s', true);
    if not pg_try_advisory_xact_lock(7308613720) then
        return; -- another dispatcher is at work
    end if;
    perform integration.plan_sweeps(relation, days, tenant_days);
    select s.*, s.swept_at is not null as again into chosen from integration.sweep s
    where s.relation = sweep.relation
      and (s.swept_at is null or (s.kept and s.swept_at < now() - interval '1 day'))
    order by s.day limit 1;
    if not found then
        return;
    end if;
    if chosen.again then
        chosen.position := 0;
        chosen.kept := false;
    end if;
    low := chosen.day::timestamp at time zone 'UTC';
    high := (chosen.day + 1)::timestamp at time zone 'UTC';
    deleted := 0;
    if relation = 'event_dedupe' then
        since := low + chosen.position * interval '1 microsecond';
        select max(k.at) into until from (
            select d.at from integration.event_dedupe d where d.at >= since and d.at < high order by d.at limit keys
        ) k;
        finished := until is null;
        delete from integration.event_dedupe d
        where d.at >= since and d.at <= until and (d.tenant_id = any (chosen.exceptions)) <> chosen.others_due;
        get diagnostics deleted = row_count;
        ahead := extract(epoch from until - low) * 1000000 + 1;
    else
        -- Through the parent: a partition itself shows nobody anything.
        ahead := chosen.position + blocks;
        first := format('(%s,0)', chosen.position)::tid;
        beyond := format('(%s,0)', ahead)::tid;
        -- Another dispatcher may just have dropped the partition.
        finished := ahead >= coalesce(pg_relation_size(
            to_regclass(format('integration.%I', relation || to_char(chosen.day, '_YYYYMMDD')))), 0)
            / current_setting('block_size')::int;
    end if;
    if relation = 'attempt' then
        delete from integration.attempt a
        where a.at >= low and a.at < high and a.ctid >= first and a.ctid < beyond
          and (a.tenant_id = any (chosen.exceptions)) <> chosen.others_due;
        get diagnostics deleted = row_count;
    elsif relation = 'event' then
        select c.lower into dispatched from integration.dispatch_cursor c;
        delete from integration.event e
        where e.at >= low and e.at < high and e.ctid >= first and e.ctid < beyond
          and (e.tenant_id = any (chosen.exceptions)) <> chosen.others_due
          and (e.xid < pg_snapshot_xmin(dispatched) or pg_visible_in_snapshot(e.xid, dispatched))
          and not exists (select from integration.dead_letter d where d.event_id = e.id)
          and not exists (select from integration.job j where j.event_id = e.id and j.event_at >= low and j.event_at < high);
        get diagnostics deleted = row_count;
        remaining := exists (
            select from integration.event e
            where e.at >= low and e.at < high and e.ctid >= first and e.ctid < beyond
              and (e.tenant_id = any (chosen.exceptions)) <> chosen.others_due
        );
    end if;
    update integration.sweep s
    set position = case when finished then 0 else ahead end, kept = chosen.kept or remaining,
        swept_at = case when finished then now() end
    where s.relation = sweep.relation and s.day = chosen.day;
    swept_day := chosen.day;
    return next;
end $$;

COMMENT ON FUNCTION integration.sweep(relation text, days integer, tenant_days jsonb, blocks integer, keys integer) IS 'Delete a batch of what outlived its tenant''s retention in partitions that others still need; no row: nothing is left.';

CREATE FUNCTION integration.wanted_workers() RETURNS integer
    LANGUAGE sql STABLE
    AS $$
select coalesce(least(greatest(ceil(sum(least(backlog, requests_per_second * 30.0)) / 30000.0), 1), count(*)), 0)::int
from integration.lane_demand(10000, 5.0)
$$;

COMMENT ON FUNCTION integration.wanted_workers() IS 'How many workers the caller''s pool should have, before any bounds; for autoscalers that log in as the pool''s role.';

CREATE TABLE integration.attempt (
    at timestamp with time zone NOT NULL,
    event_id bigint NOT NULL,
    job_id bigint NOT NULL,
    tenant_id text NOT NULL,
    connection_id integer NOT NULL,
    route_id integer NOT NULL,
    number smallint NOT NULL,
    outcome text NOT NULL,
    status_code smallint,
    duration_ms real NOT NULL,
    worker bigint NOT NULL,
    detail text,
    resolving_ms real,
    answering_ms real,
    body_digest bytea,
    particulars jsonb,
    replay_id bigint
)
PARTITION BY RANGE (at);

ALTER TABLE ONLY integration.attempt FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.attempt IS 'Every try of every job; append-only, one partition a day.';

COMMENT ON COLUMN integration.attempt.resolving_ms IS 'What finding the host''s addresses took; null if they were known.';

COMMENT ON COLUMN integration.attempt.answering_ms IS 'From handing the request to the HTTP client until the head of the answer; null if none came.';

COMMENT ON COLUMN integration.attempt.body_digest IS 'SHA-256 of the body that was sent; null if there was no request.';

COMMENT ON COLUMN integration.attempt.particulars IS 'Method, address and headers, redacted, of an attempt that did not deliver; null of one that did.';

CREATE TABLE integration.attempt_default (
    at timestamp with time zone CONSTRAINT attempt_at_not_null NOT NULL,
    event_id bigint CONSTRAINT attempt_event_id_not_null NOT NULL,
    job_id bigint CONSTRAINT attempt_job_id_not_null NOT NULL,
    tenant_id text CONSTRAINT attempt_tenant_id_not_null NOT NULL,
    connection_id integer CONSTRAINT attempt_connection_id_not_null NOT NULL,
    route_id integer CONSTRAINT attempt_route_id_not_null NOT NULL,
    number smallint CONSTRAINT attempt_number_not_null NOT NULL,
    outcome text CONSTRAINT attempt_outcome_not_null NOT NULL,
    status_code smallint,
    duration_ms real CONSTRAINT attempt_duration_ms_not_null NOT NULL,
    worker bigint CONSTRAINT attempt_worker_not_null NOT NULL,
    detail text,
    resolving_ms real,
    answering_ms real,
    body_digest bytea,
    particulars jsonb,
    replay_id bigint
);

ALTER TABLE ONLY integration.attempt_default FORCE ROW LEVEL SECURITY;

CREATE SEQUENCE integration.claim_token
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE integration.connection (
    id integer NOT NULL,
    uid uuid NOT NULL,
    tenant_id text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    provider text NOT NULL,
    generation bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    deleted_at timestamp with time zone
);

ALTER TABLE ONLY integration.connection FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.connection IS 'One tenant''s link to one partner account. The spec holds references to Secrets, never values.';

COMMENT ON COLUMN integration.connection.epoch IS 'The routing epoch with which this connection last changed.';

COMMENT ON COLUMN integration.connection.deleted_at IS 'When it ended for good. The row stays under a freed name: history, dead letters and attempts still resolve.';

ALTER TABLE integration.connection ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.connection_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.dead_letter (
    job_id bigint NOT NULL,
    tenant_id text NOT NULL,
    connection_id integer NOT NULL,
    route_id integer NOT NULL,
    event_id bigint NOT NULL,
    event_at timestamp with time zone NOT NULL,
    subject bigint,
    attempts smallint NOT NULL,
    reason text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    dead_at timestamp with time zone DEFAULT now() NOT NULL,
    blocks boolean DEFAULT false NOT NULL,
    replay_id bigint,
    CONSTRAINT dead_letter_check CHECK (((NOT blocks) OR (subject IS NOT NULL)))
);

ALTER TABLE ONLY integration.dead_letter FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.dead_letter IS 'Jobs that will not be tried again by themselves, with the reason.';

COMMENT ON COLUMN integration.dead_letter.blocks IS 'Later jobs of its subject wait until a person resends or discards it (routes[].onDeadLetter: Block).';

CREATE TABLE integration.dead_letter_end (
    job_id bigint NOT NULL,
    tenant_id text NOT NULL,
    connection_id integer NOT NULL,
    route_id integer NOT NULL,
    event_id bigint NOT NULL,
    event_at timestamp with time zone NOT NULL,
    attempts smallint NOT NULL,
    cause text NOT NULL,
    detail text NOT NULL,
    dead_at timestamp with time zone NOT NULL,
    replay_id bigint,
    ended_at timestamp with time zone DEFAULT now() NOT NULL,
    action text NOT NULL,
    resent_by_replay bigint,
    ended_by text NOT NULL,
    reason text NOT NULL,
    CONSTRAINT dead_letter_end_action_check CHECK ((action = ANY (ARRAY['Resent'::text, 'Discarded'::text]))),
    CONSTRAINT dead_letter_end_check CHECK (((action = 'Resent'::text) = (resent_by_replay IS NOT NULL))),
    CONSTRAINT dead_letter_end_ended_by_check CHECK (((length(ended_by) >= 1) AND (length(ended_by) <= 200))),
    CONSTRAINT dead_letter_end_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 1000)))
);

ALTER TABLE ONLY integration.dead_letter_end FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.dead_letter_end IS 'Dead letters that a person has resent or discarded: who, when and why.';

COMMENT ON COLUMN integration.dead_letter_end.replay_id IS 'The replay whose job died; null for a job of the dispatcher.';

CREATE TABLE integration.dispatch_cursor (
    only_row boolean DEFAULT true NOT NULL,
    lower pg_snapshot NOT NULL,
    upper pg_snapshot,
    last_event_id bigint DEFAULT 0 NOT NULL,
    revision bigint DEFAULT 0 NOT NULL,
    system_identifier bigint NOT NULL,
    CONSTRAINT dispatch_cursor_only_row_check CHECK (only_row)
);

COMMENT ON TABLE integration.dispatch_cursor IS 'What is dispatched: every event visible in `lower`; of those between `lower` and `upper`, the ones up to last_event_id.';

COMMENT ON COLUMN integration.dispatch_cursor.revision IS 'Compare-and-swap between dispatchers: of two that read the same events, one moves the cursor, the other starts anew.';

COMMENT ON COLUMN integration.dispatch_cursor.system_identifier IS 'The cluster whose transaction numbers these are; another one means a restored dump.';

CREATE TABLE integration.dispatcher_sleep (
    only_row boolean DEFAULT true NOT NULL,
    asleep boolean NOT NULL,
    CONSTRAINT dispatcher_sleep_only_row_check CHECK (only_row)
);

COMMENT ON TABLE integration.dispatcher_sleep IS 'emit_event notifies only while this says asleep: the commit of a notifying transaction takes a database-wide lock.';

CREATE SEQUENCE integration.event_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE integration.event (
    id bigint DEFAULT nextval('integration.event_id'::regclass) NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    nonce integer DEFAULT (((random() * ('4294967295'::bigint)::double precision) - ('2147483648'::bigint)::double precision))::integer NOT NULL,
    tenant_id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    data jsonb NOT NULL
)
PARTITION BY RANGE (at);

ALTER TABLE ONLY integration.event FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.event IS 'Immutable facts, written in the producer''s own transaction; one partition a day.';

COMMENT ON COLUMN integration.event.id IS 'Taken inside the producer''s transaction: per subject in commit order wherever producers lock what they change.';

COMMENT ON COLUMN integration.event.xid IS 'The emitting transaction. Dispatch reads the events whose transaction became visible between two snapshots.';

COMMENT ON COLUMN integration.event.nonce IS 'Random part of the public id, so that a restored database repeats none.';

CREATE TABLE integration.event_dedupe (
    tenant_id text NOT NULL,
    dedupe_key text NOT NULL,
    event_id text NOT NULL,
    fingerprint bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY integration.event_dedupe FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.event_dedupe IS 'Keys under which producers have emitted, kept as long as events are.';

CREATE TABLE integration.event_default (
    id bigint DEFAULT nextval('integration.event_id'::regclass) CONSTRAINT event_id_not_null NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT event_at_not_null NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() CONSTRAINT event_xid_not_null NOT NULL,
    nonce integer DEFAULT (((random() * ('4294967295'::bigint)::double precision) - ('2147483648'::bigint)::double precision))::integer CONSTRAINT event_nonce_not_null NOT NULL,
    tenant_id text CONSTRAINT event_tenant_id_not_null NOT NULL,
    type text CONSTRAINT event_type_not_null NOT NULL,
    subject text CONSTRAINT event_subject_not_null NOT NULL,
    data jsonb CONSTRAINT event_data_not_null NOT NULL
);

ALTER TABLE ONLY integration.event_default FORCE ROW LEVEL SECURITY;

CREATE TABLE integration.event_type (
    type text NOT NULL,
    version integer NOT NULL,
    required_keys text[] NOT NULL,
    CONSTRAINT event_type_version_check CHECK ((version >= 1))
);

COMMENT ON TABLE integration.event_type IS 'Canonical event types, loaded from the contracts by the migration program.';

CREATE TABLE integration.job (
    pool_id integer NOT NULL,
    id bigint NOT NULL,
    connection_id integer NOT NULL,
    route_id integer NOT NULL,
    event_id bigint NOT NULL,
    event_at timestamp with time zone NOT NULL,
    subject bigint,
    state smallint DEFAULT 0 NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    run_at timestamp with time zone,
    replay_id bigint,
    CONSTRAINT job_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT job_check CHECK (((state = 1) = (run_at IS NOT NULL))),
    CONSTRAINT job_state_check CHECK ((state = ANY (ARRAY[0, 1, 2])))
)
WITH (fillfactor='90', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY integration.job FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.job IS 'One event for one connection, until it is delivered or dead-lettered. (connection, event, route) is its identity.';

COMMENT ON COLUMN integration.job.subject IS 'Hash of the event''s subject where the route keeps order; null where it does not.';

COMMENT ON COLUMN integration.job.state IS '0 ready; 1 deferred until run_at; 2 held behind an earlier job of its subject.';

COMMENT ON COLUMN integration.job.replay_id IS 'The replay that made this job; null for what the dispatcher made.';

CREATE SEQUENCE integration.job_id
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE integration.lane (
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    pool_id integer NOT NULL,
    owner bigint,
    revision bigint DEFAULT 0 NOT NULL,
    state text DEFAULT 'Open'::text NOT NULL,
    suspended boolean DEFAULT false NOT NULL,
    consecutive_failures integer DEFAULT 0 NOT NULL,
    quarantined_at timestamp with time zone,
    quarantine_reason text,
    probes integer DEFAULT 0 NOT NULL,
    probe_at timestamp with time zone,
    paused_until timestamp with time zone,
    tokens double precision,
    tokens_at timestamp with time zone,
    probe_asked_by text,
    ramp_percent smallint,
    effective_rps double precision,
    effective_concurrency integer,
    scope_id integer,
    CONSTRAINT lane_check CHECK (((state = 'Quarantined'::text) = (quarantined_at IS NOT NULL))),
    CONSTRAINT lane_check1 CHECK (((state = 'Quarantined'::text) = (quarantine_reason IS NOT NULL))),
    CONSTRAINT lane_check2 CHECK (((state = 'Quarantined'::text) OR (probe_at IS NULL))),
    CONSTRAINT lane_check3 CHECK (((state = 'Quarantined'::text) OR (probe_asked_by IS NULL))),
    CONSTRAINT lane_check4 CHECK (((state = 'Open'::text) OR (ramp_percent IS NULL))),
    CONSTRAINT lane_consecutive_failures_check CHECK ((consecutive_failures >= 0)),
    CONSTRAINT lane_effective_concurrency_check CHECK ((effective_concurrency >= 1)),
    CONSTRAINT lane_effective_rps_check CHECK ((effective_rps > (0)::double precision)),
    CONSTRAINT lane_probe_asked_by_check CHECK ((probe_asked_by = ANY (ARRAY['Person'::text, 'Spec'::text, 'Credential'::text]))),
    CONSTRAINT lane_probes_check CHECK ((probes >= 0)),
    CONSTRAINT lane_ramp_percent_check CHECK ((ramp_percent = ANY (ARRAY[10, 25, 50]))),
    CONSTRAINT lane_state_check CHECK ((state = ANY (ARRAY['Open'::text, 'Quarantined'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');

ALTER TABLE ONLY integration.lane FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.lane IS 'The runtime row of a connection. One worker session owns it at a time, so throttle and order are exact in its memory.';

COMMENT ON COLUMN integration.lane.owner IS 'A worker_session; a lane changes hands only by release or by the session''s death.';

COMMENT ON COLUMN integration.lane.revision IS 'Compare-and-swap between the owner and whoever publishes or releases.';

COMMENT ON COLUMN integration.lane.probe_at IS 'When one job tries whether the partner is back; null: only a person or a new spec releases.';

COMMENT ON COLUMN integration.lane.paused_until IS 'The partner asked for silence until then.';

COMMENT ON COLUMN integration.lane.tokens IS 'Left in the bucket when the last owner gave the lane back; null while an owner has them.';

COMMENT ON COLUMN integration.lane.probe_asked_by IS 'Who asked for the next probe; null: it comes by itself.';

COMMENT ON COLUMN integration.lane.ramp_percent IS 'Part of its limits that a lane has which recovers from quarantine.';

COMMENT ON COLUMN integration.lane.effective_rps IS 'Requests per second that are in force, while they are fewer than the spec''s: learned from refusals, or a ramp.';

COMMENT ON COLUMN integration.lane.effective_concurrency IS 'Requests at once that are in force, while they are fewer than the spec''s: the partner is slow, or a ramp.';

COMMENT ON COLUMN integration.lane.scope_id IS 'What it draws its permits from; null: its owner decides alone.';

CREATE TABLE integration.lane_transition (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    held integer NOT NULL,
    CONSTRAINT lane_transition_actor_check CHECK ((actor = ANY (ARRAY['Worker'::text, 'Person'::text, 'Spec'::text, 'Credential'::text]))),
    CONSTRAINT lane_transition_check CHECK ((from_state <> to_state)),
    CONSTRAINT lane_transition_from_state_check CHECK ((from_state = ANY (ARRAY['Open'::text, 'Quarantined'::text, 'Recovering at 10 %'::text, 'Recovering at 25 %'::text, 'Recovering at 50 %'::text]))),
    CONSTRAINT lane_transition_held_check CHECK ((held >= 0)),
    CONSTRAINT lane_transition_reason_check CHECK ((reason <> ''::text)),
    CONSTRAINT lane_transition_to_state_check CHECK ((to_state = ANY (ARRAY['Open'::text, 'Quarantined'::text, 'Recovering at 10 %'::text, 'Recovering at 25 %'::text, 'Recovering at 50 %'::text])))
);

ALTER TABLE ONLY integration.lane_transition FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.lane_transition IS 'Every change of a lane''s state, append-only: who stopped what, why, and how it came back.';

COMMENT ON COLUMN integration.lane_transition.held IS 'Undelivered jobs at that moment, counted up to 100,000.';

ALTER TABLE integration.lane_transition ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.lane_transition_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.mapping (
    tenant_id text NOT NULL,
    account text NOT NULL,
    kind text NOT NULL,
    queast_id text NOT NULL,
    remote_id text,
    linked_at timestamp with time zone,
    forget_at timestamp with time zone,
    token bigint,
    held_until timestamp with time zone,
    tried_since timestamp with time zone,
    CONSTRAINT mapping_account_check CHECK (((length(account) >= 1) AND (length(account) <= 200))),
    CONSTRAINT mapping_check CHECK ((num_nulls(remote_id, linked_at) = ANY (ARRAY[0, 2]))),
    CONSTRAINT mapping_check1 CHECK ((num_nulls(token, held_until, tried_since) =
CASE
    WHEN (remote_id IS NULL) THEN 0
    ELSE 3
END)),
    CONSTRAINT mapping_check2 CHECK (((remote_id IS NOT NULL) OR (forget_at IS NULL))),
    CONSTRAINT mapping_kind_check CHECK (((length(kind) >= 1) AND (length(kind) <= 63))),
    CONSTRAINT mapping_queast_id_check CHECK (((length(queast_id) >= 1) AND (length(queast_id) <= 500))),
    CONSTRAINT mapping_remote_id_check CHECK (((length(remote_id) >= 1) AND (length(remote_id) <= 200)))
);

ALTER TABLE ONLY integration.mapping FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.mapping IS 'A tenant''s record and the partner''s record that is the same thing, in one account of the partner.';

COMMENT ON COLUMN integration.mapping.account IS 'As hubspot:4711; records of connections to one account are the same.';

COMMENT ON COLUMN integration.mapping.queast_id IS 'A company''s id, or for notes and the like the message id.';

COMMENT ON COLUMN integration.mapping.forget_at IS 'When nobody can ask for it any more; null: it is kept for good.';

COMMENT ON COLUMN integration.mapping.token IS 'Of a claim: who has it; a holder whose time is over has another one''s.';

COMMENT ON COLUMN integration.mapping.held_until IS 'Of a claim: until then nobody else may make the record.';

COMMENT ON COLUMN integration.mapping.tried_since IS 'Of a claim: when the first of its holders may have begun.';

CREATE TABLE integration.oauth_flow (
    id bigint NOT NULL,
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    connection_name text NOT NULL,
    state_digest bytea NOT NULL,
    redirect_uri text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    status text DEFAULT 'Requested'::text NOT NULL,
    authorize_url text,
    public_key bytea,
    sealed bytea,
    code bytea,
    detail text DEFAULT ''::text NOT NULL,
    CONSTRAINT oauth_flow_authorize_url_check CHECK (((length(authorize_url) >= 1) AND (length(authorize_url) <= 65536))),
    CONSTRAINT oauth_flow_check CHECK ((num_nulls(authorize_url, public_key, sealed) = ANY (ARRAY[0, 3]))),
    CONSTRAINT oauth_flow_check1 CHECK (((status <> 'Offered'::text) OR (sealed IS NOT NULL))),
    CONSTRAINT oauth_flow_check2 CHECK (((status = 'Answered'::text) = (code IS NOT NULL))),
    CONSTRAINT oauth_flow_check3 CHECK (((status <> ALL (ARRAY['Connected'::text, 'Failed'::text])) OR (sealed IS NULL))),
    CONSTRAINT oauth_flow_code_check CHECK ((octet_length(code) <= 8192)),
    CONSTRAINT oauth_flow_connection_name_check CHECK (((length(connection_name) >= 3) AND (length(connection_name) <= 320))),
    CONSTRAINT oauth_flow_detail_check CHECK ((length(detail) <= 1000)),
    CONSTRAINT oauth_flow_public_key_check CHECK ((octet_length(public_key) = 32)),
    CONSTRAINT oauth_flow_redirect_uri_check CHECK (((length(redirect_uri) >= 1) AND (length(redirect_uri) <= 2048))),
    CONSTRAINT oauth_flow_requested_by_check CHECK (((length(requested_by) >= 1) AND (length(requested_by) <= 200))),
    CONSTRAINT oauth_flow_sealed_check CHECK ((octet_length(sealed) <= 4096)),
    CONSTRAINT oauth_flow_state_digest_check CHECK ((octet_length(state_digest) = 32)),
    CONSTRAINT oauth_flow_status_check CHECK ((status = ANY (ARRAY['Requested'::text, 'Offered'::text, 'Answered'::text, 'Connected'::text, 'Failed'::text])))
);

ALTER TABLE ONLY integration.oauth_flow FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.oauth_flow IS 'One try of a person to have a partner grant access; kept for a day.';

COMMENT ON COLUMN integration.oauth_flow.state_digest IS 'SHA-256 of the state in the link, which is written nowhere.';

COMMENT ON COLUMN integration.oauth_flow.sealed IS 'PKCE verifier and private key, sealed by the pool.';

COMMENT ON COLUMN integration.oauth_flow.code IS 'The authorization code, sealed with public_key (HPKE, RFC 9180).';

ALTER TABLE integration.oauth_flow ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.oauth_flow_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.oauth_token (
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    sealed bytea,
    key_name text,
    obtained_at timestamp with time zone,
    expires_at timestamp with time zone,
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    refused_at timestamp with time zone,
    refusal text,
    holder bigint,
    held_until timestamp with time zone,
    tried_since timestamp with time zone,
    rests_until timestamp with time zone,
    CONSTRAINT oauth_token_check CHECK ((num_nulls(holder, held_until) = ANY (ARRAY[0, 2]))),
    CONSTRAINT oauth_token_check1 CHECK ((num_nulls(sealed, key_name, obtained_at, expires_at) =
CASE version
    WHEN 0 THEN 4
    ELSE 0
END)),
    CONSTRAINT oauth_token_check2 CHECK ((num_nulls(refused_at, refusal) = ANY (ARRAY[0, 2]))),
    CONSTRAINT oauth_token_details_check CHECK ((pg_column_size(details) <= 8192)),
    CONSTRAINT oauth_token_key_name_check CHECK (((length(key_name) >= 1) AND (length(key_name) <= 253))),
    CONSTRAINT oauth_token_refusal_check CHECK (((length(refusal) >= 1) AND (length(refusal) <= 500))),
    CONSTRAINT oauth_token_sealed_check CHECK ((octet_length(sealed) <= 65536)),
    CONSTRAINT oauth_token_version_check CHECK ((version >= 0))
);

ALTER TABLE ONLY integration.oauth_token FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.oauth_token IS 'The grant of a connection: what its partner''s owner allowed us to do.';

COMMENT ON COLUMN integration.oauth_token.version IS '0: nobody has come to the end of beginning one.';

COMMENT ON COLUMN integration.oauth_token.sealed IS 'Both tokens, AES-256-GCM, bound to connection and version.';

COMMENT ON COLUMN integration.oauth_token.details IS 'What the partner said of the grant; shown, and never a secret.';

COMMENT ON COLUMN integration.oauth_token.refusal IS 'Why the partner wants no more of this version; the tokens stay.';

COMMENT ON COLUMN integration.oauth_token.holder IS 'Who has the right to renew this version, until held_until.';

COMMENT ON COLUMN integration.oauth_token.tried_since IS 'Since when somebody may have renewed this version in vain.';

COMMENT ON COLUMN integration.oauth_token.rests_until IS 'A renewal failed; nobody tries again before.';

CREATE TABLE integration.operator_term (
    only_row boolean DEFAULT true NOT NULL,
    lease_created timestamp with time zone NOT NULL,
    transitions bigint NOT NULL,
    holder text NOT NULL,
    CONSTRAINT operator_term_holder_check CHECK ((holder <> ''::text)),
    CONSTRAINT operator_term_only_row_check CHECK (only_row),
    CONSTRAINT operator_term_transitions_check CHECK ((transitions >= 0))
);

COMMENT ON TABLE integration.operator_term IS 'The newest leader''s time in office. Whatever an operator writes holds this row locked and finds its own term in it.';

COMMENT ON COLUMN integration.operator_term.lease_created IS 'Creation time of the Lease: one that was deleted and made anew counts its transitions from the beginning.';

CREATE TABLE integration.partner_fact (
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL,
    value jsonb NOT NULL,
    learned_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT partner_fact_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT partner_fact_value_check CHECK ((pg_column_size(value) <= ((4 * 1024) * 1024)))
);

ALTER TABLE ONLY integration.partner_fact FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.partner_fact IS 'What a connection found out about its partner''s account; all of it can be found out again.';

CREATE TABLE integration.pool (
    id integer NOT NULL,
    name text NOT NULL,
    role name NOT NULL,
    credential text
);

ALTER TABLE ONLY integration.pool FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.pool IS 'The unit of isolation: the workers of one Deployment and their database role.';

COMMENT ON COLUMN integration.pool.credential IS 'Which password the pool''s role has, by an id that says nothing of it.';

ALTER TABLE integration.pool ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.pool_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.replay (
    id bigint NOT NULL,
    tenant_id text NOT NULL,
    connection_id integer NOT NULL,
    requested_by text NOT NULL,
    reason text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    source text NOT NULL,
    since timestamp with time zone,
    until timestamp with time zone NOT NULL,
    types text[] NOT NULL,
    cause text,
    event_ids bigint[],
    route_ids integer[],
    letter_ids bigint[],
    dispatched pg_snapshot NOT NULL,
    dispatching pg_snapshot,
    dispatching_to bigint NOT NULL,
    include_superseded boolean NOT NULL,
    new_message_ids boolean NOT NULL,
    expected bigint,
    state text DEFAULT 'Running'::text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    cancelled_by text,
    revision bigint DEFAULT 0 NOT NULL,
    cursor bigint DEFAULT 0 NOT NULL,
    read_to_end boolean DEFAULT false NOT NULL,
    queued bigint DEFAULT 0 NOT NULL,
    superseded bigint DEFAULT 0 NOT NULL,
    unfinished bigint DEFAULT 0 NOT NULL,
    gone bigint DEFAULT 0 NOT NULL,
    filter_failed bigint DEFAULT 0 NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    resource_uid uuid,
    dry_run boolean DEFAULT false NOT NULL,
    sample text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT replay_cancelled_by_check CHECK (((length(cancelled_by) >= 1) AND (length(cancelled_by) <= 200))),
    CONSTRAINT replay_check CHECK ((since < until)),
    CONSTRAINT replay_check1 CHECK (((state = 'Running'::text) = (ended_at IS NULL))),
    CONSTRAINT replay_check2 CHECK (((state = 'Cancelled'::text) = (cancelled_by IS NOT NULL))),
    CONSTRAINT replay_check3 CHECK (((state <> 'Completed'::text) OR read_to_end)),
    CONSTRAINT replay_check4 CHECK (((source = 'Jobs'::text) = (letter_ids IS NOT NULL))),
    CONSTRAINT replay_check5 CHECK (((letter_ids IS NULL) = (route_ids IS NULL))),
    CONSTRAINT replay_check6 CHECK (((letter_ids IS NULL) OR (NOT ((cardinality(letter_ids) IS DISTINCT FROM cardinality(event_ids)) OR (cardinality(route_ids) IS DISTINCT FROM cardinality(event_ids)))))),
    CONSTRAINT replay_check7 CHECK (((source = 'DeadLetters'::text) OR (cause IS NULL))),
    CONSTRAINT replay_check8 CHECK (((resource_uid IS NOT NULL) OR (NOT dry_run))),
    CONSTRAINT replay_check9 CHECK ((dry_run OR (sample = '{}'::text[]))),
    CONSTRAINT replay_event_ids_check CHECK (((cardinality(event_ids) >= 1) AND (cardinality(event_ids) <= 1000))),
    CONSTRAINT replay_expected_check CHECK ((expected >= 0)),
    CONSTRAINT replay_filter_failed_check CHECK ((filter_failed >= 0)),
    CONSTRAINT replay_gone_check CHECK ((gone >= 0)),
    CONSTRAINT replay_queued_check CHECK ((queued >= 0)),
    CONSTRAINT replay_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 1000))),
    CONSTRAINT replay_requested_by_check CHECK (((length(requested_by) >= 1) AND (length(requested_by) <= 200))),
    CONSTRAINT replay_sample_check CHECK ((cardinality(sample) <= 5)),
    CONSTRAINT replay_source_check CHECK ((source = ANY (ARRAY['Events'::text, 'Jobs'::text, 'DeadLetters'::text]))),
    CONSTRAINT replay_state_check CHECK ((state = ANY (ARRAY['Running'::text, 'Completed'::text, 'Cancelled'::text, 'Failed'::text]))),
    CONSTRAINT replay_superseded_check CHECK ((superseded >= 0)),
    CONSTRAINT replay_types_check CHECK (((cardinality(types) >= 1) AND (cardinality(types) <= 100))),
    CONSTRAINT replay_unfinished_check CHECK ((unfinished >= 0))
);

ALTER TABLE ONLY integration.replay FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.replay IS 'A request to deliver again: what, to which connection, who asked and why, and how far it has come.';

COMMENT ON COLUMN integration.replay.until IS 'No later than the request, so that neither live events nor what dies again of its own jobs are selected.';

COMMENT ON COLUMN integration.replay.letter_ids IS 'Where jobs are named, the dead letters among them, beside events and routes; null for those that were delivered.';

COMMENT ON COLUMN integration.replay.dispatched IS 'With dispatching and dispatching_to the dispatch cursor at the request: only what had been dispatched is selected.';

COMMENT ON COLUMN integration.replay.expected IS 'Jobs that a dry run at the request found; null where there was none.';

COMMENT ON COLUMN integration.replay.state IS 'Running until all its jobs have ended; Completed; Cancelled by a person; Failed, as the detail says.';

COMMENT ON COLUMN integration.replay.revision IS 'Compare-and-swap: of two that read the same part, or of one and a cancellation, one moves on.';

COMMENT ON COLUMN integration.replay.cursor IS 'How far it has read: an event''s id, a dead letter''s job id, or how many of the jobs that were named.';

COMMENT ON COLUMN integration.replay.resource_uid IS 'The resource it was asked for with; null if that was a command.';

COMMENT ON COLUMN integration.replay.dry_run IS 'Whether it only counts: no job is made, and queued are those that would be.';

COMMENT ON COLUMN integration.replay.sample IS 'Of a dry run, public ids of the first events that would be queued.';

CREATE TABLE integration.replay_edit (
    replay_id bigint NOT NULL,
    tenant_id text NOT NULL,
    connection_id integer NOT NULL,
    data jsonb NOT NULL,
    changes jsonb NOT NULL,
    CONSTRAINT replay_edit_changes_check CHECK (((jsonb_typeof(changes) = 'array'::text) AND (jsonb_array_length(changes) > 0))),
    CONSTRAINT replay_edit_data_check CHECK (((jsonb_typeof(data) = 'object'::text) AND (octet_length((data)::text) <= 262144)))
);

ALTER TABLE ONLY integration.replay_edit FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.replay_edit IS 'What a replay sends instead of its event''s data, and how it differs. The event itself never changes.';

ALTER TABLE integration.replay ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.replay_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.replay_resource (
    uid uuid NOT NULL,
    tenant_id text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    spec jsonb NOT NULL,
    asked_at timestamp with time zone DEFAULT now() NOT NULL,
    state text DEFAULT 'Asked'::text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    look_at timestamp with time zone DEFAULT now() NOT NULL,
    decided_at timestamp with time zone,
    CONSTRAINT replay_resource_check CHECK (((state = 'Asked'::text) = (decided_at IS NULL))),
    CONSTRAINT replay_resource_spec_check CHECK ((jsonb_typeof(spec) = 'object'::text)),
    CONSTRAINT replay_resource_state_check CHECK ((state = ANY (ARRAY['Asked'::text, 'Started'::text, 'Refused'::text, 'Cancelled'::text])))
);

ALTER TABLE ONLY integration.replay_resource FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.replay_resource IS 'An IntegrationReplay as the operator handed it on, by the uid of the object: handed on again, it is the same one.';

COMMENT ON COLUMN integration.replay_resource.state IS 'Asked until the dispatcher has looked; Started with a replay for each connection; Refused; Cancelled before that.';

COMMENT ON COLUMN integration.replay_resource.detail IS 'What it waits for, or why it was refused or cancelled.';

COMMENT ON COLUMN integration.replay_resource.look_at IS 'When the dispatcher looks at it: one that waits is looked at again later, so that it holds up no other.';

CREATE TABLE integration.route (
    id integer NOT NULL,
    connection_id integer NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL,
    events text[] NOT NULL,
    filter text,
    ordered boolean NOT NULL,
    active boolean DEFAULT true NOT NULL
);

ALTER TABLE ONLY integration.route FORCE ROW LEVEL SECURITY;

COMMENT ON COLUMN integration.route.active IS 'A route that left the spec stays as a name for the jobs and attempts it made.';

ALTER TABLE integration.route ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.route_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.routing (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    CONSTRAINT routing_only_row_check CHECK (only_row)
);

COMMENT ON TABLE integration.routing IS 'Counts publications: who holds an older epoch reads connections and routes again.';

CREATE TABLE integration.schema_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE integration.sweep (
    relation text NOT NULL,
    day date NOT NULL,
    others_due boolean NOT NULL,
    exceptions text[] NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    kept boolean DEFAULT false NOT NULL,
    swept_at timestamp with time zone,
    CONSTRAINT sweep_check CHECK ((others_due OR (exceptions <> '{}'::text[]))),
    CONSTRAINT sweep_position_check CHECK (("position" >= 0)),
    CONSTRAINT sweep_relation_check CHECK ((relation = ANY (ARRAY['event'::text, 'event_dedupe'::text, 'attempt'::text])))
);

ALTER TABLE ONLY integration.sweep FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.sweep IS 'Days of which some tenants'' rows have outlived their retention, and how far these rows are deleted.';

COMMENT ON COLUMN integration.sweep.others_due IS 'Whose rows are due: all but those of the exceptions, or theirs alone.';

COMMENT ON COLUMN integration.sweep."position" IS 'How far the day is swept: a block of its partition, or for dedupe keys, microseconds since midnight.';

COMMENT ON COLUMN integration.sweep.kept IS 'Some rows that are due are still needed: the day is swept again a day later.';

COMMENT ON COLUMN integration.sweep.swept_at IS 'When its end was reached; null while it is not.';

CREATE TABLE integration.tenant_role (
    role name NOT NULL,
    tenant_id text NOT NULL
);

ALTER TABLE ONLY integration.tenant_role FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.tenant_role IS 'Whose events a pool''s role may read.';

CREATE TABLE integration.throttle_scope (
    id integer NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL,
    requests_per_second double precision,
    burst integer,
    concurrency integer,
    tokens double precision DEFAULT 'Infinity'::double precision NOT NULL,
    tokens_at timestamp with time zone DEFAULT now() NOT NULL,
    daily_limit integer,
    reset_zone text,
    resets_at timestamp with time zone,
    spent integer DEFAULT 0 NOT NULL,
    paused_until timestamp with time zone,
    CONSTRAINT throttle_scope_burst_check CHECK ((burst >= 1)),
    CONSTRAINT throttle_scope_check CHECK ((num_nulls(requests_per_second, burst, concurrency) =
CASE
    WHEN starts_with(name, '~'::text) THEN 3
    ELSE 0
END)),
    CONSTRAINT throttle_scope_check1 CHECK ((num_nulls(daily_limit, reset_zone, resets_at) = ANY (ARRAY[0, 3]))),
    CONSTRAINT throttle_scope_check2 CHECK (((daily_limit IS NOT NULL) OR (spent = 0))),
    CONSTRAINT throttle_scope_check3 CHECK (((daily_limit IS NOT NULL) OR (NOT starts_with(name, '~'::text)))),
    CONSTRAINT throttle_scope_concurrency_check CHECK ((concurrency >= 1)),
    CONSTRAINT throttle_scope_daily_limit_check CHECK ((daily_limit >= 1)),
    CONSTRAINT throttle_scope_name_check CHECK (((length(name) >= 1) AND (length(name) <= 63))),
    CONSTRAINT throttle_scope_requests_per_second_check CHECK ((requests_per_second > (0)::double precision)),
    CONSTRAINT throttle_scope_spent_check CHECK ((spent >= 0)),
    CONSTRAINT throttle_scope_tokens_check CHECK ((tokens >= (0)::double precision))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');

ALTER TABLE ONLY integration.throttle_scope FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.throttle_scope IS 'What some connections of a tenant may do together: the smallest limits that any of them states. One whose name begins with ~ holds the daily budget of a single connection, whose other limits its lane''s owner keeps.';

COMMENT ON COLUMN integration.throttle_scope.tokens IS 'In the bucket at tokens_at. With what workers have drawn and not used there are never more than burst.';

COMMENT ON COLUMN integration.throttle_scope.spent IS 'Calls of the day that ends at resets_at: counted when they are drawn, so that no crash makes them more than the limit.';

COMMENT ON COLUMN integration.throttle_scope.paused_until IS 'The partner asked one of the connections for silence until then.';

ALTER TABLE integration.throttle_scope ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.throttle_scope_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE integration.throttle_share (
    connection_id integer NOT NULL,
    scope_id integer NOT NULL,
    session bigint NOT NULL,
    calls integer NOT NULL,
    permits integer NOT NULL,
    asks integer DEFAULT 0 NOT NULL,
    asks_since timestamp with time zone,
    comes_at timestamp with time zone,
    CONSTRAINT throttle_share_asks_check CHECK ((asks >= 0)),
    CONSTRAINT throttle_share_calls_check CHECK ((calls >= 0)),
    CONSTRAINT throttle_share_check CHECK ((num_nulls(asks_since, comes_at) =
CASE
    WHEN (asks > 0) THEN 0
    ELSE 2
END)),
    CONSTRAINT throttle_share_permits_check CHECK ((permits >= 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');

ALTER TABLE ONLY integration.throttle_share FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.throttle_share IS 'What a lane has of its scope, as its owner told last; gone with the owner''s session, and so free for others.';

COMMENT ON COLUMN integration.throttle_share.calls IS 'Requests under way.';

COMMENT ON COLUMN integration.throttle_share.permits IS 'Drawn and not used yet.';

COMMENT ON COLUMN integration.throttle_share.asks IS 'How many more it waits for; 0 if it does not wait.';

COMMENT ON COLUMN integration.throttle_share.comes_at IS 'When it will ask again; one that does not come loses its turn.';

CREATE TABLE integration.worker (
    session bigint NOT NULL,
    pool_id integer NOT NULL,
    name text NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT worker_name_check CHECK ((name <> ''::text))
);

ALTER TABLE ONLY integration.worker FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.worker IS 'Every worker session that there was: a session''s own row ends with its lease, and attempts outlive it.';

COMMENT ON COLUMN integration.worker.seen_at IS 'When upkeep last found the session alive, to the day; retention counts from it.';

CREATE TABLE integration.worker_session (
    id bigint NOT NULL,
    pool_id integer NOT NULL,
    name text NOT NULL,
    lease_until timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE ONLY integration.worker_session FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE integration.worker_session IS 'The fence: whatever a worker writes locks its own row here first; a lost lease is a deleted row.';

ALTER TABLE integration.worker_session ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME integration.worker_session_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY integration.attempt ATTACH PARTITION integration.attempt_default DEFAULT;

ALTER TABLE ONLY integration.event ATTACH PARTITION integration.event_default DEFAULT;

ALTER TABLE ONLY integration.connection
    ADD CONSTRAINT connection_namespace_name_key UNIQUE (namespace, name);

ALTER TABLE ONLY integration.connection
    ADD CONSTRAINT connection_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.connection
    ADD CONSTRAINT connection_uid_key UNIQUE (uid);

ALTER TABLE ONLY integration.dead_letter_end
    ADD CONSTRAINT dead_letter_end_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY integration.dead_letter
    ADD CONSTRAINT dead_letter_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY integration.dispatch_cursor
    ADD CONSTRAINT dispatch_cursor_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY integration.dispatcher_sleep
    ADD CONSTRAINT dispatcher_sleep_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY integration.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id, at);

ALTER TABLE ONLY integration.event_dedupe
    ADD CONSTRAINT event_dedupe_pkey PRIMARY KEY (tenant_id, dedupe_key);

ALTER TABLE ONLY integration.event_default
    ADD CONSTRAINT event_default_pkey PRIMARY KEY (id, at);

ALTER TABLE ONLY integration.event_type
    ADD CONSTRAINT event_type_pkey PRIMARY KEY (type);

ALTER TABLE ONLY integration.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (pool_id, id);

ALTER TABLE ONLY integration.lane
    ADD CONSTRAINT lane_pkey PRIMARY KEY (connection_id);

ALTER TABLE ONLY integration.lane_transition
    ADD CONSTRAINT lane_transition_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.mapping
    ADD CONSTRAINT mapping_pkey PRIMARY KEY (tenant_id, account, kind, queast_id);

ALTER TABLE ONLY integration.oauth_flow
    ADD CONSTRAINT oauth_flow_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.oauth_flow
    ADD CONSTRAINT oauth_flow_state_digest_key UNIQUE (state_digest);

ALTER TABLE ONLY integration.oauth_token
    ADD CONSTRAINT oauth_token_pkey PRIMARY KEY (connection_id);

ALTER TABLE ONLY integration.operator_term
    ADD CONSTRAINT operator_term_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY integration.partner_fact
    ADD CONSTRAINT partner_fact_pkey PRIMARY KEY (connection_id, name);

ALTER TABLE ONLY integration.pool
    ADD CONSTRAINT pool_name_key UNIQUE (name);

ALTER TABLE ONLY integration.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.pool
    ADD CONSTRAINT pool_role_key UNIQUE (role);

ALTER TABLE ONLY integration.replay_edit
    ADD CONSTRAINT replay_edit_pkey PRIMARY KEY (replay_id);

ALTER TABLE ONLY integration.replay
    ADD CONSTRAINT replay_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.replay_resource
    ADD CONSTRAINT replay_resource_pkey PRIMARY KEY (uid);

ALTER TABLE ONLY integration.route
    ADD CONSTRAINT route_connection_id_name_key UNIQUE (connection_id, name);

ALTER TABLE ONLY integration.route
    ADD CONSTRAINT route_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.routing
    ADD CONSTRAINT routing_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY integration.schema_version
    ADD CONSTRAINT schema_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY integration.sweep
    ADD CONSTRAINT sweep_pkey PRIMARY KEY (relation, day);

ALTER TABLE ONLY integration.tenant_role
    ADD CONSTRAINT tenant_role_pkey PRIMARY KEY (role, tenant_id);

ALTER TABLE ONLY integration.throttle_scope
    ADD CONSTRAINT throttle_scope_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.throttle_scope
    ADD CONSTRAINT throttle_scope_tenant_id_name_key UNIQUE (tenant_id, name);

ALTER TABLE ONLY integration.throttle_share
    ADD CONSTRAINT throttle_share_pkey PRIMARY KEY (connection_id);

ALTER TABLE ONLY integration.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (session);

ALTER TABLE ONLY integration.worker_session
    ADD CONSTRAINT worker_session_pkey PRIMARY KEY (id);

ALTER TABLE ONLY integration.worker_session
    ADD CONSTRAINT worker_session_pool_id_name_key UNIQUE (pool_id, name);

CREATE INDEX attempt_event ON ONLY integration.attempt USING btree (event_id);

CREATE INDEX attempt_replay ON ONLY integration.attempt USING btree (replay_id, outcome) WHERE (replay_id IS NOT NULL);

CREATE INDEX attempt_default_event_id_idx ON integration.attempt_default USING btree (event_id);

CREATE INDEX attempt_default_replay_id_outcome_idx ON integration.attempt_default USING btree (replay_id, outcome) WHERE (replay_id IS NOT NULL);

CREATE INDEX dead_letter_blocking ON integration.dead_letter USING btree (connection_id, subject) WHERE blocks;

CREATE INDEX dead_letter_connection ON integration.dead_letter USING btree (connection_id, job_id);

CREATE INDEX dead_letter_end_event ON integration.dead_letter_end USING btree (event_id);

CREATE INDEX dead_letter_end_replay ON integration.dead_letter_end USING btree (replay_id) WHERE (replay_id IS NOT NULL);

CREATE INDEX dead_letter_event ON integration.dead_letter USING btree (event_id);

CREATE INDEX dead_letter_replay ON integration.dead_letter USING btree (replay_id) WHERE (replay_id IS NOT NULL);

CREATE INDEX event_subject ON ONLY integration.event USING btree (hashtextextended(subject, (0)::bigint), id);

CREATE INDEX event_xid ON ONLY integration.event USING btree (xid);

CREATE INDEX event_dedupe_at ON integration.event_dedupe USING btree (at);

CREATE INDEX event_default_hashtextextended_id_idx ON integration.event_default USING btree (hashtextextended(subject, (0)::bigint), id);

CREATE INDEX event_default_xid_idx ON integration.event_default USING btree (xid);

CREATE INDEX job_deferred ON integration.job USING btree (connection_id, run_at, id) WHERE (state = 1);

CREATE INDEX job_held ON integration.job USING btree (connection_id, subject, id) WHERE (state = 2);

CREATE INDEX job_ready ON integration.job USING btree (connection_id, id) WHERE (state = 0);

CREATE INDEX job_replay ON integration.job USING btree (connection_id, replay_id) WHERE (replay_id IS NOT NULL);

CREATE INDEX lane_narrowed ON integration.lane USING btree (connection_id) WHERE (effective_concurrency IS NOT NULL);

CREATE INDEX lane_owner ON integration.lane USING btree (owner);

CREATE INDEX lane_pool ON integration.lane USING btree (pool_id);

CREATE INDEX lane_quarantined ON integration.lane USING btree (probe_at) WHERE (state = 'Quarantined'::text);

CREATE INDEX lane_scope ON integration.lane USING btree (scope_id) WHERE (scope_id IS NOT NULL);

CREATE INDEX lane_slowed ON integration.lane USING btree (connection_id) WHERE (effective_rps IS NOT NULL);

CREATE INDEX lane_transition_at ON integration.lane_transition USING btree (at);

CREATE INDEX lane_transition_connection ON integration.lane_transition USING btree (connection_id, id);

CREATE INDEX mapping_forget ON integration.mapping USING btree (forget_at) WHERE (forget_at IS NOT NULL);

CREATE INDEX oauth_flow_expiry ON integration.oauth_flow USING btree (expires_at);

CREATE INDEX oauth_flow_open ON integration.oauth_flow USING btree (connection_id) WHERE (status = ANY (ARRAY['Requested'::text, 'Answered'::text]));

CREATE INDEX oauth_token_age ON integration.oauth_token USING btree (obtained_at) WHERE (refused_at IS NULL);

CREATE INDEX replay_resource_asked ON integration.replay_resource USING btree (look_at) WHERE (state = 'Asked'::text);

CREATE INDEX replay_resource_uid ON integration.replay USING btree (resource_uid) WHERE (resource_uid IS NOT NULL);

CREATE INDEX replay_running ON integration.replay USING btree (connection_id, id) WHERE (state = 'Running'::text);

CREATE INDEX throttle_scope_spent ON integration.throttle_scope USING btree (id) WHERE (spent >= daily_limit);

CREATE INDEX throttle_share_scope ON integration.throttle_share USING btree (scope_id);

CREATE INDEX throttle_share_session ON integration.throttle_share USING btree (session);

ALTER INDEX integration.attempt_event ATTACH PARTITION integration.attempt_default_event_id_idx;

ALTER INDEX integration.attempt_replay ATTACH PARTITION integration.attempt_default_replay_id_outcome_idx;

ALTER INDEX integration.event_subject ATTACH PARTITION integration.event_default_hashtextextended_id_idx;

ALTER INDEX integration.event_pkey ATTACH PARTITION integration.event_default_pkey;

ALTER INDEX integration.event_xid ATTACH PARTITION integration.event_default_xid_idx;

ALTER TABLE ONLY integration.lane
    ADD CONSTRAINT lane_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.lane
    ADD CONSTRAINT lane_owner_fkey FOREIGN KEY (owner) REFERENCES integration.worker_session(id) ON DELETE SET NULL;

ALTER TABLE ONLY integration.lane
    ADD CONSTRAINT lane_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES integration.pool(id);

ALTER TABLE ONLY integration.lane
    ADD CONSTRAINT lane_scope_id_fkey FOREIGN KEY (scope_id) REFERENCES integration.throttle_scope(id);

ALTER TABLE ONLY integration.lane_transition
    ADD CONSTRAINT lane_transition_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.oauth_flow
    ADD CONSTRAINT oauth_flow_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id);

ALTER TABLE ONLY integration.oauth_token
    ADD CONSTRAINT oauth_token_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id);

ALTER TABLE ONLY integration.partner_fact
    ADD CONSTRAINT partner_fact_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id);

ALTER TABLE ONLY integration.replay
    ADD CONSTRAINT replay_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.replay_edit
    ADD CONSTRAINT replay_edit_replay_id_fkey FOREIGN KEY (replay_id) REFERENCES integration.replay(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.replay
    ADD CONSTRAINT replay_resource_uid_fkey FOREIGN KEY (resource_uid) REFERENCES integration.replay_resource(uid);

ALTER TABLE ONLY integration.route
    ADD CONSTRAINT route_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES integration.connection(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.throttle_share
    ADD CONSTRAINT throttle_share_scope_id_fkey FOREIGN KEY (scope_id) REFERENCES integration.throttle_scope(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.throttle_share
    ADD CONSTRAINT throttle_share_session_fkey FOREIGN KEY (session) REFERENCES integration.worker_session(id) ON DELETE CASCADE;

ALTER TABLE ONLY integration.worker_session
    ADD CONSTRAINT worker_session_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES integration.pool(id);

ALTER TABLE integration.attempt ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.attempt_default ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.connection ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.dead_letter ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.dead_letter_end ENABLE ROW LEVEL SECURITY;

CREATE POLICY dispatcher ON integration.connection FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.dead_letter FOR INSERT TO integration_dispatcher WITH CHECK (true);

CREATE POLICY dispatcher ON integration.dead_letter_end FOR INSERT TO integration_dispatcher WITH CHECK (true);

CREATE POLICY dispatcher ON integration.event FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.job FOR INSERT TO integration_dispatcher WITH CHECK (true);

CREATE POLICY dispatcher ON integration.lane FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.lane_transition FOR DELETE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.pool FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.replay FOR UPDATE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.replay_resource FOR UPDATE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.route FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.throttle_scope FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.worker TO integration_dispatcher USING (true);

CREATE POLICY dispatcher ON integration.worker_session FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_deletes ON integration.dead_letter FOR DELETE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_finds ON integration.attempt FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_forgets ON integration.dead_letter_end FOR DELETE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_forgets ON integration.mapping FOR DELETE TO integration_dispatcher USING ((forget_at IS NOT NULL));

CREATE POLICY dispatcher_forgets ON integration.oauth_flow FOR DELETE TO integration_dispatcher USING ((expires_at < (now() - '1 day'::interval)));

CREATE POLICY dispatcher_forgets ON integration.replay FOR DELETE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_forgets ON integration.replay_resource FOR DELETE TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.dead_letter FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.dead_letter_end FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.job FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.lane_transition FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.mapping FOR SELECT TO integration_dispatcher USING ((forget_at IS NOT NULL));

CREATE POLICY dispatcher_reads ON integration.oauth_flow FOR SELECT TO integration_dispatcher USING ((expires_at < now()));

CREATE POLICY dispatcher_reads ON integration.replay FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_reads ON integration.replay_resource FOR SELECT TO integration_dispatcher USING (true);

CREATE POLICY dispatcher_starts ON integration.replay FOR INSERT TO integration_dispatcher WITH CHECK ((resource_uid IS NOT NULL));

CREATE POLICY dispatcher_updates ON integration.lane FOR UPDATE TO integration_dispatcher USING (true);

CREATE POLICY emitter ON integration.event FOR INSERT TO integration_emitter WITH CHECK (true);

CREATE POLICY emitter ON integration.event_dedupe FOR INSERT TO integration_emitter WITH CHECK (true);

CREATE POLICY emitter_reads ON integration.event_dedupe FOR SELECT TO integration_emitter USING (true);

ALTER TABLE integration.event ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.event_dedupe ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.event_default ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.job ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.lane ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.lane_transition ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.mapping ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.oauth_flow ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.oauth_token ENABLE ROW LEVEL SECURITY;

CREATE POLICY operator ON integration.connection TO integration_operator USING (true);

CREATE POLICY operator ON integration.dead_letter FOR INSERT TO integration_operator WITH CHECK (true);

CREATE POLICY operator ON integration.job FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator ON integration.lane TO integration_operator USING (true);

CREATE POLICY operator ON integration.pool TO integration_operator USING (true);

CREATE POLICY operator ON integration.replay_resource FOR INSERT TO integration_operator WITH CHECK (true);

CREATE POLICY operator ON integration.route TO integration_operator USING (true);

CREATE POLICY operator ON integration.tenant_role TO integration_operator USING (true);

CREATE POLICY operator ON integration.throttle_scope TO integration_operator USING (true);

CREATE POLICY operator ON integration.throttle_share TO integration_operator USING (true);

CREATE POLICY operator ON integration.worker_session FOR DELETE TO integration_operator USING (true);

CREATE POLICY operator_cancels ON integration.replay FOR UPDATE TO integration_operator USING ((resource_uid IS NOT NULL));

CREATE POLICY operator_cancels ON integration.replay_resource FOR UPDATE TO integration_operator USING (true);

CREATE POLICY operator_counts ON integration.attempt FOR SELECT TO integration_operator USING ((replay_id IS NOT NULL));

CREATE POLICY operator_counts ON integration.dead_letter_end FOR SELECT TO integration_operator USING ((replay_id IS NOT NULL));

CREATE POLICY operator_deletes ON integration.job FOR DELETE TO integration_operator USING (true);

CREATE POLICY operator_forgets ON integration.oauth_flow FOR DELETE TO integration_operator USING (true);

CREATE POLICY operator_forgets ON integration.oauth_token FOR DELETE TO integration_operator USING (true);

CREATE POLICY operator_forgets ON integration.partner_fact FOR DELETE TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.dead_letter FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.oauth_flow FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.oauth_token FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.partner_fact FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.replay FOR SELECT TO integration_operator USING ((resource_uid IS NOT NULL));

CREATE POLICY operator_reads ON integration.replay_resource FOR SELECT TO integration_operator USING (true);

CREATE POLICY operator_reads ON integration.worker_session FOR SELECT TO integration_operator USING (true);

CREATE POLICY owner ON integration.attempt TO schema_owner USING (true);

CREATE POLICY owner ON integration.attempt_default TO schema_owner USING (true);

CREATE POLICY owner ON integration.dead_letter TO schema_owner USING (true);

CREATE POLICY owner ON integration.event TO schema_owner USING (true);

CREATE POLICY owner ON integration.event_dedupe TO schema_owner USING (true);

CREATE POLICY owner ON integration.event_default TO schema_owner USING (true);

CREATE POLICY owner ON integration.job TO schema_owner USING (true);

CREATE POLICY owner ON integration.lane FOR SELECT TO schema_owner USING ((pool_id = ANY (ARRAY( SELECT p.id
   FROM integration.pool p
  WHERE (p.role = SESSION_USER)))));

CREATE POLICY owner ON integration.oauth_flow TO schema_owner USING (true);

CREATE POLICY owner ON integration.pool TO schema_owner USING (true);

CREATE POLICY owner ON integration.sweep TO schema_owner USING (true);

CREATE POLICY owner ON integration.throttle_scope TO schema_owner USING (true);

CREATE POLICY owner ON integration.throttle_share TO schema_owner USING (true);

CREATE POLICY owner ON integration.worker_session FOR SELECT TO schema_owner USING ((pool_id = ANY (ARRAY( SELECT p.id
   FROM integration.pool p
  WHERE (p.role = SESSION_USER)))));

ALTER TABLE integration.partner_fact ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.pool ENABLE ROW LEVEL SECURITY;

CREATE POLICY reader ON integration.attempt FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.connection FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.dead_letter FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.dead_letter_end FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.event FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.job FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.lane FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.lane_transition FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.mapping FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.oauth_flow FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.oauth_token FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.partner_fact FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.pool FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.replay FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.replay_edit FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.replay_resource FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.route FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.tenant_role FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.throttle_scope FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.throttle_share FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.worker FOR SELECT TO integration_reader USING (true);

CREATE POLICY reader ON integration.worker_session FOR SELECT TO integration_reader USING (true);

ALTER TABLE integration.replay ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.replay_edit ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.replay_resource ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.route ENABLE ROW LEVEL SECURITY;

CREATE POLICY support ON integration.dead_letter FOR DELETE TO integration_support USING (true);

CREATE POLICY support ON integration.dead_letter_end FOR INSERT TO integration_support WITH CHECK (true);

CREATE POLICY support ON integration.oauth_flow FOR INSERT TO integration_support WITH CHECK (true);

CREATE POLICY support ON integration.replay FOR INSERT TO integration_support WITH CHECK (true);

CREATE POLICY support ON integration.replay_edit FOR INSERT TO integration_support WITH CHECK (true);

CREATE POLICY support_cancels ON integration.replay FOR UPDATE TO integration_support USING (true);

CREATE POLICY support_reads ON integration.attempt FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.connection FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.dead_letter FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.dead_letter_end FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.event FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.job FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.lane FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.oauth_flow FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.replay FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.replay_edit FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.replay_resource FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.route FOR SELECT TO integration_support USING (true);

CREATE POLICY support_reads ON integration.worker FOR SELECT TO integration_support USING (true);

CREATE POLICY support_updates ON integration.lane FOR UPDATE TO integration_support USING (true);

ALTER TABLE integration.sweep ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.tenant_role ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.throttle_scope ENABLE ROW LEVEL SECURITY;

ALTER TABLE integration.throttle_share ENABLE ROW LEVEL SECURITY;

CREATE POLICY worker ON integration.attempt FOR INSERT TO integration_worker WITH CHECK ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

CREATE POLICY worker ON integration.connection FOR SELECT TO integration_worker USING ((id IN ( SELECT l.connection_id
   FROM integration.lane l)));

CREATE POLICY worker ON integration.dead_letter FOR INSERT TO integration_worker WITH CHECK ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

CREATE POLICY worker ON integration.event FOR SELECT TO integration_worker USING ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

CREATE POLICY worker ON integration.job TO integration_worker USING (((pool_id = ANY (ARRAY( SELECT p.id
   FROM integration.pool p
  WHERE (p.role = CURRENT_USER)))) IS TRUE));

CREATE POLICY worker ON integration.lane TO integration_worker USING ((pool_id = ANY (ARRAY( SELECT p.id
   FROM integration.pool p
  WHERE (p.role = CURRENT_USER)))));

CREATE POLICY worker ON integration.lane_transition FOR INSERT TO integration_worker WITH CHECK ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

CREATE POLICY worker ON integration.mapping TO integration_worker USING ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

CREATE POLICY worker ON integration.oauth_flow TO integration_worker USING (((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)) AND (tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER)))));

CREATE POLICY worker ON integration.oauth_token TO integration_worker USING (((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)) AND (tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER)))));

CREATE POLICY worker ON integration.partner_fact TO integration_worker USING (((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)) AND (tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER)))));

CREATE POLICY worker ON integration.pool FOR SELECT TO integration_worker USING ((role = CURRENT_USER));

CREATE POLICY worker ON integration.replay FOR SELECT TO integration_worker USING ((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)));

CREATE POLICY worker ON integration.replay_edit FOR SELECT TO integration_worker USING ((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)));

CREATE POLICY worker ON integration.route FOR SELECT TO integration_worker USING ((connection_id IN ( SELECT l.connection_id
   FROM integration.lane l)));

CREATE POLICY worker ON integration.tenant_role FOR SELECT TO integration_worker USING ((role = CURRENT_USER));

CREATE POLICY worker ON integration.throttle_scope FOR SELECT TO integration_worker USING ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

ALTER TABLE integration.worker ENABLE ROW LEVEL SECURITY;

CREATE POLICY worker ON integration.worker FOR INSERT TO integration_worker WITH CHECK ((EXISTS ( SELECT
   FROM integration.worker_session s
  WHERE ((s.id = worker.session) AND (s.pool_id = worker.pool_id)))));

CREATE POLICY worker ON integration.worker_session TO integration_worker USING ((pool_id = ANY (ARRAY( SELECT p.id
   FROM integration.pool p
  WHERE (p.role = CURRENT_USER)))));

CREATE POLICY worker_reads ON integration.dead_letter FOR SELECT TO integration_worker USING ((tenant_id IN ( SELECT t.tenant_id
   FROM integration.tenant_role t
  WHERE (t.role = CURRENT_USER))));

ALTER TABLE integration.worker_session ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA integration TO integration_emitter;
GRANT USAGE ON SCHEMA integration TO integration_producer;
GRANT USAGE ON SCHEMA integration TO integration_dispatcher;
GRANT USAGE ON SCHEMA integration TO integration_worker;
GRANT USAGE ON SCHEMA integration TO integration_operator;
GRANT USAGE ON SCHEMA integration TO integration_reader;
GRANT USAGE ON SCHEMA integration TO integration_support;
GRANT USAGE ON SCHEMA integration TO integration_ingress;

REVOKE ALL ON FUNCTION integration.answer_oauth_flow(digest bytea, sealed_code bytea, refusal text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.answer_oauth_flow(digest bytea, sealed_code bytea, refusal text) TO integration_ingress;

REVOKE ALL ON FUNCTION integration.arrange_scopes(tenants text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.arrange_scopes(tenants text[]) TO integration_operator;

REVOKE ALL ON FUNCTION integration.check_event(tenant text, type text, subject text, data jsonb, dedupe_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.check_event(tenant text, type text, subject text, data jsonb, dedupe_key text) TO integration_emitter;

REVOKE ALL ON FUNCTION integration.create_partition(parent text, day date) FROM PUBLIC;

REVOKE ALL ON FUNCTION integration.draw_permits(worker bigint, lanes integer[], weights integer[], under_way integer[], in_hand integer[], used_ago double precision[], unused integer[], rests double precision[], wanted integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.draw_permits(worker bigint, lanes integer[], weights integer[], under_way integer[], in_hand integer[], used_ago double precision[], unused integer[], rests double precision[], wanted integer[]) TO integration_worker;

REVOKE ALL ON FUNCTION integration.drop_pool(pool text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.drop_pool(pool text) TO integration_operator;

REVOKE ALL ON FUNCTION integration.emit_event(tenant text, type text, subject text, data jsonb, dedupe_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.emit_event(tenant text, type text, subject text, data jsonb, dedupe_key text) TO integration_producer;

REVOKE ALL ON FUNCTION integration.emit_events(tenant text, types text[], subjects text[], data jsonb[]) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.emit_events(tenant text, types text[], subjects text[], data jsonb[]) TO integration_producer;

REVOKE ALL ON FUNCTION integration.knows_zone(zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.knows_zone(zone text) TO integration_operator;

REVOKE ALL ON FUNCTION integration.lane_demand(counted_at_most integer, soon_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.lane_demand(counted_at_most integer, soon_seconds double precision) TO integration_operator;
GRANT ALL ON FUNCTION integration.lane_demand(counted_at_most integer, soon_seconds double precision) TO integration_worker;

REVOKE ALL ON FUNCTION integration.maintain(event_days integer, attempt_days integer, dead_letter_days integer, ahead_days integer) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.maintain(event_days integer, attempt_days integer, dead_letter_days integer, ahead_days integer) TO integration_dispatcher;

REVOKE ALL ON FUNCTION integration.next_midnight(zone text, moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.next_midnight(zone text, moment timestamp with time zone) TO integration_operator;

REVOKE ALL ON FUNCTION integration.oauth_flow_of(digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.oauth_flow_of(digest bytea) TO integration_ingress;

REVOKE ALL ON FUNCTION integration.partitions(parent text) FROM PUBLIC;

REVOKE ALL ON FUNCTION integration.plan_sweeps(relation text, days integer, tenant_days jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION integration.pool_role(pool text) FROM PUBLIC;

REVOKE ALL ON FUNCTION integration.selects(patterns text[], type text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.selects(patterns text[], type text) TO integration_reader;
GRANT ALL ON FUNCTION integration.selects(patterns text[], type text) TO integration_support;
GRANT ALL ON FUNCTION integration.selects(patterns text[], type text) TO integration_dispatcher;

REVOKE ALL ON FUNCTION integration.set_pool_credential(pool text, credential text, verifier text) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.set_pool_credential(pool text, credential text, verifier text) TO integration_operator;

REVOKE ALL ON FUNCTION integration.sweep(relation text, days integer, tenant_days jsonb, blocks integer, keys integer) FROM PUBLIC;
GRANT ALL ON FUNCTION integration.sweep(relation text, days integer, tenant_days jsonb, blocks integer, keys integer) TO integration_dispatcher;

REVOKE ALL ON FUNCTION integration.wanted_workers() FROM PUBLIC;
GRANT ALL ON FUNCTION integration.wanted_workers() TO integration_worker;

GRANT SELECT ON TABLE integration.attempt TO integration_reader;
GRANT INSERT ON TABLE integration.attempt TO integration_worker;
GRANT SELECT ON TABLE integration.attempt TO integration_support;

GRANT SELECT(event_id) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(job_id) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(tenant_id) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(connection_id) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(route_id) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(outcome) ON TABLE integration.attempt TO integration_operator;
GRANT SELECT(outcome) ON TABLE integration.attempt TO integration_dispatcher;

GRANT SELECT(replay_id) ON TABLE integration.attempt TO integration_operator;

GRANT USAGE ON SEQUENCE integration.claim_token TO integration_worker;

GRANT SELECT ON TABLE integration.connection TO integration_reader;
GRANT SELECT ON TABLE integration.connection TO integration_dispatcher;
GRANT SELECT ON TABLE integration.connection TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.connection TO integration_operator;
GRANT SELECT ON TABLE integration.connection TO integration_support;

GRANT SELECT ON TABLE integration.dead_letter TO integration_reader;
GRANT SELECT,INSERT,DELETE ON TABLE integration.dead_letter TO integration_dispatcher;
GRANT INSERT ON TABLE integration.dead_letter TO integration_worker;
GRANT INSERT ON TABLE integration.dead_letter TO integration_operator;
GRANT SELECT,DELETE ON TABLE integration.dead_letter TO integration_support;

GRANT SELECT(tenant_id) ON TABLE integration.dead_letter TO integration_worker;

GRANT SELECT(connection_id) ON TABLE integration.dead_letter TO integration_worker;
GRANT SELECT(connection_id) ON TABLE integration.dead_letter TO integration_operator;

GRANT SELECT(subject) ON TABLE integration.dead_letter TO integration_worker;

GRANT SELECT(blocks) ON TABLE integration.dead_letter TO integration_worker;

GRANT SELECT(replay_id) ON TABLE integration.dead_letter TO integration_operator;

GRANT SELECT ON TABLE integration.dead_letter_end TO integration_reader;
GRANT SELECT,INSERT ON TABLE integration.dead_letter_end TO integration_support;
GRANT SELECT,INSERT,DELETE ON TABLE integration.dead_letter_end TO integration_dispatcher;

GRANT SELECT(replay_id) ON TABLE integration.dead_letter_end TO integration_operator;

GRANT SELECT ON TABLE integration.dispatch_cursor TO integration_reader;
GRANT SELECT,UPDATE ON TABLE integration.dispatch_cursor TO integration_dispatcher;
GRANT SELECT ON TABLE integration.dispatch_cursor TO integration_worker;
GRANT SELECT ON TABLE integration.dispatch_cursor TO integration_support;

GRANT SELECT(revision),UPDATE(revision) ON TABLE integration.dispatch_cursor TO integration_operator;

GRANT SELECT ON TABLE integration.dispatcher_sleep TO integration_emitter;
GRANT SELECT,UPDATE ON TABLE integration.dispatcher_sleep TO integration_dispatcher;

GRANT USAGE ON SEQUENCE integration.event_id TO integration_emitter;

GRANT SELECT ON TABLE integration.event TO integration_reader;
GRANT INSERT ON TABLE integration.event TO integration_emitter;
GRANT SELECT ON TABLE integration.event TO integration_dispatcher;
GRANT SELECT ON TABLE integration.event TO integration_worker;
GRANT SELECT ON TABLE integration.event TO integration_support;

GRANT SELECT,INSERT ON TABLE integration.event_dedupe TO integration_emitter;

GRANT SELECT ON TABLE integration.event_type TO integration_reader;
GRANT SELECT ON TABLE integration.event_type TO integration_emitter;

GRANT SELECT ON TABLE integration.job TO integration_reader;
GRANT SELECT,INSERT ON TABLE integration.job TO integration_dispatcher;
GRANT SELECT,DELETE ON TABLE integration.job TO integration_worker;
GRANT SELECT,DELETE ON TABLE integration.job TO integration_operator;
GRANT SELECT ON TABLE integration.job TO integration_support;

GRANT UPDATE(state) ON TABLE integration.job TO integration_worker;

GRANT UPDATE(attempts) ON TABLE integration.job TO integration_worker;

GRANT UPDATE(run_at) ON TABLE integration.job TO integration_worker;

GRANT USAGE ON SEQUENCE integration.job_id TO integration_dispatcher;

GRANT SELECT ON TABLE integration.lane TO integration_reader;
GRANT SELECT ON TABLE integration.lane TO integration_dispatcher;
GRANT SELECT ON TABLE integration.lane TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.lane TO integration_operator;
GRANT SELECT ON TABLE integration.lane TO integration_support;

GRANT UPDATE(owner) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(revision) ON TABLE integration.lane TO integration_worker;
GRANT UPDATE(revision) ON TABLE integration.lane TO integration_dispatcher;
GRANT UPDATE(revision) ON TABLE integration.lane TO integration_support;

GRANT UPDATE(state) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(consecutive_failures) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(quarantined_at) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(quarantine_reason) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(probes) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(probe_at) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(paused_until) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(tokens) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(tokens_at) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(probe_asked_by) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(ramp_percent) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(effective_rps) ON TABLE integration.lane TO integration_worker;

GRANT UPDATE(effective_concurrency) ON TABLE integration.lane TO integration_worker;

GRANT SELECT ON TABLE integration.lane_transition TO integration_reader;
GRANT INSERT ON TABLE integration.lane_transition TO integration_worker;
GRANT SELECT,DELETE ON TABLE integration.lane_transition TO integration_dispatcher;

GRANT SELECT ON TABLE integration.mapping TO integration_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.mapping TO integration_worker;
GRANT SELECT,DELETE ON TABLE integration.mapping TO integration_dispatcher;

GRANT DELETE ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT,UPDATE ON TABLE integration.oauth_flow TO integration_worker;
GRANT DELETE ON TABLE integration.oauth_flow TO integration_dispatcher;

GRANT SELECT(id) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(id) ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT(id) ON TABLE integration.oauth_flow TO integration_support;
GRANT SELECT(id) ON TABLE integration.oauth_flow TO integration_dispatcher;

GRANT SELECT(connection_id) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(connection_id) ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT(connection_id),INSERT(connection_id) ON TABLE integration.oauth_flow TO integration_support;

GRANT SELECT(tenant_id) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(tenant_id) ON TABLE integration.oauth_flow TO integration_operator;
GRANT INSERT(tenant_id) ON TABLE integration.oauth_flow TO integration_support;

GRANT INSERT(connection_name) ON TABLE integration.oauth_flow TO integration_support;

GRANT INSERT(state_digest) ON TABLE integration.oauth_flow TO integration_support;

GRANT INSERT(redirect_uri) ON TABLE integration.oauth_flow TO integration_support;

GRANT SELECT(requested_by) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(requested_by) ON TABLE integration.oauth_flow TO integration_operator;
GRANT INSERT(requested_by) ON TABLE integration.oauth_flow TO integration_support;

GRANT SELECT(requested_at) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(requested_at) ON TABLE integration.oauth_flow TO integration_operator;

GRANT SELECT(expires_at) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(expires_at) ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT(expires_at),INSERT(expires_at) ON TABLE integration.oauth_flow TO integration_support;
GRANT SELECT(expires_at) ON TABLE integration.oauth_flow TO integration_dispatcher;

GRANT SELECT(status) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(status) ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT(status) ON TABLE integration.oauth_flow TO integration_support;

GRANT SELECT(authorize_url) ON TABLE integration.oauth_flow TO integration_support;

GRANT SELECT(detail) ON TABLE integration.oauth_flow TO integration_reader;
GRANT SELECT(detail) ON TABLE integration.oauth_flow TO integration_operator;
GRANT SELECT(detail) ON TABLE integration.oauth_flow TO integration_support;

GRANT DELETE ON TABLE integration.oauth_token TO integration_operator;
GRANT SELECT,INSERT,UPDATE ON TABLE integration.oauth_token TO integration_worker;

GRANT SELECT(connection_id) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(connection_id) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(tenant_id) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(tenant_id) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(version) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(version) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(key_name) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(key_name) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(obtained_at) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(obtained_at) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(expires_at) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(expires_at) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(details) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(details) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(refused_at) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(refused_at) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(refusal) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(refusal) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(holder) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(holder) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(held_until) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(held_until) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(tried_since) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(tried_since) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT(rests_until) ON TABLE integration.oauth_token TO integration_reader;
GRANT SELECT(rests_until) ON TABLE integration.oauth_token TO integration_operator;

GRANT SELECT ON TABLE integration.operator_term TO integration_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE integration.operator_term TO integration_operator;

GRANT SELECT ON TABLE integration.partner_fact TO integration_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.partner_fact TO integration_worker;
GRANT DELETE ON TABLE integration.partner_fact TO integration_operator;

GRANT SELECT(connection_id) ON TABLE integration.partner_fact TO integration_operator;

GRANT SELECT ON TABLE integration.pool TO integration_reader;
GRANT SELECT ON TABLE integration.pool TO integration_dispatcher;
GRANT SELECT ON TABLE integration.pool TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.pool TO integration_operator;

GRANT SELECT ON TABLE integration.replay TO integration_reader;
GRANT SELECT,INSERT ON TABLE integration.replay TO integration_support;
GRANT SELECT,INSERT,DELETE ON TABLE integration.replay TO integration_dispatcher;

GRANT SELECT(id) ON TABLE integration.replay TO integration_worker;
GRANT SELECT(id) ON TABLE integration.replay TO integration_operator;

GRANT SELECT(connection_id) ON TABLE integration.replay TO integration_worker;
GRANT SELECT(connection_id) ON TABLE integration.replay TO integration_operator;

GRANT SELECT(requested_at) ON TABLE integration.replay TO integration_operator;

GRANT SELECT(new_message_ids) ON TABLE integration.replay TO integration_worker;

GRANT UPDATE(state) ON TABLE integration.replay TO integration_support;
GRANT UPDATE(state) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(state),UPDATE(state) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(detail) ON TABLE integration.replay TO integration_support;
GRANT UPDATE(detail) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(detail),UPDATE(detail) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(cancelled_by) ON TABLE integration.replay TO integration_support;
GRANT UPDATE(cancelled_by) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(revision) ON TABLE integration.replay TO integration_support;
GRANT UPDATE(revision) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(revision),UPDATE(revision) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(cursor) ON TABLE integration.replay TO integration_dispatcher;

GRANT UPDATE(read_to_end) ON TABLE integration.replay TO integration_dispatcher;

GRANT UPDATE(queued) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(queued) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(superseded) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(superseded) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(unfinished) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(unfinished) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(gone) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(gone) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(filter_failed) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(filter_failed) ON TABLE integration.replay TO integration_operator;

GRANT UPDATE(moved_at) ON TABLE integration.replay TO integration_dispatcher;

GRANT UPDATE(ended_at) ON TABLE integration.replay TO integration_support;
GRANT UPDATE(ended_at) ON TABLE integration.replay TO integration_dispatcher;
GRANT SELECT(ended_at),UPDATE(ended_at) ON TABLE integration.replay TO integration_operator;

GRANT SELECT(resource_uid) ON TABLE integration.replay TO integration_operator;

GRANT SELECT(sample) ON TABLE integration.replay TO integration_operator;
GRANT UPDATE(sample) ON TABLE integration.replay TO integration_dispatcher;

GRANT SELECT ON TABLE integration.replay_edit TO integration_reader;
GRANT SELECT,INSERT ON TABLE integration.replay_edit TO integration_support;

GRANT SELECT(replay_id) ON TABLE integration.replay_edit TO integration_worker;

GRANT SELECT(connection_id) ON TABLE integration.replay_edit TO integration_worker;

GRANT SELECT(data) ON TABLE integration.replay_edit TO integration_worker;

GRANT SELECT ON TABLE integration.replay_resource TO integration_reader;
GRANT SELECT ON TABLE integration.replay_resource TO integration_support;
GRANT SELECT,INSERT ON TABLE integration.replay_resource TO integration_operator;
GRANT SELECT,DELETE ON TABLE integration.replay_resource TO integration_dispatcher;

GRANT UPDATE(state) ON TABLE integration.replay_resource TO integration_operator;
GRANT UPDATE(state) ON TABLE integration.replay_resource TO integration_dispatcher;

GRANT UPDATE(detail) ON TABLE integration.replay_resource TO integration_operator;
GRANT UPDATE(detail) ON TABLE integration.replay_resource TO integration_dispatcher;

GRANT UPDATE(look_at) ON TABLE integration.replay_resource TO integration_dispatcher;

GRANT UPDATE(decided_at) ON TABLE integration.replay_resource TO integration_operator;
GRANT UPDATE(decided_at) ON TABLE integration.replay_resource TO integration_dispatcher;

GRANT SELECT ON TABLE integration.route TO integration_reader;
GRANT SELECT ON TABLE integration.route TO integration_dispatcher;
GRANT SELECT ON TABLE integration.route TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.route TO integration_operator;
GRANT SELECT ON TABLE integration.route TO integration_support;

GRANT SELECT ON TABLE integration.routing TO integration_reader;
GRANT SELECT ON TABLE integration.routing TO integration_dispatcher;
GRANT SELECT ON TABLE integration.routing TO integration_worker;
GRANT SELECT,UPDATE ON TABLE integration.routing TO integration_operator;
GRANT SELECT ON TABLE integration.routing TO integration_support;

GRANT UPDATE(epoch) ON TABLE integration.routing TO integration_dispatcher;
GRANT UPDATE(epoch) ON TABLE integration.routing TO integration_support;

GRANT SELECT ON TABLE integration.tenant_role TO integration_reader;
GRANT SELECT ON TABLE integration.tenant_role TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.tenant_role TO integration_operator;

GRANT SELECT ON TABLE integration.throttle_scope TO integration_reader;
GRANT SELECT ON TABLE integration.throttle_scope TO integration_dispatcher;
GRANT SELECT ON TABLE integration.throttle_scope TO integration_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE integration.throttle_scope TO integration_operator;

GRANT SELECT ON TABLE integration.throttle_share TO integration_reader;
GRANT SELECT,DELETE ON TABLE integration.throttle_share TO integration_operator;

GRANT SELECT ON TABLE integration.worker TO integration_reader;
GRANT INSERT ON TABLE integration.worker TO integration_worker;
GRANT SELECT,DELETE ON TABLE integration.worker TO integration_dispatcher;
GRANT SELECT ON TABLE integration.worker TO integration_support;

GRANT UPDATE(seen_at) ON TABLE integration.worker TO integration_dispatcher;

GRANT SELECT ON TABLE integration.worker_session TO integration_reader;
GRANT SELECT,DELETE ON TABLE integration.worker_session TO integration_worker;
GRANT SELECT,DELETE ON TABLE integration.worker_session TO integration_operator;
GRANT SELECT ON TABLE integration.worker_session TO integration_dispatcher;

GRANT INSERT(pool_id) ON TABLE integration.worker_session TO integration_worker;

GRANT INSERT(name) ON TABLE integration.worker_session TO integration_worker;

GRANT INSERT(lease_until),UPDATE(lease_until) ON TABLE integration.worker_session TO integration_worker;

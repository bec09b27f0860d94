"""Prometheus metrics of dispatcher and worker. Labels name connections and outcomes, never events, jobs or payloads."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from connectors.connector import Connection
from contracts.outcomes import Report
from delivery.effects import outcome_name
from delivery.tallies import Spread, Tally
from store.scopes import Budget
from store.upkeep import BacklogRow
from store.watching import Watched

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_CONNECTION = ("namespace", "connection")
_BUDGET = ("tenant", "scope")


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Tally(
            "integrations_attempts", "Delivery attempts by outcome.", (*_CONNECTION, "outcome"), registry
        )
        self._attempt_seconds = Spread(
            "integrations_attempt_seconds", "Time a partner took to answer.", "provider", _LATENCY_BUCKETS, registry
        )
        self._delivery_seconds = Spread(
            "integrations_delivery_seconds",
            "Emission to delivery, retries included.",
            "provider",
            _LATENCY_BUCKETS,
            registry,
        )
        self._batch_items = Spread(
            "integrations_batch_items",
            "Deliveries in one request, of connections that send many at once.",
            "provider",
            _BATCH_BUCKETS,
            registry,
        )
        self._expired = Tally(
            "integrations_jobs_expired", "Jobs that became dead letters at their deadline.", _CONNECTION, registry
        )
        self._superseded = Tally(
            "integrations_jobs_superseded",
            "Jobs that a newer one of their subject superseded before they were delivered.",
            _CONNECTION,
            registry,
        )
        self.claimed = Counter("integrations_jobs_claimed", "Jobs taken into memory.", registry=registry)
        self.fenced = Counter(
            "integrations_fenced_results", "Results that came after the lease or the job was lost.", registry=registry
        )
        self.lanes = Gauge("integrations_owned_lanes", "Lanes owned, by state.", ("state",), registry=registry)
        self.under_way = Gauge("integrations_requests_under_way", "Requests under way.", registry=registry)
        self.loop_lag = Gauge(
            "integrations_event_loop_lag_seconds",
            "How late the worker does what is due, for want of CPU.",
            registry=registry,
        )
        self.database_up = Gauge("integrations_database_up", "Whether the database answers.", registry=registry)
        self.credentials_rejected = Gauge(
            "integrations_credentials_rejected",
            "Connections that go on with former credentials because the newest cannot be used.",
            registry=registry,
        )
        self.sessions = Counter(
            "integrations_worker_sessions", "Sessions begun; all but one: lost leases.", registry=registry
        )

    def attempted(self, connection: Connection, report: Report, seconds: float) -> None:
        """Count one attempt."""
        self._attempts.counts[connection.namespace, connection.name, outcome_name(report.outcome)] += 1
        self._attempt_seconds.observe(connection.spec.provider, seconds)

    def attempted_together(self, connection: Connection, reports: Sequence[Report], seconds: float) -> None:
        """Count the attempts of one request."""
        for report in reports:
            self._attempts.counts[connection.namespace, connection.name, outcome_name(report.outcome)] += 1
        self._attempt_seconds.observe(connection.spec.provider, seconds)
        self._batch_items.observe(connection.spec.provider, len(reports))

    def expired(self, connection: Connection, jobs: int) -> None:
        """Count jobs whose deadline passed."""
        self._expired.counts[connection.namespace, connection.name] += jobs

    def superseded(self, connection: Connection, jobs: int) -> None:
        """Count jobs that newer ones superseded."""
        self._superseded.counts[connection.namespace, connection.name] += jobs

    def delivered(self, connection: Connection, seconds: float) -> None:
        """Count one delivery and its age."""
        self._delivery_seconds.observe(connection.spec.provider, max(0.0, seconds))


class DispatcherMetrics:
    """What a dispatcher counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("integrations_events_dispatched", "Events dispatched.", registry=registry)
        self.jobs = Counter("integrations_jobs_created", "Jobs created.", registry=registry)
        self.failures = Counter(
            "integrations_routing_failures", "Jobs that a failing filter prevented.", registry=registry
        )
        self.batches = Counter(
            "integrations_dispatch_batches",
            "Batches by result: written, or lost to another dispatcher.",
            ("result",),
            registry=registry,
        )
        self.epoch = Gauge("integrations_routing_epoch", "Routing epoch in use.", registry=registry)
        self.database_up = Gauge("integrations_database_up", "Whether the database answers.", registry=registry)
        self._backlog = Gauge("integrations_backlog_jobs", "Unfinished jobs.", _CONNECTION, registry=registry)
        self._oldest = Gauge(
            "integrations_backlog_oldest_seconds", "Age of the oldest unfinished job.", _CONNECTION, registry=registry
        )
        self._state = Gauge(
            "integrations_lane_state", "1 for the state a connection is in.", (*_CONNECTION, "state"), registry=registry
        )

        self._undispatched = Gauge(
            "integrations_undispatched_oldest_seconds",
            "Age of the event that waits longest for a dispatcher.",
            registry=registry,
        )
        self._dead = Gauge(
            "integrations_dead_letters", "Dead letters of connections that have any.", _CONNECTION, registry=registry
        )
        self._oldest_transaction = Gauge(
            "integrations_oldest_transaction_seconds",
            "For how long somebody has kept the database from removing dead rows.",
            registry=registry,
        )
        self._partitions = Gauge(
            "integrations_partitions_ahead_days",
            "Days after today for which partitions exist.",
            ("table",),
            registry=registry,
        )
        self._dead_rows = Gauge(
            "integrations_dead_rows", "Rows that VACUUM has not removed yet.", ("table",), registry=registry
        )
        self.swept = Counter(
            "integrations_swept_rows",
            "Rows deleted because they outlived their tenant's own retention, or the default beside a longer one.",
            ("table",),
            registry=registry,
        )

        self._daily_limit = Gauge(
            "integrations_daily_budget_calls", "Calls that a daily budget has.", _BUDGET, registry=registry
        )
        self._spent_today = Gauge(
            "integrations_daily_budget_spent_calls", "Calls of the day that are made.", _BUDGET, registry=registry
        )

    def budgets(self, budgets: list[Budget]) -> None:
        """Replace the gauges of daily budgets; those that are gone disappear."""
        for gauge in (self._daily_limit, self._spent_today):
            gauge.clear()
        for budget in budgets:
            self._daily_limit.labels(budget.tenant, budget.scope).set(budget.limit)
            self._spent_today.labels(budget.tenant, budget.scope).set(budget.spent)

    def watched(self, seen: Watched, transaction_seconds: float) -> None:
        """Take over one look at the database; connections without dead letters disappear."""
        self._undispatched.set(seen.undispatched_seconds)
        self._oldest_transaction.set(transaction_seconds)
        self._dead.clear()
        for names, count in seen.dead_letters.items():
            self._dead.labels(*names).set(count)
        for table, days in seen.partitions_ahead.items():
            self._partitions.labels(table).set(days)
        for table, rows in seen.dead_rows.items():
            self._dead_rows.labels(table).set(rows)

    def backlog(self, rows: list[BacklogRow]) -> None:
        """Replace the per-connection gauges; connections that are gone disappear."""
        for gauge in (self._backlog, self._oldest, self._state):
            gauge.clear()
        for row in rows:
            self._backlog.labels(row.namespace, row.connection).set(row.jobs)
            self._oldest.labels(row.namespace, row.connection).set(row.oldest_seconds)
            state = "Suspended" if row.suspended else row.state
            self._state.labels(row.namespace, row.connection, state).set(1)

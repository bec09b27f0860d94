"""Prometheus metrics of the operator. Labels name connections, pools and reasons, never contents."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CONNECTION = ("namespace", "connection", "tenant", "provider")


class OperatorMetrics:
    """What the operator counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "integrations_operator_api_requests", "Requests to the API server.", ("verb", "code"), registry=registry
        )
        self.reconciled = Counter(
            "integrations_operator_reconciliations",
            "Objects reconciled, by kind and result.",
            ("kind", "result"),
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "integrations_operator_reconcile_seconds",
            "Time that reconciling one object took.",
            ("kind",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.queued = Gauge(
            "integrations_operator_queued", "Objects that wait to be reconciled.", ("lane",), registry=registry
        )
        self.leader = Gauge("integrations_operator_leader", "Whether this replica leads.", registry=registry)
        self.last_event = Gauge(
            "integrations_operator_last_event_timestamp_seconds",
            "When a watch last told anything; the leader's own Lease changes every few seconds.",
            registry=registry,
        )
        self.missed = Counter(
            "integrations_operator_missed_events",
            "Changes that no watch told of, found by comparing with the API server.",
            registry=registry,
        )
        self.definition_outdated = Gauge(
            "integrations_operator_definition_outdated",
            "Whether a definition that is served is not that of this release.",
            registry=registry,
        )
        self.database_up = Gauge(
            "integrations_operator_database_up", "Whether the database answers.", registry=registry
        )
        self.ready = Gauge(
            "integrations_connection_ready", "Whether a connection is ready.", _CONNECTION, registry=registry
        )
        self.quarantined = Gauge(
            "integrations_connection_quarantined",
            "Whether a connection's deliveries are stopped because the partner kept failing.",
            _CONNECTION,
            registry=registry,
        )
        self.oldest_job = Gauge(
            "integrations_pool_oldest_job_age_seconds",
            "Age of the oldest unfinished job of a pool.",
            ("namespace", "pool"),
            registry=registry,
        )
        self.wanted_workers = Gauge(
            "integrations_pool_wanted_workers",
            "Workers that a pool should have.",
            ("namespace", "pool"),
            registry=registry,
        )

    def event_came(self) -> None:
        """Note that a watch told something."""
        self.last_event.set(time.time())

    def forget(self) -> None:
        """Forget connections and pools: another replica tells of them now."""
        for gauge in (self.ready, self.quarantined, self.oldest_job, self.wanted_workers):
            gauge.clear()

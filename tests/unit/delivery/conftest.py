"""Lanes without a database or a partner."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest

from connectors.connector import Connection, Connector
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionId, ConnectionUid, JobId, TenantId
from delivery.lane import Lane
from store.lanes import LaneRow


def _lane(
    number: int = 1,
    tenant: str = "acme",
    throttle: dict[str, Any] | None = None,
    quarantine: dict[str, Any] | None = None,
    weight: int = 1,
    **more: Any,
) -> Lane:
    spec = {
        "tenant": tenant,
        "provider": "Webhook",
        "webhook": {"url": "https://partner.example/", "signing": {"secretsFrom": [{"name": "s", "key": "k"}]}},
        "routes": [{"name": "all", "events": ["*"]}],
        "delivery": {
            "throttle": {"burst": 100_000, "concurrency": 1_000} | (throttle or {}),
            "quarantine": quarantine or {},
            "weight": weight,
        },
    }
    uid = ConnectionUid(UUID(int=number))
    row = LaneRow(
        connection=ConnectionId(number),
        uid=uid,
        tenant=TenantId(tenant),
        namespace="team",
        name=f"connection-{number}",
        generation=1,
        spec=spec,
        revision=0,
        state="Open",
        suspended=False,
        consecutive_failures=0,
        quarantine_reason=None,
        probes=0,
        probe_in_seconds=None,
        paused_for_seconds=None,
        tokens=100_000.0,
        tokens_age_seconds=0.0,
        deferred_subjects=frozenset(),
        held_subjects=frozenset(),
        last_held=cast("JobId | None", None),
        next_due_in_seconds=None,
        probe_asked_by=None,
        ramp_percent=None,
        effective_rps=None,
        effective_concurrency=None,
    )._replace(**more)
    connection = Connection(uid, "team", row.name, row.tenant, parse_connection_spec(spec))
    return Lane(connection, cast("Connector", None), row, 0.0)


@pytest.fixture(scope="session")
def make_lane() -> Callable[..., Lane]:
    return _lane

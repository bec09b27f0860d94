"""Deliveries to certify connectors with: companies and signals of a tenant `acme`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import orjson

from connectors.connector import Connection, Delivery
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, MessageId, PublicEventId, TenantId

AT: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


def connection(spec: Mapping[str, Any]) -> Connection:
    """Return a connection `acme/certified` of the tenant `acme`."""
    uid = ConnectionUid(UUID("00000000-0000-4000-8000-000000000001"))
    return Connection(uid, "acme", "certified", TenantId("acme"), parse_connection_spec({"tenant": "acme", **spec}))


def company(number: int, route: str, *, type_: str = "company.updated", **data: Any) -> Delivery:
    """Write an event about the n-th company; its message id follows from what it says."""
    id_ = f"c-{number}"
    return _delivery(type_, id_, {"id": id_, "name": f"Company {number}", **data}, route)


def signal(number: int, route: str, **signal: Any) -> Delivery:
    """Write a signal about the n-th company."""
    data = {
        "id": f"s-{number}",
        "contract": {"uri": "https://signals.example/contract", "version": "3"},
        "company": {"id": f"c-{number}", "name": f"Company {number}"},
        "signal": {"title": f"Signal {number}", **signal},
    }
    return _delivery("signal.published", f"c-{number}", data, route)


def _delivery(type_: str, subject: str, data: Mapping[str, Any], route: str) -> Delivery:
    digest = sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    key = f"{route}_{type_}_{subject}_{digest}"
    return Delivery(
        MessageId(f"msg_{key}"[:120]),
        PublicEventId(f"evt_{key}"[:60]),
        TenantId("acme"),
        type_,
        subject,
        AT,
        orjson.dumps(data),
        route,
        1,
        AT.timestamp(),
    )

"""Every request that the HubSpot connector can make is written down in one file, and it makes no other.

After a change on purpose: REGENERATE_REQUESTS=1 python -m pytest tests/integration/connectors/test_hubspot_requests.py
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.hubspot import connector
from connectors.hubspot.client import PATHS
from connectors.hubspot.simulator import HubSpotSimulator
from tests.integration.connectors.crm import TOKEN, OpenCrm, company, signal
from tests.integration.connectors.test_hubspot_connector import spec

pytestmark = pytest.mark.anyio

FILE = Path(connector.__file__).with_name("requests.md")
HEADER = """\
# Every request that the HubSpot connector makes

Method and path, and the form of the body; kept current by a test. `{version}` is `spec.hubspot.apiVersion`.
"""


async def test_the_connector_makes_the_requests_that_are_written_down_and_no_others(open_crm: OpenCrm) -> None:
    async with HubSpotSimulator() as simulator:
        account = simulator.open_account(TOKEN)
        account.records.create("companies", {"name": "there before", "domain": "there.example"})
        opened = (await open_crm(spec(simulator.url))).open()
        first = [
            company("c-1", name="One", domains=["there.example"]),
            company("c-2", name="Two", domains=["two.example"]),
        ]
        for deliveries in (
            [*first, signal(1), signal(2, route="tasks")],
            [company("c-1", name="One now"), signal(3, route="scores"), signal(4, "c-9", route="scores")],
            [company("c-2", kind="company.deleted", route="archive")],
        ):
            await opened.send_many(deliveries)
    shapes: dict[tuple[str, str], set[str]] = {}
    for call in account.calls:
        shapes.setdefault((call.method, template(call.path)), set()).update(shape(call.body))
    written = HEADER + "".join(
        section(*place, lines) for place, lines in sorted(shapes.items(), key=lambda s: s[0][::-1])
    )
    if os.environ.get("REGENERATE_REQUESTS"):
        FILE.write_text(written)

    assert FILE.read_text() == written
    kinds = {"kind": "companies|notes|tasks", "other": "companies", "id": "id", "version": "version"}
    assert {(method, generic(path)) for method, path in shapes} == {
        (method, generic(path.format(**{name: f"{{{name}}}" for name in kinds}))) for method, path in PATHS.values()
    }


def template(path: str) -> str:
    return re.sub(r"/\d+$", "/{id}", path.replace("2026-03", "{version}"))


def generic(path: str) -> str:
    return re.sub(r"(companies|notes|tasks|\{kind\}|\{other\})", "*", path)


def shape(body: Any, place: str = "") -> Iterator[str]:
    """Say which places a body has, and of which type."""
    match body:
        case None:
            return
        case dict():
            for name, value in body.items():
                yield from shape(value, f"{place}.{name}" if place else name)
        case list():
            for value in body:
                yield from shape(value, f"{place}[]")
        case _:
            yield f"{place}: {type(body).__name__}"


def section(method: str, path: str, lines: set[str]) -> str:
    body = "".join(f"- `{line}`\n" for line in sorted(lines)) or "No body.\n"
    return f"\n## `{method} {path}`\n\n{body}"

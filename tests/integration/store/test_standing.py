"""Of connections that are not as their specs say the operator reads what a status tells, and of no others."""

from typing import TYPE_CHECKING

import pytest

from store.standing import Standing, read_standings

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio


async def test_what_stands_out_is_read_and_nothing_else(layer: "Layer") -> None:
    names = ("quarantined", "probed", "slowed", "narrowed", "given-up", "well")
    published = {name: await layer.publish(name=name) for name in names}
    daily = layer.spec(throttle={"dailyBudget": {"limit": 5, "resetZone": "UTC"}})
    published |= {name: await layer.publish(daily, name=name) for name in ("spent", "unspent", "of yesterday")}

    def change(name: str, what: str) -> None:
        layer.admin.execute(
            f"update integration.lane set {what} where connection_id = %s".encode(), (published[name].id,)
        )

    change("quarantined", "state = 'Quarantined', quarantined_at = now(), quarantine_reason = '410 Gone'")
    change("probed", "state = 'Quarantined', quarantined_at = now(), quarantine_reason = '500', probe_at = now()")
    quarantined = "select quarantined_at from integration.lane where state = 'Quarantined' and probe_at is"
    since, probed_since = layer.value(f"{quarantined} null"), layer.value(f"{quarantined} not null")
    change("slowed", "effective_rps = 2.5")
    change("narrowed", "effective_concurrency = 3")
    layer.admin.execute(
        "insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id, event_at, attempts,"
        " reason) select n, 'acme', %s, 1, n, now(), 1, 'Invalid' from generate_series(1, 3) n",
        (published["given-up"].id,),
    )
    for name, spent, ends in (("spent", 5, "tomorrow"), ("unspent", 4, "tomorrow"), ("of yesterday", 5, "today")):
        layer.admin.execute(
            "update integration.throttle_scope set spent = %s, resets_at = %s where name = '~' || %s",
            (spent, ends, published[name].id),
        )
    async with await layer.connect("operator") as operator:
        found = await read_standings(operator)
    by_uid = {each.uid: name for name, each in published.items()}
    told = {by_uid[uid]: standing for uid, standing in found.items()}

    assert told == {
        "quarantined": Standing(since, "410 Gone", is_probed=False),
        "probed": Standing(probed_since, "500"),
        "slowed": Standing(rate=2.5),
        "narrowed": Standing(concurrency=3),
        "given-up": Standing(dead_letters=True),
        "spent": Standing(daily_limit=5, rests_until=layer.value("select 'tomorrow'::timestamptz")),
    }

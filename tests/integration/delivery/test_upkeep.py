"""The dispatcher's upkeep keeps each tenant's history for as long as the settings say."""

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from delivery.metrics import DispatcherMetrics
from delivery.settings import DispatcherSettings, TenantRetention
from delivery.upkeep import Upkeep
from programs.reconnect import Reconnecting

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

OLD_EVENTS = """
insert into integration.event (at, xid, tenant_id, type, subject, data)
select now() - make_interval(days => days), '2', tenant, 'ext.test.happened', 's', '{}'
from unnest(array[2, 3, 4, 5]) days, unnest(array['acme', 'initech', 'other']) tenant
"""


async def test_one_round_deletes_what_outlived_each_tenant_s_retention_and_counts_it(layer: "Layer") -> None:
    settings = DispatcherSettings(
        database_url=SecretStr(layer.dsn("dispatcher")),
        event_days=4,
        tenant_retention={"acme": TenantRetention(events=2), "initech": TenantRetention(events=100)},
    )
    layer.admin.execute("select integration.create_partition('event', current_date - d) from generate_series(2, 5) d")
    layer.admin.execute(OLD_EVENTS.encode())
    registry = CollectorRegistry()
    database = Reconnecting(settings.connection_string(), "test")
    await Upkeep(database, settings, DispatcherMetrics(registry)).once()
    await database.close()

    left = layer.rows("select tenant_id, count(*) from integration.event group by 1 order by 1")
    assert left == [("acme", 1), ("initech", 4), ("other", 3)]
    assert registry.get_sample_value("integrations_swept_rows_total", {"table": "event"}) == 4

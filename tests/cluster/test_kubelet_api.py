"""The process kubelet's hands: they let go of everything, whenever they are stopped."""

import asyncio
import gc
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cluster.kubelet.api import Api

if TYPE_CHECKING:
    from tests.cluster.control_plane import ControlPlane


@pytest.mark.parametrize("what", ["request", "watch"])
def test_a_kubelet_stopped_at_any_moment_leaves_no_connection_open(cluster: "ControlPlane", what: str) -> None:
    async def ask(api: Api) -> None:
        if what == "request":
            await api.get("/api/v1/nodes")
        else:
            async for _ in api.follow("/api/v1/nodes"):
                pass

    async def stop_at_each_moment() -> None:
        for number in range(60):
            async with httpx.AsyncClient(
                base_url=cluster.url, verify=cluster.admin_tls(), timeout=60.0, trust_env=False
            ) as client:
                api = Api(client)
                asking = asyncio.create_task(ask(api))
                await asyncio.sleep(number * 0.0005)
                for _ in range(2):
                    asking.cancel()
                    await asyncio.sleep(0)
                await asyncio.gather(asking, return_exceptions=True)
                await api.finish()

    asyncio.run(stop_at_each_moment())

    gc.collect()  # an open connection is now a warning, and a warning is an error

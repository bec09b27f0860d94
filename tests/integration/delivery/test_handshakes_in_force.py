"""A receiver that does not allow our events stops its connection with the reason, and loses nothing of it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from connectors.simulation import Exchange, SimulatorServer
from contracts.connection import parse_connection_spec

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio


class Receiver:
    """Takes every delivery, and allows events while `allows` is set."""

    def __init__(self) -> None:
        self.allows = False
        self.accepted = 0
        self.url = ""

    async def handle(self, exchange: Exchange) -> None:
        if exchange.request.method == "OPTIONS":
            await exchange.respond(200, {"WebHook-Allowed-Origin": "*"} if self.allows else {})
        else:
            self.accepted += 1
            await exchange.respond(204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await SimulatorServer(receiver.handle).start()
    receiver.url = f"http://127.0.0.1:{server.port}/"
    yield receiver
    await server.close()


async def test_a_connection_without_permission_is_quarantined_and_comes_back_with_it(
    house: "House", receiver: Receiver
) -> None:
    document = house.layer.spec(receiver.url, quarantine={"probeInterval": "1s"}).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    document["webhook"]["handshake"] = {"origin": "events.example.com"}
    await house.layer.publish(parse_connection_spec(document))
    house.start()
    for number in range(3):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: house.lane()[0] == "Quarantined")
    _, reason = house.lane()
    waiting = house.jobs()
    receiver.allows = True
    await house.until_settled()

    assert reason is not None
    assert reason.startswith("Misconfigured: the receiver does not allow events from events.example.com")
    assert (waiting, receiver.accepted) == (3, 3)
    assert house.layer.value("select count(*) from integration.dead_letter") == 0

"""Events reach a receiver that verifies them: once, in order, and whatever it answers."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
import pytest

from connectors.simulation import Exchange, SimulatorServer
from connectors.simulation_faults import Delay, Hang, RefuseSignature, Reset, Status
from store import publication

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

NEXT_SECRET = "whsec_" + b64encode(b"the key that follows that one").decode()

SOON = {"maxAttempts": 8, "initialDelay": "100ms", "maxDelay": "200ms"}
ONE_AT_A_TIME = {"concurrency": 1, "requestsPerSecond": 1000.0, "burst": 1000}


def emit(house: "House", number: int, subjects: int = 5) -> None:
    for index in range(number):
        house.layer.emit(f"subject-{index % subjects}", number=index)


def attempts(house: "House") -> list[tuple[object, ...]]:
    return house.layer.rows("select number, outcome, status_code from integration.attempt order by at")


# All is well ------------------------------------------------------------------------------------------------------


async def test_every_event_is_delivered_once_verified_and_in_its_subject_s_order(house: "House") -> None:
    await house.publish()
    house.start()
    emit(house, 100)
    await house.until_settled()

    stats = house.simulator.stats("/hook")
    assert (stats.accepted, stats.received, stats.refused) == (100, 100, 0)
    house.assert_in_order()
    assert house.layer.rows("select number, outcome, count(*) from integration.attempt group by 1, 2") == [
        (1, "Delivered", 100)
    ]


async def test_what_was_emitted_before_any_program_ran_is_delivered(house: "House") -> None:
    await house.publish()
    emit(house, 20)
    house.start()
    await house.until_settled()

    assert house.simulator.stats("/hook").accepted == 20
    house.assert_in_order()


async def test_a_throttled_lane_goes_on_by_itself_when_it_has_a_token_again(house: "House") -> None:
    await house.publish(throttle={"requestsPerSecond": 5.0, "burst": 1, "concurrency": 4})
    house.start()
    house.layer.emit("first")
    await house.until_accepted(1)
    house.layer.emit("second")  # comes while the bucket is empty, and nothing comes after it
    await house.until_accepted(2)

    assert house.simulator.stats("/hook").repeats == 0


async def test_large_payloads_arrive_as_they_were_emitted(house: "House") -> None:
    bodies: list[bytes] = []

    async def receive(exchange: Exchange) -> None:
        bodies.append(exchange.request.body)
        await exchange.respond(204)

    server = SimulatorServer(receive)
    await server.start("127.0.0.1", 0)
    try:
        await house.layer.publish(house.layer.spec(f"http://127.0.0.1:{server.port}/"))
        house.start()
        data = {
            "name": "Müller & Söhne \u2028 \\ \" '",
            "text": [f"{n}" for n in range(15_000)],
            "deep": {"a": [None, 1.5]},
        }
        house.layer.emit("large", **data)
        await house.until_settled()
    finally:
        await server.close()

    assert len(bodies) == 1
    assert len(bodies[0]) > 100_000
    assert orjson.loads(bodies[0])["data"] == data


async def test_what_is_published_while_all_runs_is_in_use_at_once(house: "House") -> None:
    await house.publish("/one", name="one")
    house.start()
    house.layer.emit("before")
    await house.until_accepted(1, "/one")
    await house.publish("/two", name="two")
    house.layer.emit("after")
    await house.until_accepted(2, "/one")
    await house.until_accepted(1, "/two")
    await house.publish("/three", name="one")  # another address for the first
    # One that is delivered before the worker has heard of it goes to the old address.
    await house.until(lambda: bool(house.layer.emit("moved") and house.simulator.stats("/three").accepted))
    await house.until_settled()
    at_one = house.simulator.stats("/one").accepted
    house.layer.emit("moved")
    await house.until_settled()

    assert house.simulator.stats("/one").accepted == at_one


async def test_a_suspended_connection_gathers_its_events_and_delivers_them_when_resumed(house: "House") -> None:
    await house.publish()
    await house.publish("/other", name="other")
    house.start()
    await house.publish(suspend=True)
    emit(house, 10)
    await house.until_accepted(10, "/other")
    delivered_while_suspended = house.simulator.stats("/hook").received
    await house.publish(suspend=False)
    await house.until_settled()

    assert delivered_while_suspended == 0
    assert house.simulator.stats("/hook").accepted == 10
    house.assert_in_order()


async def test_a_pool_s_worker_delivers_for_its_own_tenants_only(house: "House") -> None:
    await house.publish("/acme", name="hook")
    await house.publish("/globex", name="hook", tenant="globex", pool="pool_b")
    house.start()
    for tenant in ("acme", "globex"):
        house.layer.emit(tenant=tenant)
    await house.until(lambda: house.undispatched() == 0 and house.jobs() == 1)
    received = house.simulator.stats("/globex").received
    house.start_worker("another", "pool_b")
    await house.until_settled()

    assert received == 0
    assert (house.simulator.stats("/acme").accepted, house.simulator.stats("/globex").accepted) == (1, 1)


# Receivers that fail ----------------------------------------------------------------------------------------------


async def test_a_failing_receiver_is_tried_again_and_every_attempt_is_recorded(house: "House") -> None:
    await house.publish(retry=SOON)
    house.simulator.change("/hook", script=[Status(status=503, times=2)])
    house.start()
    house.layer.emit()
    await house.until_settled()

    assert attempts(house) == [(1, "Transient", 503), (2, "Transient", 503), (3, "Delivered", 200)]
    assert house.simulator.stats("/hook").changed == 0


@pytest.mark.parametrize("fault", [Hang(), Reset()], ids=["no answer", "a broken connection"])
async def test_a_delivery_of_unknown_fate_is_repeated_under_the_same_id(house: "House", fault: Hang | Reset) -> None:
    await house.publish(retry=SOON, timeout="300ms")
    house.simulator.change("/hook", script=[fault])
    house.start()
    house.layer.emit()
    await house.until_settled()

    (arrival,) = house.arrivals()
    assert (len(arrival.received_at), arrival.accepted, arrival.same_body) == (2, 1, True)


async def test_a_failing_subject_holds_back_only_itself(house: "House") -> None:
    await house.publish(retry={**SOON, "initialDelay": "1s", "maxDelay": "1s"}, throttle=ONE_AT_A_TIME)
    house.simulator.change("/hook", script=[Status(status=500)])
    for _ in range(3):
        house.layer.emit("failing")
    for number in range(30):
        house.layer.emit(f"other-{number}")
    house.start()
    await house.until_settled()

    house.assert_in_order()
    assert [arrival.event.subject for arrival in house.arrivals()][:2] == ["failing", "other-0"]
    assert len(house.simulator.records("/hook").order["failing"]) == 3


async def test_a_receiver_that_asks_for_patience_gets_it_and_no_attempt_is_counted(house: "House") -> None:
    await house.publish(throttle=ONE_AT_A_TIME, retry={**SOON, "maxAttempts": 1})
    house.simulator.change("/hook", script=[Status(status=429, retry_after_seconds=1)])
    emit(house, 5, subjects=5)
    house.start()
    await house.until_settled()

    first, *others = house.arrivals()
    assert first.statuses == [429, 200]
    assert min([first.received_at[1], *(arrival.received_at[0] for arrival in others)]) - first.received_at[0] >= 1
    assert {number for number, _, _ in attempts(house)} == {1}
    assert house.layer.value("select count(*) from integration.dead_letter") == 0


async def test_a_pause_survives_the_worker_that_was_asked_for_it(house: "House") -> None:
    await house.publish(throttle=ONE_AT_A_TIME)
    house.simulator.change("/hook", script=[Status(status=429, retry_after_seconds=2)])
    house.layer.emit()
    house.start()
    await house.until(lambda: len(attempts(house)) == 1)
    await house.stop("worker")
    house.start_worker("another")
    await house.until_settled()

    (arrival,) = house.arrivals()
    assert arrival.received_at[1] - arrival.received_at[0] >= 2


async def test_a_receiver_that_is_gone_quarantines_at_once_and_keeps_the_backlog(house: "House") -> None:
    await house.publish(throttle=ONE_AT_A_TIME)
    await house.publish("/other", name="other")
    house.simulator.change("/hook", script=[Status(status=410, times=None)])
    emit(house, 10)
    house.start()
    await house.until(lambda: house.lane()[0] == "Quarantined")
    await house.until_accepted(10, "/other")
    kept, received = house.jobs("hook"), house.simulator.stats("/hook").received
    house.simulator.change("/hook", script=[])
    async with await house.layer.connect("operator") as operator:
        assert await publication.release(operator, "acme", "hook")
    await house.until_settled()

    assert (kept, received) == (10, 1)
    assert house.simulator.stats("/hook").accepted == 10
    house.assert_in_order()


async def test_failures_in_a_row_quarantine_and_a_probe_heals_in_order(house: "House") -> None:
    await house.publish(
        retry=SOON, throttle=ONE_AT_A_TIME, quarantine={"consecutiveFailures": 3, "probeInterval": "1s"}
    )
    house.simulator.change("/hook", script=[Status(status=500, times=4)])
    emit(house, 40, subjects=6)
    house.start()
    await house.until(lambda: house.lane()[0] == "Quarantined")
    received = house.simulator.stats("/hook").received
    await house.until_settled()

    assert received == 3
    assert house.lane() == ("Open", None)
    assert house.simulator.stats("/hook").accepted == 40
    house.assert_in_order()


async def test_a_payload_that_is_too_large_is_a_dead_letter_and_nothing_else_is(house: "House") -> None:
    await house.publish(throttle=ONE_AT_A_TIME)
    house.simulator.change("/hook", script=[Status(status=413)])
    emit(house, 10, subjects=2)
    house.start()
    await house.until_settled()

    assert house.layer.rows("select reason, attempts from integration.dead_letter") == [("Invalid", 1)]
    assert house.simulator.stats("/hook").accepted == 9
    assert house.lane() == ("Open", None)


async def test_a_job_whose_attempts_are_used_up_is_a_dead_letter_and_the_next_of_its_subject_goes_on(
    house: "House",
) -> None:
    await house.publish(retry={**SOON, "maxAttempts": 2}, throttle=ONE_AT_A_TIME)
    house.simulator.change("/hook", script=[Status(status=500, times=2)])
    emit(house, 3, subjects=1)
    house.start()
    await house.until_settled()

    assert house.layer.rows("select reason, attempts from integration.dead_letter") == [("AttemptsExhausted", 2)]
    assert house.simulator.stats("/hook").accepted == 2
    house.assert_in_order()


async def test_a_filter_that_fails_costs_its_job_and_no_other(house: "House") -> None:
    await house.publish(routes=[{"name": "large", "events": ["*"], "filter": "event.data.size > 5"}])
    await house.publish("/other", name="other")
    house.start()
    for data in ({"size": 9}, {}, {"size": 1}, {"size": "many"}, {"size": 7}):
        house.layer.emit(**data)
    await house.until_settled()

    dead = house.layer.rows("select reason, attempts, detail <> '' from integration.dead_letter")
    assert dead == [("FilterFailed", 0, True)] * 2
    assert (house.simulator.stats("/hook").accepted, house.simulator.stats("/other").accepted) == (2, 5)


# Secrets ----------------------------------------------------------------------------------------------------------


async def test_a_missing_secret_quarantines_as_misconfigured_and_heals_when_it_appears(house: "House") -> None:
    await house.publish(secret="missing")
    emit(house, 10)
    house.start()
    await house.until(lambda: house.lane()[0] == "Quarantined")
    _, reason = house.lane()
    house.write_secret(name="missing")
    await house.until_settled()

    assert reason is not None
    assert reason.startswith("Misconfigured")
    assert "acme/missing" in reason
    assert house.simulator.stats("/hook").accepted == 10
    house.assert_in_order()


async def test_a_rotated_secret_is_in_use_without_a_restart(house: "House") -> None:
    await house.publish(retry={**SOON, "maxAttempts": 100}, quarantine={"consecutiveFailures": 1000})
    house.start()
    house.layer.emit("before")
    await house.until_accepted(1)
    house.write_secret(NEXT_SECRET)
    house.simulator.change("/hook", secrets=[NEXT_SECRET])
    house.layer.emit("after")
    await house.until_settled()

    assert house.simulator.stats("/hook").accepted == 2
    assert house.layer.value("select count(*) from integration.dead_letter") == 0


async def test_no_secret_is_written_down_or_logged(house: "House", caplog: pytest.LogCaptureFixture) -> None:
    secret = (house.secrets / "acme" / "hook" / "signing").read_text()
    await house.publish(retry={**SOON, "maxAttempts": 2}, quarantine={"consecutiveFailures": 2, "probeInterval": "1s"})
    echoing = Status(status=500, body=f"you signed with {secret}, that is {secret.removeprefix('whsec_')}", times=4)
    house.simulator.change("/hook", script=[RefuseSignature(), echoing])
    emit(house, 3, subjects=1)
    house.start()
    await house.until_settled()

    logged = [str(vars(record)) for record in caplog.records if not record.name.startswith("tests")]
    written = [
        str(house.layer.rows(f"select * from integration.{table}"))
        for table in ("attempt", "dead_letter", "lane", "connection", "event")
    ]
    assert len(logged) > 3
    for text in (*logged, *written):
        assert secret.removeprefix("whsec_") not in text
        assert "a password for tests only" not in text


# Limits -----------------------------------------------------------------------------------------------------------


def most_in_any_window(times: Sequence[float], seconds: float) -> int:
    """Return the largest number of arrivals in any span of time of that length."""
    ordered = sorted(times)
    return max(sum(1 for other in ordered if start <= other < start + seconds) for start in ordered)


async def test_a_receiver_gets_no_more_requests_per_second_than_its_throttle_says(house: "House") -> None:
    await house.publish(throttle={"requestsPerSecond": 20.0, "burst": 5, "concurrency": 50})
    emit(house, 40, subjects=40)
    house.start()
    await house.until_settled()

    times = [arrival.received_at[0] for arrival in house.arrivals()]
    first = house.layer.value(
        "select extract(epoch from min(at - duration_ms * interval '1 ms'))::float from integration.attempt"
    )
    begun = min(first, times[0])
    assert len(times) == 40
    # Counted from the first request's start, for a busy machine makes requests late, so that they may bunch up, but
    # none comes early. By how much that start is known too late, three requests are tolerated.
    early = [(number, at - begun) for number, at in enumerate(times, 1) if number > 5 + 20 * (at - begun) + 3]
    assert early == []


async def test_a_receiver_never_has_more_requests_at_once_than_it_can_take(house: "House") -> None:
    await house.publish(throttle={"requestsPerSecond": 1000.0, "burst": 1000, "concurrency": 3})
    house.simulator.change("/hook", script=[Delay(seconds=0.1, times=None)])
    emit(house, 30, subjects=30)
    house.start()
    await house.until_settled()

    times = [arrival.received_at[0] for arrival in house.arrivals()]
    assert most_in_any_window(times, 0.09) == 3


async def test_one_connection_s_flood_does_not_delay_another_s_event(house: "House") -> None:
    await house.publish("/flooded", name="flooded", routes=[{"name": "flood", "events": ["ext.flood.*"]}])
    await house.publish()
    house.simulator.change("/flooded", script=[Delay(seconds=0.02, times=None)])
    house.layer.rows(
        "select integration.emit_events('acme', array_fill('ext.flood.drop'::text, array[3000]),"
        " array_agg('s' || n), array_agg('{}'::jsonb)) from generate_series(1, 3000) n"
    )
    house.start_dispatcher()
    await house.until(lambda: house.undispatched() == 0)
    house.start_worker(senders=4)
    await house.until_accepted(1, "/flooded")
    house.layer.emit("alone")
    await house.until_accepted(1)

    assert house.simulator.stats("/flooded").accepted < 1500


async def test_a_worker_that_is_told_to_stop_while_it_has_nothing_to_do_stops(house: "House") -> None:
    await house.publish()
    house.start()
    house.layer.emit("first")
    await house.until_accepted(1)
    async with asyncio.timeout(5):
        await house.stop("worker")
        await house.stop("dispatcher")

    assert house.layer.value("select count(*) from integration.worker_session") == 0
    assert house.layer.value("select tokens is not null from integration.lane")

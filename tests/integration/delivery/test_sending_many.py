"""A connector that sends many at once gets full requests, and every job in them has its own fate."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
import pytest

from connectors.connector import BatchLimits, Connection, Delivery
from connectors.context import ConnectorContext
from contracts.outcomes import AuthRevoked, Delivered, Outcome, RateLimited, Report, TooManyAtOnce, Transient

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

SOON = {"maxAttempts": 8, "initialDelay": "100ms", "maxDelay": "200ms"}
NEVER_AGAIN = {"initialDelay": "1h", "maxDelay": "1h"}
ONE_REQUEST = {"concurrency": 1, "requestsPerSecond": 1000.0, "burst": 1000}

Judge = Callable[[int, Sequence[Delivery]], list[Outcome]]
"""What a partner says of the n-th request, for each item."""


def number(delivery: Delivery) -> int:
    return int(orjson.loads(delivery.data)["number"])


def takes_all(_: int, deliveries: Sequence[Delivery]) -> list[Outcome]:
    return [Delivered()] * len(deliveries)


@dataclass
class Partner:
    """Takes many deliveries in one request; `singles` were sent by `send`, as probes are."""

    limits: BatchLimits = BatchLimits(10, 1_000_000, timedelta(milliseconds=50))  # noqa: RUF009 -- frozen
    judge: Judge = takes_all
    requests: list[list[Delivery]] = field(default_factory=list)
    singles: list[Delivery] = field(default_factory=list)
    delivered: list[Delivery] = field(default_factory=list)

    def open(self, connection: Connection, context: ConnectorContext) -> "ManyConnector":
        return ManyConnector(self)

    def numbers(self) -> list[list[int]]:
        return [[number(delivery) for delivery in request] for request in self.requests]


class ManyConnector:
    def __init__(self, partner: Partner) -> None:
        self.batch: BatchLimits | None = partner.limits
        self.partner = partner

    async def send(self, delivery: Delivery) -> Report:
        self.partner.singles.append(delivery)
        return Report(Delivered())

    async def send_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        partner = self.partner
        partner.requests.append(list(deliveries))
        await asyncio.sleep(0.01)
        outcomes = partner.judge(len(partner.requests), deliveries)
        pairs = zip(deliveries, outcomes, strict=True)
        partner.delivered.extend(delivery for delivery, outcome in pairs if isinstance(outcome, Delivered))
        return [Report(outcome, detail="said by the partner") for outcome in outcomes]

    async def close(self) -> None:
        pass


async def start(house: "House", partner: Partner, **spec: object) -> None:
    await house.publish(**{"throttle": ONE_REQUEST, **spec})  # type: ignore[arg-type]
    house.start_dispatcher()
    house.start_worker(factory=partner.open)


def emit(house: "House", count: int, subjects: int = 1_000) -> None:
    for index in range(count):
        house.layer.emit(f"subject-{index % subjects}", number=index)


async def test_a_backlog_goes_out_in_full_requests_and_every_job_has_its_own_record(house: "House") -> None:
    partner = Partner()
    await house.publish(throttle=ONE_REQUEST)
    house.start_dispatcher()
    emit(house, 95)
    await house.until(lambda: house.jobs() == 95)
    house.start_worker(factory=partner.open)
    await house.until_settled()

    assert sorted(map(len, partner.requests)) == [5, *[10] * 9]
    assert house.layer.rows("select number, outcome, count(*) from integration.attempt group by 1, 2") == [
        (1, "Delivered", 95)
    ]


async def test_a_lone_job_is_sent_when_its_delay_is_over(house: "House") -> None:
    partner = Partner()
    await start(house, partner)
    emit(house, 1)
    await house.until_settled()

    assert partner.numbers() == [[0]]


async def test_what_comes_within_the_delay_travels_together(house: "House") -> None:
    partner = Partner(BatchLimits(3, 1_000_000, timedelta(hours=1)))
    await start(house, partner)
    emit(house, 3)
    await house.until_settled()  # the worker is there
    for index in range(3, 6):
        house.layer.emit(f"subject-{index}", number=index)
        await house.until(lambda: house.undispatched() == 0)
    await house.until_settled()

    assert partner.numbers() == [[0, 1, 2], [3, 4, 5]]


async def test_a_worker_that_is_told_to_stop_does_not_wait_for_more_to_send(house: "House") -> None:
    partner = Partner(BatchLimits(3, 1_000_000, timedelta(hours=1)))
    await start(house, partner)
    emit(house, 2)
    await house.until(lambda: house.jobs() == 2)
    await house.stop("worker")
    house.start_worker("next", factory=Partner(BatchLimits(2, 1_000_000, timedelta(hours=1))).open)
    await house.until_settled()

    assert partner.requests == []


async def test_a_subject_s_jobs_travel_one_after_the_other(house: "House") -> None:
    partner = Partner()
    await start(house, partner)
    emit(house, 60, subjects=4)
    await house.until_settled()

    subjects = [[delivery.subject for delivery in request] for request in partner.requests]
    assert all(len(set(request)) == len(request) for request in subjects)
    for subject in range(4):
        assert [number(d) for d in partner.delivered if d.subject == f"subject-{subject}"] == list(
            range(subject, 60, 4)
        )


async def test_an_item_that_fails_is_tried_again_alone_of_its_subject_and_nothing_passes_it(house: "House") -> None:
    def refuses_one_twice(_: int, deliveries: Sequence[Delivery]) -> list[Outcome]:
        return [Transient() if number(each) == 2 and each.attempt < 3 else Delivered() for each in deliveries]

    partner = Partner(judge=refuses_one_twice)
    await house.publish(throttle=ONE_REQUEST, retry=SOON)
    house.start_dispatcher()
    emit(house, 10, subjects=5)
    await house.until(lambda: house.jobs() == 10)
    house.start_worker(factory=partner.open)
    await house.until_settled()

    order = [number(delivery) for delivery in partner.delivered]
    assert partner.numbers()[0] == [0, 1, 2, 3, 4]
    assert order.index(2) < order.index(7)
    assert sorted(order) == list(range(10))
    assert (
        house.layer.column("select outcome from integration.attempt where outcome <> 'Delivered' order by at", ())
        == ["Transient"] * 2
    )


async def test_requests_in_which_all_failed_are_one_failure_each(house: "House") -> None:
    partner = Partner(judge=lambda _, deliveries: [Transient()] * len(deliveries))
    await house.publish(throttle=ONE_REQUEST, retry=NEVER_AGAIN, quarantine={"consecutiveFailures": 3})
    house.start_dispatcher()
    emit(house, 40)
    await house.until(lambda: house.jobs() == 40)
    house.start_worker(factory=partner.open)
    await house.until(lambda: house.lane()[0] == "Quarantined")

    assert list(map(len, partner.requests)) == [10, 10, 10]
    assert house.jobs() == 40


async def test_a_rate_limit_pauses_the_lane_once_and_puts_all_back_in_their_order(house: "House") -> None:
    def limits_the_first(request: int, deliveries: Sequence[Delivery]) -> list[Outcome]:
        limited = RateLimited(timedelta(milliseconds=200))
        return [limited if request == 1 else Delivered() for _ in deliveries]

    partner = Partner(judge=limits_the_first)
    await house.publish(throttle=ONE_REQUEST, retry={"maxAttempts": 1})
    house.start_dispatcher()
    emit(house, 10)
    await house.until(lambda: house.jobs() == 10)
    house.start_worker(factory=partner.open)
    await house.until_settled()

    assert partner.numbers() == [list(range(10)), list(range(10))]
    assert house.layer.value("select effective_rps from integration.lane") == pytest.approx(500, rel=0.1)


async def test_a_revoked_credential_stops_the_lane_and_keeps_what_was_not_delivered(house: "House") -> None:
    partner = Partner(judge=lambda _, d: [Delivered() if number(each) < 3 else AuthRevoked() for each in d])
    await start(house, partner)
    emit(house, 10)
    await house.until(lambda: house.lane()[0] == "Quarantined" and house.jobs() == 7)

    assert house.lane()[1] == "CredentialsRevoked: said by the partner"


async def test_too_many_at_once_are_sent_again_in_smaller_requests(house: "House") -> None:
    def takes_three(_: int, deliveries: Sequence[Delivery]) -> list[Outcome]:
        return [TooManyAtOnce() if len(deliveries) > 3 else Delivered() for _ in deliveries]

    partner = Partner(judge=takes_three)
    await house.publish(throttle=ONE_REQUEST, retry={"maxAttempts": 1})
    house.start_dispatcher()
    emit(house, 20)
    await house.until(lambda: house.jobs() == 20)
    house.start_worker(factory=partner.open)
    await house.until_settled()

    assert list(map(len, partner.requests))[:3] == [10, 5, 2]
    assert [number(delivery) for delivery in partner.delivered] == list(range(20))
    assert house.layer.value("select count(*) from integration.dead_letter") == 0


async def test_a_single_item_that_is_too_much_becomes_a_dead_letter(house: "House") -> None:
    partner = Partner(judge=lambda _, deliveries: [TooManyAtOnce()] * len(deliveries))
    await start(house, partner)
    emit(house, 1)
    await house.until_settled()

    assert house.layer.rows("select reason from integration.dead_letter") == [("Invalid",)]


async def test_jobs_of_a_request_whose_sender_was_killed_are_sent_again_under_their_ids(house: "House") -> None:
    def hangs(_: int, deliveries: Sequence[Delivery]) -> list[Outcome]:
        raise asyncio.CancelledError

    killed, healthy = Partner(judge=hangs), Partner()
    await house.publish(throttle=ONE_REQUEST)
    house.start_dispatcher()
    emit(house, 10)
    await house.until(lambda: house.jobs() == 10)
    house.start_worker(factory=killed.open)
    await house.until(lambda: bool(killed.requests))
    await house.kill("worker")
    house.start_worker(factory=healthy.open)  # takes its lanes back by its name
    await house.until_settled()

    first = [delivery.message_id for delivery in killed.requests[0]]
    assert [delivery.message_id for delivery in healthy.requests[0]] == first


async def test_a_probe_travels_alone(house: "House") -> None:
    partner = Partner(judge=lambda _, deliveries: [AuthRevoked()] * len(deliveries))
    await start(house, partner)
    emit(house, 10)
    await house.until(lambda: house.lane()[0] == "Quarantined")
    partner.judge = takes_all
    await house.publish(throttle={**ONE_REQUEST, "burst": 999})  # a changed spec has the partner tried at once
    await house.until_settled()

    assert [number(delivery) for delivery in partner.singles] == [0]
    assert [number(delivery) for delivery in partner.delivered] == list(range(1, 10))


async def test_what_has_expired_or_is_superseded_does_not_travel(house: "House") -> None:
    partner = Partner()
    await house.publish(
        throttle=ONE_REQUEST, retry={"expireAfter": "1h"}, routes=[{"name": "all", "events": ["*"], "collapse": True}]
    )
    house.start_dispatcher()
    emit(house, 6, subjects=3)
    await house.until(lambda: house.jobs() == 6)
    house.layer.rows(
        "update integration.job set event_at = event_at - interval '2 hours'"
        " where id = (select min(id) from integration.job)"
    )
    house.start_worker(factory=partner.open)
    await house.until_settled()

    assert sorted(number(delivery) for request in partner.requests for delivery in request) == [3, 4, 5]
    assert house.layer.rows("select reason from integration.dead_letter") == [("Expired",)]


async def test_a_job_that_expired_on_its_way_into_a_request_gives_back_no_token(house: "House") -> None:
    partner = Partner(BatchLimits(2, 1_000_000, timedelta()))
    await house.publish(
        throttle={"concurrency": 5, "requestsPerSecond": 0.001, "burst": 1}, retry={"expireAfter": "1h"}
    )
    house.start_dispatcher()
    emit(house, 4)
    await house.until(lambda: house.jobs() == 4)
    house.layer.rows(
        "update integration.job set event_at = event_at - interval '2 hours'"
        " where id = (select min(id) + 1 from integration.job)"
    )
    house.start_worker(factory=partner.open)
    await house.until(lambda: house.jobs() == 1)

    assert partner.numbers() == [[0, 2]]


async def test_a_large_event_is_sent_in_a_request_of_its_own(house: "House") -> None:
    partner = Partner(BatchLimits(10, 60_000, timedelta(milliseconds=50)))
    await house.publish(throttle=ONE_REQUEST)
    house.start_dispatcher()
    for index in range(4):
        text = [f"{n}" for n in range(15_000)] if index == 2 else []
        house.layer.emit(f"subject-{index}", number=index, text=text)
    await house.until(lambda: house.jobs() == 4)
    house.start_worker(factory=partner.open)
    await house.until_settled()

    assert partner.numbers() == [[0, 1], [2], [3]]


async def test_a_connector_that_does_not_report_on_every_item_costs_its_jobs_an_attempt_each(house: "House") -> None:
    partner = Partner(judge=lambda _, deliveries: [Delivered()])
    await start(house, partner, retry=NEVER_AGAIN)
    emit(house, 3)
    attempts = "select count(*) from integration.attempt where outcome = 'Transient'"
    await house.until(lambda: house.layer.value(attempts) == 3)

    assert house.jobs() == 3

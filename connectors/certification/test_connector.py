"""What every connector has to hold. A test that does not apply to a connector is not made for it, or passes over it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from itertools import count
from time import monotonic, time
from typing import Any, Final

import pytest

from connectors.certification.crashing import Moment, crashes
from connectors.certification.memory import Clock, GivenCredentials, context_parts
from connectors.certification.partner import CertifiedPartner, Misfortune, Story, WrongSettings
from connectors.connector import ChecksAccount, ChecksCredentials, Connector, Delivery, SendsMany
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.errors import ConnectorError
from connectors.http import GuardedHttp
from connectors.registry import settings_problems
from connectors.simulation_faults import Drip, Hang, Reset, Status
from contracts.connection import parse_connection_spec
from contracts.errors import InvalidSpecError
from contracts.outcomes import Ambiguous, Delivered, Invalid, Locked, Misconfigured, RateLimited, Report, Transient

pytestmark = pytest.mark.anyio

TIMEOUT: Final = timedelta(seconds=5)
SHORT: Final = timedelta(seconds=1)
LATE_SECONDS: Final = 1.0
"""How much longer than its timeout a delivery may take on a busy machine."""


def guarded_http() -> GuardedHttp:
    """Return what reaches simulated partners, and nobody else."""
    return GuardedHttp(EgressPolicy((ip_network("127.0.0.0/8"),)))


@dataclass
class Desk:
    """A connection under certification, and its connectors, one after another as workers would have them."""

    partner: CertifiedPartner
    credentials: GivenCredentials
    http: GuardedHttp
    clock: Clock
    parts: dict[str, Any]
    timeout: timedelta = TIMEOUT

    def open(self) -> Connector:
        """Open the connector anew; what it remembers is there, what it had in memory is gone."""
        context = ConnectorContext(self.credentials, self.http, **self.parts)
        return self.partner.open(self.partner.connection(self.timeout), context)

    async def send(self, *deliveries: Delivery) -> list[Report]:
        """Deliver one after another, by a connector that is opened for it."""
        connector = self.open()
        reports = [await self.patiently(connector, delivery) for delivery in deliveries]
        await connector.close()
        return reports

    async def patiently(self, connector: Connector, delivery: Delivery) -> Report:
        """Deliver, and wait for what somebody who died has claimed, and for limits that the connector keeps itself."""
        report = await connector.send(delivery)
        while isinstance(report.outcome, Locked) or _keeps_limits(report):
            if _keeps_limits(report):
                await asyncio.sleep(_waits(report))
            else:
                self.clock.advance(timedelta(minutes=5))
            report = await connector.send(delivery)
        return report

    async def die(self) -> None:
        """Close every connection, as the system does for a process that was killed, and let the partner notice.

        What it had sent by then is dealt with. A live partner has the time for it that claims are held.
        """
        await self.http.close()
        await self.partner.until_left()
        self.http = guarded_http()

    async def begin(self, story: Story) -> None:
        """Deliver what has to be there before."""
        for report in await self.send(*story.before):
            assert report.outcome == Delivered(), report


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run on uvloop, as workers do."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def desk(partner_type: type[CertifiedPartner]) -> AsyncIterator[Desk]:
    """Serve the partner, and give what its connector needs."""
    clock = Clock(time)
    async with partner_type() as partner:
        desk = Desk(partner, GivenCredentials("acme", partner.secrets), guarded_http(), clock, context_parts(clock))
        yield desk
        await desk.http.close()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Keep what is logged, down to the last detail."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


# Once -----------------------------------------------------------------------------------------------------------------


async def test_a_delivery_has_its_effect_once_however_often_it_comes(desk: Desk, action: str) -> None:
    """Attempts and replays of a delivery have the same message id, and may come from any worker."""
    story = desk.partner.story(action, 1)
    await desk.begin(story)
    reports = [report for _ in range(3) for report in await desk.send(story.first)]

    assert [report.outcome for report in reports] == [Delivered()] * 3
    assert desk.partner.effects(story.first) == 1


async def test_a_kill_at_any_await_makes_nothing_twice(desk: Desk, action: str, moment: Moment) -> None:
    """A worker may die wherever it waits; the next one has the same memory, and nothing else of it."""
    for number in count(1):
        story = desk.partner.story(action, number)
        await desk.begin(story)
        came_far = await crashes(desk.open().send(story.first), number, moment)
        await desk.die()
        (report,) = await desk.send(story.first)

        assert report.outcome == Delivered(), f"after a death at await {number}: {report}"
        assert desk.partner.effects(story.first) == 1, f"after a death at await {number}"
        if not came_far:
            break


async def test_an_answer_that_is_lost_is_no_reason_to_do_it_again(desk: Desk, action: str) -> None:
    """The partner did what was asked, and the connection broke: the next attempt must find that out."""
    story = desk.partner.story(action, 1)
    await desk.begin(story)
    desk.partner.befall(Reset(), applied=True)
    (lost,) = await desk.send(story.first)
    (again,) = await desk.send(story.first)

    assert isinstance(lost.outcome, Ambiguous | Transient | Delivered), lost
    assert again.outcome == Delivered(), again
    assert desk.partner.effects(story.first) == 1


async def test_many_at_once_disturb_one_another_in_nothing(desk: Desk, action: str) -> None:
    """`send` is called concurrently."""
    stories = [desk.partner.story(action, number) for number in range(1, 21)]
    for story in stories:
        await desk.begin(story)
    settled = desk.partner.story(action, 21)
    await desk.begin(settled)
    await desk.send(settled.first)  # what is set up at the partner once
    connector = desk.open()
    reports = await asyncio.gather(*(desk.patiently(connector, story.first) for story in stories))
    await connector.close()

    assert [report.outcome for report in reports] == [Delivered()] * len(stories)
    assert [desk.partner.effects(story.first) for story in stories] == [1] * len(stories)


async def test_the_later_of_two_deliveries_is_what_the_partner_has(desk: Desk, action: str) -> None:
    """Deliveries of one subject come in their order."""
    story = desk.partner.story(action, 1)
    if story.later is None:
        return
    await desk.begin(story)
    reports = await desk.send(story.first, story.later)

    assert [report.outcome for report in reports] == [Delivered(), Delivered()]
    assert desk.partner.says(story.later)


# Failures -----------------------------------------------------------------------------------------------------------


async def test_what_a_partner_does_is_called_by_its_name(desk: Desk, misfortune: Misfortune) -> None:
    """And when the partner is well again, the delivery arrives."""
    story = _any_story(desk)
    await desk.begin(story)
    connector = desk.open()
    desk.partner.befall(misfortune.fault, applied=misfortune.applied)
    report = await connector.send(story.first)
    await connector.close()
    desk.clock.advance(timedelta(days=2))
    (later,) = await desk.send(story.first)

    assert isinstance(report.outcome, misfortune.outcome), report
    if misfortune.wait is not None:
        assert _waits(report) == pytest.approx(misfortune.wait.total_seconds(), abs=2)
    if not isinstance(report.outcome, Invalid):
        assert later.outcome == Delivered(), later
        assert desk.partner.effects(story.first) == 1


@pytest.mark.parametrize("fault", [Hang(), Drip()], ids=["hang", "drip"])
async def test_a_delivery_ends_in_its_time_whatever_the_partner_does(desk: Desk, fault: Hang | Drip) -> None:
    """The connection's timeout bounds one attempt, all its requests together."""
    story = _any_story(desk)
    await desk.begin(story)
    desk.timeout = SHORT
    connector = desk.open()
    desk.partner.befall(fault)
    began = monotonic()
    report = await connector.send(story.first)
    took = monotonic() - began
    await connector.close()

    assert took < SHORT.total_seconds() + LATE_SECONDS
    assert isinstance(report.outcome, Ambiguous | Transient | Delivered), report


async def test_an_unusable_delivery_is_given_up_and_says_why(desk: Desk) -> None:
    """It costs no other its place."""
    unusable = desk.partner.unusable()
    if unusable is None:
        return
    story = _any_story(desk)
    await desk.begin(story)
    bad, good = await desk.send(unusable, story.first)

    assert isinstance(bad.outcome, Invalid)
    assert bad.detail
    assert good.outcome == Delivered()


async def test_each_of_many_has_its_own_fate(desk: Desk) -> None:
    """Reports come in the order of the deliveries; what the partner cannot take costs the others nothing."""
    connector = desk.open()
    if not isinstance(connector, SendsMany) or connector.batch is None:
        return
    stories = [_any_story(desk, number) for number in range(1, 4)]
    for story in stories:
        await desk.begin(story)
    deliveries = [story.first for story in stories]
    unusable = desk.partner.unusable()
    if unusable is not None:
        deliveries.insert(1, unusable)
    reports = await connector.send_many(deliveries)
    await connector.close()
    fates = [type(report.outcome) for report in reports]

    assert fates == [Invalid if delivery is unusable else Delivered for delivery in deliveries], reports
    assert [desk.partner.effects(story.first) for story in stories] == [1, 1, 1]


# Credentials --------------------------------------------------------------------------------------------------------


async def test_no_secret_shows_wherever_the_partner_repeats_it(
    desk: Desk, everything_logged: pytest.LogCaptureFixture
) -> None:
    """Many partners echo the request that they refuse. Nothing of it may reach a log, a report or the audit trail."""
    story = _any_story(desk)
    await desk.begin(story)
    secrets = list(desk.partner.secrets.values())
    desk.partner.befall(Status(status=400, body=" ".join(f'{{"error": "bad token {each}"}}' for each in secrets)))
    reports = await desk.send(story.first)
    desk.partner.befall(Status(status=503, body=" ".join(secrets), headers={"X-Echo": secrets[0]}))
    reports += await desk.send(story.first)
    shown = repr(reports) + everything_logged.text

    assert [secret for secret in secrets if secret in shown or secret.removeprefix("whsec_") in shown] == []


async def test_a_missing_credential_is_told_with_its_secret(desk: Desk) -> None:
    """Nothing is sent; a person is told what to create."""
    story = _any_story(desk)
    desk.credentials.removed = True
    connector = desk.open()
    before = desk.partner.state()
    report = await connector.send(story.first)
    names = {name for name, _ in desk.partner.secrets}

    assert isinstance(report.outcome, Misconfigured)
    assert any(name in report.detail for name in names), report.detail
    assert desk.partner.state() == before
    if isinstance(connector, ChecksCredentials):
        with pytest.raises((CredentialMissingError, ConnectorError)):
            connector.check_credentials()


async def test_credentials_that_came_later_are_used(desk: Desk) -> None:
    """A connector stays open while Secrets change."""
    story = _any_story(desk)
    await desk.begin(story)
    connector = desk.open()
    desk.credentials.removed = True
    await connector.send(story.first)
    desk.credentials.removed = False
    if isinstance(connector, ChecksCredentials):
        connector.check_credentials()
    report = await desk.patiently(connector, story.first)
    await connector.close()

    assert report.outcome == Delivered()


# What it says of itself ---------------------------------------------------------------------------------------------


def test_actions_are_named_once_and_described(partner_type: type[CertifiedPartner]) -> None:
    """People choose by name, and the first that takes all events of a route is the default."""
    actions = partner_type.connector.actions

    assert actions
    assert len({action.name for action in actions}) == len(actions)
    assert all(action.events and action.summary.endswith(".") for action in actions)


def test_wrong_settings_are_refused_by_their_place(partner_type: type[CertifiedPartner], wrong: WrongSettings) -> None:
    """Before anything runs: by the contracts, or by the plug-in's own model."""
    try:
        spec = parse_connection_spec({"tenant": "acme", **wrong.spec})
    except InvalidSpecError as error:
        problems = error.problems
    else:
        problems = settings_problems(spec, partner_type.connector)

    assert wrong.path in [problem.path for problem in problems]


async def test_looking_at_the_account_changes_nothing(desk: Desk) -> None:
    """A person may ask at any time whether a connection is right."""
    connector = desk.open()
    if not isinstance(connector, ChecksAccount):
        return
    before = desk.partner.state()
    findings = await connector.check_account()
    await connector.close()

    assert findings
    assert [finding for finding in findings if finding.advice] == []
    assert desk.partner.state() == before


async def test_a_connector_that_is_closed_leaves_no_task_behind(desk: Desk) -> None:
    """Connectors come and go with lanes and specs."""
    story = _any_story(desk)
    await desk.begin(story)
    before = asyncio.all_tasks()
    connector = desk.open()
    await connector.send(story.first)
    await connector.close()
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if "simulation" not in repr(task)}

    assert left == set()


async def test_the_message_id_is_what_tells_deliveries_apart(desk: Desk, action: str) -> None:
    """A second delivery of its own is no repeat, though it says the same."""
    story = desk.partner.story(action, 1)
    await desk.begin(story)
    other = _under_another_id(story.first)
    reports = await desk.send(story.first, other)

    assert [report.outcome for report in reports] == [Delivered(), Delivered()]
    assert desk.partner.effects(story.first) == 1
    assert desk.partner.effects(other) == 1


def _under_another_id(delivery: Delivery) -> Delivery:
    """Return the same under another message id."""
    return delivery._replace(message_id=type(delivery.message_id)(f"{delivery.message_id}_other"))


def _any_story(desk: Desk, number: int = 1) -> Story:
    return desk.partner.story(desk.partner.connector.actions[0].name, number)


def _keeps_limits(report: Report) -> bool:
    """Whether the connector did not ask, so that the partner need not refuse."""
    return isinstance(report.outcome, RateLimited) and report.exchange is None and 0 < _waits(report) < 3


def _waits(report: Report) -> float:
    outcome: Any = report.outcome
    for name in ("retry_after", "minimum_wait"):
        if (wait := getattr(outcome, name, None)) is not None:
            return float(wait.total_seconds())
    return 0.0

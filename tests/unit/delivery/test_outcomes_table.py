"""The page on outcomes says what the code does."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from connectors.connector import Connection
from connectors.errors import EgressRefusedError, GuardedHttpError, MalformedRequestError, NoAnswerError, NotSentError
from connectors.http import GuardedHttp, HttpAnswer
from connectors.redaction import Redactor
from connectors.webhook.client import send_webhook
from connectors.webhook.settings import Receiver
from contracts.outcomes import ForbiddenScope, Locked, Migrating, Outcome, QuotaExhausted, Report
from delivery.effects import Effect, Quarantine, effect_of, outcome_name
from delivery.metrics import WorkerMetrics

PAGE = Path(__file__).parents[3] / "docs" / "outcomes.md"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def table(first_column: str) -> dict[str, list[str]]:
    """Read the table whose first column has this title: its rows by their first cell."""
    _, _, rest = PAGE.read_text().partition(f"\n| {first_column} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]
    return {row[0].strip("` "): row[1:] for row in cells}


def sample(kind: type[Outcome]) -> Outcome:
    arguments: dict[type, Any] = {
        ForbiddenScope: ("crm.write",),
        Locked: (MINUTE,),
        Migrating: (MINUTE,),
        QuotaExhausted: (NOW,),
    }
    return kind(*arguments.get(kind, ()))


def named(effect: Effect) -> str:
    return f"{type(effect).__name__}{', probed' if isinstance(effect, Quarantine) and effect.probing else ''}"


OUTCOMES, EFFECTS = table("outcome"), table("effect")


def test_the_page_has_every_outcome_and_no_other() -> None:
    assert sorted(OUTCOMES) == sorted(kind.__name__ for kind in get_args(Outcome))


@pytest.mark.parametrize("kind", get_args(Outcome), ids=lambda kind: kind.__name__)
def test_the_page_names_the_effect_that_an_outcome_has(kind: type[Outcome]) -> None:
    assert OUTCOMES[kind.__name__][-1] == named(effect_of(sample(kind), lambda: NOW))


def test_the_page_explains_every_effect_that_there_is() -> None:
    assert sorted(EFFECTS) == sorted({named(effect_of(sample(kind), lambda: NOW)) for kind in get_args(Outcome)})
    assert {name.split(",")[0] for name in EFFECTS} == {kind.__name__ for kind in get_args(Effect)}


class FakeHttp:
    """Answers, or fails, as it is told."""

    def __init__(self, answer: HttpAnswer | GuardedHttpError) -> None:
        self.answer = answer

    async def post(self, *_: object) -> HttpAnswer:
        if isinstance(self.answer, GuardedHttpError):
            raise self.answer
        return self.answer


async def webhook_outcome(answer: HttpAnswer | GuardedHttpError) -> str:
    receiver = Receiver("https://partner.example/", (), (), None, Redactor())
    report = await send_webhook(cast("GuardedHttp", FakeHttp(answer)), receiver, [], b"", MINUTE)
    return outcome_name(report.outcome)


def promised(status: int, *, asks_to_wait: bool) -> str:
    """Find what the page says of a webhook receiver's status: by its number, by its class, or as any other."""
    for outcome, (_, webhook, _) in OUTCOMES.items():
        for part in webhook.split(";"):
            if str(status) in re.findall(r"[0-9]{3}", part) and (asks_to_wait or "Retry-After" not in part):
                return outcome
    kinds = {part.strip(): outcome for outcome, row in OUTCOMES.items() for part in row[1].split(";")}
    return kinds.get(f"any {status // 100}xx", kinds["any other status"])


@pytest.mark.parametrize("asks_to_wait", [False, True], ids=["alone", "with Retry-After"])
async def test_the_page_knows_what_every_status_of_a_webhook_receiver_means(*, asks_to_wait: bool) -> None:
    headers = {"retry-after": "7"} if asks_to_wait else {}
    statuses = range(200, 600)
    found = {
        s: await webhook_outcome(HttpAnswer(s, b"", complete=True, headers=cast("Any", headers))) for s in statuses
    }

    assert found == {status: promised(status, asks_to_wait=asks_to_wait) for status in statuses}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotSentError(), "no connection"),
        (NoAnswerError(), "after the request was sent"),
        (EgressRefusedError(), "nothing was sent"),
        (MalformedRequestError(), "nothing was sent"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_the_page_knows_what_a_request_without_an_answer_means(error: GuardedHttpError, words: str) -> None:
    assert [outcome for outcome, row in OUTCOMES.items() if words in row[1]] == [await webhook_outcome(error)]


def test_attempts_are_counted_under_the_names_on_the_page_and_no_other(make_lane: Any) -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    connection: Connection = make_lane().connection
    for kind in get_args(Outcome):
        metrics.attempted(connection, Report(sample(kind)), 0.1)
    labels = re.findall(r'integrations_attempts_total\{.*outcome="(.*?)"', generate_latest(registry).decode())

    assert sorted(labels) == sorted(OUTCOMES)

"""What the page on outcomes says of job, lane and attempts is what a worker does to them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import pytest

from connectors.connector import Connection, Delivery
from connectors.context import ConnectorContext
from contracts.outcomes import Outcome, QuotaExhausted, Report
from tests.unit.delivery.test_outcomes_table import EFFECTS, OUTCOMES, sample

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

# So long that nothing is tried twice while the test looks.
SLOWLY = {"initialDelay": "1h", "maxDelay": "10h"}
HOUR = timedelta(hours=1)


class AnsweringConnector:
    """Answers every delivery with the outcome that its connection is named after."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def send(self, delivery: Delivery) -> Report:
        return Report(self.outcome)

    async def close(self) -> None:
        pass


KINDS = {kind.__name__.lower(): kind for kind in get_args(Outcome)}


def open_answering(connection: Connection, context: ConnectorContext) -> AnsweringConnector:
    kind = KINDS[connection.name]
    return AnsweringConnector(QuotaExhausted(datetime.now(UTC) + HOUR) if kind is QuotaExhausted else sample(kind))


@dataclass(frozen=True)
class Seen:
    """What a connection's one job and its lane are after one attempt, in the words of the page."""

    job: str
    lane: str
    attempts: str


SEEN = """
select c.name,
       case when d.job_id is not null then 'becomes a dead letter'
            when j.id is null then 'ends'
            when j.state = 1 then 'is tried again'
            else 'stays first' end,
       case when l.probe_at is not null then 'is probed'
            when l.state = 'Quarantined' then 'stops at once'
            when l.paused_until > now() then 'rests'
            else 'goes on' end,
       case coalesce(d.attempts, j.attempts) when 0 then 'as before' else 'one more' end
from integration.connection c
join integration.lane l on l.connection_id = c.id
left join integration.job j on j.connection_id = c.id
left join integration.dead_letter d on d.connection_id = c.id
"""


def promised(outcome: str) -> Seen:
    """Read the page: which words, of those that can be seen in the database, it has for an outcome's effect."""
    effect = OUTCOMES[outcome][-1]
    job, lane, attempts = EFFECTS["Bury" if effect == "Split" else effect]  # these jobs travel alone
    jobs = [words for words in ("becomes a dead letter", "ends", "is tried again", "stays first") if words in job]
    lanes = [words for words in ("is probed", "stops at once", "rests") if words in lane]
    return Seen(min(jobs, key=job.index), lanes[0] if lanes else "goes on", attempts)


async def test_a_worker_does_to_job_lane_and_attempts_what_the_page_says(house: "House") -> None:
    for name in KINDS:
        await house.publish(name=name, retry=SLOWLY)
    house.start_worker(factory=open_answering)
    house.start_dispatcher()
    house.layer.emit()
    tried = "select count(distinct connection_id) from integration.attempt"
    await house.until(lambda: house.layer.value(tried) == len(KINDS))

    seen = {name: Seen(job, lane, attempts) for name, job, lane, attempts in house.layer.rows(SEEN)}
    assert seen == {name: promised(kind.__name__) for name, kind in KINDS.items()}

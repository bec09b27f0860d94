"""While nothing dies, nothing is repeated: reading jobs and writing results at once must not bring a job back."""

from random import Random

import pytest

from chaos.bed import Bed

pytestmark = pytest.mark.serial

SUBJECTS = 100
EVENTS = 3_000
EDITS = 20

EMIT = """
select integration.emit_events(
    'acme', array_agg('ext.chaos.counted'::text), array_agg('s' || n %% %s), array_agg(jsonb_build_object('n', n)))
from generate_series(1, %s) n
"""


def failing_half_of_the_time(answers: int) -> list[dict[str, object]]:
    random = Random(1)
    return [{"kind": "status", "status": random.choice([200, 503])} for _ in range(answers)]


def wait_for(bed: Bed, deliveries: int) -> None:
    bed.until(lambda: bed.partner.stats("hook")["accepted"] >= deliveries, f"{deliveries} events are delivered")


@pytest.mark.parametrize("edits", [0, EDITS], ids=["while-a-partner-fails", "while-routing-is-edited"])
def test_no_accepted_request_is_repeated(bed: Bed, edits: int) -> None:
    bed.publish("hook")
    bed.start_dispatcher()
    worker = bed.start_worker()
    bed.partner.misbehave("hook", *([] if edits else failing_half_of_the_time(2 * EVENTS)))

    bed.rows(EMIT, SUBJECTS, EVENTS)
    for edit in range(1, edits + 1):
        wait_for(bed, EVENTS * edit // (edits + 1))
        bed.publish("hook", throttle={"requestsPerSecond": 1000.0, "burst": 100, "concurrency": 16 + edit % 2})
    bed.until(bed.is_done, "everything is delivered", seconds=90)

    stats = bed.partner.stats("hook")
    assert (stats["accepted"], stats["repeats"]) == (EVENTS, 0)
    assert worker.metric("integrations_fenced_results_total") == 0

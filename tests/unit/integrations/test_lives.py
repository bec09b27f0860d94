"""An attempt is shown with all that is known of it, and with nothing that is not."""

from datetime import UTC, datetime

from contracts.ids import EventId, JobId
from integrations.lives import attempt_document, attempt_step
from store.history import Attempt

DIGEST = "3f2a" * 16
REFUSED = Attempt(
    datetime(2026, 11, 20, 12, tzinfo=UTC),
    JobId(1),
    "acme",
    "acme",
    "hook",
    "all",
    1,
    "Transient",
    503,
    12.4,
    7,
    "busy",
    "worker-1",
    3.2,
    9.1,
    DIGEST,
    {"method": "POST", "response_headers": {"date": "today", "retry-after": "7", "x-request-id": "r-17"}},
    None,
)
UNTRIED = REFUSED._replace(
    status_code=None, detail="", resolving_ms=None, answering_ms=None, body_digest=None, particulars=None
)


def test_a_person_reads_the_times_the_worker_the_digest_and_what_the_partner_told() -> None:
    assert attempt_step(REFUSED).details == (
        "HTTP 503, 12 ms (name 3, answer 9), worker worker-1, body 3f2a3f2a3f2a…,"
        " retry-after 7, x-request-id r-17, busy"
    )


def test_what_was_not_measured_is_not_shown() -> None:
    assert attempt_step(UNTRIED).details == "12 ms, worker worker-1"


def test_a_program_reads_all_of_it_and_null_for_what_was_not_measured() -> None:
    document = attempt_document(EventId(31), REFUSED)
    empty = attempt_document(EventId(31), UNTRIED)

    assert (document["body_sha256"], document["resolving_ms"], document["answering_ms"]) == (DIGEST, 3.2, 9.1)
    assert document["request"] == REFUSED.particulars
    assert [empty[key] for key in ("body_sha256", "resolving_ms", "answering_ms", "request")] == [None] * 4

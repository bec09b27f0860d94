"""Broken builds: each function breaks one promise of the worker it is called in, as a careless change would.

The product has no switch for any of it. A break that finds the code other than it expects ends the program, so that
none can turn into one that breaks nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

from contracts.ids import ConnectionUid, MessageId, PublicEventId
from contracts.outcomes import Outcome
from delivery import consequences, effects, sending
from delivery.window import Entry, Window
from store import settlement
from store.jobs import Job


def exchange(owner: object, name: str, make: Callable[[Any], object]) -> None:
    """Put what `make` makes of an attribute in its place."""
    if not hasattr(owner, name):
        raise SystemExit(f"{owner} has no {name} that could be exchanged")
    setattr(owner, name, make(getattr(owner, name)))


def without_fence() -> None:
    """Write results whether or not the session is still there."""

    def always(parameter: bytes) -> Callable[[Any], object]:
        fence = b"select id from integration.worker_session where id = %s::bigint for key share" % parameter

        def rewrite(statement: Any) -> object:
            if statement.sql.count(fence) != 1:
                raise SystemExit(f"{statement.name} has no fence that could be taken away")
            return replace(statement, sql=statement.sql.replace(fence, b"select %s::bigint as id" % parameter))

        return rewrite

    exchange(settlement, "FINISH_JOBS", always(b"$2"))
    exchange(settlement, "FENCE", always(b"$1"))


def without_order() -> None:
    """Start the jobs of a subject side by side."""

    def side_by_side(accept: Callable[[Window, Job], Entry]) -> object:
        return lambda window, job: accept(window, job._replace(subject=None))

    exchange(Window, "_accept", side_by_side)


def without_retries() -> None:
    """Take a failed attempt for a delivery."""

    def all_is_well(effect_of: Callable[[Outcome, Callable[[], datetime]], effects.Effect]) -> object:
        def effect(outcome: Outcome, now: Callable[[], datetime]) -> effects.Effect:
            found = effect_of(outcome, now)
            return effects.Finish() if isinstance(found, effects.Retry) else found

        return effect

    exchange(consequences, "effect_of", all_is_well)


def with_new_ids() -> None:
    """Send each attempt under a message id of its own."""
    attempts = count()

    def anew(message_id: Callable[[ConnectionUid, PublicEventId, str], MessageId]) -> object:
        return lambda *parts: f"{message_id(*parts)}_{next(attempts)}"

    exchange(sending, "message_id", anew)


BREAKS: dict[str, Callable[[], None]] = {
    "without-fence": without_fence,
    "without-order": without_order,
    "without-retries": without_retries,
    "with-new-ids": with_new_ids,
}

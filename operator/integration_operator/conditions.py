"""What the statuses of all our resources have in common: conditions that keep their time, and words that fit."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from contracts.status import Condition, ConditionStatus
from integration_operator.kube import Json

LONGEST_MESSAGE: Final = 1024
_LONGEST_QUOTE: Final = 640

Found = tuple[str, ConditionStatus, str, str]
"""A condition as it was found: type, status, reason and message."""


def dated(found: Iterable[Found], generation: int, former: Json, now: datetime) -> tuple[Condition, ...]:
    """Write conditions down; one whose status is that of the former resource status keeps its time of transition."""
    known = {condition.get("type", ""): condition for condition in former.get("conditions") or ()}
    return tuple(
        _keep_time(
            Condition(
                type=type_,
                status=status,
                observed_generation=generation,
                last_transition_time=now,
                reason=reason,
                message=message[:LONGEST_MESSAGE],
            ),
            known.get(type_),
        )
        for type_, status, reason, message in found
    )


def cut(text: str) -> str:
    """Shorten what others said, so that what to do next still finds room behind it."""
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def status_patch(former: Json, status: Json) -> Json | None:
    """Return the merge patch from one status to the other; None if they say the same."""
    if former == status:
        return None
    return status | {name: None for name in former if name not in status}


def _keep_time(condition: Condition, former: Json | None) -> Condition:
    if former is None or former.get("status") != condition.status.value:
        return condition
    try:
        since = datetime.fromisoformat(former["lastTransitionTime"])
    except (KeyError, ValueError):
        return condition
    return condition.model_copy(update={"last_transition_time": since})

"""Which of a connector's actions a route asks for, and whether its events are what that action takes."""

from collections.abc import Iterable, Sequence

from rapidfuzz import process

from connectors.connector import Action
from connectors.errors import NoSuchActionError
from contracts.delivery_spec import RouteSpec

_NEAR = 60
"""Similarity, of 100, from which a name is worth to be suggested."""


def action_of(route: RouteSpec, actions: Sequence[Action]) -> Action:
    """Return the action of a route: the one it names, or the first that takes all its events.

    Raise NoSuchActionError, which says what there is.
    """
    if route.action is None:
        for action in actions:
            if takes(action, route.events):
                return action
        raise NoSuchActionError(
            f"no action takes all events of this route; split it, or name one of {_listed(actions)}"
        )
    for action in actions:
        if action.name == route.action:
            if not takes(action, route.events):
                raise NoSuchActionError(f"{action.name} takes {', '.join(action.events)}, this route has others too")
            return action
    raise NoSuchActionError(
        f"there is no action {route.action}{suggestion(route.action, [action.name for action in actions])}; "
        f"there are {_listed(actions)}"
    )


def takes(action: Action, patterns: Iterable[str]) -> bool:
    """Say whether an action takes every event that any of the patterns matches."""
    return all(any(_covers(wide, narrow) for wide in action.events) for narrow in patterns)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Ask whether something similar was meant, as the end of a sentence; empty if nothing is similar."""
    found = process.extractOne(name, list(known), score_cutoff=_NEAR, processor=str.lower)
    return f": did you mean {found[0]}?" if found else ""


def _covers(wide: str, narrow: str) -> bool:
    return wide in ("*", narrow) or (wide.endswith(".*") and narrow.startswith(wide[:-1]))


def _listed(actions: Sequence[Action]) -> str:
    return ", ".join(f"{action.name} ({', '.join(action.events)})" for action in actions)

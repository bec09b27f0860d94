"""What a watch tells is queued by how urgent it is."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from integration_operator.program import Operator
from integration_operator.settings import OperatorSettings
from integration_operator.work_queue import Lane


@pytest.mark.parametrize(("has_seen_everything", "depths"), [(False, (0, 1)), (True, (1, 0))])
def test_what_a_new_leader_is_told_first_waits_behind_what_is_new(
    settings: OperatorSettings, make_body: Callable[..., Any], has_seen_everything: bool, depths: tuple[int, int]
) -> None:
    operator = Operator(settings)
    operator._leader = SimpleNamespace(has_seen_everything=has_seen_everything)  # type: ignore[assignment]
    operator._see("integrationconnections", make_body(), deleted=False)

    assert (operator._queue.depth(Lane.CHANGED), operator._queue.depth(Lane.RESYNC)) == depths


def test_a_replica_that_stands_by_queues_nothing(settings: OperatorSettings, make_body: Callable[..., Any]) -> None:
    operator = Operator(settings)
    operator._see("integrationconnections", make_body(), deleted=False)

    assert operator._queue.idle

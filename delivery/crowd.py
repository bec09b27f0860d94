"""Those who wait for senders, the most modest first."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

STALE_AT_LEAST = 64
"""A crowd is first gone through for those who have left when it has so many entries."""


class HoldsTicket(Protocol):
    """Somebody who may wait in one crowd, and does while its ticket is not 0."""

    ticket: int


Waiter = TypeVar("Waiter", bound=HoldsTicket)


class Crowd(Generic[Waiter]):
    """A crowd, which anybody leaves by taking another ticket, or none: entries of former tickets are passed over."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Waiter]] = []
        self._tickets = 0
        self._limit = STALE_AT_LEAST

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def needed(self) -> int | None:
        """How many senders the first one needs; None if nobody waits."""
        heap = self._heap
        while heap and heap[0][2].ticket != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else None

    def add(self, waiter: Waiter, needed: int) -> None:
        """Let somebody wait until so many senders are there."""
        if len(self._heap) >= self._limit:
            self._heap = [waiting for waiting in self._heap if waiting[2].ticket == waiting[1]]
            heapify(self._heap)
            self._limit = STALE_AT_LEAST + 2 * len(self._heap)
        self._tickets += 1
        waiter.ticket = self._tickets
        heappush(self._heap, (needed, self._tickets, waiter))

    def leave(self, senders: int) -> Iterator[Waiter]:
        """Give those for whom so many are enough."""
        while (needed := self.needed) is not None and needed <= senders:
            yield self._first()

    def let_one_out(self) -> Waiter | None:
        """Give the most modest one, if there is any, for what it needs may be less by now."""
        return None if self.needed is None else self._first()

    def _first(self) -> Waiter:
        waiter = heappop(self._heap)[2]
        waiter.ticket = 0
        return waiter

"""Which connections an event goes to: routes by tenant, type patterns, then filters.

A table is immutable and belongs to one routing epoch; a new publication makes a new table.
"""

from collections.abc import Iterable, Sequence

import orjson

from contracts.filters import Filter, FilterFailedError, InvalidFilterError
from contracts.ids import TenantId
from contracts.patterns import compile_patterns
from store.dispatch import NewEvent, NewJob, RouteRow, RoutingFailure


class _Route:
    __slots__ = ("broken", "filter", "matches_type", "row")

    def __init__(self, row: RouteRow) -> None:
        self.row = row
        self.matches_type = compile_patterns(row.events)
        self.filter: Filter | None = None
        self.broken: str | None = None
        if row.filter is not None:
            try:
                self.filter = Filter(row.filter)
            except InvalidFilterError as error:
                # Refused on publication; should one get here, its jobs say so and everything else goes on.
                self.broken = str(error)

    def accepts(self, document: dict[str, object] | None) -> bool:
        if self.broken is not None:
            raise FilterFailedError(self.broken)
        return self.filter is None or (document is not None and self.filter.matches(document))


class RoutingTable:
    """All active routes of one routing epoch."""

    def __init__(self, epoch: int, rows: Iterable[RouteRow]) -> None:
        self.epoch = epoch
        self._by_tenant: dict[TenantId, list[_Route]] = {}
        for row in rows:
            self._by_tenant.setdefault(row.tenant, []).append(_Route(row))
        self.reads_data = any(route.filter for routes in self._by_tenant.values() for route in routes)
        self._by_type: dict[tuple[TenantId, str], tuple[_Route, ...]] = {}

    def route(self, events: Sequence[NewEvent], jobs_at_once: int) -> tuple[int, list[NewJob], list[RoutingFailure]]:
        """Return the jobs for events, in the events' order, and the jobs that a failing filter prevented.

        Stops after the event that brings the jobs to `jobs_at_once`; the first number says how many events were routed.
        """
        jobs: list[NewJob] = []
        failures: list[RoutingFailure] = []
        for number, event in enumerate(events):
            if len(jobs) + len(failures) >= jobs_at_once:
                return number, jobs, failures
            document: dict[str, object] | None = None
            for route in self._routes_for(event):
                row = route.row
                subject = event.subject_hash if row.ordered else None
                if route.filter is not None and document is None:
                    document = _document(event)
                try:
                    if route.accepts(document):
                        jobs.append(NewJob(row.pool, row.connection, row.id, event.id, event.at, subject))
                except FilterFailedError as error:
                    key = (row.tenant, row.connection, row.id, event.id, event.at, subject)
                    failures.append(RoutingFailure(*key, str(error)))
        return len(events), jobs, failures

    def _routes_for(self, event: NewEvent) -> tuple[_Route, ...]:
        key = (event.tenant, event.type)
        known = self._by_type.get(key)
        if known is None:
            known = tuple(r for r in self._by_tenant.get(event.tenant, ()) if r.matches_type(event.type))
            if len(self._by_type) >= 100_000:  # tenants by types; extension types have no fixed number
                self._by_type.clear()
            self._by_type[key] = known
        return known


def _document(event: NewEvent) -> dict[str, object]:
    return {
        "type": event.type,
        "subject": event.subject,
        "tenant": event.tenant,
        "data": orjson.loads(event.data or b"{}"),
    }

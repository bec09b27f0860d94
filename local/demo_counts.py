"""What the demo expects of each partner endpoint, and what the partner says has come."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import orjson

from contracts.delivery_spec import RouteSpec
from contracts.filters import Filter
from contracts.ids import PublicEventId
from contracts.manifests import IntegrationConnection
from contracts.patterns import compile_patterns
from local.demo_partner import Arrival, Partner
from store.outbox import NewEvent


class DemoRoute:
    """A route of a connection, and which events it selects."""

    def __init__(self, spec: RouteSpec) -> None:
        self._matches_type = compile_patterns(spec.events)
        self._filter = Filter(spec.filter) if spec.filter else None

    def selects(self, event: NewEvent) -> bool:
        """Say whether an event goes this way."""
        document = {"type": event.type, "subject": event.subject, "tenant": event.tenant, "data": dict(event.data)}
        return self._matches_type(event.type) and (self._filter is None or self._filter.matches(document))


@dataclass(frozen=True, slots=True)
class EndpointCounts:
    """What one endpoint has seen of this run's deliveries; `failed` counts requests that it did not accept."""

    delivered: int = 0
    repeated: int = 0
    altered: int = 0
    failed: int = 0


def count(arrivals: Sequence[Arrival]) -> EndpointCounts:
    """Count arrivals."""
    accepted = [arrival.accepted for arrival in arrivals if arrival.accepted]
    return EndpointCounts(
        delivered=len(accepted),
        repeated=sum(accepted) - len(accepted),
        altered=sum(not arrival.same_body for arrival in arrivals),
        failed=sum(status is None or not 200 <= status < 300 for arrival in arrivals for status in arrival.statuses),
    )


@dataclass(slots=True)
class Endpoint:
    """A connection's partner: where it listens, and which events it must get, each how often."""

    connection: IntegrationConnection
    path: str
    expected: Counter[str] = field(default_factory=Counter)
    counts: EndpointCounts = EndpointCounts()
    most_tried: str = ""
    _routes: tuple[DemoRoute, ...] = field(init=False)
    _position: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._routes = tuple(DemoRoute(route) for route in self.connection.spec.routes)

    @property
    def name(self) -> str:
        """The connection's name with its namespace."""
        return f"{self.connection.namespace}/{self.connection.name}"

    def expect(self, event_id: PublicEventId, event: NewEvent) -> None:
        """Note an event that was emitted, if the connection's routes select it."""
        if event.tenant == self.connection.spec.tenant:
            times = sum(route.selects(event) for route in self._routes)
            if times:
                self.expected[event_id] = times
                self._position[event_id] = len(self._position)

    async def observe(self, partner: Partner) -> None:
        """Ask the partner what has come by now; events of an earlier run, which may still arrive, are left out."""
        arrivals = [arrival for arrival in await partner.arrivals(self.path) if arrival.event.event_id in self.expected]
        self.counts = count(arrivals)
        if arrivals:
            self.most_tried = max(arrivals, key=lambda arrival: len(arrival.statuses)).event.event_id

    def out_of_order(self, order: Mapping[str, Iterable[str]]) -> int:
        """Count deliveries that were accepted after a later one of the same subject."""
        return sum(self._late(event_ids) for event_ids in order.values())

    def _late(self, event_ids: Iterable[str]) -> int:
        latest, late = -1, 0
        for event_id in event_ids:
            position = self._position.get(event_id, latest)
            late += position < latest
            latest = max(latest, position)
        return late


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a demo, counted at the partner."""

    events: int
    deliveries: int
    delivered: int
    lost: int
    repeated: int
    out_of_order: int
    unverified: int
    altered: int
    failed_attempts: int
    crm_records: int
    crm_missing: int
    crm_twins: int
    crm_refused: int
    quarantined_and_recovered: bool
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the layer kept its promises."""
        broken = self.lost + self.repeated + self.out_of_order + self.unverified + self.altered
        broken += self.crm_missing + self.crm_twins + self.crm_refused
        return broken == 0 and self.quarantined_and_recovered

    def as_json(self) -> str:
        """Write it for programs."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2).decode()


class Records(Protocol):
    """What a CRM must hold in the end, and holds."""

    twins: int
    refused: int

    @property
    def expected(self) -> int:
        """How many records must be there."""

    @property
    def outstanding(self) -> int:
        """How many of them are not there, or not as they must be."""


async def summarise(
    endpoints: Iterable[Endpoint],
    partner: Partner,
    crms: Iterable[Records],
    *,
    events: int,
    quarantined_and_recovered: bool,
    seconds: float,
) -> Summary:
    """Ask the partner for everything once more and add up."""
    total: Counter[str] = Counter()
    for endpoint in endpoints:
        await endpoint.observe(partner)
        counts = endpoint.counts
        total["deliveries"] += endpoint.expected.total()
        total["out_of_order"] += endpoint.out_of_order(await partner.order(endpoint.path))
        total["unverified"] += await partner.refused(endpoint.path)
        total.update(delivered=counts.delivered, repeated=counts.repeated, altered=counts.altered, failed=counts.failed)
    for crm in crms:
        total.update(
            crm_records=crm.expected, crm_missing=crm.outstanding, crm_twins=crm.twins, crm_refused=crm.refused
        )
    return Summary(
        events=events,
        deliveries=total["deliveries"],
        delivered=total["delivered"],
        lost=total["deliveries"] - total["delivered"],
        repeated=total["repeated"],
        out_of_order=total["out_of_order"],
        unverified=total["unverified"],
        altered=total["altered"],
        failed_attempts=total["failed"],
        crm_records=total["crm_records"],
        crm_missing=total["crm_missing"],
        crm_twins=total["crm_twins"],
        crm_refused=total["crm_refused"],
        quarantined_and_recovered=quarantined_and_recovered,
        seconds=round(seconds, 1),
    )

"""One leads at a time, whatever the clocks, the network and the API server do."""

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration_operator import election
from integration_operator.election import LEASE_SECONDS, POLL_SECONDS, Elector
from integration_operator.errors import ApiServerUnreachableError, ConflictError, NotFoundError
from integration_operator.names import ObjectKey
from store.leadership import Term

Json = dict[str, Any]
RunFast = Callable[[Callable[[], Awaitable[Any]]], Any]

LEASE = ObjectKey("system", "integration-operator")


@dataclass
class Leases:
    """The API server's one Lease: a write needs the version that is stored."""

    lease: Json | None = None
    written_at: list[tuple[float, str]] = field(default_factory=list)
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def write(self, body: Json, *, create: bool) -> Json:
        if create and self.lease is not None:
            raise ConflictError("409: exists")
        if not create and (self.lease or {"metadata": {}})["metadata"] != body["metadata"]:
            raise ConflictError("409: changed")
        stored = copy.deepcopy(body)
        stored["metadata"] |= {
            "creationTimestamp": "2026-11-20T00:00:00Z",
            "resourceVersion": str(next(self._versions)),
        }
        self.lease = stored
        self.written_at.append((asyncio.get_running_loop().time(), body["spec"]["holderIdentity"]))
        return copy.deepcopy(stored)


@dataclass
class Line:
    """A candidate's way to the API server: requests take `seconds` there and back, and fail while there are faults."""

    leases: Leases
    seconds: float = 0.01
    faults: list[tuple[float, float, str]] = field(default_factory=list)

    async def get(self, path: str) -> Json:
        await self._travel()
        lease = copy.deepcopy(self.leases.lease)
        await self._travel()
        if lease is None:
            raise NotFoundError("404: none")
        return lease

    async def create(self, path: str, body: Json) -> Json:
        return await self._write(body, create=True)

    async def replace(self, path: str, body: Json) -> Json:
        return await self._write(body, create=False)

    async def _write(self, body: Json, *, create: bool) -> Json:
        await self._travel()
        written = self.leases.write(body, create=create)
        await self._travel()
        return written

    async def _travel(self) -> None:
        await asyncio.sleep(self.seconds)
        now = asyncio.get_running_loop().time()
        for begin, end, how in self.faults:
            if begin <= now < end:
                if how == "hangs":
                    await asyncio.sleep(3_600)
                raise ApiServerUnreachableError("no answer")


@dataclass
class Candidate:
    """A replica that notes when it leads."""

    name: str
    line: Line
    terms: list[Term] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)

    async def lead(self, term: Term) -> None:
        self.terms.append(term)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            self.spans.append((begun, loop.time()))

    async def run(self, stop: asyncio.Event) -> None:
        await Elector(self.line, LEASE, self.name).run(self.lead, stop)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _clocks(loop_time: Any) -> Any:
    """Let the time of day be anything: no candidate may trust another's."""
    random = Random(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(election, "time", loop_time)
        patched.setattr(election, "_micro_time", lambda: f"{random.randrange(1970, 2100)}-{random.random()}")
        yield


async def campaign(*plans: tuple[Candidate, float]) -> None:
    """Have candidates run, each until its own time; then look at `spans`."""

    async def run(candidate: Candidate, seconds: float) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(candidate.run(stop))
        await asyncio.sleep(seconds)
        stop.set()
        await running

    await asyncio.gather(*(run(candidate, seconds) for candidate, seconds in plans))


FAULTS = st.lists(
    st.tuples(st.floats(0, 90), st.floats(0.1, 40), st.sampled_from(["hangs", "refuses"])).map(
        lambda fault: (fault[0], fault[0] + fault[1], fault[2])
    ),
    max_size=4,
)
LINES = st.tuples(st.floats(0.001, 1.0), FAULTS)


@settings(max_examples=150)
@given(LINES, LINES, st.floats(50, 150))
def test_no_two_lead_at_once(
    run_fast: RunFast,
    first: tuple[float, list[tuple[float, float, str]]],
    second: tuple[float, list[tuple[float, float, str]]],
    until: float,
) -> None:
    leases = Leases()
    one, two = (Candidate(name, Line(leases, *plan)) for name, plan in (("one", first), ("two", second)))
    run_fast(lambda: campaign((one, until), (two, 200.0)))
    spans = sorted(one.spans + two.spans)
    terms = sorted(one.terms + two.terms, key=lambda term: term.transitions)

    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert [term.transitions for term in terms] == sorted({term.transitions for term in terms})


def test_a_holder_whose_line_first_refuses_and_then_hangs_stops_in_time(run_fast: RunFast) -> None:
    leases = Leases()
    one = Candidate("one", Line(leases, 0.25, [(32.4, 41.4, "refuses"), (41.4, 1_000.0, "hangs")]))
    two = Candidate("two", Line(leases))

    async def run() -> None:
        leading = asyncio.create_task(campaign((one, 120.0)))
        await asyncio.sleep(5)
        await campaign((two, 115.0))
        await leading

    run_fast(run)
    ((_, ended),) = one.spans
    ((begun, _),) = two.spans

    assert ended <= begun


def test_one_that_is_told_to_stop_lets_the_next_in_at_once(run_fast: RunFast) -> None:
    leases = Leases()
    one, two = (Candidate(name, Line(leases)) for name in ("one", "two"))
    run_fast(lambda: campaign((one, 30.0), (two, 60.0)))
    first, second = sorted(one.spans + two.spans)

    assert first[1] <= second[0] <= first[1] + POLL_SECONDS + 0.5


def test_a_silent_holder_is_replaced_only_when_its_lease_has_run_out(run_fast: RunFast) -> None:
    leases = Leases()
    one = Candidate("one", Line(leases, faults=[(30.0, 1_000.0, "refuses")]))
    two = Candidate("two", Line(leases))

    async def run() -> None:
        leading = asyncio.create_task(campaign((one, 100.0)))
        await asyncio.sleep(10)
        await campaign((two, 90.0))
        await leading

    run_fast(run)
    last = max(at for at, holder in leases.written_at if holder.startswith("one_"))
    ((_, ended),) = one.spans
    ((begun, _),) = two.spans

    assert ended < begun
    assert last + LEASE_SECONDS < begun < last + LEASE_SECONDS + 3 * POLL_SECONDS


def test_an_observer_that_has_just_come_waits_a_whole_lease_duration(run_fast: RunFast) -> None:
    leases = Leases()
    two = Candidate("two", Line(leases))
    claim = Elector(Line(leases), LEASE, "gone")._claim(None)  # type: ignore[arg-type]

    async def run() -> None:
        leases.write(claim, create=True)
        await asyncio.sleep(1_000)
        await campaign((two, 60.0))

    run_fast(run)
    ((begun, _),) = two.spans

    assert LEASE_SECONDS < begun - 1_000 < LEASE_SECONDS + 3 * POLL_SECONDS


def test_one_leads_on_through_a_short_fault(run_fast: RunFast) -> None:
    leases = Leases()
    one = Candidate("one", Line(leases, faults=[(20.0, 25.0, "refuses"), (40.0, 44.0, "hangs")]))
    two = Candidate("two", Line(leases))

    async def run() -> None:
        leading = asyncio.create_task(campaign((one, 100.0)))
        await asyncio.sleep(5)
        await campaign((two, 90.0))
        await leading

    run_fast(run)

    assert len(one.spans) == 1
    assert two.spans == []


def test_one_that_loses_the_lease_to_another_stops(run_fast: RunFast) -> None:
    leases = Leases()
    one = Candidate("one", Line(leases))

    async def run() -> None:
        leading = asyncio.create_task(campaign((one, 20.0)))
        await asyncio.sleep(10.5)
        assert leases.lease is not None
        taken = copy.deepcopy(leases.lease)
        taken["spec"] |= {"holderIdentity": "somebody", "renewTime": "now"}
        leases.write(taken, create=False)
        await leading

    run_fast(run)
    ((_, ended),) = one.spans

    assert ended < 13.0

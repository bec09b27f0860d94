"""What travels in one request never has two jobs of a subject, whatever became of the requests before it."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.connector import BatchLimits
from delivery.batching import Batching
from delivery.consequences import Consequences
from delivery.desk import Desk
from delivery.gathering import Gathering
from delivery.lane import Lane
from delivery.window import Entry
from store.jobs import Job
from tests.unit.delivery.test_lane import Owner

MakeLane = Callable[..., Lane]
LIMITS = BatchLimits(8, 1_000_000, timedelta())


class NothingEndsUnsent:
    def ended_unsent(self, entry: Entry, *, joined: bool) -> bool:
        return False


def batching() -> Batching:
    return Batching(cast("Desk", None), cast("Consequences", NothingEndsUnsent()), cast("Any", None))


class BatchingOwner(Owner):
    """Starts as many jobs at once as may travel together; each of them then ends for itself, in a random way."""

    def __init__(self, lane: Lane, subjects: list[int | None], random: Random) -> None:
        super().__init__(lane, subjects, random)
        self.batches: list[list[Entry]] = []
        self.batching = batching()

    def start(self) -> None:
        if self.lane.may_start(0.0):
            batch = self.batching.fill(self.lane.start(0.0), self.lane.gathering)  # type: ignore[arg-type]
            self.lane.under_way += len(batch) - 1  # each ends for itself here
            self.batches.append(batch)
            self.running.extend(batch)


@st.composite
def worked(draw: st.DrawFn, make_lane: MakeLane) -> BatchingOwner:
    random = Random(draw(st.integers(0, 2**32)))
    kinds = draw(st.integers(1, 12))
    subjects = [random.choice([None, *range(kinds)]) for _ in range(draw(st.integers(1, 80)))]
    lane = make_lane(throttle={"concurrency": draw(st.integers(1, 20))})
    lane.gathering = Gathering(LIMITS)
    owner = BatchingOwner(lane, subjects, random)
    owner.work(draw(st.integers(0, 600)))
    return owner


@settings(deadline=None)
@given(st.data())
def test_no_request_has_two_jobs_of_a_subject(make_lane: MakeLane, data: st.DataObject) -> None:
    owner = data.draw(worked(make_lane))

    for batch in owner.batches:
        subjects = [entry.job.subject for entry in batch if entry.job.subject is not None]
        assert len(subjects) == len(set(subjects))


@settings(deadline=None)
@given(st.data())
def test_jobs_of_a_subject_end_in_order_though_their_requests_succeed_in_part(
    make_lane: MakeLane, data: st.DataObject
) -> None:
    owner = data.draw(worked(make_lane))

    assert owner.most_active <= 1
    assert all(ids == sorted(ids) for subject, ids in owner.ended.items() if subject is not None)
    assert sorted(number for ids in owner.ended.values() for number in ids) == list(owner.jobs)


def with_jobs(make_lane: MakeLane, *attempts: int, limits: BatchLimits = LIMITS) -> Lane:
    lane = make_lane()
    lane.gathering = Gathering(limits)
    owner = Owner(lane, [None] * len(attempts), Random(0))
    for number, made in enumerate(attempts, 1):
        job: Job = owner.jobs[number]
        entry = lane.jobs.feed(job._replace(attempts=made))
        assert entry is not None
        entry.loaded = True
    return lane


def filled(lane: Lane) -> list[int]:
    assert lane.gathering is not None
    return [int(entry.job.id) for entry in batching().fill(lane.start(0.0), lane.gathering)]


def test_a_request_takes_what_is_ready_in_order_and_leaves_the_rest(make_lane: MakeLane) -> None:
    lane = with_jobs(make_lane, *[0] * 10)

    assert (filled(lane), filled(lane)) == ([1, 2, 3, 4, 5, 6, 7, 8], [9, 10])


def test_a_request_costs_one_token_and_counts_as_one(make_lane: MakeLane) -> None:
    lane = with_jobs(make_lane, *[0] * 8)
    before = lane.pace.bucket.available(0.0)
    filled(lane)

    assert (before - lane.pace.bucket.available(0.0), lane.under_way) == (1, 1)


def test_one_that_failed_often_ends_a_request_and_begins_the_next(make_lane: MakeLane) -> None:
    lane = with_jobs(make_lane, 0, 0, 2, 0, 0)

    assert (filled(lane), filled(lane), filled(lane)) == ([1, 2], [3, 4], [5])


def test_a_request_ends_where_its_size_is_reached(make_lane: MakeLane) -> None:
    lane = with_jobs(make_lane, *[0] * 5, limits=BatchLimits(8, 1_100, timedelta()))

    assert (filled(lane), filled(lane), filled(lane)) == ([1, 2], [3, 4], [5])

"""A lane keeps the order of each subject, and no subject gets in the way of another."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.ids import EventId, JobId, RouteId
from delivery.lane import Lane
from delivery.window import BEHIND_LIMIT, WINDOW, Entry
from store.jobs import Job

MakeLane = Callable[..., Lane]
AT = datetime(2026, 11, 20, tzinfo=UTC)
READ_AT_ONCE = 10


def job(number: int, subject: int | None = None) -> Job:
    return Job(JobId(number), 1, RouteId(1), EventId(number), AT, subject, 0)  # type: ignore[arg-type]


def feed(lane: Lane, *jobs: Job) -> None:
    for each in jobs:
        load(lane.jobs.feed(each))


def load(entry: Entry | None) -> None:
    if entry is not None:
        entry.loaded = True


def startable(lane: Lane) -> list[Entry]:
    entries = []
    while lane.may_start(0.0):
        entries.append(lane.start(0.0))
    return entries


def end(lane: Lane, entry: Entry) -> None:
    lane.under_way -= 1
    lane.jobs.settled(entry)


def defer(lane: Lane, entry: Entry, due: float = 60.0) -> None:
    lane.under_way -= 1
    lane.jobs.deferred(entry, due)


class Owner:
    """Feeds a lane from a table in memory as the worker does from the database, and tries jobs in random ways."""

    def __init__(self, lane: Lane, subjects: list[int | None], random: Random) -> None:
        self.lane = lane
        self.random = random
        self.jobs = {number: job(number, subject) for number, subject in enumerate(subjects, 1)}
        self.states = dict.fromkeys(self.jobs, "ready")
        self.arrived = 0
        self.running: list[Entry] = []
        self.ended: defaultdict[int | None, list[int]] = defaultdict(list)
        self.most_active = 0

    def arrive(self) -> None:
        if self.arrived < len(self.jobs):
            self.arrived += 1
            load(self.lane.feed_tail(self.jobs[self.arrived]))

    def read(self) -> None:
        if not (self.lane.jobs.backlogged and self.lane.has_room):
            return
        found = [n for n in self.of("ready") if n > self.lane.jobs.cursor][:READ_AT_ONCE]
        if len(found) < READ_AT_ONCE:
            self.lane.jobs.backlogged = False
        for number in found:
            load(self.lane.jobs.feed(self.jobs[number]))

    def read_due(self) -> None:
        if self.lane.has_room:
            for number in self.of("deferred"):
                load(self.lane.jobs.feed_due(self.jobs[number]))

    def read_held(self) -> None:
        self.write_held()
        if not self.lane.may_fetch_held:
            return
        for subject in list(self.lane.jobs.held_wanted):
            found = [n for n in self.of("held") if self.jobs[n].subject == subject][:BEHIND_LIMIT]
            whole = len(found) < BEHIND_LIMIT
            for entry in self.lane.jobs.feed_held(subject, [self.jobs[n] for n in found], all_of_them=whole):
                load(entry)

    def write_held(self) -> None:
        for number in self.lane.jobs.to_hold:
            self.states[number] = "held"
        self.lane.jobs.held(list(self.lane.jobs.to_hold))

    def start(self) -> None:
        if self.lane.may_start(0.0):
            self.running.append(self.lane.start(0.0))

    def finish(self) -> None:
        if entry := self.some_running():
            self.states[entry.job.id] = "done"
            self.ended[entry.job.subject].append(entry.job.id)
            end(self.lane, entry)

    def fail(self) -> None:
        if entry := self.some_running():
            self.states[entry.job.id] = "deferred"
            defer(self.lane, entry)

    def put_back(self) -> None:
        if entry := self.some_running():
            self.lane.under_way -= 1
            self.lane.put_back(entry)

    def some_running(self) -> Entry | None:
        return self.running.pop(self.random.randrange(len(self.running))) if self.running else None

    def of(self, state: str) -> list[int]:
        return [number for number in range(1, self.arrived + 1) if self.states[number] == state]

    def note(self) -> None:
        subjects = [entry.job.subject for entry in self.running if entry.job.subject is not None]
        self.most_active = max([self.most_active, *(subjects.count(subject) for subject in subjects)])

    def work(self, steps: int) -> None:
        calm = [self.arrive, self.read, self.read_due, self.read_held, self.write_held, self.start, self.finish]
        for _ in range(steps):
            self.random.choice([*calm, self.arrive, self.start, self.fail, self.put_back])()
            self.note()
        for _ in range(3 * len(self.jobs) + 10):
            for step in calm:
                step()
                self.note()


@st.composite
def worked(draw: st.DrawFn, make_lane: MakeLane) -> Owner:
    random = Random(draw(st.integers(0, 2**32)))
    kinds = draw(st.integers(1, 6))
    subjects = [random.choice([None, *range(kinds)]) for _ in range(draw(st.integers(1, 80)))]
    owner = Owner(make_lane(throttle={"concurrency": draw(st.integers(1, 8))}), subjects, random)
    owner.work(draw(st.integers(0, 600)))
    return owner


@settings(deadline=None)
@given(st.data())
def test_jobs_of_a_subject_end_in_the_order_of_their_ids(make_lane: MakeLane, data: st.DataObject) -> None:
    owner = data.draw(worked(make_lane))

    assert all(ids == sorted(ids) for subject, ids in owner.ended.items() if subject is not None)


@settings(deadline=None)
@given(st.data())
def test_at_most_one_job_of_a_subject_is_under_way(make_lane: MakeLane, data: st.DataObject) -> None:
    owner = data.draw(worked(make_lane))

    assert owner.most_active <= 1


@settings(deadline=None)
@given(st.data())
def test_every_job_ends_once_in_the_end(make_lane: MakeLane, data: st.DataObject) -> None:
    owner = data.draw(worked(make_lane))

    assert sorted(number for ids in owner.ended.values() for number in ids) == list(owner.jobs)


@settings(deadline=None)
@given(st.data())
def test_nothing_stays_in_memory_in_the_end(make_lane: MakeLane, data: st.DataObject) -> None:
    lane = data.draw(worked(make_lane)).lane

    assert (lane.jobs.idle, lane.jobs.waiting, lane.under_way) == (True, 0, 0)


def test_the_next_of_a_subject_waits_until_the_first_is_settled(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7), job(2, 7), job(3, 8))

    assert [entry.job.id for entry in startable(lane)] == [1, 3]


def test_the_next_of_a_subject_goes_when_the_first_is_settled(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7), job(2, 7))
    end(lane, startable(lane)[0])

    assert [entry.job.id for entry in startable(lane)] == [2]


def test_jobs_without_a_subject_wait_for_none(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1), job(2), job(3))

    assert [entry.job.id for entry in startable(lane)] == [1, 2, 3]


def test_what_stands_behind_a_deferred_job_is_held(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7), job(2, 7), job(3, 7))
    defer(lane, startable(lane)[0])
    feed(lane, job(4, 7))

    assert lane.jobs.to_hold == [2, 3, 4]


def test_a_deferred_job_delays_no_other_subject(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7))
    defer(lane, startable(lane)[0])
    feed(lane, job(2, 7), job(3, 8), job(4))

    assert [entry.job.id for entry in startable(lane)] == [3, 4]


def test_held_jobs_are_wanted_once_the_deferred_one_has_ended(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7), job(2, 7))
    defer(lane, startable(lane)[0])
    load(lane.jobs.feed_due(job(1, 7)))
    end(lane, startable(lane)[0])

    assert lane.jobs.held_wanted == {7}


def test_the_overflow_of_a_subject_is_held(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, *(job(number, 7) for number in range(1, BEHIND_LIMIT + 4)))

    assert lane.jobs.to_hold == [BEHIND_LIMIT + 2, BEHIND_LIMIT + 3]


def test_one_subject_does_not_fill_the_window(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, *(job(number, 7) for number in range(1, 5 * WINDOW)))

    assert lane.has_room


def test_new_jobs_never_fill_more_than_the_window(make_lane: MakeLane) -> None:
    lane = make_lane()
    lane.jobs.backlogged = False
    for number in range(1, 2 * WINDOW):
        load(lane.feed_tail(job(number)))

    assert lane.jobs.waiting == WINDOW


def test_a_full_lane_reads_what_it_passed_later(make_lane: MakeLane) -> None:
    lane = make_lane()
    lane.jobs.backlogged = False
    for number in range(1, WINDOW + 2):
        load(lane.feed_tail(job(number)))

    assert (lane.jobs.backlogged, lane.jobs.cursor) == (True, WINDOW)


def test_a_job_read_twice_is_in_memory_once(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1, 7), job(1, 7))

    assert lane.jobs.waiting == 1


def test_a_lane_with_a_job_under_way_cannot_change_hands(make_lane: MakeLane) -> None:
    lane = make_lane()
    feed(lane, job(1))
    startable(lane)

    assert not lane.jobs.idle


def test_a_lane_that_must_write_what_it_holds_cannot_change_hands(make_lane: MakeLane) -> None:
    lane = make_lane(deferred_subjects=frozenset({7}))
    feed(lane, job(1, 7))

    assert not lane.jobs.idle


@pytest.mark.parametrize(("failures", "state"), [(9, "Open"), (10, "Quarantined")])
def test_ten_failures_in_a_row_quarantine_a_lane(make_lane: MakeLane, failures: int, state: str) -> None:
    lane = make_lane()

    for _ in range(failures):
        lane.failed(0.0, "HTTP 500")

    assert lane.health.state == state


def test_a_success_begins_the_count_of_failures_anew(make_lane: MakeLane) -> None:
    lane = make_lane()
    for _ in range(9):
        lane.failed(0.0, "HTTP 500")
    lane.succeeded(0.0)

    lane.failed(0.0, "HTTP 500")

    assert lane.health.consecutive_failures == 1


def test_probes_come_ever_more_rarely_up_to_an_hour(make_lane: MakeLane) -> None:
    lane = make_lane()
    lane.quarantine(0.0, "Misconfigured", probing=True)
    seen = [lane.health.probe_at]

    for _ in range(6):
        lane.probe_failed(0.0, "still failing", probing=True)
        seen.append(lane.health.probe_at)

    assert seen == [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0, 3600.0]


def test_a_pause_is_never_shortened_by_another(make_lane: MakeLane) -> None:
    lane = make_lane()
    lane.paused(60.0, 0.0)

    lane.paused(10.0, 0.0)

    assert lane.pace.paused_until == 60.0


def test_a_new_owner_without_tokens_in_the_row_starts_with_none(make_lane: MakeLane) -> None:
    assert make_lane(tokens=None).pace.bucket.available(0.0) == 0.0

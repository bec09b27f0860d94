"""What follows from the end of an attempt: for the job, for its lane, and what is to be written down.

`delivery.effects` says what an outcome means; here it is done to a lane in memory. Everything that a job may become
(finished, deferred, buried, returned) is decided in this module.
"""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import assert_never

from contracts.durations import format_duration
from contracts.ids import PublicEventId, public_event_id
from contracts.outcomes import Delivered, Report
from delivery import effects
from delivery.backoff import obeyed, pause, retry_delay
from delivery.desk import Desk
from delivery.effects import Effect, alone, effect_of, outcome_name, told_to_lane
from delivery.lane import Lane
from delivery.metrics import WorkerMetrics
from delivery.settling import Burial, Result, Settling
from delivery.window import Entry
from store.jobs import EventRow

log = logging.getLogger(__name__)

EXPIRED = "Expired"


class Consequences:
    """Ends the attempts of one session."""

    def __init__(self, desk: Desk, settling: Settling, metrics: WorkerMetrics, random: Random) -> None:
        self._desk = desk
        self._settling = settling
        self._metrics = metrics
        self._random = random

    def ended(self, entry: Entry, report: Report, started: float, ended: float) -> None:
        """Take note of an attempt's end."""
        lane = entry.lane
        lane.answered(self._desk.lag.beyond(ended - started), ended)
        result = Result(entry, report, started, ended)
        if entry.probe:
            self._probe_ended(entry, report, result, ended)
        elif type(report.outcome) is Delivered:
            lane.succeeded(ended)
            result.success = True
        else:
            self._apply(entry, report, result, ended)
        if report.rest is not None:
            self._obey_rest(lane, report.rest, ended)
        self._metrics.attempted(lane.connection, report, ended - started)
        self._tell(result, report)
        self._hand_over(lane, result, ended)

    def ended_together(self, sent: Sequence[tuple[Entry, Report]], size: int, started: float, ended: float) -> None:
        """Take note of the end of one request with jobs of one lane, in their order; `size` is how large it was."""
        lane = sent[0][0].lane
        lane.answered(self._desk.lag.beyond(ended - started), ended)
        found = [(effect_of(report.outcome, self._desk.clock.datetime), report) for _, report in sent]
        if len(sent) == 1:
            found = [(alone(effect), report) for effect, report in found]
        for effect, report in told_to_lane(found):
            self._tell_lane(lane, effect, report, ended)
        if lane.gathering is not None and any(type(effect) is effects.Split for effect, _ in found):
            lane.gathering.refused(size, ended)
        # The last first: each that is put back comes before those that were put back earlier.
        for (entry, report), (effect, _) in zip(reversed(sent), reversed(found), strict=True):
            result = Result(entry, report, started, ended)
            self._end_job(result, effect, report)
            self._tell(result, report)
            self._settling.add(result)
        if rests := [report.rest for _, report in sent if report.rest is not None]:
            self._obey_rest(lane, max(rests), ended)
        self._metrics.attempted_together(lane.connection, [report for _, report in sent], ended - started)
        self._sort(lane, ended)

    def cannot_send(self, entry: Entry, report: Report) -> None:
        """Bury a job that was to be sent together with others and cannot be sent at all."""
        now = time.monotonic()
        burial = self._burial(entry, "Invalid", report.detail, entry.job.attempts + 1)
        result = Result(entry, report, now, now, burial=burial)
        self._metrics.attempted(entry.lane.connection, report, 0.0)
        self._tell(result, report)
        self._hand_over(entry.lane, result, now)

    def ended_unsent(self, entry: Entry, *, joined: bool = False) -> bool:
        """End a started job that is not to be sent: its deadline has passed, or a newer one supersedes it.

        One that `joined` another's request took no token that could be given back.
        """
        lane, now = entry.lane, time.monotonic()
        if self._expires_within(entry, timedelta()):
            result = Result(entry, None, now, now, burial=self._expiry(entry, entry.job.attempts, ""))
        elif lane.collapsing_routes and (later := self._superseder(entry)) is not None:
            result = Result(entry, None, now, now, superseded_by=public_event_id(later.id, later.nonce))
            self._metrics.superseded(lane.connection, 1)
        else:
            return False
        if not joined:
            lane.not_sent(entry, now)
        log.info("job ended without being sent", extra=names(entry))
        self._hand_over(lane, result, now)
        return True

    def _superseder(self, entry: Entry) -> EventRow | None:
        if self._desk.route_name(entry.job) not in entry.lane.collapsing_routes:
            return None
        later = entry.lane.jobs.superseder(entry)
        return None if later is None else later.event

    def _tell(self, result: Result, report: Report) -> None:
        """Tell metrics or log of an attempt's end."""
        entry = result.entry
        if result.success and entry.event is not None:
            if entry.job.replay is None:  # a replayed event's age says nothing of how fast delivery is
                age = self._desk.clock.now() - entry.event.at.timestamp()
                self._metrics.delivered(entry.lane.connection, age)
        else:
            log.info("attempt ended", extra={**names(entry), "outcome": outcome_name(report.outcome)})

    def _hand_over(self, lane: Lane, result: Result, now: float) -> None:
        self._settling.add(result)
        self._sort(lane, now)

    def _sort(self, lane: Lane, now: float) -> None:
        if lane.changed:
            self._settling.note_lane(lane)
        self._desk.review(lane, now)

    def _obey_rest(self, lane: Lane, rest: timedelta, now: float) -> None:
        lane.rest(now + obeyed(lane.delivery.retry, rest).total_seconds())
        self._desk.set_alarm(lane, lane.pace.paused_until)

    def _apply(self, entry: Entry, report: Report, result: Result, now: float) -> None:
        effect = alone(effect_of(report.outcome, self._desk.clock.datetime))
        self._tell_lane(entry.lane, effect, report, now)
        self._end_job(result, effect, report)

    def _tell_lane(self, lane: Lane, effect: Effect, report: Report, now: float) -> None:
        """Do what follows for the lane; before `_end_job`, since a lane that stops takes no job back."""
        match effect:
            case effects.Finish() | effects.Bury():
                lane.succeeded(now)
            case effects.Retry():
                lane.failed(now, _summary(report))
            case effects.Pause(at_least):
                duration = pause(lane.delivery.retry, lane.pace.throttled_in_a_row + 1, self._random, at_least)
                lane.paused(now + duration.total_seconds(), now)
                self._desk.set_alarm(lane, lane.pace.paused_until)
            case effects.PauseUntilReset(duration):
                lane.rest(now + duration.total_seconds())
                self._desk.set_alarm(lane, lane.pace.paused_until)
            case effects.Quarantine(reason, probing):
                lane.quarantine(now, _reason(reason, report), probing=probing)
            case effects.Wait() | effects.Split():
                pass
            case _:
                assert_never(effect)
        if lane.changed and lane.health.probe_at is not None:
            self._desk.set_alarm(lane, lane.health.probe_at)

    def _end_job(self, result: Result, effect: Effect, report: Report) -> None:
        """Do what follows for the job."""
        entry = result.entry
        job, retry = entry.job, entry.lane.delivery.retry
        match effect:
            case effects.Finish():
                result.success = True
            case effects.Retry(at_least):
                made = job.attempts + 1
                if made >= retry.max_attempts:
                    result.burial = self._burial(entry, "AttemptsExhausted", report.detail, made)
                else:
                    self._defer(result, made, retry_delay(retry, made, self._random, at_least), _summary(report))
            case effects.Wait(at_least):
                self._defer(result, job.attempts, obeyed(retry, at_least), _summary(report))
            case effects.Bury(reason):
                result.burial = self._burial(entry, reason, report.detail, job.attempts + 1)
            case effects.Pause() | effects.PauseUntilReset() | effects.Quarantine() | effects.Split():
                entry.lane.put_back(entry)
            case _:
                assert_never(effect)

    def _defer(self, result: Result, attempts: int, delay: timedelta, why: str) -> None:
        """Defer the job, or bury it now if its deadline comes before its next attempt."""
        entry = result.entry
        if self._expires_within(entry, delay):
            result.burial = self._expiry(entry, entry.job.attempts + 1, f"; the last attempt: {why}")
        else:
            result.deferral = (attempts, delay)

    def _expires_within(self, entry: Entry, delay: timedelta) -> bool:
        limit = entry.lane.expire_after
        if limit is None or entry.job.replay is not None:
            return False  # who asks for a replay knows how old the event is
        return self._desk.clock.now() + delay.total_seconds() > entry.job.at.timestamp() + limit.total_seconds()

    def _expiry(self, entry: Entry, attempts: int, why: str) -> Burial:
        limit = format_duration(entry.lane.expire_after or timedelta())
        self._metrics.expired(entry.lane.connection, 1)
        return self._burial(entry, EXPIRED, f"not delivered within {limit} of its event{why}", attempts)

    def _burial(self, entry: Entry, reason: str, detail: str, attempts: int) -> Burial:
        blocks = entry.job.subject is not None and self._desk.route_name(entry.job) in entry.lane.blocking_routes
        return Burial(reason, detail, attempts, blocks)

    def _probe_ended(self, entry: Entry, report: Report, result: Result, now: float) -> None:
        """A probe that the partner understood reopens the lane; one that failed costs its job no attempt."""
        lane = entry.lane
        effect = alone(effect_of(report.outcome, self._desk.clock.datetime))
        match effect:
            case effects.Finish():
                result.success = True
                self._reopen(lane, now, "a probe was delivered")
            case effects.Bury(reason):
                result.burial = self._burial(entry, reason, report.detail, entry.job.attempts + 1)
                self._reopen(lane, now, f"a probe was understood: {_reason(reason, report)}")
            case effects.Pause() | effects.PauseUntilReset() | effects.Wait():
                lane.reopen(now, f"a probe was understood: {_summary(report)}")
                if isinstance(effect, effects.PauseUntilReset):
                    duration = effect.duration
                else:
                    duration = pause(lane.delivery.retry, 1, self._random, effect.at_least)
                lane.paused(now + duration.total_seconds(), now)
                lane.jobs.drop(entry)
            case effects.Retry():
                lane.probe_failed(now, f"still failing: {_summary(report)}", probing=True)
                lane.jobs.drop(entry)
            case effects.Quarantine(reason, probing):
                lane.probe_failed(now, _reason(reason, report), probing=probing)
                lane.jobs.drop(entry)
            case _:
                assert_never(effect)
        if lane.health.probe_at is not None:
            self._desk.set_alarm(lane, lane.health.probe_at)

    def _reopen(self, lane: Lane, now: float, reason: str) -> None:
        lane.reopen(now, reason)
        self._settling.note_lane(lane, hasten=True)


def names(entry: Entry) -> dict[str, object]:
    """Name a job for the log."""
    event = entry.event
    public_id = PublicEventId("") if event is None else public_event_id(event.id, event.nonce)
    connection = entry.lane.connection
    return {
        "event": public_id,
        "job": entry.job.id,
        "connection": f"{connection.namespace}/{connection.name}",
        "tenant": connection.tenant,
        "attempt": entry.job.attempts + 1,
    }


def _reason(reason: str, report: Report) -> str:
    return f"{reason}: {report.detail}" if report.detail else reason


def _summary(report: Report) -> str:
    status = f"HTTP {report.status_code}" if report.status_code else outcome_name(report.outcome)
    return f"{status} {report.detail}".strip()[:300]

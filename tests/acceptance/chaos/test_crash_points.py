"""What a kill, a stop or a cut connection leaves behind at each point where it could matter, one point at a time."""

import signal
from typing import Any

import pytest

from chaos.bed import Bed
from chaos.program import Program

HANG = {"kind": "hang"}
UNAVAILABLE = {"kind": "status", "status": 503}

SETTLING = "worker-settling"
INTAKE = "worker-intake"


@pytest.fixture
def worker(bed: Bed) -> Program:
    """Run a dispatcher, and a worker that owns the one connection `hook` and has prepared all its statements."""
    bed.publish("hook", timeout="20s")
    bed.start_dispatcher()
    worker = bed.start_worker()
    bed.partner.misbehave("hook", UNAVAILABLE)
    bed.emit("the first")
    done(bed)
    bed.partner.forget("hook")
    bed.rows("delete from integration.attempt")
    return worker


def the_arrival(bed: Bed, subject: str = "one") -> dict[str, Any]:
    """Return the only arrival of a subject: with a second webhook-id there would be two."""
    (arrival,) = [a for a in bed.partner.deliveries("hook") if a["event"]["subject"] == subject]
    return dict(arrival)


def received(bed: Bed, count: int) -> None:
    bed.until(lambda: bed.partner.stats("hook")["received"] >= count, f"the partner has received {count} requests")


def done(bed: Bed) -> None:
    bed.until(bed.is_done, "everything is delivered", seconds=30)


# A worker is killed -----------------------------------------------------------------------------------------------


def test_a_worker_killed_while_the_partner_hangs_sends_once_more_under_the_same_id(bed: Bed, worker: Program) -> None:
    bed.partner.misbehave("hook", HANG)
    bed.emit()
    received(bed, 1)

    worker.kill()
    bed.start_worker()
    done(bed)

    assert the_arrival(bed)["statuses"] == [None, 200]
    assert bed.outcomes() == ["Delivered"]


def test_a_worker_killed_before_its_result_reached_the_database_sends_once_more_under_the_same_id(
    bed: Bed, worker: Program
) -> None:
    with bed.locked("attempt"):
        bed.emit()
        (backend,) = bed.until(lambda: bed.waiting(SETTLING), "the result waits")
        worker.kill()
        bed.rows("select pg_terminate_backend(%s, 10000)", backend)
    bed.start_worker()
    done(bed)

    assert the_arrival(bed)["statuses"] == [200, 200]
    assert bed.outcomes() == ["Delivered"]


def test_a_result_that_reached_the_database_counts_although_its_worker_is_dead(bed: Bed, worker: Program) -> None:
    with bed.locked("attempt"):
        bed.emit()
        bed.until(lambda: bed.waiting(SETTLING), "the result waits")
        worker.kill()
    done(bed)
    bed.start_worker()
    bed.emit("two")
    done(bed)

    assert the_arrival(bed)["statuses"] == [200]
    assert bed.outcomes() == ["Delivered", "Delivered"]


def test_a_late_result_of_a_killed_worker_is_fenced_off_by_its_successor(bed: Bed, worker: Program) -> None:
    former = bed.session("worker-1")

    with bed.locked("attempt"):
        bed.emit()
        bed.until(lambda: bed.waiting(SETTLING), "the result waits")
        worker.kill()
        bed.start_worker()
        received(bed, 2)
        bed.until(lambda: len(bed.waiting(SETTLING)) == 2, "both results wait")
    done(bed)

    assert the_arrival(bed)["statuses"] == [200, 200]
    assert bed.rows("select outcome, worker <> %s from integration.attempt", former) == [("Delivered", True)]


def test_a_later_event_waits_until_a_killed_worker_s_request_was_repeated(bed: Bed, worker: Program) -> None:
    bed.partner.misbehave("hook", HANG)
    bed.emit(n=1)
    bed.emit(n=2)
    received(bed, 1)

    worker.kill()
    bed.start_worker("another")
    done(bed)

    first, second = bed.partner.deliveries("hook")
    assert (first["statuses"], second["statuses"]) == ([None, 200], [200])
    assert first["received_at"][-1] < second["received_at"][0]


# A worker is stopped past its lease -------------------------------------------------------------------------------


def test_another_worker_takes_over_from_one_stopped_past_its_lease_and_the_late_result_is_fenced(
    bed: Bed, worker: Program
) -> None:
    bed.start_worker("worker-2")
    bed.until(lambda: bed.session("worker-2"), "a second worker is there")
    former = bed.session("worker-1")

    with bed.locked("attempt"):
        bed.emit()
        bed.until(lambda: bed.waiting(SETTLING), "the result waits")
        worker.send(signal.SIGSTOP)
        bed.until(lambda: bed.owner("hook") == "worker-2", "the other worker owns the connection")
        received(bed, 2)
    done(bed)
    worker.send(signal.SIGCONT)
    bed.until(lambda: worker.metric("integrations_worker_sessions_total") == 2, "the stopped worker begins anew")

    assert worker.metric("integrations_fenced_results_total") == 1
    assert the_arrival(bed)["statuses"] == [200, 200]
    assert bed.rows("select outcome, worker <> %s from integration.attempt", former) == [("Delivered", True)]


def test_a_worker_stopped_past_its_lease_with_a_request_under_way_writes_nothing_of_it(
    bed: Bed, worker: Program
) -> None:
    bed.start_worker("worker-2")
    bed.until(lambda: bed.session("worker-2"), "a second worker is there")
    former = bed.session("worker-1")
    bed.partner.misbehave("hook", {"kind": "delay", "seconds": 0.5})

    bed.emit(n=1)
    bed.emit(n=2)
    received(bed, 1)
    worker.send(signal.SIGSTOP)
    done(bed)
    worker.send(signal.SIGCONT)
    bed.until(lambda: worker.metric("integrations_worker_sessions_total") == 2, "the stopped worker begins anew")

    assert [arrival["statuses"] for arrival in bed.partner.deliveries("hook")] == [[200, 200], [200]]
    assert bed.outcomes() == ["Delivered", "Delivered"]
    assert not bed.rows("select from integration.attempt where worker = %s", former)


def test_a_worker_stopped_before_it_sends_a_large_event_does_not_send_it_after_its_lease(
    bed: Bed, worker: Program
) -> None:
    bed.start_worker("worker-2")
    bed.until(lambda: bed.session("worker-2"), "a second worker is there")
    # The first delivery takes the only token; until there is another, the large event waits in memory without its data.
    bed.publish("hook", throttle={"requestsPerSecond": 0.5, "burst": 1, "concurrency": 1})
    bed.rows(
        "select integration.emit_events('acme', array_fill('ext.chaos.counted'::text, array[2]), '{one,one}', array["
        "'{}', (select jsonb_build_object('text', string_agg(md5(i::text), '')) from generate_series(1, 3000) i)])"
    )
    received(bed, 1)

    with bed.locked("event"):
        bed.until(lambda: bed.waiting(INTAKE), "the worker reads the large event")
        worker.send(signal.SIGSTOP)
    bed.until(lambda: bed.owner("hook") == "worker-2", "the other worker owns the connection")
    bed.emit(n=3)
    done(bed)
    worker.send(signal.SIGCONT)
    bed.until(lambda: worker.metric("integrations_worker_sessions_total") == 2, "the stopped worker begins anew")

    assert [arrival["statuses"] for arrival in bed.partner.deliveries("hook")] == [[200], [200], [200]]


def test_a_worker_stopped_in_the_middle_of_a_settlement_neither_blocks_the_others_nor_ends(
    bed: Bed, worker: Program
) -> None:
    bed.start_worker("worker-2")
    bed.until(lambda: bed.session("worker-2"), "a second worker is there")
    bed.partner.misbehave("hook", UNAVAILABLE)

    with bed.locked("attempt"):
        bed.emit()
        (backend,) = bed.until(lambda: bed.waiting(SETTLING), "the settlement waits")
        worker.send(signal.SIGSTOP)
    # Its transaction holds the fence until the server ends it: idle_in_transaction_session_timeout.
    bed.until(lambda: not bed.rows("select from pg_stat_activity where pid = %s", backend), "the server ended it")
    done(bed)
    worker.send(signal.SIGCONT)
    bed.until(lambda: worker.ended() or worker.metric("integrations_worker_sessions_total") == 2, "it begins anew")

    assert the_arrival(bed)["statuses"] == [503, 200]
    assert not worker.ended(), worker.log_lines()


# A connection to the database is cut ------------------------------------------------------------------------------


@pytest.mark.parametrize("partner_answers", [200, 503])
def test_a_worker_whose_connections_were_cut_between_two_statements_goes_on(
    bed: Bed, worker: Program, partner_answers: int
) -> None:
    bed.emit()
    done(bed)
    session = bed.session("worker-1")
    if partner_answers == 503:
        bed.partner.misbehave("hook", UNAVAILABLE)

    bed.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'integrations-%%'")
    bed.emit("two")
    bed.until(lambda: worker.ended() or bed.is_done(), "everything is delivered")

    assert not worker.ended(), worker.log_lines()
    assert bed.session("worker-1") == session


@pytest.mark.parametrize("partner_answers", [200, 503])
def test_a_result_whose_statement_was_cut_off_is_written_again_without_a_repeat(
    bed: Bed, worker: Program, partner_answers: int
) -> None:
    script = [UNAVAILABLE] if partner_answers == 503 else []
    bed.partner.misbehave("hook", *script)

    with bed.locked("attempt"):
        bed.emit()
        (backend,) = bed.until(lambda: bed.waiting(SETTLING), "the result waits")
        bed.rows("select pg_terminate_backend(%s, 10000)", backend)
    bed.until(lambda: worker.ended() or bed.is_done(), "everything is delivered")

    assert not worker.ended(), worker.log_lines()
    assert the_arrival(bed)["statuses"] == ([503, 200] if script else [200])
    assert bed.outcomes() == (["Transient", "Delivered"] if script else ["Delivered"])


# A dispatcher is killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_finishes", [True, False])
def test_events_whose_dispatcher_was_killed_while_it_wrote_are_dispatched_once(bed: Bed, server_finishes: bool) -> None:
    bed.publish("hook")
    dispatcher = bed.start_dispatcher("dispatcher-1")
    bed.until(dispatcher.is_ready, "the dispatcher works")

    # A job that takes the next id and is not committed: the dispatcher's insert waits for its fate.
    with bed.admin(autocommit=False) as intruder:
        intruder.execute(
            "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at) "
            "select l.pool_id, s.last_value + s.is_called::int, l.connection_id, 0, 0, now() "
            "from integration.lane l, integration.job_id s"
        )
        bed.emit()
        (backend,) = bed.until(lambda: bed.waiting("dispatcher"), "the batch waits")
        dispatcher.kill()
        if not server_finishes:
            bed.rows("select pg_terminate_backend(%s, 10000)", backend)
        intruder.rollback()
    bed.start_dispatcher("dispatcher-2")
    bed.until(bed.is_dispatched, "the event is dispatched")
    bed.start_worker()
    done(bed)

    assert the_arrival(bed)["statuses"] == [200]
    assert bed.outcomes() == ["Delivered"]


def test_a_second_dispatcher_goes_on_where_a_stopped_one_was_and_both_together_dispatch_once(
    bed: Bed, worker: Program
) -> None:
    first = bed.programs["dispatcher-1"]
    bed.start_dispatcher("dispatcher-2")

    first.send(signal.SIGSTOP)
    bed.emit("one")
    done(bed)
    first.send(signal.SIGCONT)
    bed.emit("two")
    done(bed)

    assert [arrival["statuses"] for arrival in bed.partner.deliveries("hook")] == [[200], [200]]


# A producer is killed ---------------------------------------------------------------------------------------------


def test_the_event_of_a_producer_killed_before_its_commit_never_was(bed: Bed, worker: Program) -> None:
    with bed.open_transaction() as producer:
        bed.emit("one")
        done(bed)
        producer.kill()
    bed.until(
        lambda: not bed.rows("select from pg_stat_activity where usename = 'chaos_producer'"), "the server noticed"
    )
    bed.emit("two")
    done(bed)

    assert bed.rows("select subject from integration.event order by id") == [("the first",), ("one",), ("two",)]
    assert [arrival["event"]["subject"] for arrival in bed.partner.deliveries("hook")] == ["one", "two"]


# A clock is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_seconds", [-3600.0, 3600.0])
def test_a_worker_whose_clock_is_an_hour_off_delivers(bed: Bed, skew_seconds: float) -> None:
    bed.publish("hook")
    bed.start_dispatcher()
    bed.start_worker(skew_seconds=skew_seconds)

    bed.emit()
    received(bed, 1)

    assert bed.partner.stats("hook")["refused"] == 0

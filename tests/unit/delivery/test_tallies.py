"""Tallies become the metrics that Prometheus expects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from delivery.tallies import Spread, Tally

BOUNDS = (0.1, 1.0, 10.0)


def tally() -> tuple[Tally, CollectorRegistry]:
    registry = CollectorRegistry()
    return Tally("attempts", "Attempts made.", ("tenant", "outcome"), registry), registry


def spread() -> tuple[Spread, CollectorRegistry]:
    registry = CollectorRegistry()
    return Spread("delay_seconds", "How long it took.", "provider", BOUNDS, registry), registry


def test_a_tally_is_a_counter_by_its_labels() -> None:
    counter, registry = tally()

    counter.counts["acme", "Delivered"] += 2
    counter.counts["globex", "Invalid"] += 1

    assert registry.get_sample_value("attempts_total", {"tenant": "acme", "outcome": "Delivered"}) == 2
    assert registry.get_sample_value("attempts_total", {"tenant": "globex", "outcome": "Invalid"}) == 1


def test_a_tally_of_nothing_has_a_description_and_no_numbers() -> None:
    _, registry = tally()

    assert generate_latest(registry).decode().splitlines() == [
        "# HELP attempts_total Attempts made.",
        "# TYPE attempts_total counter",
    ]


def test_a_label_value_may_hold_any_character() -> None:
    counter, registry = tally()

    counter.counts['a"\n\\b', "Delivered"] += 1

    assert 'tenant="a\\"\\n\\\\b"' in generate_latest(registry).decode()


@given(st.lists(st.floats(0, 100)))
def test_every_bucket_counts_what_is_not_above_its_bound(seconds: list[float]) -> None:
    histogram, registry = spread()
    for each in [0.0, *seconds]:
        histogram.observe("Webhook", each)

    counted = [
        registry.get_sample_value("delay_seconds_bucket", {"provider": "Webhook", "le": le})
        for le in ("0.1", "1.0", "10.0", "+Inf")
    ]

    assert counted == [sum(each <= bound for each in [0.0, *seconds]) for bound in (*BOUNDS, float("inf"))]


@pytest.mark.parametrize("bound", BOUNDS)
def test_an_observation_at_a_bound_is_below_it(bound: float) -> None:
    histogram, registry = spread()

    histogram.observe("Webhook", bound)

    assert registry.get_sample_value("delay_seconds_bucket", {"provider": "Webhook", "le": str(bound)}) == 1


@given(st.lists(st.floats(0, 100), min_size=1))
def test_the_sum_is_that_of_all_observations(seconds: list[float]) -> None:
    histogram, registry = spread()

    for each in seconds:
        histogram.observe("Webhook", each)

    assert registry.get_sample_value("delay_seconds_sum", {"provider": "Webhook"}) == pytest.approx(sum(seconds))


@given(st.lists(st.floats(0, 100), min_size=1))
def test_the_count_is_that_of_all_observations(seconds: list[float]) -> None:
    histogram, registry = spread()

    for each in seconds:
        histogram.observe("Webhook", each)

    assert registry.get_sample_value("delay_seconds_count", {"provider": "Webhook"}) == len(seconds)


def test_observations_of_different_labels_do_not_mix() -> None:
    histogram, registry = spread()

    histogram.observe("Webhook", 0.5)
    histogram.observe("HubSpot", 5.0)

    assert registry.get_sample_value("delay_seconds_sum", {"provider": "HubSpot"}) == 5.0

"""Dashboards see what is left of each day, and nothing of budgets that are gone."""

from prometheus_client import CollectorRegistry

from contracts.ids import TenantId
from delivery.metrics import DispatcherMetrics
from store.scopes import Budget


def test_a_budget_and_what_of_it_is_spent_are_gauges_while_it_is_there() -> None:
    registry = CollectorRegistry()
    metrics = DispatcherMetrics(registry)
    metrics.budgets([Budget(TenantId("acme"), "account", 1000, 250)])
    labels = {"tenant": "acme", "scope": "account"}
    names = ("integrations_daily_budget_calls", "integrations_daily_budget_spent_calls")
    there = [registry.get_sample_value(name, labels) for name in names]
    metrics.budgets([])

    assert there == [1000, 250]
    assert [registry.get_sample_value(name, labels) for name in names] == [None, None]

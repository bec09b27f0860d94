"""Pools' names are short, legal and never shared by accident."""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.connection import parse_connection_spec
from integration_operator.names import pool_key, pool_labels

Make = Callable[..., dict[str, Any]]

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ISOLATION = st.sampled_from(["Shared", "Tenant", "Connection"])


def named(make_spec: Make, name: str, tenant: str, isolation: str) -> str:
    spec = parse_connection_spec(make_spec(tenant, workers={"isolation": isolation}))
    return pool_key("team", name, spec).name


@given(NAME, LABEL, ISOLATION)
def test_a_pool_s_name_is_a_short_dns_label(make_spec: Make, name: str, tenant: str, isolation: str) -> None:
    pool = named(make_spec, name, tenant, isolation)

    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", pool)


@given(st.lists(NAME, min_size=2, max_size=20, unique=True))
def test_connections_that_want_a_pool_of_their_own_have_one(make_spec: Make, names: list[str]) -> None:
    assert len({named(make_spec, name, "acme", "Connection") for name in names}) == len(names)


@given(st.lists(LABEL, min_size=2, max_size=20, unique=True))
def test_tenants_do_not_share_a_pool(make_spec: Make, tenants: list[str]) -> None:
    assert len({named(make_spec, "crm", tenant, "Tenant") for tenant in tenants}) == len(tenants)


@given(LABEL)
def test_no_tenant_can_be_named_like_the_shortened_name_of_another(make_spec: Make, stem: str) -> None:
    long = (stem + "-long" * 13)[:63].rstrip("-")
    shortened = named(make_spec, "crm", long, "Tenant")
    other = shortened.removeprefix("integrations-tenant-")

    assert named(make_spec, "crm", other, "Tenant") != shortened


def test_dots_and_dashes_make_different_pools(make_spec: Make) -> None:
    names = ("a.b", "a-b", "a.b.c", "a-b.c", "a.b-c")

    assert len({named(make_spec, name, "acme", "Connection") for name in names}) == len(names)


def test_the_usual_names_are_what_a_person_expects(make_spec: Make) -> None:
    pools = [named(make_spec, "crm", "acme", isolation) for isolation in ("Shared", "Tenant", "Connection")]

    assert pools == ["integrations-shared", "integrations-tenant-acme", "integrations-connection-crm"]


@given(NAME)
def test_a_pool_s_labels_are_legal(make_spec: Make, name: str) -> None:
    spec = parse_connection_spec(make_spec(workers={"isolation": "Connection"}))

    values = pool_labels(pool_key("team", name, spec)).values()

    assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value) for value in values)

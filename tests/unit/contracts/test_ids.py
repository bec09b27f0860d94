"""Public ids lead back to internal ones, and idempotency keys tell deliveries apart."""

import re
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.ids import (
    ConnectionUid,
    EventId,
    JobId,
    MalformedIdError,
    PublicEventId,
    message_id,
    parse_event_id,
    parse_job_id,
    public_event_id,
    public_job_id,
)

bigints = st.integers(0, 2**63 - 1)
nonces = st.integers(-(2**31), 2**31 - 1)
events = st.builds(public_event_id, bigints.map(EventId), nonces)
uids = st.uuids().map(ConnectionUid)
routes = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)

UID = ConnectionUid(UUID("2f1d4c5e-8a8b-4c55-9a57-0a5f3f0d7c11"))

NOT_HEXADECIMAL = ["", "zz", "-1f", "+1f", "0x1f", " 1f", "1f\n", "\u0661"]  # Python's int() reads the last six
BEYOND_A_BIGINT = "8000000000000000"


@given(bigints, nonces)
def test_a_public_event_id_leads_back_to_the_event(event: int, nonce: int) -> None:
    assert parse_event_id(public_event_id(EventId(event), nonce)) == event


@given(bigints, bigints)
def test_a_public_job_id_leads_back_to_event_and_job(event: int, job: int) -> None:
    assert parse_job_id(public_job_id(EventId(event), JobId(job))) == (event, job)


def test_a_public_event_id_looks_as_it_is_documented() -> None:
    assert public_event_id(EventId(31), 0x0A1B2C3D) == "evt_1f_0a1b2c3d"


@given(bigints, nonces)
def test_a_nonce_has_eight_digits_whatever_its_sign(event: int, nonce: int) -> None:
    assert re.fullmatch(r"evt_[0-9a-f]+_[0-9a-f]{8}", public_event_id(EventId(event), nonce))


@given(bigints, nonces, nonces)
def test_an_event_of_another_nonce_is_another_event(event: int, nonce: int, other: int) -> None:
    assume(nonce != other)

    assert public_event_id(EventId(event), nonce) != public_event_id(EventId(event), other)


@pytest.mark.parametrize("text", ["", "evt", "evt_1f", "job_1f_2c", "evt_1f_0a1b2c3d_1", "EVT_1f_0a1b2c3d", "31"])
def test_what_has_not_the_form_of_an_event_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedIdError, match="is not an event id"):
        parse_event_id(text)


@pytest.mark.parametrize("text", ["", "job", "job_1f", "evt_1f_0a1b2c3d", "job_1f_2c_3", "31"])
def test_what_has_not_the_form_of_a_job_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedIdError, match="is not a job id"):
        parse_job_id(text)


@pytest.mark.parametrize("digits", NOT_HEXADECIMAL)
def test_an_event_number_that_is_not_hexadecimal_is_refused(digits: str) -> None:
    with pytest.raises(MalformedIdError):
        parse_event_id(f"evt_{digits}_0a1b2c3d")


@pytest.mark.parametrize("nonce", ["", "zz", "0x1"])
def test_an_event_id_with_a_malformed_nonce_is_refused(nonce: str) -> None:
    with pytest.raises(MalformedIdError):
        parse_event_id(f"evt_1f_{nonce}")


@pytest.mark.parametrize("digits", NOT_HEXADECIMAL)
def test_a_job_number_that_is_not_hexadecimal_is_refused(digits: str) -> None:
    with pytest.raises(MalformedIdError):
        parse_job_id(f"job_1f_{digits}")


def test_an_event_number_that_no_bigint_holds_is_refused() -> None:
    with pytest.raises(MalformedIdError):
        parse_event_id(f"evt_{BEYOND_A_BIGINT}_0a1b2c3d")


def test_a_job_number_that_no_bigint_holds_is_refused() -> None:
    with pytest.raises(MalformedIdError):
        parse_job_id(f"job_1f_{BEYOND_A_BIGINT}")


@given(st.text())
def test_any_text_is_read_or_refused_but_never_breaks(text: str) -> None:
    with suppress(MalformedIdError):
        parse_job_id(f"job_{text}")


def test_a_refusal_quotes_the_text() -> None:
    with pytest.raises(MalformedIdError, match="evt_xyz_0a1b2c3d"):
        parse_event_id("evt_xyz_0a1b2c3d")


def test_the_message_id_of_a_delivery_never_changes_between_releases() -> None:
    assert message_id(UID, PublicEventId("evt_1f_0a1b2c3d"), "companies") == "msg_7af8qgj1e2Ok-gUdHRj2"


@given(uids, events, routes)
def test_a_message_id_is_equal_in_every_attempt(uid: ConnectionUid, event: PublicEventId, route: str) -> None:
    assert message_id(uid, event, route) == message_id(ConnectionUid(UUID(str(uid))), event, route)


@given(uids, events, routes)
def test_a_message_id_is_short_and_plain(uid: ConnectionUid, event: PublicEventId, route: str) -> None:
    assert re.fullmatch(r"msg_[A-Za-z0-9_-]{20}", message_id(uid, event, route))


@given(uids, uids, events, routes)
def test_another_connection_has_another_message_id(
    uid: ConnectionUid, other: ConnectionUid, event: PublicEventId, route: str
) -> None:
    assume(uid != other)

    assert message_id(uid, event, route) != message_id(other, event, route)


@given(uids, events, events, routes)
def test_another_event_has_another_message_id(
    uid: ConnectionUid, event: PublicEventId, other: PublicEventId, route: str
) -> None:
    assume(event != other)

    assert message_id(uid, event, route) != message_id(uid, other, route)


@given(uids, events, routes, routes)
def test_another_route_has_another_message_id(uid: ConnectionUid, event: PublicEventId, route: str, other: str) -> None:
    assume(route != other)

    assert message_id(uid, event, route) != message_id(uid, event, other)

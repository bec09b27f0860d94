"""Requests have the form that Standard Webhooks and CloudEvents 1.0 describe, around data that is never rewritten."""

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.connector import Delivery
from connectors.webhook.payloads import write_batch, write_request
from connectors.webhook.signatures import parse_signing_secret, sign
from contracts.ids import MessageId, PublicEventId, TenantId
from contracts.webhook_spec import WebhookFormat

KEY = parse_signing_secret(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
DATA = b'{"employees": 1e2,  "name":"Gr\\u00fcn \xc3\xbcber"}'


def delivery(subject: str = "company-1", data: bytes = DATA) -> Delivery:
    return Delivery(
        message_id=MessageId("msg_abc"),
        event_id=PublicEventId("evt_1f_0a1b2c3d"),
        tenant=TenantId("acme"),
        type="company.updated",
        subject=subject,
        occurred_at=datetime(2026, 11, 20, 12, 30, 1, 250_000, tzinfo=UTC),
        data=data,
        route="companies",
        attempt=1,
        sent_at=1_700_000_000.0,
    )


def test_the_standard_body_has_type_timestamp_and_data() -> None:
    body, headers = write_request(WebhookFormat.STANDARD, delivery(), [KEY], 1_700_000_000)

    assert json.loads(body) == {
        "type": "company.updated",
        "timestamp": "2026-11-20T12:30:01.250000Z",
        "id": "evt_1f_0a1b2c3d",
        "tenant": "acme",
        "subject": "company-1",
        "data": json.loads(DATA),
    }
    assert ("Content-Type", "application/json") in headers


def test_a_structured_cloud_event_carries_the_envelope_in_the_body() -> None:
    body, headers = write_request(WebhookFormat.CLOUD_EVENTS, delivery(), [KEY], 1_700_000_000)

    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "evt_1f_0a1b2c3d",
        "source": "/tenants/acme",
        "type": "company.updated",
        "subject": "company-1",
        "time": "2026-11-20T12:30:01.250000Z",
        "datacontenttype": "application/json",
        "data": json.loads(DATA),
    }
    assert ("Content-Type", "application/cloudevents+json") in headers


def test_a_binary_cloud_event_carries_the_envelope_in_headers() -> None:
    body, headers = write_request(WebhookFormat.CLOUD_EVENTS_BINARY, delivery(), [KEY], 1_700_000_000)

    assert body == DATA
    assert {name: value for name, value in headers if name.startswith("Ce-")} == {
        "Ce-Specversion": "1.0",
        "Ce-Id": "evt_1f_0a1b2c3d",
        "Ce-Source": "/tenants/acme",
        "Ce-Type": "company.updated",
        "Ce-Time": "2026-11-20T12:30:01.250000Z",
        "Ce-Subject": "company-1",
    }
    assert ("Content-Type", "application/json") in headers


@pytest.mark.parametrize("content_format", WebhookFormat)
def test_every_format_is_signed_over_the_body_that_is_sent(content_format: WebhookFormat) -> None:
    body, headers = write_request(content_format, delivery(), [KEY], 1_700_000_000)

    named = dict(headers)
    assert named["Webhook-Id"] == "msg_abc"
    assert named["Webhook-Timestamp"] == "1700000000"
    assert named["Webhook-Signature"] == sign([KEY], "msg_abc", 1_700_000_000, body)
    assert named["Idempotency-Key"] == '"msg_abc"'


@pytest.mark.parametrize("content_format", WebhookFormat)
def test_data_is_sent_byte_for_byte(content_format: WebhookFormat) -> None:
    body, _ = write_request(content_format, delivery(), [KEY], 1_700_000_000)

    assert DATA in body


@pytest.mark.parametrize("content_format", [WebhookFormat.CLOUD_EVENTS, WebhookFormat.CLOUD_EVENTS_BINARY])
def test_an_empty_subject_is_left_out_of_a_cloud_event(content_format: WebhookFormat) -> None:
    body, headers = write_request(content_format, delivery(subject=""), [KEY], 1_700_000_000)

    assert b'"subject"' not in body
    assert "Ce-Subject" not in dict(headers)


@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\n" in text))
def test_any_subject_fits_into_a_header_and_comes_back(subject: str) -> None:
    _, headers = write_request(WebhookFormat.CLOUD_EVENTS_BINARY, delivery(subject=subject), [KEY], 1)

    value = dict(headers)["Ce-Subject"]
    assert all(0x20 < ord(character) < 0x7F for character in value)
    assert unquote(value) == subject


@given(st.text().filter(lambda text: text.isprintable()), st.dictionaries(st.text(max_size=5), st.integers()))
def test_any_subject_and_data_make_a_body_that_is_json(subject: str, data: dict[str, int]) -> None:
    raw = json.dumps(data).encode()

    body, _ = write_request(WebhookFormat.STANDARD, delivery(subject, raw), [KEY], 1)

    document = json.loads(body)
    assert document["subject"] == subject
    assert document["data"] == data


# Batches.


def numbered(number: int, data: bytes = DATA) -> Delivery:
    return delivery(f"company-{number}", data)._replace(
        message_id=MessageId(f"msg_{number}"), event_id=PublicEventId(f"evt_{number:x}_0a1b2c3d")
    )


def test_a_batch_is_an_array_of_structured_events_that_name_their_messages() -> None:
    body, headers = write_batch([numbered(1), numbered(2)], [KEY], 1_700_000_000)
    singles = [write_request(WebhookFormat.CLOUD_EVENTS, numbered(number), [KEY], 1)[0] for number in (1, 2)]

    assert json.loads(body) == [
        {**json.loads(single), "webhookid": f"msg_{number}"} for number, single in enumerate(singles, 1)
    ]
    assert ("Content-Type", "application/cloudevents-batch+json") in headers


def test_a_batch_is_signed_over_all_of_it_under_an_id_of_its_own() -> None:
    body, headers = write_batch([numbered(1), numbered(2)], [KEY], 1_700_000_000)
    sent = dict(headers)

    assert sent["Webhook-Id"].startswith("msgs_")
    assert sent["Webhook-Signature"] == sign([KEY], sent["Webhook-Id"], 1_700_000_000, body)
    assert sent["Idempotency-Key"] == f'"{sent["Webhook-Id"]}"'


def batch_id(*numbers: int) -> str:
    return dict(write_batch([numbered(number) for number in numbers], [KEY], 1)[1])["Webhook-Id"]


def test_the_id_of_a_batch_is_that_of_its_set_of_messages() -> None:
    assert batch_id(1, 2, 3) == batch_id(3, 1, 2)
    assert len({batch_id(1, 2), batch_id(1, 3), batch_id(1, 2, 3)}) == 3


def test_a_batch_of_one_has_the_id_of_its_message() -> None:
    assert batch_id(1) == "msg_1"


@given(st.lists(st.binary(max_size=20).map(lambda raw: json.dumps({"text": raw.hex()}).encode()), min_size=1))
def test_the_data_of_a_batch_is_sent_byte_for_byte(data: list[bytes]) -> None:
    body, _ = write_batch([numbered(number, each) for number, each in enumerate(data)], [KEY], 1)

    assert all(b'"data":' + each + b"}" in body for each in data)
    assert [event["data"] for event in json.loads(body)] == [json.loads(each) for each in data]

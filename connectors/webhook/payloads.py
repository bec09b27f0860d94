"""What a webhook request carries: body and headers in the three formats, and many events in one.

An event's data reaches the receiver byte for byte as it was dispatched: bodies are put together around it, it is
never parsed and written again. All formats are signed the same way, over the body that is sent.

The Standard format is `{type, timestamp, data}` as Standard Webhooks recommends it, with the event's id, tenant and
subject beside them. CloudEvents 1.0 follows the JSON format (structured) and the HTTP binding (binary), with the
tenant in `source`, so that `source` and `id` together are unique, as the specification asks.

A batch is an array of structured events (CloudEvents JSON format 1.0.2, section 4). Each says in the attribute
`webhookid` under which `webhook-id` it travels alone, which tells more than `source` and `id` do: one event that two
routes select is two deliveries, and what a replay sends under new ids is no repeat.
"""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

import orjson

from connectors.connector import Delivery
from connectors.webhook.signatures import SigningKey, sign
from contracts.ids import MessageId, batch_message_id
from contracts.webhook_spec import WebhookFormat

Headers = list[tuple[str, str]]
Content = tuple[bytes, Headers]

_JSON: Final = ("Content-Type", "application/json")
_CLOUD_EVENT_JSON: Final = ("Content-Type", "application/cloudevents+json")
_CLOUD_EVENT_BATCH: Final = ("Content-Type", "application/cloudevents-batch+json")

_PRINTABLE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What the CloudEvents HTTP binding (3.1.3.2) leaves unescaped in a header."""


def write_request(
    content_format: WebhookFormat, delivery: Delivery, keys: Sequence[SigningKey], timestamp: int
) -> Content:
    """Write body and headers of one attempt; `timestamp` is when it is sent, in seconds since 1970."""
    body, headers = _WRITERS[content_format](delivery)
    return body, headers + _signed(body, delivery.message_id, keys, timestamp)


def write_batch(deliveries: Sequence[Delivery], keys: Sequence[SigningKey], timestamp: int) -> Content:
    """Write body and headers of one attempt to send many; its id is the same for the same messages."""
    items = (_around(_cloud_envelope(each) | {"webhookid": each.message_id}, each.data) for each in deliveries)
    body = b"[" + b",".join(items) + b"]"
    message = batch_message_id([delivery.message_id for delivery in deliveries])
    return body, [_CLOUD_EVENT_BATCH, *_signed(body, message, keys, timestamp)]


def _signed(body: bytes, message: MessageId, keys: Sequence[SigningKey], timestamp: int) -> Headers:
    return [
        ("Webhook-Id", message),
        ("Webhook-Timestamp", str(timestamp)),
        ("Webhook-Signature", sign(keys, message, timestamp, body)),
        ("Idempotency-Key", f'"{message}"'),
    ]


def _standard(delivery: Delivery) -> Content:
    envelope = {
        "type": delivery.type,
        "timestamp": delivery.occurred_at,
        "id": delivery.event_id,
        "tenant": delivery.tenant,
        "subject": delivery.subject,
    }
    return _around(envelope, delivery.data), [_JSON]


def _cloud_event(delivery: Delivery) -> Content:
    return _around(_cloud_envelope(delivery), delivery.data), [_CLOUD_EVENT_JSON]


def _cloud_envelope(delivery: Delivery) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": delivery.event_id,
        "source": _source(delivery),
        "type": delivery.type,
        "time": delivery.occurred_at,
        "datacontenttype": "application/json",
        **({"subject": delivery.subject} if delivery.subject else {}),
    }


def _cloud_event_binary(delivery: Delivery) -> Content:
    headers = [
        _JSON,
        ("Ce-Specversion", "1.0"),
        ("Ce-Id", delivery.event_id),
        ("Ce-Source", _source(delivery)),
        ("Ce-Type", delivery.type),
        ("Ce-Time", orjson.dumps(delivery.occurred_at, option=orjson.OPT_UTC_Z).decode().strip('"')),
    ]
    if delivery.subject:
        headers.append(("Ce-Subject", quote(delivery.subject, safe=_PRINTABLE)))
    return delivery.data, headers


_WRITERS: Final[dict[WebhookFormat, Callable[[Delivery], Content]]] = {
    WebhookFormat.STANDARD: _standard,
    WebhookFormat.CLOUD_EVENTS: _cloud_event,
    WebhookFormat.CLOUD_EVENTS_BINARY: _cloud_event_binary,
}


def _source(delivery: Delivery) -> str:
    return f"/tenants/{delivery.tenant}"


def _around(envelope: dict[str, object], data: bytes) -> bytes:
    return orjson.dumps(envelope, option=orjson.OPT_UTC_Z)[:-1] + b',"data":' + data + b"}"

"""What is written down of a request holds no secret, whatever the address and the headers are."""

from hashlib import sha256

import pytest

from connectors.http import Timings
from connectors.recording import HEADER_LIMIT, SAFE_REQUEST_HEADERS, VALUE_LIMIT, full, redacted_address
from connectors.redaction import MASK, Redactor
from contracts.exchange import Particulars

SECRET = "hunter2-hunter2"


def particulars(*headers: tuple[str, str], url: str = "https://partner.example/") -> Particulars:
    exchange = full("POST", url, headers, b"{}", Timings(), None, Redactor([SECRET]))
    assert exchange.particulars is not None
    return exchange.particulars


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://partner.example", "https://partner.example/"),
        ("https://partner.example/", "https://partner.example/"),
        ("https://partner.example:8443/services/T0/hunter2", f"https://partner.example:8443/{MASK}"),
        ("https://partner.example/?key=hunter2", f"https://partner.example/{MASK}"),
        ("https://me:hunter2@partner.example/", "https://partner.example/"),
        ("http://[2001:db8::1]:8080/hook", f"http://[2001:db8::1]:8080/{MASK}"),
        ("https://[broken", MASK),
        ("mailto:hunter2", MASK),
    ],
)
def test_an_address_is_written_without_path_query_and_user(url: str, written: str) -> None:
    assert redacted_address(url) == written


def test_headers_keep_their_names_and_only_those_listed_their_values() -> None:
    given = (
        ("Content-Type", "application/json"),
        ("Webhook-Id", "msg_1"),
        ("Webhook-Signature", "v1,abc"),
        ("X-Mine", "1"),
    )

    assert particulars(*given).request_headers == {
        "Content-Type": "application/json",
        "Webhook-Id": "msg_1",
        "Webhook-Signature": MASK,
        "X-Mine": MASK,
    }


@pytest.mark.parametrize("name", sorted(SAFE_REQUEST_HEADERS))
def test_a_secret_in_a_listed_header_is_masked_all_the_same(name: str) -> None:
    assert particulars((name, f"a {SECRET} z")).request_headers == {name: f"a {MASK} z"}


def test_a_secret_in_a_host_name_is_masked() -> None:
    assert particulars(url=f"https://{SECRET}.partner.example/").address == f"https://{MASK}.partner.example/"


def test_what_is_kept_is_bounded() -> None:
    kept = particulars(("Content-Type", "x" * 10_000), *((f"X-{n}", "y") for n in range(200))).request_headers

    assert len(kept) == HEADER_LIMIT
    assert len(kept["Content-Type"]) == VALUE_LIMIT


def test_the_digest_is_that_of_the_body() -> None:
    exchange = full("POST", "https://partner.example/", [], b'{"a": 1}', Timings(), None, Redactor())

    assert exchange.body_digest == sha256(b'{"a": 1}').digest()

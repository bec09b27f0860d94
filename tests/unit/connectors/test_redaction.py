"""No secret of a connection survives redaction, however a receiver writes it back."""

import json
import string
from base64 import b64encode
from collections.abc import Callable
from html import escape
from time import process_time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.redaction import MASK, SHORTEST_SECRET, Redactor
from contracts.outcomes import DETAIL_LIMIT

PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F))

secrets = (
    st.text(PRINTABLE, min_size=SHORTEST_SECRET, max_size=60)
    .map(str.strip)
    .filter(lambda text: len(text) >= SHORTEST_SECRET and "  " not in text)
    .filter(lambda text: text.lower() not in {"basic", "bearer", "digest", "negotiate", "token"})
)
signing_secrets = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + b64encode(key).decode())

SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda secret: json.dumps(secret)[1:-1],
    lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    lambda secret: quote(secret, safe=""),
    quote_plus,
    escape,
    lambda secret: "".join(f"&#{ord(c)};" if c in "+/=&" else c for c in secret),
    lambda secret: "".join(f"\\u{ord(c):04x}" if c in "<>&+" else c for c in secret),
]


@given(secrets | signing_secrets, st.text(max_size=200), st.text(max_size=200))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    cleaned = Redactor([secret]).clean(before + secret + after)

    assert secret not in cleaned
    assert secret.removeprefix("whsec_") not in cleaned


@given(secrets | signing_secrets, st.sampled_from(SPELLINGS))
def test_no_secret_survives_in_an_escaped_spelling(secret: str, spell: Callable[[str], str]) -> None:
    cleaned = Redactor([secret]).clean(f"<{spell(secret)}>")

    assert spell(secret) not in cleaned


@given(st.lists(secrets, min_size=2, max_size=5), st.data())
def test_secrets_that_overlap_or_touch_are_all_masked(several: list[str], data: st.DataObject) -> None:
    text = "".join(data.draw(st.permutations(several)))

    cleaned = Redactor(several).clean(text)

    assert not any(secret in cleaned for secret in several)


@given(signing_secrets, st.integers(min_value=SHORTEST_SECRET, max_value=60))
def test_a_secret_that_lost_its_end_is_masked(secret: str, kept: int) -> None:
    text = "x" * 50 + secret.removeprefix("whsec_")[:kept]

    cleaned = Redactor([secret]).clean(text, cut=True)

    assert cleaned == "x" * 50 + MASK


@given(st.text(max_size=6000) | st.binary(max_size=6000))
def test_what_is_left_is_one_bounded_printable_line(text: str | bytes) -> None:
    cleaned = Redactor(["hunter22"]).clean(text)

    assert len(cleaned) <= DETAIL_LIMIT
    assert cleaned.isprintable()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("Authorization: Token s3cr3t99", "s3cr3t99"),
        ("authorization=s3cr3t99", "s3cr3t99"),
        ('{"password": "hun ter2"}', "hun ter2"),
        ('{"password": "hunter\\"2"}', "hunter"),
        ('{"password":"hunter2\\', "hunter2"),
        ('{"msg":"{\\"client_secret\\":\\"hunter2\\"}"}', "hunter2"),
        ("api_key=hunter2&x=1", "hunter2"),
        ("apiKey: hunter2", "hunter2"),
        ("X-Api-Key => hunter2", "hunter2"),
        ("access_token%3Dhunter2", "hunter2"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8"),
        ("prefixwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8"),
        ("postgres://admin:hunter2@db/x", "hunter2"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow"),
        ("sk_live_abcdefghijklmnop", "abcdefghijklmnop"),
        ("pat-na1-abcdef12-3456-7890", "abcdef12"),
        ("AKIAABCDEFGHIJKLMNOP", "ABCDEFGHIJKLMNOP"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, secret: str) -> None:
    cleaned = Redactor().clean(text)

    assert secret not in cleaned
    assert MASK in cleaned


@pytest.mark.parametrize(
    "text", ["the company was not found", '{"error":"invalid domain","code":42}', "see https://docs.example/errors#42"]
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor(["hunter22"]).clean(text) == text


def test_the_password_inside_basic_credentials_is_masked_by_itself() -> None:
    redactor = Redactor(["Basic YWRtaW46aHVudGVyMjI="])

    assert redactor.clean("user admin, given hunter22") == f"user admin, given {MASK}"


def test_the_scheme_in_front_of_a_token_is_no_secret() -> None:
    assert Redactor(["Bearer abcdef"]).clean("a bearer of news, abcdef") == f"a bearer of news, {MASK}"


@pytest.mark.parametrize("unit", ["eyJ-", "eyJ", "password", "token ", "://", "-----BEGIN ", "&#0", "bearer ", '"\\'])
def test_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    redactor = Redactor(["&&&&/+/+", "Bearer abc=="])

    def seconds(length: int) -> float:
        text = string.ascii_letters[:1] + unit * (length // len(unit))
        took = []
        for _ in range(5):
            started = process_time()
            redactor.clean(text)
            took.append(process_time() - started)
        return min(took)

    assert seconds(64_000) < 80 * seconds(4_000)

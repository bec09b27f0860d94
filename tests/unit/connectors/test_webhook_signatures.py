"""Our signatures are those of Standard Webhooks 1.0."""

from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from connectors.webhook.signatures import MalformedSecretError, parse_signing_secret, sign

SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

keys = st.binary(min_size=24, max_size=64)


def test_the_published_vector_is_reproduced() -> None:
    key = parse_signing_secret(SECRET.encode())

    signature = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(keys, st.text(max_size=200))
def test_the_official_library_signs_alike(key: bytes, body: str) -> None:
    secret = "whsec_" + b64encode(key).decode()
    moment = datetime.now(UTC)

    signature = sign([parse_signing_secret(secret.encode())], "msg_1", int(moment.timestamp()), body.encode())

    assert signature == Webhook(secret).sign("msg_1", moment, body)


@given(st.lists(keys, min_size=1, max_size=4))
def test_every_secret_signs_for_itself(several: list[bytes]) -> None:
    parsed = [parse_signing_secret(b"whsec_" + b64encode(key)) for key in several]

    together = sign(parsed, "msg_1", 1, b"{}")

    assert together.split(" ") == [sign([key], "msg_1", 1, b"{}") for key in parsed]


@pytest.mark.parametrize("text", [SECRET, f"whsec_{SECRET}", f"  whsec_{SECRET}\n"])
def test_prefix_and_white_space_do_not_matter(text: str) -> None:
    assert parse_signing_secret(text.encode()) == parse_signing_secret(SECRET.encode())


def test_missing_padding_does_not_matter() -> None:
    padded = b64encode(b"k" * 25)

    assert parse_signing_secret(padded.rstrip(b"=")) == b"k" * 25


@pytest.mark.parametrize(
    "raw", [b"", b"whsec_", b"whsec_" + b64encode(b"k" * 23), b"whsec_" + b64encode(b"k" * 65), b"not base64!" * 4]
)
def test_other_secrets_are_refused_without_being_shown(raw: bytes) -> None:
    with pytest.raises(MalformedSecretError) as refused:
        parse_signing_secret(raw)

    assert raw.removeprefix(b"whsec_").decode() not in str(refused.value) or not raw.removeprefix(b"whsec_")


@given(st.binary(max_size=100))
def test_any_bytes_are_either_a_key_of_allowed_length_or_refused(raw: bytes) -> None:
    try:
        key = parse_signing_secret(raw)
    except MalformedSecretError:
        return

    assert 24 <= len(key) <= 64

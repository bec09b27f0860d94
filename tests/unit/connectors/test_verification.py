"""Requests are proven by vectors of the vendors' own, and by nothing that differs from them in any byte."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from hubspot.utils.signature import Signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.hubspot import simulator_signatures as signed_as_hubspot_does
from connectors.hubspot.webhooks import HubSpotSignatures, SignatureVersion
from connectors.inbound import Doubt, InboundRequest, UnprovenError, Verifier
from connectors.verification import Basic, Bearer, Digest, Encoding, HmacHeader, StandardWebhooks
from connectors.webhook.signatures import parse_signing_secret, sign

NOW: Final = 1_614_265_330
URL: Final = "https://hooks.example/v1/connections/0f1e/events?x=a%2Fb%20c"
BODY: Final = b'{"test": 2432232314}'
KEY: Final = parse_signing_secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
VECTOR: Final = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
SECRET: Final = "a secret of an app"


def request(headers: dict[str, str], body: bytes = BODY, url: str = URL, at: float = NOW) -> InboundRequest:
    return InboundRequest("POST", url, headers, body, at)


def standard(at: int = NOW) -> tuple[Verifier, InboundRequest]:
    id_ = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    headers = {"webhook-id": id_, "webhook-timestamp": str(at), "webhook-signature": sign([KEY], id_, at, BODY)}
    return StandardWebhooks([KEY]), request(headers)


def hubspot_v3(at: int = NOW) -> tuple[Verifier, InboundRequest]:
    milliseconds = at * 1000
    signature = signed_as_hubspot_does.v3(SECRET, "POST", signed_as_hubspot_does.decoded(URL), BODY, milliseconds)
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(milliseconds)}
    return HubSpotSignatures([SECRET]), request(headers)


def hubspot_v2(_: int = NOW) -> tuple[Verifier, InboundRequest]:
    headers = {
        "x-hubspot-signature": signed_as_hubspot_does.v2(SECRET, "POST", URL, BODY),
        "x-hubspot-signature-version": "v2",
    }
    return HubSpotSignatures([SECRET], frozenset({SignatureVersion.V2})), request(headers)


def hubspot_v1(_: int = NOW) -> tuple[Verifier, InboundRequest]:
    headers = {"x-hubspot-signature": signed_as_hubspot_does.v1(SECRET, BODY)}
    return HubSpotSignatures([SECRET], frozenset({SignatureVersion.V1})), request(headers)


def hex_hmac(_: int = NOW) -> tuple[Verifier, InboundRequest]:
    signature = hmac.digest(SECRET.encode(), BODY, "sha256").hex()
    return HmacHeader([SECRET.encode()], "x-signature", "sha256="), request({"x-signature": f"sha256={signature}"})


def timed_hmac(at: int = NOW) -> tuple[Verifier, InboundRequest]:
    signature = base64.b64encode(hmac.digest(SECRET.encode(), f"{at}.".encode() + BODY, "sha512")).decode()
    verifier = HmacHeader([SECRET.encode()], "x-signature", "", Digest.SHA512, Encoding.BASE64, "x-time")
    return verifier, request({"x-signature": signature, "x-time": str(at)})


def basic(_: int = NOW) -> tuple[Verifier, InboundRequest]:
    pair = base64.b64encode(b"queast:pass:w\xc3\xb6rd!").decode()
    return Basic(["queast:pass:wörd!"]), request({"authorization": f"Basic {pair}"})


def bearer(_: int = NOW) -> tuple[Verifier, InboundRequest]:
    return Bearer(["a-token-of-ours"]), request({"authorization": "Bearer a-token-of-ours"})


Scheme = Callable[..., tuple[Verifier, InboundRequest]]
SCHEMES: Final[list[Scheme]] = [
    standard,
    hubspot_v3,
    hubspot_v2,
    hubspot_v1,
    hex_hmac,
    timed_hmac,
    basic,
    bearer,
]
SIGNING: Final[list[Scheme]] = SCHEMES[:6]
TIMED: Final[list[Scheme]] = [standard, hubspot_v3, timed_hmac]


def is_proven(verifier: Verifier, asked: InboundRequest) -> bool:
    try:
        verifier.verify(asked)
    except UnprovenError:
        return False
    return True


def doubt(verifier: Verifier, asked: InboundRequest) -> Doubt:
    with pytest.raises(UnprovenError) as refused:
        verifier.verify(asked)
    return refused.value.doubt


# Right ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_signed_with_the_secret_is_proven(scheme: Scheme) -> None:
    verifier, asked = scheme()

    assert verifier.verify(asked).scheme


def test_the_vector_of_standard_webhooks_is_proven() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(NOW),
        "webhook-signature": VECTOR,
    }

    proof = StandardWebhooks([KEY]).verify(request(headers))

    assert proof == ("StandardWebhooks", f"msg_p5jXN8AQM9LWM0D4loKWxJek.{NOW}")


def test_the_vectors_on_hubspots_pages_are_proven() -> None:
    secret = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
    verifier = HubSpotSignatures([secret], frozenset(SignatureVersion))
    event = (
        b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
        b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM",'
        b'"changeFlag":"NEW","appId":54321}]'
    )
    first = {"x-hubspot-signature": "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"}
    second = {"x-hubspot-signature-version": "v2"}
    got = {"x-hubspot-signature": "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e", **second}
    posted = {"x-hubspot-signature": "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900", **second}
    url = "https://www.example.com/webhook_uri"

    assert is_proven(verifier, request(first, event))
    assert is_proven(verifier, request(got, b"", url)._replace(method="GET"))
    assert is_proven(verifier, request(posted, b'{"example_field":"example_value"}', url))


def test_hubspots_own_client_signs_what_is_proven() -> None:
    signature = Signature.get_signature(SECRET, BODY.decode(), "v3", URL, "POST", str(NOW * 1000))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW * 1000)}

    assert is_proven(HubSpotSignatures([SECRET]), request(headers))


def test_a_sender_that_moves_to_another_secret_is_proven_by_either() -> None:
    other = parse_signing_secret(base64.b64encode(bytes(range(32))))
    both = sign([other, KEY], "msg_1", NOW, BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": both}

    assert is_proven(StandardWebhooks([KEY]), request(headers))
    assert is_proven(StandardWebhooks([other]), request(headers))
    assert is_proven(HubSpotSignatures(["the next one", SECRET]), hubspot_v3()[1])
    assert is_proven(HubSpotSignatures([SECRET, "the next one"]), hubspot_v3()[1])


def test_an_address_with_other_escapes_is_proven_however_hubspot_signed_it() -> None:
    url = "https://hooks.example/v1/connections/0f1e/events?x=a%3Ab%20c%C3%A4"
    for signed in (url, "https://hooks.example/v1/connections/0f1e/events?x=a:b%20c%C3%A4"):
        signature = signed_as_hubspot_does.v3(SECRET, "POST", signed, BODY, NOW * 1000)
        headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW * 1000)}

        assert is_proven(HubSpotSignatures([SECRET]), request(headers, url=url))


# Wrong ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SIGNING)
def test_a_body_with_any_byte_changed_proves_nothing(scheme: Scheme) -> None:
    verifier, asked = scheme()

    for changed in mutants(asked.body):
        assert doubt(verifier, asked._replace(body=changed)) is Doubt.WRONG


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_header_with_any_character_changed_proves_nothing(scheme: Scheme) -> None:
    verifier, asked = scheme()

    for name, value in asked.headers.items():
        scheme_name, space, proof = value.rpartition(" ")  # which is written in any case (RFC 9110, 11.1)
        for changed in mutants(proof.encode()):
            headers = {**asked.headers, name: scheme_name + space + changed.decode("latin-1")}
            assert not is_proven(verifier, asked._replace(headers=headers)), (name, changed)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_request_without_one_of_its_headers_proves_nothing(scheme: Scheme) -> None:
    verifier, asked = scheme()

    for name in asked.headers:
        headers = {other: value for other, value in asked.headers.items() if other != name}
        assert not is_proven(verifier, asked._replace(headers=headers)) or name == "x-hubspot-signature-version"


@pytest.mark.parametrize("scheme", SIGNING)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=st.binary(min_size=24, max_size=64))
def test_another_secret_proves_nothing(scheme: Scheme, secret: bytes) -> None:
    _, asked = scheme()
    key = parse_signing_secret(base64.b64encode(secret))
    others: list[Verifier] = [
        StandardWebhooks([key]),
        HubSpotSignatures([secret.hex()], frozenset(SignatureVersion)),
        HmacHeader([secret], "x-signature", "sha256="),
        HmacHeader([secret], "x-signature", "", Digest.SHA512, Encoding.BASE64, "x-time"),
    ]

    assert not any(is_proven(other, asked) for other in others)


@pytest.mark.parametrize("scheme", [hubspot_v3, hubspot_v2])
def test_what_was_signed_for_one_address_proves_nothing_at_another(scheme: Scheme) -> None:
    verifier, asked = scheme()

    assert doubt(verifier, asked._replace(url=URL.replace("0f1e", "0f1f"))) is Doubt.WRONG
    assert doubt(verifier, asked._replace(method="PUT")) is Doubt.WRONG


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_is_proven_where_there_is_no_secret(scheme: Scheme) -> None:
    _, asked = scheme()
    without: list[Verifier] = [
        StandardWebhooks([]),
        HubSpotSignatures([], frozenset(SignatureVersion)),
        HmacHeader([], "x-signature", "sha256="),
        Basic([]),
        Bearer([]),
    ]

    assert not any(is_proven(verifier, asked) for verifier in without)


def test_a_lesser_signature_is_not_taken_in_place_of_a_wrong_better_one() -> None:
    _, asked = hubspot_v3()
    legacy = signed_as_hubspot_does.v1(SECRET, BODY)
    headers = {**asked.headers, "x-hubspot-signature-v3": "bm8=", "x-hubspot-signature": legacy}
    verifier = HubSpotSignatures([SECRET], frozenset(SignatureVersion))

    assert doubt(verifier, asked._replace(headers=headers)) is Doubt.WRONG


def test_a_signature_without_a_time_is_not_taken_unless_it_is_allowed() -> None:
    _, asked = hubspot_v1()

    assert doubt(HubSpotSignatures([SECRET]), asked) is Doubt.NO_PROOF


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", TIMED)
def test_a_time_outside_of_five_minutes_proves_nothing_on_either_side(scheme: Scheme) -> None:
    for seconds, expected in ((-301, Doubt.STALE), (301, Doubt.PREMATURE)):
        verifier, asked = scheme(NOW + seconds)
        assert doubt(verifier, asked) is expected
    for seconds in (-300, 300):
        verifier, asked = scheme(NOW + seconds)
        assert is_proven(verifier, asked)


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("time", ["", "nan", "inf", "1e9", "-1", "0", "+1614265330", " 1614265330", "٣", "9" * 5_000])
def test_a_time_that_is_no_number_proves_nothing(scheme: Scheme, time: str) -> None:
    verifier, asked = scheme()
    (name,) = (name for name in asked.headers if "time" in name)

    assert doubt(verifier, asked._replace(headers={**asked.headers, name: time})) is Doubt.MALFORMED


# Anything -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "x-signature", "x-time"),
                *("x-hubspot-signature", "x-hubspot-signature-v3", "x-hubspot-request-timestamp"),
                "x-hubspot-signature-version",
            ]
        ),
        st.text(st.characters(max_codepoint=255)) | st.sampled_from(["v1", "v2", "Basic =", "Bearer ", str(NOW)]),
    ),
    st.binary(),
)
def test_nothing_that_is_sent_is_proven_by_chance_or_ends_otherwise(headers: dict[str, str], body: bytes) -> None:
    verifiers = [
        *(scheme()[0] for scheme in SCHEMES),
        HubSpotSignatures([SECRET], frozenset(SignatureVersion)),
    ]

    assert not any(is_proven(verifier, request(headers, body)) for verifier in verifiers)


def test_no_verifier_shows_its_secrets() -> None:
    shown = " ".join(repr(scheme()[0]) for scheme in SCHEMES)

    assert SECRET not in shown
    assert repr(SECRET.encode()) not in shown
    assert "wörd" not in shown
    assert "a-token" not in shown
    assert hashlib.sha256(BODY).hexdigest() not in shown


def mutants(value: bytes) -> Iterator[bytes]:
    """Change each byte in turn by each of its bits, take each away, cut off after each, and add one."""
    for at, byte in enumerate(value):
        for bit in range(8):
            yield value[:at] + bytes([byte ^ (1 << bit)]) + value[at + 1 :]
        yield value[:at] + value[at + 1 :]
        yield value[:at]
    yield value + b"0"

"""A webhook connection's credentials are re-read for every delivery and decoded only when they have changed."""

import pytest

from connectors.context import CredentialMissingError
from connectors.errors import UnusableCredentialError
from connectors.webhook.settings import ReceiverSource
from contracts.spec_values import SecretKeyRef
from contracts.webhook_spec import WebhookSettings

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

SETTINGS = WebhookSettings.model_validate(
    {
        "url": "https://receiver.example/hook",
        "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]},
        "headers": [
            {"name": "X-Plain", "value": "visible"},
            {"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}},
        ],
    }
)


class FakeCredentials:
    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def read(self, reference: SecretKeyRef) -> bytes:
        if reference.key not in self.values:
            raise CredentialMissingError(f"Secret {reference.name} has no key {reference.key}")
        return self.values[reference.key]


def credentials(**values: bytes) -> FakeCredentials:
    return FakeCredentials({"signing": SECRET, "token": b"Bearer hunter22\n", **values})


def test_headers_are_resolved_in_the_order_of_the_spec() -> None:
    receiver = ReceiverSource(SETTINGS, credentials()).current()

    assert receiver.headers == (("X-Plain", "visible"), ("Authorization", "Bearer hunter22"))


def test_unchanged_credentials_give_the_same_receiver() -> None:
    source = ReceiverSource(SETTINGS, credentials())

    assert source.current() is source.current()


def test_changed_credentials_take_effect_at_the_next_delivery() -> None:
    secrets = credentials()
    source = ReceiverSource(SETTINGS, secrets)
    before = source.current()

    secrets.values["signing"] = OTHER_SECRET

    assert source.current().keys != before.keys


def test_credentials_that_become_good_again_are_used_again() -> None:
    secrets = credentials(signing=b"broken")
    source = ReceiverSource(SETTINGS, secrets)
    with pytest.raises(UnusableCredentialError):
        source.current()

    secrets.values["signing"] = SECRET

    assert source.current().keys


def test_a_missing_key_is_told_by_its_name() -> None:
    secrets = credentials()
    del secrets.values["token"]

    with pytest.raises(CredentialMissingError, match=r"Secret hook has no key token"):
        ReceiverSource(SETTINGS, secrets).current()


@pytest.mark.parametrize("value", [b"", b"two\nlines", b"\xff\xfe", "grün".encode(), b"nul\x00"])
def test_a_value_that_no_header_can_hold_is_refused_without_being_shown(value: bytes) -> None:
    with pytest.raises(UnusableCredentialError, match=r"key token of Secret hook") as refused:
        ReceiverSource(SETTINGS, credentials(token=value)).current()

    assert not value or value.decode("latin-1") not in str(refused.value)


def test_a_malformed_signing_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(UnusableCredentialError, match=r"key signing of Secret hook") as refused:
        ReceiverSource(SETTINGS, credentials(signing=b"whsec_hunter22")).current()

    assert "hunter22" not in str(refused.value)
    assert refused.value.__cause__ is not None
    assert "hunter22" not in str(refused.value.__cause__)


def test_a_receiver_shows_no_secret() -> None:
    receiver = ReceiverSource(SETTINGS, credentials()).current()

    assert "hunter22" not in repr(receiver)
    assert repr(receiver.keys[0]) not in repr(receiver)


def test_a_receiver_redacts_its_own_secrets() -> None:
    receiver = ReceiverSource(SETTINGS, credentials()).current()

    cleaned = receiver.redactor.clean(f"{SECRET.decode()} {SECRET.decode()[6:]} hunter22 visible")

    assert cleaned == "••• ••• ••• visible"

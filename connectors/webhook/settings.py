"""A webhook connection's spec together with the present values of its Secrets.

Secrets change while the connection is open. They are read before every delivery, which is cheap: nothing is decoded
again unless the raw bytes differ from the last time.
"""

from dataclasses import dataclass, field

from connectors.context import Credentials
from connectors.errors import UnusableCredentialError
from connectors.redaction import Redactor
from connectors.webhook.signatures import MalformedSecretError, SigningKey, parse_signing_secret
from contracts.spec_values import SecretKeyRef
from contracts.webhook_spec import WebhookSettings


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where and how to send, with credentials resolved; its repr shows none of them."""

    url: str
    keys: tuple[SigningKey, ...] = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ca: bytes | None
    redactor: Redactor


class ReceiverSource:
    """Gives the receiver as it is now."""

    def __init__(self, settings: WebhookSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        ca_from = settings.tls.ca_from if settings.tls else None
        self._references = (
            *settings.signing.secrets_from,
            *(header.value_from for header in settings.headers if header.value_from),
            *([ca_from] if ca_from else []),
        )
        self._raw: list[bytes] | None = None
        self._receiver: Receiver | None = None

    def current(self) -> Receiver:
        """Return the receiver; raise CredentialMissingError or UnusableCredentialError if a Secret is not right."""
        read = self._credentials.read
        raw = [read(reference) for reference in self._references]
        if self._receiver is None or raw != self._raw:
            self._receiver = _resolve(self._settings, dict(zip(self._references, raw, strict=True)))
            self._raw = raw
        return self._receiver


def _resolve(settings: WebhookSettings, values: dict[SecretKeyRef, bytes]) -> Receiver:
    signing = settings.signing.secrets_from
    keys = tuple(_signing_key(reference, values[reference]) for reference in signing)
    headers: list[tuple[str, str]] = []
    secrets = [values[reference].decode("ascii") for reference in signing]
    for header in settings.headers:
        if header.value_from is None:
            headers.append((header.name, header.value or ""))
        else:
            value = _header_value(header.value_from, values[header.value_from])
            headers.append((header.name, value))
            secrets.append(value)
    ca_from = settings.tls.ca_from if settings.tls else None
    return Receiver(
        url=settings.url,
        keys=keys,
        headers=tuple(headers),
        ca=values[ca_from] if ca_from else None,
        redactor=Redactor(secrets),
    )


def _signing_key(reference: SecretKeyRef, raw: bytes) -> SigningKey:
    try:
        return parse_signing_secret(raw)
    except MalformedSecretError as error:
        raise UnusableCredentialError(f"{_name(reference)} cannot sign: {error}") from error


def _header_value(reference: SecretKeyRef, raw: bytes) -> str:
    """Read a header's value; line ends around it are the editor's, not the author's."""
    value = raw.strip().decode("latin-1")
    if not value or not value.isascii() or not value.isprintable():
        raise UnusableCredentialError(f"{_name(reference)} cannot be a header: it must be printable ASCII in one line")
    return value


def _name(reference: SecretKeyRef) -> str:
    return f"key {reference.key} of Secret {reference.name}"

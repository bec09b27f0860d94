"""What a connector may reach beside its partner: two small protocols and the guarded way out."""

from dataclasses import dataclass
from typing import Protocol

from connectors.http import GuardedHttp
from contracts.connection import SecretKeyRef


class CredentialMissingError(LookupError):
    """A referenced Secret, or a key in it, is not there; the message names both and never a value."""


class Credentials(Protocol):
    """Secrets of one connection's namespace, always the newest mounted values."""

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return the value; raise CredentialMissingError if Secret or key is missing."""


@dataclass(frozen=True, slots=True)
class ConnectorContext:
    """Everything a connector is given."""

    credentials: Credentials
    http: GuardedHttp

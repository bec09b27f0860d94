"""What proves to a partner's API who we are: a token that is mounted, or one of an OAuth grant."""

from dataclasses import dataclass, field

from connectors.context import Credentials
from connectors.errors import UnusableCredentialError
from connectors.oauth.grants import AccessToken
from connectors.oauth.vault import Vault
from contracts.spec_values import SecretKeyRef


@dataclass(frozen=True, slots=True)
class Proof:
    """A header with a secret in it; `token` is there if it can be renewed, `base_url` if the partner named one."""

    header: str
    value: str = field(repr=False)
    secret: str = field(repr=False)
    token: AccessToken | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class StaticAuthorization:
    """A token that does not run out by itself, in a header."""

    credentials: Credentials
    reference: SecretKeyRef
    header: str = "Authorization"
    prefix: str = "Bearer "

    def check(self) -> None:
        """Read the token; raise CredentialMissingError or UnusableCredentialError."""
        self._read()

    async def current(self) -> Proof:
        """Return what is mounted now; raises as `check`."""
        token = self._read()
        return Proof(self.header, f"{self.prefix}{token}", token)

    def _read(self) -> str:
        value = self.credentials.read(self.reference).strip()
        if not value or not value.isascii() or any(byte <= 32 or byte == 127 for byte in value):
            raise UnusableCredentialError(
                f"the key {self.reference.key} of Secret {self.reference.name} is no token: "
                "it must be printable ASCII without spaces, and not empty"
            )
        return value.decode("ascii")


@dataclass(frozen=True, slots=True)
class OAuthAuthorization:
    """The access token of an OAuth grant; `base_url_detail` names what the partner said of where its API is."""

    vault: Vault
    base_url_detail: str | None = None

    def check(self) -> None:
        """Read the app's credentials; raise CredentialMissingError or UnusableCredentialError."""
        self.vault.check_credentials()

    async def current(self) -> Proof:
        """Return a token that is good for a while; raises as `connectors.oauth.grants.Tokens`."""
        return self._proof(await self.vault.current())

    async def renewed(self, refused: AccessToken) -> Proof:
        """Return another one than the partner has refused; raises the same."""
        return self._proof(await self.vault.renew(refused))

    def _proof(self, token: AccessToken) -> Proof:
        named = token.details.get(self.base_url_detail) if self.base_url_detail else None
        return Proof("Authorization", f"Bearer {token.value}", token.value, token, str(named) if named else None)


Authorization = StaticAuthorization | OAuthAuthorization

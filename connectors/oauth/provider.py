"""What a partner's OAuth 2.0 looks like."""

from dataclasses import dataclass, replace
from enum import Enum, auto
from urllib.parse import urlsplit

from contracts.crm_spec import OAuth


class ClientIn(Enum):
    """Where a token request says which app it comes from (RFC 6749, 2.3.1)."""

    BODY = auto()
    HEADER = auto()


@dataclass(frozen=True, slots=True)
class OAuthProvider:
    """A partner's addresses and habits; `details` are the fields of its token answers that are worth keeping.

    Details are kept in clear and shown: none may be a secret.
    """

    authorize_url: str
    token_url: str
    scopes: tuple[str, ...]
    client_in: ClientIn
    details: tuple[str, ...]

    def chosen(self, oauth: OAuth) -> "OAuthProvider":
        """Return it as a connection's spec wants it."""
        server = oauth.server_url
        return replace(
            self,
            scopes=oauth.scopes or self.scopes,
            authorize_url=_moved(self.authorize_url, server),
            token_url=_moved(self.token_url, server),
        )


def _moved(url: str, server: str | None) -> str:
    return url if server is None else f"{server.rstrip('/')}{urlsplit(url).path}"

"""Requests to a partner's token endpoint (RFC 6749, sections 4.1.3, 5 and 6), and what its answers mean.

Partners name their errors by `error` (RFC 6749, 5.2) or, as HubSpot does, by `status`; both are read. What is unclear
counts as a partner in trouble, not as a grant that has ended: a grant that is given up needs a person.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard
from urllib.parse import quote, urlencode

import orjson

from connectors.context import ConnectorContext
from connectors.errors import (
    ConnectorError,
    EgressRefusedError,
    GuardedHttpError,
    MalformedRequestError,
    TokensUnavailableError,
    UnusableCredentialError,
)
from connectors.http import HttpAnswer
from connectors.oauth.provider import ClientIn, OAuthProvider
from connectors.redaction import Redactor
from connectors.retry_after import parse_retry_after
from contracts.crm_spec import OAuth
from contracts.spec_values import SecretKeyRef

REQUEST_LIMIT: Final = timedelta(seconds=20)
"""Time that a token request may take. Longer than a call's: a refresh whose answer is lost may have ended the grant."""

ANSWER_LIMIT: Final = 64 * 1024
REST_SECONDS: Final = 30.0
"""Time before another try where the partner does not say."""

LONGEST_REST_SECONDS: Final = 3600.0
LONGEST_TOKEN: Final = 8_192
LONGEST_DETAIL: Final = 1_000
DEFAULT_LIFETIME_SECONDS: Final = 1800.0
LONGEST_LIFETIME_SECONDS: Final = 365 * 86_400.0

_ENDED: Final = frozenset({"invalid_grant", "bad_refresh_token", "bad_auth_code"})
_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client", "bad_client_id", "bad_client_secret"})


class GrantRefusedError(ConnectorError):
    """The partner knows the code or refresh token no more: it was used, withdrawn, or has run out."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """Tokens; `refresh` is None where the former one stays in use."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    lifetime: timedelta
    details: Mapping[str, object]


class TokenEndpoint:
    """Asks for tokens with one app's credentials, read anew for each request."""

    def __init__(self, provider: OAuthProvider, oauth: OAuth, context: ConnectorContext) -> None:
        self._provider = provider
        self._secret = oauth.secret_ref.name
        self._context = context

    def client(self) -> tuple[str, str]:
        """Return the app's id and secret; raise CredentialMissingError or UnusableCredentialError."""
        return self.credential("client_id"), self.credential("client_secret")

    def credential(self, key: str, secret: str | None = None) -> str:
        """Read a credential; raise CredentialMissingError or UnusableCredentialError."""
        name = secret or self._secret
        value = self._context.credentials.read(SecretKeyRef(name=name, key=key)).strip()
        usable = 0 < len(value) <= LONGEST_TOKEN and value.isascii()
        if not usable or any(byte <= 32 or byte == 127 for byte in value):
            raise UnusableCredentialError(
                f"the key {key} of Secret {name} must be 1 to {LONGEST_TOKEN} printable ASCII characters, no spaces"
            )
        return value.decode("ascii")

    async def refresh(self, refresh_token: str) -> TokenAnswer:
        """Use a refresh token; raise GrantRefusedError, TokensUnavailableError or what a credential raises."""
        return await self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        """Use an authorization code with its PKCE verifier (RFC 7636); raises the same as `refresh`."""
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return await self._ask(fields | {"code_verifier": verifier})

    async def _ask(self, fields: Mapping[str, str]) -> TokenAnswer:
        client_id, client_secret = self.client()
        headers = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
        if self._provider.client_in is ClientIn.BODY:
            fields = {**fields, "client_id": client_id, "client_secret": client_secret}
        else:
            pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
            headers.append(("Authorization", f"Basic {b64encode(pair.encode()).decode()}"))
        body = urlencode(fields).encode()
        redactor = Redactor([client_secret, *(fields.get(name, "") for name in _SECRET_FIELDS)])
        try:
            answer = await self._context.http.request(
                "POST", self._provider.token_url, headers, body, REQUEST_LIMIT, body_limit=ANSWER_LIMIT
            )
        except (EgressRefusedError, MalformedRequestError) as error:
            raise UnusableCredentialError(
                f"the token endpoint cannot be called: {redactor.clean(str(error))}"
            ) from None
        except GuardedHttpError as error:
            detail = redactor.clean(f"the token endpoint gave no answer: {error}")
            raise TokensUnavailableError(detail, REST_SECONDS) from None
        document = _object(answer)
        if 200 <= answer.status < 300 and (tokens := self._tokens(document)):
            return tokens
        raise self._error(answer, document, redactor)

    def _tokens(self, document: Mapping[str, Any]) -> TokenAnswer | None:
        access, refresh = document.get("access_token"), document.get("refresh_token")
        if not _is_token(access):
            return None
        match document.get("expires_in"):
            case int(seconds) | float(seconds) if seconds > 0:
                lifetime = timedelta(seconds=min(seconds, LONGEST_LIFETIME_SECONDS))
            case _:
                lifetime = timedelta(seconds=DEFAULT_LIFETIME_SECONDS)
        details = {name: document[name] for name in self._provider.details if _is_plain(document.get(name))}
        return TokenAnswer(access, refresh if _is_token(refresh) else None, lifetime, details)

    def _error(self, answer: HttpAnswer, document: Mapping[str, Any], redactor: Redactor) -> ConnectorError:
        code = str(document.get("error") or document.get("status") or "")
        said = document.get("error_description") or document.get("message") or ""
        detail = redactor.clean(f"the token endpoint answered {answer.status} {code} {said}", limit=300)
        if answer.status < 500 and code.lower() in _ENDED:
            return GrantRefusedError(detail)
        if answer.status < 500 and code.lower() in _CLIENT:
            return UnusableCredentialError(
                f"{detail}; see that the id and secret in Secret {self._secret} are the app's"
            )
        now = datetime.fromtimestamp(self._context.clock(), UTC)
        asked = parse_retry_after(answer.header("retry-after"), answer.header("date"), now)
        seconds = asked.total_seconds() if asked is not None else REST_SECONDS
        return TokensUnavailableError(detail, min(max(seconds, 1.0), LONGEST_REST_SECONDS))


_SECRET_FIELDS: Final = ("refresh_token", "code", "code_verifier")


def _object(answer: HttpAnswer) -> Mapping[str, Any]:
    try:
        document = orjson.loads(answer.body) if answer.complete else None
    except orjson.JSONDecodeError:
        document = None
    return document if isinstance(document, dict) else {}


def _is_token(value: object) -> TypeGuard[str]:
    """Whether it can stand in a header (RFC 6750, 2.1, allows less)."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TOKEN and value.isascii() and value.isprintable()


def _is_plain(value: object) -> bool:
    """Whether it is short and can be shown; what the database would not take must not stand in the way of tokens."""
    text = str(value)
    return isinstance(value, str | int) and len(text) <= LONGEST_DETAIL and text.isascii() and text.isprintable()

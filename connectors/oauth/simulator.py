"""A partner's OAuth 2.0 server, for demo and tests: the page that asks its user, and the token endpoint.

As strict as RFC 6749 and RFC 7636 allow: codes work once, for ten minutes, with the redirect address and the verifier
that they were asked for with; refresh tokens may work once only. Tokens belong to an account, which is what the page's
user is signed in to.
"""

import base64
import hashlib
import html
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlencode

from connectors.simulation import Exchange, Request
from connectors.simulation_faults import Call, Fault, Misfortunes

AUTHORIZE: Final = "/oauth/authorize"
CODE_SECONDS: Final = 600.0


class TokenRefusedError(Exception):
    """A token request that is refused; `code` is its error (RFC 6749, 5.2)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a partner speaks OAuth: where its tokens come from, who says who the app is, and how it refuses."""

    token_path: str
    client_in_header: bool
    lifetime_seconds: int
    refusal: Callable[[str, str], tuple[int, Mapping[str, Any]]]


@dataclass(slots=True)
class Code:
    """An authorization code that has not been used."""

    account: str
    redirect_uri: str
    challenge: str
    ends_at: float


@dataclass(slots=True)
class SimulatedGrant:
    """What a user has allowed; `refresh` is the token that is good, `former` those that were used."""

    account: str
    refresh: str
    former: list[str] = field(default_factory=list)


class OAuthServer:
    """The OAuth of one simulated partner; `described` tells what its token answers say of an account."""

    def __init__(
        self, dialect: Dialect, clock: Callable[[], float], described: Callable[[str], Mapping[str, object]]
    ) -> None:
        self._dialect = dialect
        self._clock = clock
        self._described = described
        self._codes: dict[str, Code] = {}
        self._access: dict[str, tuple[SimulatedGrant, float]] = {}
        self._misfortunes = Misfortunes()
        self.grants: list[SimulatedGrant] = []
        self.clients: dict[str, str] = {}
        self.signed_in = ""
        self.single_use = True
        self.refreshes = 0
        self.calls: list[Call] = []
        self.lifetime_seconds = dialect.lifetime_seconds

    def befall(self, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall token requests; if `applied`, these take effect before."""
        self._misfortunes.befall("POST ", *faults, applied=applied)

    def grant(self, account: str) -> str:
        """Grant access to an account as its user would; return the refresh token."""
        made = SimulatedGrant(account, secrets.token_urlsafe(24))
        self.grants.append(made)
        return made.refresh

    def revoke(self, account: str) -> None:
        """Have the user of an account withdraw all grants."""
        self.grants = [each for each in self.grants if each.account != account]
        self._access = {token: of for token, of in self._access.items() if of[0].account != account}

    def account_of(self, access_token: str) -> str | None:
        """Return the account of an access token that is good now."""
        grant, ends_at = self._access.get(access_token, (None, 0.0))
        return grant.account if grant and self._clock() < ends_at else None

    def serves(self, request: Request) -> bool:
        """Whether a request is for this server."""
        return request.path in (AUTHORIZE, self._dialect.token_path)

    async def serve(self, exchange: Exchange) -> None:
        """Answer a request."""
        request = exchange.request
        if request.path == AUTHORIZE:
            await self._authorize(exchange, request.query)
            return
        self.calls.append(Call(request.method, request.path, _form(request)))
        fault, applied = self._misfortunes.next_fault(self.calls[-1])
        if fault is not None and not applied:
            await fault.play(exchange)
            return
        document: Mapping[str, object]
        try:
            status, document = 200, self._tokens(request)
        except TokenRefusedError as error:
            status, document = self._dialect.refusal(error.code, str(error))
        if fault is not None:
            await fault.play(exchange)
            return
        await exchange.respond_json(status, document)

    async def _authorize(self, exchange: Exchange, query: Mapping[str, str]) -> None:
        known = query.get("client_id") in self.clients and query.get("response_type") == "code"
        if not known or "redirect_uri" not in query or query.get("code_challenge_method", "S256") != "S256":
            await exchange.respond(400, {"Content-Type": "text/plain"}, b"this app or request is not known here")
            return
        match query.get("decision"):
            case "allow":
                code = secrets.token_urlsafe(24)
                ends_at = self._clock() + CODE_SECONDS
                challenge = query.get("code_challenge", "")
                self._codes[code] = Code(self.signed_in, query["redirect_uri"], challenge, ends_at)
                answer = {"code": code}
            case "deny":
                answer = {"error": "access_denied"}
            case _:
                await exchange.respond(200, {"Content-Type": "text/html; charset=utf-8"}, _page(query).encode())
                return
        target = f"{query['redirect_uri']}?{urlencode(answer | {'state': query.get('state', '')})}"
        await exchange.respond(302, {"Location": target})

    def _tokens(self, request: Request) -> dict[str, object]:
        form = _form(request)
        self._require_client(request, form)
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._grant_of_code(form)
            case "refresh_token":
                grant = self._grant_of_refresh(form.get("refresh_token", ""))
            case _:
                raise TokenRefusedError("unsupported_grant_type", "this grant type is not known here")
        access = secrets.token_urlsafe(24)
        self._access[access] = grant, self._clock() + self.lifetime_seconds
        return {
            "access_token": access,
            "refresh_token": grant.refresh,
            "expires_in": self.lifetime_seconds,
            "token_type": "bearer",
            **self._described(grant.account),
        }

    def _require_client(self, request: Request, form: Mapping[str, str]) -> None:
        client_id, client_secret = form.get("client_id", ""), form.get("client_secret", "")
        if self._dialect.client_in_header:
            encoded = request.headers.get("authorization", "").removeprefix("Basic ")
            client_id, _, client_secret = base64.b64decode(encoded).decode().partition(":")
            client_id, client_secret = unquote(client_id), unquote(client_secret)
        if not client_secret or self.clients.get(client_id) != client_secret:
            raise TokenRefusedError("invalid_client", "client id or secret is wrong")

    def _grant_of_code(self, form: Mapping[str, str]) -> SimulatedGrant:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or self._clock() >= code.ends_at or code.redirect_uri != form.get("redirect_uri"):
            raise TokenRefusedError("invalid_grant", "missing or invalid auth code")
        digest = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if code.challenge and code.challenge != digest.rstrip(b"=").decode():
            raise TokenRefusedError("invalid_grant", "the code verifier is not that of this code")
        self.grant(code.account)
        return self.grants[-1]

    def _grant_of_refresh(self, refresh: str) -> SimulatedGrant:
        for grant in self.grants:
            if refresh == grant.refresh:
                self.refreshes += 1
                if self.single_use:
                    grant.former.append(grant.refresh)
                    grant.refresh = secrets.token_urlsafe(24)
                return grant
        raise TokenRefusedError("invalid_grant", "missing or invalid refresh token")


def _form(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}


def _page(query: Mapping[str, str]) -> str:
    fields = "".join(
        f'<input type="hidden" name="{html.escape(n)}" value="{html.escape(v)}">' for n, v in query.items()
    )
    scopes = html.escape(query.get("scope", "")) or "what it is registered for"
    return (
        f"<!doctype html><title>Connect</title><h1>Allow this app?</h1><p>It asks for: {scopes}</p><form>{fields}"
        '<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></form>'
    )

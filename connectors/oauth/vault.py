"""The vault of one connection's grant: hands out access tokens, and renews them ahead of time and once.

A refresh token may work a single time (Pipedrive's are to be treated so), and its answer is all that is left of the
grant. So a renewal is made by one process, which has taken the right to it in the database; it goes on when the
delivery that asked for it is cancelled; and its result is written down before anybody uses it. Killed

- before the request was sent: the right runs out, and the next process renews;
- between the request and its being written down: the tokens are lost. The next process tries the former refresh token,
  which most partners accept once more, or for a while. If not, a person has to connect again, and is told why;
- after it was written down: the next process reads it.

A process that was frozen and wakes up with an answer writes it only over the version that it was got for. A refusal of
a version that others have renewed meanwhile means nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from time import monotonic
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import urlencode

from connectors.connector import Connection
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.errors import (
    ReconnectNeededError,
    StateUnavailableError,
    TokensUnavailableError,
    UnusableCredentialError,
    UnusableGrantError,
)
from connectors.oauth.grants import AccessToken, Grant, NewTokens, TokenPair
from connectors.oauth.provider import OAuthProvider
from connectors.oauth.token_endpoint import GrantRefusedError, TokenAnswer, TokenEndpoint
from contracts.crm_spec import OAuth

HOLD: Final = timedelta(seconds=60)
"""How long the right to renew is held: longer than a token request takes, name, connection and database included."""

WAIT_SECONDS: Final = 20.0
"""How long a caller waits for another process's renewal."""

LOOK_AGAIN_SECONDS: Final = 0.1
SAFE_SECONDS: Final = 10.0
"""An access token is not used for the last seconds of its life: requests take time, and clocks differ."""

EARLY_PART: Final = (0.2, 0.3)
"""The part of its life that a token has left when it is renewed, drawn between these for each connection."""

KEEP_ALIVE_SECONDS: Final = 20 * 3600.0
"""A grant is renewed at least as often: some partners forget refresh tokens that nobody uses (Pipedrive: 60 days)."""

Good = Callable[[Grant], bool]


class Vault:
    """Access tokens of one connection (`connectors.oauth.grants.Tokens`)."""

    def __init__(
        self, connection: Connection, oauth: OAuth, provider: OAuthProvider, context: ConnectorContext
    ) -> None:
        self._name = f"{connection.namespace}/{connection.name}"
        self._oauth = oauth
        self._provider = provider.chosen(oauth)
        self._endpoint = TokenEndpoint(self._provider, oauth, context)
        self._store = context.grants
        self._clock = context.clock
        self._early = Random(connection.uid.bytes).uniform(*EARLY_PART)  # noqa: S311 -- spreads renewals
        self._lock = asyncio.Lock()
        self._grant: Grant | None = None
        self._refused_seed = ""
        self._tasks: set[asyncio.Task[Grant]] = set()

    def check_credentials(self) -> None:
        """Read the app's id and secret and the seed, which may be others now.

        Raise CredentialMissingError or UnusableCredentialError.
        """
        self._endpoint.client()
        self._seed()
        self._grant, self._refused_seed = None, ""

    async def current(self) -> AccessToken:
        """Return a token that is good for a while; see Tokens."""
        grant = self._grant
        if grant is None or not self._is_fresh(grant):
            grant = await self._in_own_task(self._obtain(self._is_fresh, or_usable=True))
        return _token(grant)

    async def renew(self, refused: AccessToken) -> AccessToken:
        """Return another token than the refused one; see Tokens."""
        return _token(await self._in_own_task(self._obtain(lambda grant: grant.version > refused.version)))

    async def keep_alive(self) -> None:
        """Renew the grant if that was not done for most of a day, or if the Secret has another seed; raises as above.

        A connection without a grant, or with one that was withdrawn, has none to keep.
        """
        grant = await self._store.read()
        ended = grant is None or grant.tokens is None or grant.refusal is not None
        if ended and not self._new_seed(grant):
            return
        latest = self._clock() - KEEP_ALIVE_SECONDS
        await self._in_own_task(self._obtain(lambda each: each.obtained_at > latest))

    def authorize_url(self, redirect_uri: str, challenge: str) -> str:
        """Return the partner's page that asks for a grant, with the S256 challenge of a verifier; `state` is to add."""
        client_id, _ = self._endpoint.client()
        query = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._provider.scopes),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._provider.authorize_url}?{urlencode({name: value for name, value in query.items() if value})}"

    async def connect(self, code: str, verifier: str, redirect_uri: str) -> AccessToken:
        """Begin a new grant with an authorization code, in place of any other.

        Raise GrantRefusedError, TokensUnavailableError, or what a credential raises.
        """
        return _token(await self._in_own_task(self._begin(code, verifier, redirect_uri)))

    async def close(self) -> None:
        """Let renewals under way come to their end."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _in_own_task(self, work: Coroutine[Any, Any, Grant]) -> Grant:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Grant]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who asked may have gone

    async def _begin(self, code: str, verifier: str, redirect_uri: str) -> Grant:
        began = monotonic()
        answer = await self._endpoint.exchange(code, verifier, redirect_uri)
        if answer.refresh is None:
            raise TokensUnavailableError("the token endpoint's answer has no refresh token", 0.0)
        new = _new(answer, TokenPair(answer.access, answer.refresh, self._seed()), began)
        async with self._lock:
            while True:
                if (saved := await self._store.save(await self._version(), new)) is not None:
                    self._grant = saved
                    return saved

    async def _version(self) -> int:
        """Return the newest version, however long the database is away."""
        while True:
            try:
                grant = await self._store.read()
            except UnusableGrantError as error:
                return error.version
            except StateUnavailableError:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            else:
                return grant.version if grant else 0

    async def _obtain(self, good: Good, *, or_usable: bool = False) -> Grant:
        """Return a good grant, renewed if need be; while another process is at that, a usable one may do."""
        deadline = monotonic() + WAIT_SECONDS
        async with self._lock:
            if self._grant is not None and good(self._grant):
                return self._grant
            while True:
                grant = await self._read()
                seed = self._new_seed(grant)
                if not seed and grant and good(grant):
                    self._grant = grant
                    return grant
                refresh = seed or self._refresh_token(grant)
                version = grant.version if grant else 0
                if await self._store.claim(version, HOLD):
                    if renewed := await self._renew(version, refresh, seed, grant):
                        self._grant = renewed
                        return renewed
                elif or_usable and grant and self._is_usable(grant):
                    return grant
                elif grant and grant.rests_until > self._clock():
                    wait = grant.rests_until - self._clock()
                    raise TokensUnavailableError(f"{self._name}: the last renewal of its token failed", wait)
                elif monotonic() > deadline:
                    raise TokensUnavailableError(f"{self._name}: another process is renewing its token", 5.0)
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _read(self) -> Grant | None:
        try:
            return await self._store.read()
        except UnusableGrantError as error:
            raise ReconnectNeededError(f"{error}, or run `integrations connect {self._name}`") from None

    async def _renew(self, version: int, refresh: str, seed: str, former: Grant | None) -> Grant | None:
        """Ask for tokens and write them down; None if somebody else has made another version meanwhile."""
        began = monotonic()
        try:
            answer = await self._endpoint.refresh(refresh)
        except GrantRefusedError as error:
            newest = await self._store.read()
            if newest is not None and newest.version != version:
                return None
            self._refused_seed = seed
            reason = f"{error}{_lost(former)}"
            await self._store.refuse(version, reason)
            raise self._reconnect(reason) from None
        except TokensUnavailableError as error:
            await self._store.release(version, timedelta(seconds=error.seconds))
            raise
        except (CredentialMissingError, UnusableCredentialError):
            await self._store.release(version, timedelta(0))
            raise
        kept = former.tokens.seed if former and former.tokens else ""
        pair = TokenPair(answer.access, answer.refresh or refresh, seed or kept)
        return await self._store.save(version, _new(answer, pair, began))

    def _seed(self) -> str:
        reference = self._oauth.refresh_token_from
        return self._endpoint.credential(reference.key, reference.name) if reference else ""

    def _new_seed(self, grant: Grant | None) -> str:
        """Return the Secret's refresh token if it is another than the one that this grant began with."""
        seed = self._seed()
        known = grant.tokens.seed if grant and grant.tokens else ""
        return "" if seed in (known, self._refused_seed) else seed

    def _refresh_token(self, grant: Grant | None) -> str:
        if grant is None or grant.tokens is None:
            raise self._reconnect((grant and grant.refusal) or "it is not connected yet")
        if grant.refusal is not None:
            raise self._reconnect(grant.refusal)
        return grant.tokens.refresh

    def _reconnect(self, reason: str) -> ReconnectNeededError:
        return ReconnectNeededError(f"{reason}; run `integrations connect {self._name}`")

    def _is_usable(self, grant: Grant) -> bool:
        return grant.tokens is not None and self._clock() < grant.expires_at - SAFE_SECONDS

    def _is_fresh(self, grant: Grant) -> bool:
        life = grant.expires_at - grant.obtained_at
        return self._is_usable(grant) and self._clock() < grant.expires_at - life * self._early


@runtime_checkable
class HasVault(Protocol):
    """A connector that may have a grant; None where its connection proves itself otherwise."""

    vault: Vault | None


def _new(answer: TokenAnswer, pair: TokenPair, began: float) -> NewTokens:
    """Their life began, at the earliest, when they were asked for."""
    return NewTokens(pair, answer.lifetime - timedelta(seconds=monotonic() - began), answer.details)


def _lost(former: Grant | None) -> str:
    if former is None or former.tried_since is None:
        return ""
    since = datetime.fromtimestamp(former.tried_since, UTC)
    return (
        f" (a renewal that began at {since:%Y-%m-%dT%H:%M:%SZ} left no result, perhaps the new token was lost with it)"
    )


def _token(grant: Grant) -> AccessToken:
    assert grant.tokens is not None  # noqa: S101 -- for the type checker; only such grants are good
    return AccessToken(grant.tokens.access, grant.version, grant.details)

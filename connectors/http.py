"""The one way out: HTTP requests to addresses that partners chose, guarded.

What it promises:

- A host's addresses are resolved, vetted (`connectors.names`) and pinned: the client that sends can connect to the
  vetted address only, whatever DNS says a moment later. One refused address refuses the name.
- No redirect is followed, no proxy taken from the environment, no cookie kept, nothing decompressed.
- Everything is bounded: connecting, the whole exchange, the body that is kept, the body that is read to the end to
  keep a connection alive, headers, idle connections, clients.
- An error says how far the request came (`connectors.errors`); an answer whose body breaks off is still an answer.

The path of a repeated request is short on purpose: parse the URL, one look-up, hand over to pyreqwest (48 µs of CPU
a request against 95 for aiohttp, measured). Building a client costs milliseconds (it loads the trusted CAs), so one
lives for each origin, CA and address, the least recently used origins being forgotten first. Forgetting is gentle:
requests in flight hold their client, and its sockets close after the last of them.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from time import monotonic
from types import TracebackType
from typing import Final, Self

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError, PyreqwestError
from pyreqwest.http import HeaderMap, Url
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from connectors.egress import EgressPolicy
from connectors.errors import GuardedHttpError, MalformedRequestError, NoAnswerError, NotSentError
from connectors.names import Names, Resolver

Headers = Sequence[tuple[str, str]]

USER_AGENT: Final = f"queast-integration-layer/{version('queast-integration-layer')}"

EXCERPT_LIMIT: Final = 4_096
"""Bytes of a body that are kept unless the caller asks for more."""

DRAIN_LIMIT: Final = 65_536
"""Bytes of a body that are read so that the connection can be used again; beyond, it is dropped."""

HEADER_VALUE_LIMIT: Final = 4_096
"""Characters of a response header that are looked at. The HTTP library refuses more than 100 headers or 400 KiB."""

ADDRESS_LIMIT: Final = 4
"""Addresses of one host that are tried, after all of them were vetted."""

RESOLUTION_FAILURE_TTL_SECONDS: Final = 5.0

REASON_LIMIT: Final = 200

_CONNECT_PHASE = "client error (Connect)"
"""How the HTTP library marks a failure before the request was written. Its exception classes cannot tell: a server
that accepts and never answers is a ConnectTimeoutError to it."""


@dataclass(slots=True)
class HttpAnswer:
    """An answer, with at most as much of its body as was asked for.

    `complete` says whether `body` is all there was: false if it was longer, or broke off.
    """

    status: int
    body: bytes = field(repr=False)
    complete: bool
    headers: HeaderMap = field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, cut to HEADER_VALUE_LIMIT; None if it is absent or not ASCII."""
        try:
            value = self.headers.get(name)
        except ValueError:
            return None
        return None if value is None else value[:HEADER_VALUE_LIMIT]


@dataclass(slots=True)
class Timings:
    """How long the parts of one request took, filled in while it goes on; None for what did not happen.

    `answering_seconds` is until the head of the answer. Connecting and TLS are in it where no connection was open: the
    HTTP library does not tell them apart.
    """

    resolving_seconds: float | None = None
    answering_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a client is made for; `host` as the URL parser wrote it, an IPv6 literal in brackets."""

    scheme: str
    host: str
    port: int
    ca: bytes | None
    is_literal: bool


@dataclass(slots=True, eq=False)
class _Destination:
    """An origin with its vetted addresses, the one that last worked first, or with the reason why it has none."""

    origin: _Origin
    fresh_until: float = float("-inf")
    addresses: tuple[str, ...] = ()
    failure: tuple[type[GuardedHttpError], str] | None = None
    clients: dict[str, Client] = field(default_factory=dict)
    resolving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def settle(self, addresses: tuple[str, ...], fresh_until: float) -> None:
        """Take over vetted addresses; what is connected already and still valid keeps its place."""
        current = self.addresses[:1]
        if current and current[0] in addresses:
            addresses = current + tuple(address for address in addresses if address != current[0])
        self.addresses = addresses[:ADDRESS_LIMIT]
        self.clients = {address: client for address, client in self.clients.items() if address in self.addresses}
        self.failure = None
        self.fresh_until = fresh_until

    def fail(self, error: GuardedHttpError, fresh_until: float) -> None:
        """Remember that there is no address to call, and why."""
        self.addresses = ()
        self.clients = {}
        self.failure = type(error), str(error)
        self.fresh_until = fresh_until

    def prefer(self, address: str) -> None:
        """Try this address first from now on."""
        if address in self.addresses:
            self.addresses = (address, *(other for other in self.addresses if other != address))


class GuardedHttp:
    """HTTP requests out of one event loop, under one egress policy."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        resolver: Resolver | None = None,
        connect_timeout: timedelta = timedelta(seconds=5),
        resolution_ttl: timedelta = timedelta(seconds=30),
        idle_connections: int = 128,
        destination_limit: int = 256,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.names = Names(policy, resolver)
        self._connect_timeout = connect_timeout
        self._resolution_ttl_seconds = resolution_ttl.total_seconds()
        self._idle_connections = idle_connections
        self._destination_limit = destination_limit
        self._clock = clock
        self._destinations: OrderedDict[tuple[str, str, int, bytes | None], _Destination] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of every connection; requests in flight have ended before."""
        destinations = list(self._destinations.values())
        self._destinations.clear()
        for destination in destinations:
            for client in destination.clients.values():
                await client.close()
        self.names.close()

    async def post(
        self,
        url: str,
        headers: Headers,
        body: bytes,
        time_limit: timedelta,
        ca: bytes | None = None,
        timings: Timings | None = None,
    ) -> HttpAnswer:
        """POST and keep an excerpt of the answer; see `request`."""
        return await self.request("POST", url, headers, body, time_limit, ca, timings=timings)

    async def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        time_limit: timedelta,
        ca: bytes | None = None,
        body_limit: int = EXCERPT_LIMIT,
        timings: Timings | None = None,
    ) -> HttpAnswer:
        """Send one request and return its answer, whatever its status; raise a GuardedHttpError if there is none.

        `time_limit` bounds everything: name, connection, sending, answer and body. Where an origin has several
        addresses, the next one is tried if nothing was sent. `ca` is PEM, trusted beside the system's CAs. A
        time-out shorter than the client's connect time-out cannot tell connecting from waiting for the answer.
        """
        timings = timings or Timings()
        target = parse_url(url)
        key = (target.scheme, target.host_str or "", target.port_or_known_default or 0, ca)
        destination = self._destinations.get(key)
        if destination is not None and destination.fresh_until > self._clock():
            self._destinations.move_to_end(key)
        else:
            started = self._clock()
            destination = await self._refresh(key, target.domain is None, time_limit)
            took = self._clock() - started
            time_limit -= timedelta(seconds=took)
            if target.domain is not None:
                timings.resolving_seconds = took
        if destination.failure is not None:
            kind, message = destination.failure
            raise kind(message)
        return await self._send(destination, method, target, headers, body, time_limit, body_limit, timings)

    async def _send(
        self,
        destination: _Destination,
        method: str,
        target: Url,
        headers: Headers,
        body: bytes | None,
        time_limit: timedelta,
        body_limit: int,
        timings: Timings,
    ) -> HttpAnswer:
        deadline = self._clock() + time_limit.total_seconds()
        unsent: NotSentError | None = None
        for address in destination.addresses:
            if unsent is not None:
                time_limit = timedelta(seconds=deadline - self._clock())
            if time_limit <= timedelta(0):
                break
            client = destination.clients.get(address) or self._open_client(destination, address)
            request = _build(client, method, target, headers, body, time_limit)
            try:
                answer = await _exchange(request, destination.origin.host, body_limit, timings)
            except NotSentError as error:
                unsent = error
            else:
                if unsent is not None:
                    destination.prefer(address)
                return answer
        raise unsent or NotSentError(f"no time was left to connect to {destination.origin.host}")

    async def _refresh(
        self, key: tuple[str, str, int, bytes | None], is_literal: bool, time_limit: timedelta
    ) -> _Destination:
        """Find, or find again, the addresses of an origin; concurrent requests wait for one resolution."""
        destination = self._destinations.get(key)
        if destination is None:
            scheme, host, port, ca = key
            if port == 0:
                raise MalformedRequestError("the port of the address must be from 1 to 65535")
            if ca is not None:
                _check_ca(ca)
            destination = self._destinations[key] = _Destination(_Origin(scheme, host, port, ca, is_literal))
            if len(self._destinations) > self._destination_limit:
                self._destinations.popitem(last=False)
        async with destination.resolving:
            if destination.fresh_until <= self._clock():
                await self._resolve(destination, time_limit)
        return destination

    async def _resolve(self, destination: _Destination, time_limit: timedelta) -> None:
        origin = destination.origin
        try:
            addresses = await self.names.vetted(origin.host, origin.port, time_limit)
        except GuardedHttpError as error:
            destination.fail(error, self._clock() + RESOLUTION_FAILURE_TTL_SECONDS)
        else:
            ttl = float("inf") if origin.is_literal else self._resolution_ttl_seconds
            destination.settle(addresses, self._clock() + ttl)

    def _open_client(self, destination: _Destination, address: str) -> Client:
        """Build the client that can reach this origin at this address and nothing else."""
        origin = destination.origin
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(enable=False)
            .referer(enable=False)
            .default_cookie_store(enable=False)
            .gzip(enable=False)
            .brotli(enable=False)
            .zstd(enable=False)
            .deflate(enable=False)
            .http1_only()
            .user_agent(USER_AGENT)
            .connect_timeout(self._connect_timeout)
            .pool_idle_timeout(timedelta(seconds=20))
            .pool_max_idle_per_host(self._idle_connections)
        )
        if not origin.is_literal:
            builder = builder.resolve(origin.host, address, origin.port)
        for certificate in _certificates(origin.ca):
            builder = builder.add_root_certificate_pem(certificate)
        try:
            client = destination.clients[address] = builder.build()
        except BuilderError as error:
            reason = _reason(error)
        else:
            return client
        raise NotSentError(f"no HTTP client can be made to connect to {origin.host}: {reason}")


def parse_url(url: str) -> Url:
    """Read an address as the client will; raise MalformedRequestError, which says nothing of it."""
    try:
        target = Url(url)
    except ValueError:
        target = None
    # Raised here, not above: the parser's error would be chained, and holds the address.
    if target is None or target.scheme not in {"http", "https"} or not target.host_str:
        raise MalformedRequestError("the address is not an absolute http or https URL")
    if target.username or target.password:
        raise MalformedRequestError("the address must not hold a user name or password")
    return target


def _build(
    client: Client, method: str, target: Url, headers: Headers, body: bytes | None, time_limit: timedelta
) -> StreamRequest:
    try:
        builder = client.request(method, target).headers(headers).timeout(time_limit).streamed_read_buffer_limit(0)
        return (builder if body is None else builder.body_bytes(body)).build_streamed()
    except ValueError:
        pass
    raise MalformedRequestError("a header has a name or value that HTTP does not allow")


async def _exchange(request: StreamRequest, host: str, body_limit: int, timings: Timings) -> HttpAnswer:
    started = monotonic()
    try:
        async with request as response:
            timings.answering_seconds = monotonic() - started
            return await _read(response, body_limit)
    except PyreqwestError as error:
        failure = _translate(error, host)
    raise failure


async def _read(response: Response, body_limit: int) -> HttpAnswer:
    """Read the body as far as it is wanted, or worth reading to keep the connection."""
    headers = response.headers
    answer = HttpAnswer(response.status, b"", complete=True, headers=headers)
    length = answer.header("content-length")
    if length == "0":
        return answer
    expected = int(length) if length is not None and length.isdecimal() else None
    read_limit = body_limit if expected is not None and expected > DRAIN_LIMIT else max(body_limit, DRAIN_LIMIT)
    reader = response.body_reader
    seen = 0
    try:
        while seen != expected and (chunk := await reader.read_chunk()) is not None:
            room = body_limit - seen
            if room > 0:
                answer.body += memoryview(chunk)[:room]
            seen += len(chunk)
            if seen > read_limit:
                break
    except PyreqwestError:
        answer.complete = False
    else:
        answer.complete = seen <= body_limit
    return answer


def _translate(error: PyreqwestError, host: str) -> GuardedHttpError:
    if _CONNECT_PHASE in _causes(error):
        return NotSentError(f"{host} could not be connected to: {_reason(error)}")
    return NoAnswerError(f"{host} did not answer: {_reason(error)}")


def _reason(error: PyreqwestError) -> str:
    """Take the innermost cause that holds no address."""
    safe = [cause for cause in _causes(error) if "://" not in cause and not cause.startswith("client error")]
    return (safe[-1] if safe else "no reason is known")[:REASON_LIMIT]


def _causes(error: PyreqwestError) -> list[str]:
    if not isinstance(error, DetailedPyreqwestError):
        return []
    return [cause["message"] for cause in error.details["causes"] or []]


def _check_ca(ca: bytes) -> None:
    """Raise MalformedRequestError unless the CA can be read; the HTTP library would ignore it in silence."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError):
        pass
    else:
        return
    raise MalformedRequestError("the CA is not a list of PEM certificates")


_END_OF_CERTIFICATE = b"-----END CERTIFICATE-----"


def _certificates(ca: bytes | None) -> list[bytes]:
    """Take a PEM bundle apart: the HTTP library reads one certificate at a time."""
    if ca is None:
        return []
    return [part + _END_OF_CERTIFICATE for part in ca.split(_END_OF_CERTIFICATE)[:-1]]

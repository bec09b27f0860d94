"""From a host's name to the addresses that may be called: resolved, then vetted by the egress policy.

One refused address refuses the name: a partner that lists one of ours beside its own is not given the choice.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

from connectors.egress import EgressPolicy, IPAddress
from connectors.errors import NotSentError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of (host, port), best first, as text; raises OSError if there are none."""

RESOLUTION_TIMEOUT_SECONDS: Final = 5.0
RESOLUTION_THREADS: Final = 16
"""Names that are resolved at once, so that a slow name server of one partner does not stop the names of others."""


class Names:
    """Finds the addresses of hosts, under one egress policy."""

    def __init__(self, policy: EgressPolicy, resolver: Resolver | None = None) -> None:
        self._policy = policy
        self._threads = ThreadPoolExecutor(RESOLUTION_THREADS, thread_name_prefix="resolver")
        self._resolver = resolver or self._resolve_by_system

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def vetted(self, host: str, port: int, time_limit: timedelta) -> tuple[str, ...]:
        """Return the addresses that may be called, best first; raise NotSentError or EgressRefusedError."""
        addresses = await self.resolve(host, port, time_limit)
        self.vet(host, addresses)
        return tuple(dict.fromkeys(map(str, addresses)))

    async def resolve(self, host: str, port: int, time_limit: timedelta) -> list[IPAddress]:
        """Return a host's addresses, best first, or the one that it is; raise NotSentError if there is none.

        `host` is as the URL parser wrote it, an IPv6 literal in brackets.
        """
        literal = _literal(host)
        if literal is not None:
            return [literal]
        try:
            async with asyncio.timeout(min(time_limit.total_seconds(), RESOLUTION_TIMEOUT_SECONDS)):
                texts = await self._resolver(host, port)
        except TimeoutError:
            raise NotSentError(f"the name {host} was not resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise NotSentError(f"the name {host} was not resolved: {error}") from error
        if not texts:
            raise NotSentError(f"the name {host} has no address")
        return [ip_address(text) for text in texts]

    def vet(self, host: str, addresses: Sequence[IPAddress]) -> None:
        """Raise EgressRefusedError unless every address of `host` may be called."""
        self._policy.vet(host, addresses)

    async def _resolve_by_system(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None

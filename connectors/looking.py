"""A look at a server without asking it anything: does something listen, and can it prove who it is.

Addresses come here vetted. Nothing is sent but what TCP and TLS need.
"""

import asyncio
import ssl
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self

from connectors.errors import GuardedHttpError


class LookFailedError(GuardedHttpError):
    """Nothing listens, or what listens cannot prove who it is."""


class OpenSocket:
    """A connection to one address, closed when left."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._reader = reader  # a writer alone would let the connection go
        self.writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()


async def open_socket(addresses: Iterable[str], port: int, time_limit: timedelta) -> OpenSocket:
    """Connect to the first address where something listens; raise LookFailedError, saying why for each."""
    failures: list[str] = []
    for address in addresses:
        try:
            async with asyncio.timeout(time_limit.total_seconds()):
                reader, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            failures.append(f"{address}, port {port}: no answer within {time_limit.total_seconds():.0f} s")
        except OSError as error:
            failures.append(f"{address}, port {port}: {(error.strerror or str(error)).lower()}")
        else:
            return OpenSocket(address, reader, writer)
    raise LookFailedError("; ".join(failures))


async def handshake(opened: OpenSocket, host: str, ca: bytes | None, time_limit: timedelta) -> str:
    """Begin TLS and say what was agreed; raise LookFailedError."""
    context = ssl.create_default_context()
    try:
        if ca is not None:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        async with asyncio.timeout(time_limit.total_seconds()):
            await opened.writer.start_tls(context, server_hostname=host)
    except TimeoutError:
        raise LookFailedError(f"no TLS within {time_limit.total_seconds():.0f} s") from None
    except ssl.SSLCertVerificationError as error:
        raise LookFailedError(f"the certificate of {host} is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise LookFailedError(f"TLS with {host} failed: {error.reason or 'no reason is known'}") from error
    except (OSError, ValueError) as error:
        raise LookFailedError(f"TLS with {host} failed: {error}") from error
    agreed = opened.writer.get_extra_info("ssl_object")
    expiry = (agreed.getpeercert() or {}).get("notAfter", "an unknown time")
    return f"{agreed.version()}, and a trusted certificate until {expiry}"

"""The partner: one process that receives for all connections, verifies every signature, and remembers everything."""

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from chaos.waiting import HOST

SECRET = "whsec_bm90aGluZyBpcyBsb3N0LCBub3RoaW5nIGlzIG1hZGUgdXA="


class Partner:
    """The receivers of all connections: an endpoint for each connection's name."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = httpx.Client(base_url=f"http://{HOST}:{port}/_control", trust_env=False, timeout=60)

    def answers(self) -> bool:
        """Say whether the process listens yet."""
        try:
            return self._http.get("/endpoints").is_success
        except httpx.TransportError:
            return False

    def misbehave(self, name: str, *faults: Mapping[str, object]) -> None:
        """Have the next requests to an endpoint meet these faults; none: be well."""
        self._http.put("/endpoints", params={"path": f"/{name}"}, json={"script": list(faults)}).raise_for_status()

    def open(self, name: str) -> None:
        """Make an endpoint."""
        change = {"secrets": [SECRET]}
        self._http.put("/endpoints", params={"path": f"/{name}"}, json=change).raise_for_status()

    def stats(self, name: str) -> dict[str, int]:
        """Return an endpoint's counts."""
        counts: dict[str, int] = orjson.loads(self._read("stats", name))
        return counts

    def deliveries(self, name: str) -> list[dict[str, Any]]:
        """Return everything remembered of each webhook-id, in the order of first arrival."""
        arrivals: list[dict[str, Any]] = orjson.loads(self._read("deliveries", name))
        return arrivals

    def forget(self, name: str) -> None:
        """Have an endpoint forget what arrived so far."""
        self._http.delete("/deliveries", params={"path": f"/{name}"}).raise_for_status()

    def _read(self, what: str, name: str) -> bytes:
        return self._http.get(f"/{what}", params={"path": f"/{name}"}).raise_for_status().content

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

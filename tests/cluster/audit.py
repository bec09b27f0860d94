"""The API server's audit log: who asked for what, so that tests can hold a program to a budget of requests."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One request, written when it was answered; a watch, when it began."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    uri: str
    user_agent: str


class AuditLog:
    """Reads the log while it is being written."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def mark(self) -> int:
        """Return a place in the log: requests answered from now on come after it."""
        return self._file.stat().st_size

    def requests(
        self, *, user: str | None = None, since: int = 0, verb: str | None = None, resource: str | None = None
    ) -> list[AuditRecord]:
        """List requests since a mark, in the order of their answers; `user` is a regular expression that fits whole.

        A record is written at the end of its request, and may be seen a moment after the client has its answer.
        """
        return [
            record
            for record in self._records(since)
            if (user is None or re.fullmatch(user, record.user))
            and verb in {None, record.verb}
            and resource in {None, record.resource}
        ]

    def _records(self, since: int) -> Iterator[AuditRecord]:
        with self._file.open("rb") as file:
            file.seek(since)
            for line in file:
                # The last line may be half written.
                if line.endswith(b"\n"):
                    event = json.loads(line)
                    if not _is_end_of_watch(event):
                        yield _record(event)


def _is_end_of_watch(event: dict[str, Any]) -> bool:
    """Say whether this is a second record of one request: what streams is recorded at its beginning and its end."""
    return bool(
        event["stage"] == "ResponseComplete" and event["verb"] == "watch" and event["responseStatus"]["code"] == 200
    )


def _record(event: dict[str, Any]) -> AuditRecord:
    target = event.get("objectRef", {})
    return AuditRecord(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        uri=event["requestURI"],
        user_agent=event.get("userAgent", ""),
    )

"""HubSpot's API: the calls we make, within its limits, and what its refusals mean.

Paths are dated (2026-03, 2026-09; HubSpot's API reference); every one is in `PATHS`. An account takes so many calls
in ten seconds and in a day, and five searches a second over all kinds of records, of which no header tells.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.api_client import ApiAnswer, ApiClient, AttemptEndedError, Deadline
from connectors.call_budget import BudgetSpentError, CallBudget
from contracts.outcomes import (
    AuthRevoked,
    ForbiddenScope,
    Invalid,
    Locked,
    Migrating,
    NotFound,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Report,
    Transient,
)

BATCH_LIMIT: Final = 100
"""Inputs of one batch (HubSpot's API reference)."""

CALLS_IN_TEN_SECONDS: Final = 100
"""What every account has at least; its answers say how much it really has."""

SEARCHES_IN_A_SECOND: Final = 5

UNKNOWN_SECONDS: Final = 1.0
"""How long there is no search after opening: the connection may have been another worker's, and no header tells."""

LOCKED_SECONDS: Final = 2
"""How long to wait at least for a locked record (HubSpot's error handling)."""

MIGRATION_SECONDS: Final = 3600
"""How long to wait for an account that is being moved, where HubSpot does not say."""

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "details": ("GET", "/account-info/{version}/details"),
    "properties": ("GET", "/crm/properties/{version}/{kind}"),
    "create_group": ("POST", "/crm/properties/{version}/{kind}/groups"),
    "create_property": ("POST", "/crm/properties/{version}/{kind}"),
    "search": ("POST", "/crm/objects/{version}/{kind}/search"),
    "read": ("POST", "/crm/objects/{version}/{kind}/batch/read"),
    "update": ("POST", "/crm/objects/{version}/{kind}/batch/update"),
    "upsert": ("POST", "/crm/objects/{version}/{kind}/batch/upsert"),
    "archive": ("DELETE", "/crm/objects/{version}/{kind}/{id}"),
    "associate": ("POST", "/crm/associations/{version}/{kind}/{other}/batch/associate/default"),
}
"""Every call that is made, by method and path."""

_RETRYABLE: Final = frozenset({408, 500, 502, 503, 504, 521, 523, 524})


class HubSpotClient:
    """Calls HubSpot for one connection; raises AttemptEndedError where an attempt cannot go on."""

    def __init__(self, api: ApiClient, version: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._version = version
        self._clock = clock
        self._calls = CallBudget(CALLS_IN_TEN_SECONDS, 10.0, told_by_partner=True)
        self._searches = CallBudget(SEARCHES_IN_A_SECOND, 1.0)
        self._searches.refused(UNKNOWN_SECONDS)
        self._day_ends_at: float | None = None
        self.zone = "UTC"

    async def details(self, deadline: Deadline) -> Mapping[str, Any]:
        """Return the account's id and time zone."""
        return _object((await self._call("details", deadline)).document)

    async def properties(self, kind: str, deadline: Deadline) -> list[Mapping[str, Any]]:
        """Return the properties of a kind of records as HubSpot describes them."""
        answer = await self._call("properties", deadline, kind=kind)
        return list(_object(answer.document).get("results", ()))

    async def create_group(self, kind: str, name: str, label: str, deadline: Deadline) -> None:
        """Create a group of properties, if it is not there."""
        await self._call("create_group", deadline, {"name": name, "label": label}, kind=kind, fine=(409,))

    async def create_property(self, kind: str, described: Mapping[str, Any], deadline: Deadline) -> None:
        """Create a property, if it is not there."""
        await self._call("create_property", deadline, described, kind=kind, fine=(409,))

    async def search(self, kind: str, asked: Mapping[str, Any], deadline: Deadline) -> list[Mapping[str, Any]]:
        """Search records; the index lags behind, so what is not found may be there all the same."""
        answer = await self._call("search", deadline, asked, kind=kind)
        return list(_object(answer.document).get("results", ()))

    async def read(
        self, kind: str, ids: Sequence[str], properties: Sequence[str], id_property: str, deadline: Deadline
    ) -> list[Mapping[str, Any]]:
        """Return those records that are there, by a unique property."""
        body = {"inputs": [{"id": each} for each in ids], "properties": list(properties), "idProperty": id_property}
        answer = await self._call("read", deadline, body, kind=kind)
        return list(_object(answer.document).get("results", ()))

    async def write(self, how: str, kind: str, inputs: Sequence[Mapping[str, Any]], deadline: Deadline) -> ApiAnswer:
        """Update or upsert up to a hundred records; the answer is a 2xx, or a 400 for all of them."""
        return await self._call(how, deadline, {"inputs": list(inputs)}, kind=kind, fine=(400,))

    async def associate(
        self, kind: str, other: str, pairs: Sequence[tuple[str, str]], deadline: Deadline
    ) -> list[Mapping[str, Any]]:
        """Associate records in the default way, as often as wanted; return what failed."""
        body = {"inputs": [{"from": {"id": one}, "to": {"id": two}} for one, two in pairs]}
        answer = await self._call("associate", deadline, body, kind=kind, other=other)
        return list(_object(answer.document).get("errors", ()))

    async def archive(self, kind: str, id_: str, deadline: Deadline) -> ApiAnswer:
        """Archive a record; one that is not there is none to archive."""
        return await self._call("archive", deadline, kind=kind, id=id_, fine=(404,))

    async def _call(
        self, name: str, deadline: Deadline, body: object = None, *, fine: tuple[int, ...] = (), **parts: str
    ) -> ApiAnswer:
        method, path = PATHS[name]
        self._require_day()
        place = path.format(version=self._version, **parts)
        searching = self._searches.call(deadline.seconds) if name == "search" else nullcontext()
        try:
            async with searching:
                answer = await self._within_calls(method, place, deadline, body)
        except BudgetSpentError as error:
            wait = timedelta(seconds=error.seconds)
            raise AttemptEndedError(Report(RateLimited(wait), detail=f"{error}; nothing was asked of it")) from error
        if answer.is_success or answer.status in fine:
            return answer
        raise AttemptEndedError(self.report(answer, search=name == "search"))

    async def _within_calls(self, method: str, path: str, deadline: Deadline, body: object) -> ApiAnswer:
        async with self._calls.call(deadline.seconds):
            answer = await self._api.call(method, path, deadline, body)
        self._learn(answer)
        return answer

    def _learn(self, answer: ApiAnswer) -> None:
        remaining = _whole(answer.header("x-hubspot-ratelimit-remaining"))
        if remaining is not None:
            self._calls.told(_whole(answer.header("x-hubspot-ratelimit-max")), remaining)
        if _whole(answer.header("x-hubspot-ratelimit-daily-remaining")) == 0:
            self._day_ends_at = self._midnight()

    def _require_day(self) -> None:
        if self._day_ends_at is not None:
            if self._clock() < self._day_ends_at:
                reset = datetime.fromtimestamp(self._day_ends_at, UTC)
                detail = f"the account's calls of the day are used up; its day ends at {reset:%Y-%m-%dT%H:%MZ}"
                raise AttemptEndedError(Report(QuotaExhausted(reset), detail=detail))
            self._day_ends_at = None

    def _midnight(self) -> float:
        zone: tzinfo = UTC
        with suppress(ZoneInfoNotFoundError, ValueError):  # UTC is hours off, and the next refusal says so again
            zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(self._clock(), UTC).astimezone(zone)
        return datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), zone).timestamp()

    def report(self, answer: ApiAnswer, *, search: bool = False) -> Report:
        """Say what a refusal of a whole request means."""
        return answer.report(self._outcome(answer, search=search))

    def _outcome(self, answer: ApiAnswer, *, search: bool) -> Outcome:
        wait = answer.retry_after(self._clock())
        match answer.status:
            case 401:
                return AuthRevoked()
            case 403:
                return ForbiddenScope(", ".join(missing_scopes(answer.document)) or "unknown, see the answer")
            case 404:
                return NotFound()
            case 423:
                return Locked(max(wait or timedelta(), timedelta(seconds=LOCKED_SECONDS)))
            case 429:
                return self._limited(answer, wait, search=search)
            case 477:
                return Migrating(wait or timedelta(seconds=MIGRATION_SECONDS))
            case status if status in _RETRYABLE:
                return Transient(wait)
            case status if 300 <= status < 400:
                return Transient(wait)
            case _:
                return Invalid()

    def _limited(self, answer: ApiAnswer, wait: timedelta | None, *, search: bool) -> Outcome:
        match _object(answer.document).get("policyName"):
            case "DAILY":
                self._day_ends_at = self._midnight()
                return QuotaExhausted(datetime.fromtimestamp(self._day_ends_at, UTC))
            case "SECONDLY":
                (self._searches if search else self._calls).refused(1.0 if wait is None else wait.total_seconds())
                return RateLimited(wait or timedelta(seconds=1))
            case _:
                self._calls.refused(None if wait is None else wait.total_seconds())
                return RateLimited(wait or timedelta(seconds=10))


def missing_scopes(document: Any) -> list[str]:
    """Return the scopes that HubSpot says are missing."""
    found: list[str] = []
    for error in _object(document).get("errors") or ():
        context = _object(error).get("context") or {}
        for scopes in (context.get(name) for name in ("requiredGranularScopes", "requiredScopes", "missingScopes")):
            found += [str(each) for each in scopes or ()]
    return sorted(set(found))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() and len(value) < 10 else None

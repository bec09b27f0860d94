"""Pipedrive's API: the calls we make, within its bursts, and what its refusals mean.

v2 where it exists, v1 for notes, leads and users (Pipedrive's API reference). A token takes so many requests in two
seconds, searches ten. Besides, all of a company share a budget of tokens a day; both refusals look alike, so a refusal
that asks for longer than a burst, or one after another, is taken for the day's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from connectors.api_client import ApiAnswer, ApiClient, AttemptEndedError, Deadline
from connectors.call_budget import BudgetSpentError, CallBudget
from connectors.pipedrive.ledger import TokenLedger
from contracts.outcomes import (
    AuthRevoked,
    ForbiddenScope,
    Gone,
    Invalid,
    NotFound,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Report,
    Transient,
)

BURST_SECONDS: Final = 2.0
UNKNOWN_SECONDS: Final = BURST_SECONDS
"""How long there is no search after opening: what was searched before, nobody tells."""
CALLS_IN_A_BURST: Final = 20
"""What an API token has at least (Pipedrive's rate limits); its answers say how much it really has."""

SEARCHES_IN_A_BURST: Final = 10
REFUSALS_OF_A_DAY: Final = 5
"""Refusals in a row that a burst does not explain."""

BAN_SECONDS: Final = 600.0
"""How long nothing is asked after a 403 with a page of HTML: traffic went on over refusals, and the token is fine."""

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "me": ("GET", "/v1/users/me"),
    "fields": ("GET", "/api/v2/organizationFields"),
    "create_field": ("POST", "/api/v2/organizationFields"),
    "search": ("GET", "/api/v2/itemSearch/field"),
    "recent": ("GET", "/api/v2/organizations"),
    "create": ("POST", "/api/v2/organizations"),
    "update": ("PATCH", "/api/v2/organizations/{id}"),
    "delete": ("DELETE", "/api/v2/organizations/{id}"),
    "notes": ("GET", "/v1/notes"),
    "add_note": ("POST", "/v1/notes"),
    "activities": ("GET", "/api/v2/activities"),
    "add_activity": ("POST", "/api/v2/activities"),
    "leads": ("GET", "/v1/leads"),
    "add_lead": ("POST", "/v1/leads"),
}
"""Every call that is made, by method and path."""

COSTS: Final[Mapping[str, int]] = {
    "me": 2,
    "fields": 10,
    "create_field": 5,
    "search": 20,
    "recent": 10,
    "create": 5,
    "update": 5,
    "delete": 3,
    "notes": 20,
    "add_note": 10,
    "activities": 10,
    "add_activity": 5,
    "leads": 20,
    "add_lead": 10,
}
"""Tokens that each call costs (Pipedrive's API reference).

In v2: get 1, list 10, add or update 5, delete 3, search 20. In v1: get 2, list 20, add or update 10."""


class PipedriveClient:
    """Calls Pipedrive for one connection; raises AttemptEndedError where an attempt cannot go on."""

    def __init__(self, api: ApiClient, ledger: TokenLedger, clock: Callable[[], float]) -> None:
        self._api = api
        self._ledger = ledger
        self._clock = clock
        self._calls = CallBudget(CALLS_IN_A_BURST, BURST_SECONDS, told_by_partner=True)
        self._searches = CallBudget(SEARCHES_IN_A_BURST, BURST_SECONDS)
        self._searches.refused(UNKNOWN_SECONDS)
        self._refusals = 0
        self._closed_until = 0.0
        self._closed_outcome: Outcome | None = None

    async def call(
        self,
        name: str,
        deadline: Deadline,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        fine: Sequence[int] = (),
        **parts: str,
    ) -> ApiAnswer:
        """Make a call; the answer is a 2xx or has one of the statuses that are `fine`."""
        self._require_open()
        method, path = PATHS[name]
        place = path.format(**parts) + (f"?{urlencode(query)}" if query else "")
        searching = self._searches.call(deadline.seconds) if name == "search" else nullcontext()
        try:
            async with searching, self._calls.call(deadline.seconds):
                await self._ledger.spend(COSTS[name])
                answer = await self._api.call(method, place, deadline, body)
        except BudgetSpentError as error:
            wait = timedelta(seconds=error.seconds)
            raise AttemptEndedError(Report(RateLimited(wait), detail=f"{error}; nothing was asked of it")) from error
        remaining = _whole(answer.header("x-ratelimit-remaining"))
        if remaining is not None and answer.status != 429:
            self._calls.told(_whole(answer.header("x-ratelimit-limit")), remaining)
        self._refusals = self._refusals + 1 if answer.status == 429 else 0
        if answer.is_success or answer.status in fine:
            return answer
        raise AttemptEndedError(answer.report(self._outcome(answer)))

    async def data(self, name: str, deadline: Deadline, body: object = None, **query: str | int) -> Any:
        """Make a call and return what its answer holds."""
        answer = await self.call(name, deadline, body, query=query)
        return _object(answer.document).get("data")

    async def pages(self, name: str, deadline: Deadline, **query: str | int) -> list[Mapping[str, Any]]:
        """Return all pages of a list."""
        found: list[Mapping[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            answer = await self.call(name, deadline, query=query | ({"cursor": cursor} if cursor else {}))
            document = _object(answer.document)
            found += document.get("data") or []
            cursor = _object(document.get("additional_data")).get("next_cursor") or None
        return found

    def _require_open(self) -> None:
        if self._closed_outcome is None:
            return
        left = self._closed_until - self._clock()
        if left <= 0:
            self._closed_outcome = None
            return
        outcome = self._closed_outcome
        if isinstance(outcome, RateLimited):
            outcome = RateLimited(timedelta(seconds=left))
        raise AttemptEndedError(Report(outcome, detail=f"Pipedrive wants no calls for {left:.0f} s more"))

    def _close(self, seconds: float, outcome: Outcome) -> Outcome:
        self._closed_until, self._closed_outcome = self._clock() + seconds, outcome
        return outcome

    def _outcome(self, answer: ApiAnswer) -> Outcome:
        wait = answer.retry_after(self._clock())
        code = str(_object(answer.document).get("code", ""))
        match answer.status:
            case 401:
                return AuthRevoked()
            case 402:
                return Gone()
            case 403 if answer.document is None:
                seconds = BAN_SECONDS if wait is None else wait.total_seconds()
                return self._close(seconds, RateLimited(timedelta(seconds=seconds)))
            case 403 if code.startswith("feature_capping"):
                return Invalid()
            case 403:
                return ForbiddenScope("unknown, see the answer")
            case 404 | 410:
                return NotFound()
            case 429:
                return self._limited(answer, wait)
            case 408 | 500 | 502 | 503 | 504:
                return Transient(wait)
            case status if 300 <= status < 400 or status > 504:
                return Transient(wait)
            case _:
                return Invalid()

    def _limited(self, answer: ApiAnswer, wait: timedelta | None) -> Outcome:
        reset = _whole(answer.header("x-ratelimit-reset"))
        seconds = wait.total_seconds() if wait is not None else float(reset or BURST_SECONDS)
        if seconds > 10 * BURST_SECONDS or self._refusals >= REFUSALS_OF_A_DAY:
            if seconds <= 10 * BURST_SECONDS:
                seconds = _seconds_to_midnight(self._clock())
            reset_at = datetime.fromtimestamp(self._clock() + seconds, UTC)
            return self._close(seconds, QuotaExhausted(reset_at))
        self._calls.refused(seconds)
        return RateLimited(timedelta(seconds=seconds))


def _seconds_to_midnight(now: float) -> float:
    moment = datetime.fromtimestamp(now, UTC)
    return (datetime.combine(moment.date() + timedelta(days=1), datetime.min.time(), UTC) - moment).total_seconds()


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() and len(value) < 10 else None

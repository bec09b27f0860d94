"""Calls of a partner's JSON API: authorized, guarded, bounded in time and size, and recorded without secrets.

What all CRMs have in common. A call either has an answer, whatever its status, or ends the delivery: an attempt that
cannot go on is raised as AttemptEndedError with its report, from however deep, and caught once, in `send`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

import orjson

from connectors.authorization import Authorization, OAuthAuthorization, Proof
from connectors.call_budget import UnusedCallError
from connectors.context import CredentialMissingError
from connectors.errors import (
    GuardedHttpError,
    NoAnswerError,
    NotSentError,
    ReconnectNeededError,
    TokensUnavailableError,
    UnusableCredentialError,
)
from connectors.http import GuardedHttp, HttpAnswer, Timings
from connectors.recording import brief, full
from connectors.redaction import Redactor
from connectors.retry_after import parse_retry_after
from contracts.exchange import Exchange
from contracts.outcomes import Ambiguous, AuthRevoked, Misconfigured, Outcome, Report, Transient

ANSWER_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of an answer that are read."""

LEAST_SECONDS: Final = 0.05
"""Time that must be left for a call to be begun."""


class AttemptEndedError(Exception):
    """The attempt cannot go on; `report` says what came of it."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.detail)
        self.report = report


class NothingAskedError(AttemptEndedError, UnusedCallError):
    """The attempt cannot go on, and the partner was not asked."""


class Deadline:
    """When an attempt has to be over; measured by the monotonic clock."""

    def __init__(self, limit: timedelta) -> None:
        self._ends_at = monotonic() + limit.total_seconds()

    @property
    def seconds(self) -> float:
        """Seconds that are left, negative when it has passed."""
        return self._ends_at - monotonic()


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer: `document` is its JSON, None if it has none or not all of it came. `detail` is safe to show."""

    status: int
    document: Any
    header: Callable[[str], str | None]
    exchange: Exchange
    detail: str

    @property
    def is_success(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    def retry_after(self, now: float) -> timedelta | None:
        """Return how long the partner asks to wait; `now` is in seconds since 1970."""
        return parse_retry_after(self.header("retry-after"), self.header("date"), datetime.fromtimestamp(now, UTC))

    def report(self, outcome: Outcome, detail: str = "") -> Report:
        """Report an outcome that this answer decided."""
        return Report(outcome, self.status, detail or self.detail, self.exchange)


class ApiClient:
    """Calls one partner's API for one connection."""

    def __init__(self, http: GuardedHttp, base_url: str, authorization: Authorization) -> None:
        self._http = http
        self._base_url = base_url
        self._authorization = authorization

    async def call(self, method: str, path: str, deadline: Deadline, body: object = None) -> ApiAnswer:
        """Make one call and return its answer; what a token is refused for (401) is tried once with another.

        Raise AttemptEndedError if there is no answer.
        """
        proof = await _proof(self._authorization.current(), deadline)
        answer = await self._once(method, path, deadline, body, proof)
        if answer.status == 401 and proof.token and isinstance(self._authorization, OAuthAuthorization):
            proof = await _proof(self._authorization.renewed(proof.token), deadline)
            answer = await self._once(method, path, deadline, body, proof)
        return answer

    async def _once(self, method: str, path: str, deadline: Deadline, body: object, proof: Proof) -> ApiAnswer:
        if deadline.seconds < LEAST_SECONDS:
            raise NothingAskedError(Report(Transient(), detail="no time was left for another call; none was under way"))
        url = f"{(proof.base_url or self._base_url).rstrip('/')}{path}"
        written = b"" if body is None else orjson.dumps(body)
        headers = [(proof.header, proof.value), ("Accept", "application/json")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        timings = Timings()
        limit = timedelta(seconds=deadline.seconds)
        try:
            answer = await self._http.request(
                method,
                url,
                headers,
                None if body is None else written,
                limit,
                body_limit=ANSWER_LIMIT,
                timings=timings,
            )
        except GuardedHttpError as error:
            redactor = Redactor([proof.secret])
            exchange = full(method, url, headers, written, timings, None, redactor)
            detail = redactor.clean(f"{method} {path}: {error}")
            raise AttemptEndedError(Report(_unanswered(error), detail=detail, exchange=exchange)) from None
        document = _document(answer)
        if 200 <= answer.status < 300:
            return ApiAnswer(answer.status, document, answer.header, brief(written, timings), "")
        redactor = Redactor([proof.secret])
        exchange = full(method, url, headers, written, timings, answer, redactor)
        detail = redactor.clean(f"{method} {path}: ".encode() + answer.body, cut=not answer.complete)
        return ApiAnswer(answer.status, document, answer.header, exchange, detail)


async def _proof(asked: Awaitable[Proof], deadline: Deadline) -> Proof:
    """Wait for a token as long as the attempt has time; one that is being renewed is renewed all the same."""
    try:
        async with asyncio.timeout(deadline.seconds):
            return await asked
    except TimeoutError:
        raise NothingAskedError(Report(Transient(), detail="its token was still being renewed")) from None
    except (CredentialMissingError, UnusableCredentialError) as error:
        raise NothingAskedError(Report(Misconfigured(), detail=str(error))) from error
    except ReconnectNeededError as error:
        raise NothingAskedError(Report(AuthRevoked(), detail=str(error))) from error
    except TokensUnavailableError as error:
        wait = timedelta(seconds=error.seconds)
        raise NothingAskedError(Report(Transient(wait), detail=str(error))) from error


def _unanswered(error: GuardedHttpError) -> Outcome:
    match error:
        case NotSentError():
            return Transient()
        case NoAnswerError():
            return Ambiguous()
        case _:
            return Misconfigured()


def _document(answer: HttpAnswer) -> Any:
    if not answer.complete or not answer.body:
        return None
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None

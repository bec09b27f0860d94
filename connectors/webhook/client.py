"""One webhook request, and what its answer means for the job.

Any 2xx is success. A redirect is a failure: the signature and the vetting belong to the address in the spec. 410 asks
for no more; 429, and 502, 503 and 504 with a Retry-After, ask for less. Any answer may say that the budget is used up
(`connectors.rate_limits`), a 2xx too; a Retry-After beside it wins. 413, 414 and 431 say that this request can never
be accepted, however often it is sent. Everything else may be better the next time, other 4xx included: a receiver that
answers 400, 401 or 404 during a faulty roll-out must not cost its events.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from connectors.errors import GuardedHttpError, NoAnswerError, NotSentError
from connectors.http import GuardedHttp, Headers, HttpAnswer, Timings
from connectors.rate_limits import wait_for_budget
from connectors.recording import brief, full
from connectors.retry_after import parse_retry_after
from connectors.webhook.settings import Receiver
from contracts.outcomes import (
    Ambiguous,
    Delivered,
    Gone,
    Invalid,
    Misconfigured,
    Outcome,
    RateLimited,
    Report,
    Transient,
)


async def send_webhook(
    http: GuardedHttp, receiver: Receiver, headers: Headers, body: bytes, time_limit: timedelta
) -> Report:
    """POST to the receiver and say what came of it; raises nothing that a receiver can cause."""
    timings, answer = Timings(), None
    try:
        answer = await http.post(receiver.url, headers, body, time_limit, receiver.ca, timings)
    except GuardedHttpError as error:
        report = Report(_unanswered(error), detail=receiver.redactor.clean(str(error)))
    else:
        rest = wait_for_budget(answer.header, datetime.now(UTC))
        if 200 <= answer.status < 300:
            return Report(Delivered(), answer.status, exchange=brief(body, timings), rest=rest)
        if answer.header("retry-after") is not None:
            rest = None
        report = Report(outcome_of(answer), answer.status, _detail(answer, receiver), rest=rest)
    exchange = full("POST", receiver.url, headers, body, timings, answer, receiver.redactor)
    return replace(report, exchange=exchange)


def _unanswered(error: GuardedHttpError) -> Outcome:
    match error:
        case NotSentError():
            return Transient()
        case NoAnswerError():
            return Ambiguous()
        case _:
            return Misconfigured()


def outcome_of(answer: HttpAnswer) -> Outcome:
    """Say what an answer that is no 2xx means."""
    match answer.status:
        case 410:
            return Gone()
        case 413 | 414 | 431:
            return Invalid()
        case 429:
            return RateLimited(_retry_after(answer) or _budget(answer))
        case 502 | 503 | 504:
            wait = _retry_after(answer)
            return Transient() if wait is None else RateLimited(wait)
        case status if 300 <= status < 400:
            return Transient()
        case _:
            return Transient(_retry_after(answer))


def _retry_after(answer: HttpAnswer) -> timedelta | None:
    return parse_retry_after(answer.header("retry-after"), answer.header("date"), datetime.now(UTC))


def _budget(answer: HttpAnswer) -> timedelta | None:
    return wait_for_budget(answer.header, datetime.now(UTC), refused=True)


def _detail(answer: HttpAnswer, receiver: Receiver) -> str:
    clean = receiver.redactor.clean
    if 300 <= answer.status < 400:
        target = clean(_place(answer.header("location")), limit=300)
        return f"Redirects are not followed; this one pointed to {target}. Change the connection's url if it moved."
    return clean(answer.body, cut=not answer.complete)


def _place(location: str | None) -> str:
    """Write where a redirect points, without the parts of an address that hold secrets."""
    if location is None:
        return "no address"
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable address"
    authority = f"{parts.scheme}://{host}{f':{port}' if port else ''}" if host else ""
    return authority + parts.path or "no address"

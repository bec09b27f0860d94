"""Asking a receiver whether it wants our events, before it gets the first one.

CloudEvents' HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4: an OPTIONS request names who wants to send and how
many requests a minute; permission is what the headers of the answer say, whatever its status. Every delivery then names
the same origin. Permission by a callback is not waited for.

A receiver is asked once for as long as its connector is open and its credentials are the same. Deliveries that wait for
the answer share it; without permission the next delivery, a probe, asks again. Nothing of an event has been sent by
then, so what goes wrong on the way is never ambiguous.

The rate that is allowed is a ceiling beside the connection's own: when requests have gone ahead of it by more than a
second, the connection rests until it has caught up, by the way on which budgets in answers do
(`connectors.rate_limits`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Final

from connectors.errors import GuardedHttpError, NoAnswerError, NotSentError
from connectors.http import GuardedHttp, HttpAnswer, Timings
from connectors.recording import full
from connectors.webhook.client import outcome_of
from connectors.webhook.settings import Receiver
from contracts.delivery_spec import DeliverySpec
from contracts.outcomes import Misconfigured, Outcome, Report, Transient
from contracts.webhook_spec import WebhookHandshake

AHEAD_SECONDS: Final = 1.0

_MOMENTARY: Final = frozenset({408, 410, 429})
"""Answers that mean for the question what they mean for a delivery, as those from 500 on do."""


class Handshake:
    """Asks one connection's receiver, and keeps to what it allows."""

    def __init__(
        self,
        settings: WebhookHandshake,
        delivery: DeliverySpec,
        http: GuardedHttp,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.header = ("WebHook-Request-Origin", settings.origin)
        self._origin = settings.origin
        self._time_limit = delivery.timeout
        self._wanted = delivery.throttle.requests_per_second
        self._http = http
        self._clock = clock
        self._permitted: Receiver | None = None
        self._asked: Receiver | None = None
        self._asking: asyncio.Task[Report | None] | None = None
        self._interval = 0.0
        self._free_at = 0.0

    async def ask(self, receiver: Receiver) -> Report | None:
        """Make sure of the receiver's permission; return why it cannot be sent to, or None if it can."""
        if self._permitted is receiver:
            return None
        if self._asking is None or self._asking.done() or self._asked is not receiver:
            self._asked = receiver
            self._asking = asyncio.create_task(self._ask(receiver))
        return await asyncio.shield(self._asking)

    def count(self) -> None:
        """Note that a request is sent."""
        self._free_at = max(self._free_at, self._clock()) + self._interval

    def slow_down(self, report: Report) -> Report:
        """Have the connection rest if its requests have gone ahead of the rate that is allowed."""
        ahead = self._free_at - self._clock()
        if ahead <= AHEAD_SECONDS:
            return report
        return replace(report, rest=max(report.rest or timedelta(), timedelta(seconds=ahead)))

    async def _ask(self, receiver: Receiver) -> Report | None:
        rate = str(max(1, int(self._wanted * 60)))
        headers = [self.header, ("WebHook-Request-Rate", rate), *receiver.headers]
        timings, answer = Timings(), None
        try:
            answer = await self._http.request(
                "OPTIONS", receiver.url, headers, None, self._time_limit, receiver.ca, timings=timings
            )
        except GuardedHttpError as error:
            outcome: Outcome = Transient() if isinstance(error, NotSentError | NoAnswerError) else Misconfigured()
            why = f"the receiver could not be asked for permission: {error}"
        else:
            if _allows(answer, self._origin):
                self._permitted = receiver
                self._interval = _interval(answer.header("webhook-allowed-rate"), self._wanted)
                return None
            outcome, why = self._refusal(answer)
        exchange = full("OPTIONS", receiver.url, headers, b"", timings, answer, receiver.redactor)
        return Report(outcome, detail=receiver.redactor.clean(why), exchange=exchange)

    def _refusal(self, answer: HttpAnswer) -> tuple[Outcome, str]:
        if answer.status >= 500 or answer.status in _MOMENTARY:
            return outcome_of(answer), (
                f"the receiver did not say whether it allows events from {self._origin}: it answered OPTIONS with"
                f" HTTP {answer.status}"
            )
        allowed = answer.header("webhook-allowed-origin")
        found = "no WebHook-Allowed-Origin" if allowed is None else f"WebHook-Allowed-Origin: {allowed[:253]}"
        return Misconfigured(), (
            f"the receiver does not allow events from {self._origin}: it answered OPTIONS with HTTP {answer.status} and"
            f" {found}; have it allow this origin, or leave out spec.webhook.handshake if it does not know handshakes"
        )


def _allows(answer: HttpAnswer, origin: str) -> bool:
    allowed = answer.header("webhook-allowed-origin")
    return allowed is not None and allowed.lower() in ("*", origin)


def _interval(allowed_a_minute: str | None, wanted_a_second: float) -> float:
    """Return the seconds between requests; zero if the connection's own throttle is lower, or no number is given."""
    text = allowed_a_minute or ""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        return 0.0
    a_second = int(text) / 60
    return 1 / a_second if a_second < wanted_a_second else 0.0

"""What HubSpot says of each input of a batch.

A 207 holds results and errors in no promised order; they are told apart by the trace that we gave each input. A 400 is
about all of them: one at fault fails them all, so they are sent again in smaller batches, and alone it is invalid.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from connectors.api_client import ApiAnswer
from connectors.hubspot.client import LOCKED_SECONDS, HubSpotClient
from contracts.outcomes import Invalid, Locked, NotFound, Outcome, Report, TooManyAtOnce, Transient


class Written(NamedTuple):
    """A record that was written, by HubSpot's id."""

    remote: str


def read_results(client: HubSpotClient, answer: ApiAnswer, inputs: int, kind: str) -> dict[int, Written | Report]:
    """Return what became of each input, by its trace, which is its position."""
    if answer.status == 400:
        return dict.fromkeys(range(inputs), _refused(client, answer, inputs))
    document = answer.document if isinstance(answer.document, Mapping) else {}
    found: dict[int, Written | Report] = {}
    for result in document.get("results") or ():
        for trace in _traces(result.get("objectWriteTraceId"), inputs):
            found[trace] = Written(str(result["id"]))
    for error in document.get("errors") or ():
        context = error.get("context") or {}
        report = answer.report(_outcome(error), _words(error, kind))
        for trace in _traces(context.get("objectWriteTraceId"), inputs):
            found[trace] = report
    unsaid = answer.report(Transient(), "HubSpot said nothing of this input of the batch")
    return {trace: found.get(trace, unsaid) for trace in range(inputs)}


def _refused(client: HubSpotClient, answer: ApiAnswer, inputs: int) -> Report:
    return client.report(answer) if inputs == 1 else answer.report(TooManyAtOnce())


def _outcome(error: Mapping[str, Any]) -> Outcome:
    match error.get("category"):
        case "OBJECT_NOT_FOUND" | "NOT_FOUND":
            return NotFound()
        case "LOCKED":
            return Locked(timedelta(seconds=LOCKED_SECONDS))
        case "VALIDATION_ERROR" | "CONFLICT" | "OBJECT_ALREADY_EXISTS":
            return Invalid()
        case _:
            return Transient()


def _words(error: Mapping[str, Any], kind: str) -> str:
    """Say what was wrong: codes and properties, and not the values, which are a customer's."""
    problems = [
        f"{each.get('code', 'refused')} {', '.join(map(str, (each.get('context') or {}).get('propertyName', ())))}"
        for each in error.get("errors") or ()
    ]
    return f"{kind}: {error.get('category', 'error')}: {'; '.join(problems) or 'no more is said'}".strip()


def _traces(value: Any, inputs: int) -> list[int]:
    texts = value if isinstance(value, list) else [value]
    return [int(text) for text in texts if isinstance(text, str) and text.isdecimal() and int(text) < inputs]

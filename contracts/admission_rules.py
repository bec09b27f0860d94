"""What the API server checks with CEL, so that it refuses what the models refuse.

JSON Schema says types, bounds and choices; everything else that a validator of the models says is said here again,
in CEL and with the same words. Notations are checked here too and not with `pattern`: the server repeats a value that
does not match a pattern, which may be a credential in the wrong place, and tells the person a regular expression.
"""

import json
from typing import Any, Final

from contracts.connection import Isolation, Provider, ReplicasSpec
from contracts.delivery_spec import OnDeadLetter, Ordering, RetrySpec
from contracts.documents import SPEC
from contracts.durations import DURATION_PATTERN, format_duration
from contracts.replay import (
    CAUSE_NEEDS_LETTERS,
    FIXED_FIELDS,
    JOBS_STAND_ALONE,
    LETTERS_HAVE_NO_EVENTS,
    MEANINGS,
    SELECTS_NOTHING,
    SINCE_IS_BEFORE_UNTIL,
    TIME,
)
from contracts.spec_values import ADDRESS_RULES, NOT_AN_IPV6_ADDRESS
from contracts.webhook_batch import BATCH_NEEDS_CLOUD_EVENTS
from contracts.webhook_spec import RESERVED_HEADER_PREFIXES, RESERVED_HEADERS, WebhookFormat

Rule = dict[str, Any]
"""An entry of `x-kubernetes-validations`."""


def _rule(expression: str, message: str, **more: str) -> Rule:
    return {"rule": expression, "message": message} | more


def _text(value: str) -> str:
    """Write a CEL string: JSON's escapes are CEL's too."""
    return json.dumps(value)


def notation(pattern: str) -> Rule:
    """Check that text matches `pattern`, and tell what it means."""
    # A notation does not know how many days a month has: reading the time fails where there is no such day.
    exists = " && timestamp(self) == timestamp(self)" if pattern == TIME else ""
    return _rule(f"self.matches({_text(pattern)}){exists}", f"allowed: {MEANINGS.get(pattern, pattern)}")


def duration_between(minimum: str, maximum: str) -> Rule:
    """Check notation and bounds of a duration."""
    return _rule(
        f"self.matches({_text(DURATION_PATTERN)}) "
        f"&& duration(self) >= duration({_text(minimum)}) && duration(self) <= duration({_text(maximum)})",
        f"a duration from {minimum} to {maximum} is allowed here: one to four numbers with a unit of h, m, s or ms, "
        "such as 15s, 1h30m or 250ms",
    )


def smallest(minimum: float) -> Rule:
    """Check the smallest number again: the server cuts off the bound's fraction where a whole number is written."""
    return _rule(f"self >= {float(minimum)}", f"the smallest allowed is {minimum}")


def _immutable(field: str) -> Rule:
    return _rule("self == oldSelf", f"{field} is immutable; delete this connection and create another one to change it")


def _exactly_one(first: str, second: str) -> Rule:
    return _rule(f"has(self.{first}) != has(self.{second})", f"exactly one of {first} and {second} must be given")


def _blocks() -> Rule:
    checks = (f"has(self.{provider.lower()}) == (self.provider == {_text(provider)})" for provider in Provider)
    return _rule(
        " && ".join(checks),
        "exactly the block that provider names must be given",
        messageExpression="'provider is ' + self.provider + ', so the block ' + self.provider.lowerAscii() "
        "+ ' must be given, and no block of another provider'",
    )


def _isolation_stays() -> Rule:
    isolation = (
        f"has({{0}}.workers) && has({{0}}.workers.isolation) ? {{0}}.workers.isolation : {_text(Isolation.TENANT)}"
    )
    return _rule(
        f"({isolation.format('self')}) == ({isolation.format('oldSelf')})",
        "workers.isolation is immutable; delete this connection and create another one to move it to other workers",
    )


def _delays_grow() -> Rule:
    defaults = RetrySpec()
    initial = f"has(self.initialDelay) ? self.initialDelay : {_text(format_duration(defaults.initial_delay))}"
    longest = f"has(self.maxDelay) ? self.maxDelay : {_text(format_duration(defaults.max_delay))}"
    return _rule(
        f"[{initial}, {longest}].exists(delay, !delay.matches({_text(DURATION_PATTERN)})) "
        f"|| duration({initial}) <= duration({longest})",
        "initialDelay must not be longer than maxDelay",
    )


def _subjects_are_ordered() -> Rule:
    wants_order = (
        "(has(self.collapse) && self.collapse) || "
        f"(has(self.onDeadLetter) && self.onDeadLetter == {_text(OnDeadLetter.BLOCK)})"
    )
    return _rule(
        f"!(has(self.ordering) && self.ordering == {_text(Ordering.UNORDERED)}) || !({wants_order})",
        "collapse and onDeadLetter: Block need ordering: PerSubject; this route is Unordered",
    )


def _min_is_not_above_max() -> Rule:
    defaults = ReplicasSpec()
    return _rule(
        f"(has(self.min) ? self.min : {defaults.min}) <= (has(self.max) ? self.max : {defaults.max})",
        f"min must not be larger than max, which is {defaults.max} if left out; lower min or raise max",
    )


def _batches_are_cloud_events() -> Rule:
    return _rule(
        f"!has(self.batch) || (has(self.format) && self.format == {_text(WebhookFormat.CLOUD_EVENTS)})",
        BATCH_NEEDS_CLOUD_EVENTS,
    )


def _header_is_free() -> Rule:
    beginnings = "".join(f" && !self.lowerAscii().startsWith({_text(prefix)})" for prefix in RESERVED_HEADER_PREFIXES)
    return _rule(
        f"!(self.lowerAscii() in {json.dumps(sorted(RESERVED_HEADERS))}){beginnings}",
        "this header is set by the delivery itself and cannot be chosen; leave it out",
    )


def _address() -> tuple[Rule, ...]:
    bracketed = _text(r"^https?://([^/?#]*@)?\[")
    return (
        *(_rule(f"self.matches({_text(pattern)})", message) for pattern, message in ADDRESS_RULES),
        _rule(
            f"!self.matches({bracketed}) || isIP(self.find({_text('[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*')}))",
            NOT_AN_IPV6_ADDRESS,
        ),
    )


def _selection() -> tuple[Rule, ...]:
    letters = "has(self.deadLetters) && self.deadLetters"
    others = "has(self.types) || has(self.since) || has(self.until) || has(self.events) || has(self.cause)"
    times = " && ".join(f"self.{field}.matches({_text(TIME)})" for field in ("since", "until"))
    return (
        _rule(f"has(self.jobs) || {letters} || {others}", SELECTS_NOTHING),
        _rule(f"!has(self.jobs) || !({letters} || {others})", JOBS_STAND_ALONE),
        _rule(f"!({letters}) || !has(self.events)", LETTERS_HAVE_NO_EVENTS),
        _rule(f"!has(self.cause) || ({letters})", CAUSE_NEEDS_LETTERS),
        _rule(
            f"!has(self.since) || !has(self.until) || !({times}) || timestamp(self.since) < timestamp(self.until)",
            SINCE_IS_BEFORE_UNTIL,
        ),
    )


def _stays_as_written(field: str) -> Rule:
    return _rule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} cannot be changed: a replay is asked for once; create another one",
    )


def _cancelled_for_good() -> Rule:
    return _rule(
        "!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)",
        "a cancelled replay stays cancelled; create another one",
    )


OBJECT_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    SPEC: (_blocks(), _isolation_stays()),
    "HeaderEntry": (_exactly_one("value", "valueFrom"),),
    "HubSpotAuth": (_exactly_one("oauth", "privateApp"),),
    "PipedriveAuth": (_exactly_one("oauth", "apiToken"),),
    "RetrySpec": (_delays_grow(),),
    "RouteSpec": (_subjects_are_ordered(),),
    "ReplicasSpec": (_min_is_not_above_max(),),
    "WebhookSettings": (_batches_are_cloud_events(),),
    "ReplaySelection": _selection(),
    "ReplaySpec": (*map(_stays_as_written, FIXED_FIELDS), _cancelled_for_good()),
}
"""Rules over several fields of an object, by its title."""

FIELD_RULES: Final[dict[tuple[str, str], tuple[Rule, ...]]] = {
    (SPEC, "tenant"): (_immutable("tenant"),),
    (SPEC, "provider"): (_immutable("provider"),),
    ("HeaderEntry", "name"): (_header_is_free(),),
    ("HubSpotSettings", "apiUrl"): _address(),
    ("OAuth", "serverUrl"): _address(),
    ("PipedriveSettings", "apiUrl"): _address(),
    ("WebhookSettings", "url"): _address(),
    ("WebhookSettings", "headers"): (
        _rule(
            "self.all(header, self.exists_one(other, header.name.lowerAscii() == other.name.lowerAscii()))",
            "each header name may occur only once, in upper or lower case",
        ),
    ),
}
"""Rules over one field, by its object's title and its name."""

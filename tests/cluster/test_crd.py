"""The API server refuses what the models refuse, and shows people what they need."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.connection import parse_connection_spec
from contracts.errors import InvalidSpecError
from contracts.webhook_spec import RESERVED_HEADERS

Document = dict[str, Any]
Kubectl = Callable[..., str]
Change = Callable[[Document], None]

pytestmark = pytest.mark.usefixtures("crds")

API = "/apis/integrations.queast.io/v1alpha1"
REFUSED = (400, 422)
TOKEN = {"name": "crm", "key": "token"}
OAUTH = {"secretRef": {"name": "crm"}}


def webhook_spec() -> Document:
    return {
        "tenant": "acme",
        "provider": "Webhook",
        "webhook": {
            "url": "https://hooks.example.com/in",
            "signing": {"secretsFrom": [{"name": "hooks", "key": "current"}]},
        },
        "routes": [{"name": "all", "events": ["*"]}],
    }


def crm_spec(provider: str, auth: Document, **settings: Any) -> Document:
    spec = webhook_spec() | {"provider": provider, provider.lower(): {"auth": auth, **settings}}
    del spec["webhook"]
    return spec


def plugin_spec(**plugin: Any) -> Document:
    spec = webhook_spec() | {"provider": "Plugin", "plugin": {"connector": "Acme", **plugin}}
    del spec["webhook"]
    return spec


def changed(path: str, value: Any) -> Document:
    """Return a good spec with one place changed; Ellipsis removes it."""
    spec = webhook_spec()
    place: Any = spec
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return spec


def fields(*names: str, value: str = "event.data.name") -> list[Document]:
    return [{"property": name, "value": value} for name in names]


def header(**entry: Any) -> Document:
    return changed("webhook.headers", [{"name": "X-Plain"} | entry])


def batch(content_format: Any = "CloudEvents", **fields: Any) -> Document:
    spec = changed("webhook.format", content_format)
    spec["webhook"]["batch"] = fields
    return spec


def resource(spec: Document, name: str = "crm") -> Document:
    return {
        "apiVersion": "integrations.queast.io/v1alpha1",
        "kind": "IntegrationConnection",
        "metadata": {"name": name},
        "spec": spec,
    }


def try_create(api: httpx.Client, spec: Document) -> httpx.Response:
    """Ask the server whether it would take a connection, unknown fields included."""
    return api.post(
        f"{API}/namespaces/default/integrationconnections",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        json=resource(spec),
    )


def models_accept(spec: Document) -> bool:
    try:
        parse_connection_spec(spec)
    except InvalidSpecError:
        return False
    return True


def server_accepts(api: httpx.Client, spec: Document) -> bool:
    answer = try_create(api, spec)
    assert answer.status_code in (201, *REFUSED), answer.text
    return answer.status_code == 201


def create(api: httpx.Client, namespace: str, spec: Document, name: str = "crm") -> Document:
    answer = api.post(f"{API}/namespaces/{namespace}/integrationconnections", json=resource(spec, name))
    assert answer.status_code == 201, answer.text
    created: Document = answer.json()
    return created


def largest_spec() -> Document:
    """Return a spec with as much of everything as is allowed: its rules cost most."""
    reference = {"name": "n" * 253, "key": "k" * 253}
    spec = webhook_spec()
    spec["tenant"] = "t" * 63
    spec["webhook"] = {
        "format": "CloudEvents",
        "batch": {"maxItems": 1_000, "maxBytes": 4_000_000, "maxDelay": "00000h00000m10s"},
        "url": "https://" + "h" * 2000 + ":65535/" + "p" * 33,
        "signing": {"secretsFrom": [reference] * 10},
        "headers": [{"name": f"{number:02}".ljust(128, "n"), "value": "v" * 4096} for number in range(32)],
        "tls": {"caFrom": reference},
        "handshake": {"origin": "o" * 253},
    }
    spec["routes"] = [
        {
            "name": f"{number:02}".ljust(63, "n"),
            "events": ["e." * 63 + "*"] * 32,
            "filter": "f" * 2048,
            "action": "A" * 63,
        }
        for number in range(32)
    ]
    longest = "00167h00059m00059s"
    spec["delivery"] = {
        "timeout": "00001m00001s",
        "retry": {"initialDelay": "1h", "maxDelay": longest, "schedule": [longest] * 32, "expireAfter": longest},
        "quarantine": {"failureRate": {"window": "00023h00059m00059s"}, "ramp": {"duration": "00023h00059m00059s"}},
        "throttle": {"scope": "s" * 63, "dailyBudget": {"limit": 10**9, "resetZone": "Z" * 31 + "/" + "Z" * 32}},
    }
    return spec


ACCEPTED: dict[str, Document] = {
    "the smallest": webhook_spec(),
    "the largest": largest_spec(),
    "a plug-in": plugin_spec(),
    "a plug-in with settings of its own": plugin_spec(
        settings={"url": "https://acme.example", "deep": [{"er": [1.5, None, True]}]},
        secretsFrom=[{"name": "t", "secret": {"name": "s", "key": "k"}}],
    ),
    "HubSpot with OAuth": crm_spec("HubSpot", {"oauth": OAUTH}),
    "HubSpot with a token": crm_spec("HubSpot", {"privateApp": {"tokenFrom": TOKEN}}),
    "Pipedrive with OAuth": crm_spec("Pipedrive", {"oauth": OAUTH}),
    "Pipedrive with a token": crm_spec("Pipedrive", {"apiToken": {"tokenFrom": TOKEN}}),
    "HubSpot at another address": crm_spec(
        "HubSpot", {"privateApp": {"tokenFrom": TOKEN}}, apiUrl="http://127.0.0.1:8081/x", apiVersion="2026-09"
    ),
    "Pipedrive at another address": crm_spec(
        "Pipedrive", {"apiToken": {"tokenFrom": TOKEN}}, apiUrl="https://acme.pipedrive.example"
    ),
    "fields": changed("routes.0.fields", fields("name", "Our Score", value="v" * 2048)),
    "a hundred fields": changed("routes.0.fields", fields(*(f"{number:03}".ljust(128, "p") for number in range(100)))),
    "suspended": changed("suspend", True),
    "a header with a value": header(value="a b"),
    "a header with a reference": header(valueFrom=TOKEN),
    "a header that only begins like a reserved one": header(name="Hostess", value="x"),
    "two headers": changed("webhook.headers", [{"name": "a", "value": "x"}, {"name": "b", "value": "x"}]),
    "own certificates": changed("webhook.tls", {"caFrom": {"name": "ca", "key": "ca.crt"}}),
    "public certificates": changed("webhook.tls", {}),
    "a batch": batch(),
    "a batch of one": batch(maxItems=1),
    "the largest batch": batch(maxItems=1_000, maxBytes=4_000_000, maxDelay="10s"),
    "a batch that waits for nothing": batch(maxBytes=1_000, maxDelay="0s"),
    "a handshake": changed("webhook.handshake", {"origin": "events.example.com"}),
    "a type": changed("routes.0.events", ["company.updated"]),
    "a prefix": changed("routes.0.events", ["company.*"]),
    "a type twice": changed("routes.0.events", ["a.b", "a.b"]),
    "two routes": changed("routes", [{"name": "a", "events": ["*"]}, {"name": "b", "events": ["*"]}]),
    "a filter": changed("routes.0.filter", "event.data.employees > 50"),
    "an action": changed("routes.0.action", "UpsertCompany"),
    "unordered": changed("routes.0.ordering", "Unordered"),
    "collapsing and blocking": changed(
        "routes", [{"name": "a", "events": ["*"], "collapse": True, "onDeadLetter": "Block"}]
    ),
    "a schedule": changed("delivery.retry", {"schedule": ["5s", "5m", "1h"], "expireAfter": "24h"}),
    "a rate of failures": changed("delivery.quarantine", {"failureRate": {"percent": 20}, "ramp": {"successes": 5}}),
    "a secret twice": changed("webhook.signing.secretsFrom", [TOKEN, TOKEN]),
    "equal delays": changed("delivery.retry", {"initialDelay": "1h", "maxDelay": "60m"}),
    "an early longest delay": changed("delivery.retry.maxDelay", "5s"),
    "bounds of replicas": changed("workers.replicas", {"min": 50, "max": 50}),
    "an own pool": changed("workers.isolation", "Connection"),
    "no replicas": changed("workers.replicas.min", 0),
    "a whole rate": changed("delivery.throttle.requestsPerSecond", 9),
    "a slow rate": changed("delivery.throttle.requestsPerSecond", 0.001),
    "a scope": changed("delivery.throttle.scope", "hubspot-4711"),
    **{
        f"a budget of days in {zone}": changed("delivery.throttle.dailyBudget", {"limit": 1, "resetZone": zone})
        for zone in ("UTC", "Europe/Berlin", "America/Port-au-Prince", "America/Argentina/Buenos_Aires", "Etc/GMT+12")
    },
    **{f"deletion policy {policy}": changed("deletionPolicy", policy) for policy in ("Drain", "Delete", "Orphan")},
    **{f"format {name}": changed("webhook.format", name) for name in ("Standard", "CloudEvents", "CloudEventsBinary")},
    **{
        f"{path} {value}": changed(path, value)
        for path, values in {
            "drainTimeout": ("1s", "24h"),
            "delivery.timeout": ("100ms", "120s", "1m59s"),
            "delivery.retry.initialDelay": ("100ms", "1h"),
            "delivery.retry.maxDelay": ("168h",),
            "delivery.retry.retryAfterMax": ("1s", "168h"),
            "delivery.quarantine.probeInterval": ("1s", "24h"),
            "delivery.quarantine.consecutiveFailures": (1, 10_000),
            "delivery.retry.maxAttempts": (1, 100),
            "delivery.throttle.burst": (1, 100_000),
            "delivery.throttle.concurrency": (1, 1_000),
        }.items()
        for value in values
    },
    **{
        f"address {url}": changed("webhook.url", url)
        for url in (
            "https://hooks.example.com/in?a=b%20c",
            "http://localhost:8080",
            "https://xn--bcher-kva.example/",
            "https://[::1]:8443/x",
            "https://[::1]?x=[y]@z:",
            "https://example.com:00443/@",
        )
    },
}

# What is refused, and a part of what the person is told.
REFUSALS: dict[str, tuple[Document, str]] = {
    "no tenant": (changed("tenant", ...), "spec.tenant: Required"),
    "no provider": (changed("provider", ...), "spec.provider: Required"),
    "no routes": (changed("routes", ...), "spec.routes: Required"),
    "a field twice": (changed("routes.0.fields", fields("name", "name")), "Duplicate value"),
    "a field without a value": (changed("routes.0.fields", [{"property": "name"}]), "value: Required"),
    "a field without a name": (changed("routes.0.fields", fields("")), "routes[0].fields[0].property"),
    "a long field": (changed("routes.0.fields", fields("name", value="v" * 2049)), "Too long"),
    "too many fields": (changed("routes.0.fields", fields(*map(str, range(101)))), "must have at most 100 items"),
    "HubSpot of another version": (crm_spec("HubSpot", {"oauth": OAUTH}, apiVersion="v3"), "Unsupported value"),
    "HubSpot at an address with a password": (
        crm_spec("HubSpot", {"oauth": OAUTH}, apiUrl="https://me:secret@api.example"),
        "must not hold a user name or password",
    ),
    "a plug-in without a connector": (plugin_spec(connector="acme"), "spec.plugin.connector"),
    "a plug-in with settings that are none": (plugin_spec(settings="all"), "spec.plugin.settings"),
    "a plug-in's secret twice": (
        plugin_spec(secretsFrom=[{"name": "t", "secret": {"name": "s", "key": "k"}}] * 2),
        "Duplicate value",
    ),
    "an OAuth server with a password": (
        crm_spec("HubSpot", {"oauth": {**OAUTH, "serverUrl": "https://me:secret@oauth.example"}}),
        "must not hold a user name or password",
    ),
    "an empty list of routes": (changed("routes", []), "spec.routes"),
    "a malformed tenant": (changed("tenant", "Acme"), "allowed: lower-case letters"),
    "a long tenant": (changed("tenant", "t" * 64), "Too long"),
    "an unknown provider": (changed("provider", "Salesforce"), "Unsupported value"),
    "no block": (changed("webhook", ...), "so the block webhook must be given"),
    "another provider's block": (changed("provider", "HubSpot"), "so the block hubspot must be given"),
    "two blocks": (changed("hubspot", {"auth": {"oauth": OAUTH}}), "no block of another provider"),
    "an unknown field": (changed("deletionpolicy", "Drain"), 'unknown field \\"spec.deletionpolicy\\"'),
    "an unknown policy": (changed("deletionPolicy", "Keep"), "Unsupported value"),
    "an unknown format": (changed("webhook.format", "XML"), "Unsupported value"),
    "a batch of no format": (changed("webhook.batch", {}), "batch needs format: CloudEvents"),
    **{
        f"a batch of {name}": (batch(name, maxItems=5), "batch needs format: CloudEvents")
        for name in ("Standard", "CloudEventsBinary")
    },
    **{
        f"a batch with {name} {value}": (batch(**{name: value}), f"spec.webhook.batch.{name}")
        for name, values in {"maxItems": (0, 1_001), "maxBytes": (999, 4_000_001)}.items()
        for value in values
    },
    **{
        f"a batch with a delay of {value}": (batch(maxDelay=value), "a duration from 0s to 10s is allowed here")
        for value in ("10001ms", "-1s", "5")
    },
    "an unknown isolation": (changed("workers.isolation", "None"), "Unsupported value"),
    "an unknown ordering": (changed("routes.0.ordering", "Any"), "Unsupported value"),
    "text for a boolean": (changed("suspend", "yes"), "must be of type boolean"),
    "text for a number": (changed("delivery.throttle.burst", "5"), "must be of type integer"),
    "a fraction": (changed("delivery.throttle.burst", 5.5), "must be of type integer"),
    "no rate": (changed("delivery.throttle.requestsPerSecond", 0), "the smallest allowed is 0.001"),
    "a malformed scope": (changed("delivery.throttle.scope", "HubSpot"), "allowed: lower-case letters"),
    "a long scope": (changed("delivery.throttle.scope", "s" * 64), "Too long"),
    "a budget without a zone": (changed("delivery.throttle.dailyBudget", {"limit": 1}), "resetZone: Required"),
    "a budget without a limit": (changed("delivery.throttle.dailyBudget", {"resetZone": "UTC"}), "limit: Required"),
    **{
        f"a budget of days in {zone!r}": (
            changed("delivery.throttle.dailyBudget", {"limit": 1, "resetZone": zone}),
            "a time zone such as Europe/Berlin",
        )
        for zone in ("europe/berlin", "Berlin", "CEST-2", "Europe/Berlin2", "+02:00")
    },
    "no way to prove": (crm_spec("HubSpot", {}), "exactly one of oauth and privateApp"),
    "two ways to prove": (
        crm_spec("Pipedrive", {"oauth": OAUTH, "apiToken": {"tokenFrom": TOKEN}}),
        "exactly one of oauth and apiToken",
    ),
    "a malformed secret name": (changed("webhook.signing.secretsFrom.0.name", "A"), "allowed: lower-case"),
    "a malformed origin": (changed("webhook.handshake", {"origin": "https://x"}), "allowed: lower-case"),
    "no secrets": (changed("webhook.signing.secretsFrom", []), "spec.webhook.signing.secretsFrom"),
    "eleven secrets": (changed("webhook.signing.secretsFrom", [TOKEN] * 11), "Too many"),
    "a header without a value": (header(), "exactly one of value and valueFrom"),
    "a header with two values": (header(value="x", valueFrom=TOKEN), "exactly one of value and valueFrom"),
    "a malformed header name": (header(name="a b", value="x"), "allowed: an HTTP header name"),
    "a header twice": (
        changed("webhook.headers", [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}]),
        "each header name may occur only once",
    ),
    "a route twice": (changed("routes", [{"name": "a", "events": ["*"]}] * 2), "Duplicate value"),
    "33 routes": (changed("routes", [{"name": f"r{n}", "events": ["*"]} for n in range(33)]), "Too many"),
    "a malformed route name": (changed("routes.0.name", "A"), "allowed: lower-case"),
    "a malformed type": (changed("routes.0.events", ["company"]), "allowed: an event type such as"),
    "no types": (changed("routes.0.events", []), "spec.routes[0].events"),
    "an empty filter": (changed("routes.0.filter", ""), "spec.routes[0].filter"),
    "a malformed action": (changed("routes.0.action", "upsert"), "allowed: a name such as UpsertCompany"),
    "shrinking delays": (
        changed("delivery.retry", {"initialDelay": "1h", "maxDelay": "5s"}),
        "initialDelay must not be longer than maxDelay",
    ),
    "collapsing without order": (
        changed("routes", [{"name": "a", "events": ["*"], "ordering": "Unordered", "collapse": True}]),
        "need ordering: PerSubject",
    ),
    "blocking without order": (
        changed("routes", [{"name": "a", "events": ["*"], "ordering": "Unordered", "onDeadLetter": "Block"}]),
        "need ordering: PerSubject",
    ),
    "an empty schedule": (changed("delivery.retry", {"schedule": []}), "spec.delivery.retry.schedule"),
    "a malformed delay in a schedule": (
        changed("delivery.retry", {"schedule": ["soon"]}),
        "such as 15s, 1h30m or 250ms",
    ),
    "a longest delay below the first": (changed("delivery.retry.maxDelay", "4s"), "initialDelay must not be longer"),
    "min above max": (changed("workers.replicas", {"min": 2, "max": 1}), "min must not be larger than max"),
    "min above max's default": (changed("workers.replicas", {"min": 5}), "min must not be larger than max"),
    "51 replicas": (changed("workers.replicas", {"max": 51}), "less than or equal to 50"),
    **{
        f"reserved header {name}": (header(name=name, value="x"), "is set by the delivery itself")
        for name in (*sorted(RESERVED_HEADERS), "HOST", "Webhook-Id", "ce-type")
    },
    **{
        f"{path} {value}": (changed(path, value), f"a duration from {bounds} is allowed here")
        for path, bounds, values in (
            ("drainTimeout", "1s to 24h", ("999ms", "25h", "10", "-1s", "1.5h", "1d", "")),
            ("delivery.timeout", "100ms to 120s", ("99ms", "121s", "1h1m1s1ms1h")),
            ("delivery.retry.initialDelay", "100ms to 1h", ("99ms", "61m")),
            ("delivery.retry.maxDelay", "100ms to 168h", ("99ms", "169h")),
            ("delivery.retry.retryAfterMax", "1s to 168h", ("999ms", "169h")),
            ("delivery.quarantine.probeInterval", "1s to 24h", ("999ms", "25h")),
        )
        for value in values
    },
    **{
        f"{path} {value}": (changed(path, value), path)
        for path, values in {
            "delivery.quarantine.consecutiveFailures": (0, 10_001),
            "delivery.retry.maxAttempts": (0, 101),
            "delivery.throttle.burst": (0, 100_001),
            "delivery.throttle.concurrency": (0, 1_001),
            "delivery.throttle.dailyBudget": tuple(
                {"limit": limit, "resetZone": "UTC"} for limit in (0, 1_000_000_001)
            ),
            "workers.replicas.min": (-1,),
        }.items()
        for value in values
    },
}

# Values that may be credentials in the wrong place: what is told about them must not repeat them.
CONFIDENTIAL: dict[str, tuple[Document, str]] = {
    "a malformed key": (changed("webhook.signing.secretsFrom.0.key", "hunter2/+="), "allowed: letters, digits"),
    "a malformed header value": (header(value="hunter2\n"), "allowed: printable ASCII"),
    **{
        f"address {url}": (changed("webhook.url", url), message)
        for url, message in {
            "ftp://hunter2.example/": "begins with http:// or https://",
            "/hunter2": "begins with http:// or https://",
            "https://bücher.example/hunter2": "international names as xn--",
            "https://example.com/hunter2 b": "percent-encoded",
            "https://example.com/hunter2\n": "percent-encoded",
            "https:///hunter2": "needs a host name",
            "https://-hunter2.example/": "needs a host name",
            "https://user:hunter2@example.com/": "must not hold a user name or password",
            "https://hunter2@example.com/": "must not hold a user name or password",
            "https://example.com/#hunter2": "must not have a fragment",
            "https://hunter2.example:0/": "from 1 to 65535",
            "https://hunter2.example:/": "from 1 to 65535",
            "https://hunter2.example:65536/": "from 1 to 65535",
            "https://[::1/hunter2": "needs a host name",
            "https://[::1]hunter2/": "needs a host name",
            "https://[a:1]/hunter2::1": "needs a host name",
            "https://[:::]/hunter2": "must be an IPv6 address",
            "https://[::ffff:127.0.0.1]/hunter2": "must be an IPv6 address",
            "https://example.com/hunter2" + "a" * 2048: "Too long",
        }.items()
    },
}


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_models_accept_is_accepted(api: httpx.Client, spec: Document) -> None:
    answer = try_create(api, spec)

    assert models_accept(spec)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("spec", "told"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_the_models_refuse_is_refused_and_explained(api: httpx.Client, spec: Document, told: str) -> None:
    answer = try_create(api, spec)

    assert not models_accept(spec)
    assert answer.status_code in REFUSED
    assert told in answer.text


@pytest.mark.parametrize(("spec", "told"), CONFIDENTIAL.values(), ids=range(len(CONFIDENTIAL)))
def test_what_may_be_a_credential_is_refused_without_being_repeated(
    api: httpx.Client, spec: Document, told: str
) -> None:
    answer = try_create(api, spec)

    assert not models_accept(spec)
    assert answer.status_code in REFUSED
    assert told in answer.json()["message"]
    assert "hunter2" not in answer.text


PIECES = st.sampled_from([*"[].-_@/?#%:01a", "::", "80", "ff", "%41", "65536", "v1", "127.0.0.1"])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_both_judge_any_address_alike(api: httpx.Client, rest: str) -> None:
    spec = changed("webhook.url", f"https://{rest}")

    assert server_accepts(api, spec) == models_accept(spec)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["1", "0", "99", "h", "m", "s", "ms", "-", ".", " "]), max_size=7).map("".join))
def test_both_judge_any_duration_alike(api: httpx.Client, text: str) -> None:
    spec = changed("drainTimeout", text)

    assert server_accepts(api, spec) == models_accept(spec)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.sampled_from(["value", "name"]))
def test_both_judge_any_header_alike(api: httpx.Client, text: str, field: str) -> None:
    spec = header(**({"value": "x"} | {field: text}))

    assert server_accepts(api, spec) == models_accept(spec)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "company", ".", "*", "-", "_", "9", "A"]), max_size=6).map("".join))
def test_both_judge_any_event_pattern_alike(api: httpx.Client, text: str) -> None:
    spec = changed("routes.0.events", [text])

    assert server_accepts(api, spec) == models_accept(spec)


def set_isolation(spec: Document) -> None:
    spec["workers"] = {"isolation": "Shared"}


def set_tenant(spec: Document) -> None:
    spec["tenant"] = "globex"


def set_provider(spec: Document) -> None:
    spec.update(crm_spec("HubSpot", {"oauth": OAUTH}))
    del spec["webhook"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_tenant, "tenant is immutable"),
        (set_provider, "provider is immutable"),
        (set_isolation, "workers.isolation is immutable"),
    ],
)
def test_what_is_immutable_cannot_be_changed(api: httpx.Client, namespace: str, change: Change, told: str) -> None:
    connection = create(api, namespace, webhook_spec())
    change(connection["spec"])
    answer = api.put(f"{API}/namespaces/{namespace}/integrationconnections/crm", json=connection)

    assert answer.status_code == 422
    assert told in answer.text


def test_what_is_mutable_can_be_changed(api: httpx.Client, namespace: str) -> None:
    connection = create(api, namespace, webhook_spec())
    # Writing the default of an immutable field down changes nothing.
    connection["spec"] |= {"suspend": True, "workers": {"isolation": "Tenant", "replicas": {"max": 2}}}
    answer = api.put(f"{API}/namespaces/{namespace}/integrationconnections/crm", json=connection)

    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"]["generation"] == 2


def test_what_is_stored_is_what_was_written(api: httpx.Client, namespace: str) -> None:
    spec = webhook_spec()
    created = create(api, namespace, deepcopy(spec))

    assert created["spec"] == spec
    assert created["status"] == {"observedGeneration": -1}


STATUS: Document = {
    "observedGeneration": 1,
    "state": "Quarantined",
    "pool": "acme/integrations-tenant-acme",
    "observedSecretHash": "0" * 64,
    "routingEpoch": 2**62,
    "effectiveThrottle": {"requestsPerSecond": 0.5, "burst": 1, "concurrency": 1},
    "quarantine": {"since": "2026-11-23T10:00:00Z", "reason": "401"},
    "drain": {"since": "2026-11-23T10:00:00Z", "deadline": "2026-11-23T10:10:00Z"},
    "lastHandledReconcileAt": "now",
    "lastHandledReleaseAt": "then",
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-23T10:00:00Z",
            "reason": "Quarantined",
            "message": "the partner answers 401; renew the token",
        }
    ],
}


def put_status(api: httpx.Client, namespace: str, status: Document) -> httpx.Response:
    return api.patch(
        f"{API}/namespaces/{namespace}/integrationconnections/crm/status",
        content=json.dumps({"status": status}),
        headers={"Content-Type": "application/merge-patch+json"},
    )


def test_a_status_with_everything_is_stored_as_it_is(api: httpx.Client, namespace: str) -> None:
    create(api, namespace, webhook_spec())
    answer = put_status(api, namespace, STATUS)

    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == STATUS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": "s" * 64}, "status.state"),
        ({"observedGeneration": -2}, "status.observedGeneration"),
        ({"quarantine": {"since": "yesterday", "reason": ""}}, "status.quarantine.since"),
        ({"quarantine": {"since": "2026-11-23T10:00:00Z", "reason": "r" * 1025}}, "status.quarantine.reason"),
        ({"conditions": STATUS["conditions"] * 2}, "Duplicate value"),
        ({"conditions": [STATUS["conditions"][0] | {"status": "Maybe"}]}, "Unsupported value"),
        ({"conditions": [STATUS["conditions"][0] | {"reason": "two words"}]}, "status.conditions[0].reason"),
    ],
)
def test_a_malformed_status_is_refused(api: httpx.Client, namespace: str, change: Document, told: str) -> None:
    create(api, namespace, webhook_spec())
    answer = put_status(api, namespace, change)

    assert answer.status_code == 422
    assert told in answer.text


def test_columns_say_in_one_line_what_is_wrong(api: httpx.Client, kubectl: Kubectl, namespace: str) -> None:
    create(api, namespace, webhook_spec())
    put_status(api, namespace, STATUS)
    head, line = kubectl("get", "iconn", "--namespace", namespace).splitlines()
    wide = kubectl("get", "integrations", "--namespace", namespace, "--output=wide")

    assert head.split() == ["NAME", "READY", "STATUS", "PROVIDER", "TENANT", "AGE"]
    assert line.split()[:5] == ["crm", "False", "Quarantined", "Webhook", "acme"]
    assert "the partner answers 401; renew the token" in wide
    assert "acme/integrations-tenant-acme" in wide


@pytest.mark.parametrize(
    "selector",
    ["spec.tenant=acme", "spec.provider=Webhook", "spec.suspend=true", "status.state=Quarantined"],
)
def test_connections_are_selected_by_fields(api: httpx.Client, kubectl: Kubectl, namespace: str, selector: str) -> None:
    create(api, namespace, webhook_spec() | {"suspend": True})
    put_status(api, namespace, STATUS)
    other = crm_spec("HubSpot", {"oauth": OAUTH}) | {"tenant": "globex"}
    create(api, namespace, other, "other")

    selected = kubectl("get", "iconn", "--namespace", namespace, "--output=name", "--field-selector", selector)

    assert selected.split() == ["integrationconnection.integrations.queast.io/crm"]


def test_fields_are_explained_with_their_defaults(kubectl: Kubectl) -> None:
    explained = " ".join(kubectl("explain", "iconn.spec.delivery.retry").split())

    assert "Attempts before a job becomes a dead letter. Defaults to 12." in explained


def test_applying_again_changes_nothing(kubectl: Kubectl, api: httpx.Client, namespace: str) -> None:
    manifest = json.dumps(resource(ACCEPTED["the largest"]))
    apply = ("apply", "--server-side", "--namespace", namespace, "--filename=-")
    kubectl(*apply, stdin=manifest)
    # The server stores the default of the status with the first write after creation.
    written = put_status(api, namespace, STATUS).json()["metadata"]["resourceVersion"]
    kubectl(*apply, stdin=manifest)
    connection = api.get(f"{API}/namespaces/{namespace}/integrationconnections/crm").json()

    assert connection["metadata"]["resourceVersion"] == written


def test_two_managers_own_a_route_each(kubectl: Kubectl, api: httpx.Client, namespace: str) -> None:
    base = webhook_spec()
    for manager, route in (("one", "all"), ("two", "more")):
        manifest = json.dumps(resource(base | {"routes": [{"name": route, "events": ["*"]}]}))
        kubectl(
            "apply", "--server-side", f"--field-manager={manager}", "--namespace", namespace, "-f", "-", stdin=manifest
        )
    connection = api.get(f"{API}/namespaces/{namespace}/integrationconnections/crm").json()

    assert [route["name"] for route in connection["spec"]["routes"]] == ["all", "more"]

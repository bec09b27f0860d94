"""A connection spec is read strictly, and what is wrong with one is told in words."""

from datetime import timedelta
from typing import Any

import pytest

from contracts.connection import (
    DeletionPolicy,
    HubSpotConnectionSpec,
    Isolation,
    PipedriveConnectionSpec,
    PluginConnectionSpec,
    WebhookConnectionSpec,
    parse_connection_spec,
    secret_references,
)
from contracts.delivery_spec import DeliverySpec, Ordering, RouteSpec
from contracts.errors import InvalidSpecError
from contracts.spec_values import SecretKeyRef
from contracts.webhook_spec import WebhookFormat

TOKEN_FROM = {"name": "crm", "key": "token"}


def webhook(**changes: Any) -> dict[str, Any]:
    settings = {
        "url": "https://hooks.example.com/in",
        "signing": {"secretsFrom": [{"name": "hooks", "key": "current"}]},
    }
    return spec("Webhook", webhook=settings | changes)


def spec(provider: str, **changes: Any) -> dict[str, Any]:
    common = {"tenant": "acme", "provider": provider, "routes": [{"name": "all", "events": ["*"]}]}
    return common | changes


def problems(document: object) -> list[str]:
    with pytest.raises(InvalidSpecError) as caught:
        parse_connection_spec(document)
    return [str(problem) for problem in caught.value.problems]


def parsed_webhook(document: object) -> WebhookConnectionSpec:
    parsed = parse_connection_spec(document)
    assert isinstance(parsed, WebhookConnectionSpec)
    return parsed


def test_a_webhook_connection_needs_no_more_than_address_and_secret() -> None:
    parsed = parsed_webhook(webhook())

    assert parsed.webhook.format is WebhookFormat.STANDARD
    assert parsed.webhook.headers == ()
    assert parsed.webhook.tls is None
    assert parsed.suspend is False
    assert parsed.deletion_policy is DeletionPolicy.DRAIN
    assert parsed.drain_timeout == timedelta(minutes=10)
    assert parsed.workers.isolation is Isolation.TENANT
    assert (parsed.workers.replicas.min, parsed.workers.replicas.max) == (0, 4)
    assert parsed.routes[0].ordering is Ordering.PER_SUBJECT


def test_delivery_defaults_are_those_of_the_design() -> None:
    delivery = DeliverySpec()

    assert delivery.timeout == timedelta(seconds=15)
    assert (delivery.throttle.requests_per_second, delivery.throttle.burst, delivery.throttle.concurrency) == (
        50,
        100,
        16,
    )
    assert delivery.retry.max_attempts == 12
    assert delivery.retry.initial_delay == timedelta(seconds=5)
    assert delivery.retry.max_delay == timedelta(hours=10)
    assert delivery.retry.retry_after_max == timedelta(hours=24)
    assert delivery.quarantine.consecutive_failures == 10
    assert delivery.quarantine.probe_interval == timedelta(minutes=5)


@pytest.mark.parametrize(
    "document",
    [
        webhook(),
        webhook(
            format="CloudEventsBinary",
            headers=[{"name": "X-Plain", "value": "a b"}, {"name": "Authorization", "valueFrom": TOKEN_FROM}],
            tls={"caFrom": {"name": "ca", "key": "ca.crt"}},
            handshake={"origin": "events.example.com"},
        ),
        webhook(format="CloudEvents", batch={"maxItems": 1000, "maxBytes": 1000, "maxDelay": "250ms"}),
        spec(
            "HubSpot",
            hubspot={"auth": {"oauth": {"secretRef": {"name": "crm"}}}},
            suspend=True,
            deletionPolicy="Orphan",
            delivery={"timeout": "250ms", "retry": {"initialDelay": "1m30s"}},
            drainTimeout="24h",
            workers={"isolation": "Connection", "replicas": {"min": 1, "max": 50}},
        ),
        spec("Pipedrive", pipedrive={"auth": {"apiToken": {"tokenFrom": TOKEN_FROM}}}),
    ],
)
def test_a_spec_survives_its_wire_form(document: dict[str, Any]) -> None:
    parsed = parse_connection_spec(document)

    assert parse_connection_spec(parsed.model_dump(mode="json", exclude_none=True)) == parsed


def test_a_batch_has_defaults() -> None:
    batch = parsed_webhook(webhook(format="CloudEvents", batch={})).webhook.batch

    assert batch is not None
    assert (batch.max_items, batch.max_bytes, batch.max_delay) == (100, 500_000, timedelta(seconds=1))


@pytest.mark.parametrize("content_format", ["Standard", "CloudEventsBinary"])
def test_a_batch_needs_a_format_that_has_batches(content_format: str) -> None:
    (problem,) = problems(webhook(format=content_format, batch={}))

    assert "batch needs format: CloudEvents" in problem
    assert "or leave batch out" in problem


def test_the_wire_form_is_camel_case_with_written_durations() -> None:
    wire = parse_connection_spec(webhook()).model_dump(mode="json", exclude_none=True)

    assert wire["delivery"]["retry"]["maxDelay"] == "10h"
    assert wire["webhook"]["signing"] == {"secretsFrom": [{"name": "hooks", "key": "current"}]}


def test_equal_specs_have_equal_hashes() -> None:
    assert hash(parse_connection_spec(webhook())) == hash(parse_connection_spec(webhook()))


def test_python_names_are_not_accepted_on_the_wire() -> None:
    assert problems(webhook() | {"deletion_policy": "Drain"}) == [
        (
            "spec.deletion_policy: this field is unknown; allowed here are "
            "deletionPolicy, delivery, drainTimeout, provider, routes, suspend, tenant, webhook, workers"
        )
    ]


def test_python_code_builds_models_by_python_names() -> None:
    reference = SecretKeyRef(name="hooks", key="current")
    built = WebhookConnectionSpec.model_validate(
        {
            "tenant": "acme",
            "provider": "Webhook",
            "routes": (RouteSpec(name="all", events=("*",)),),
            "webhook": {"url": "https://hooks.example.com/in", "signing": {"secrets_from": (reference,)}},
        }
    )

    assert built == parse_connection_spec(webhook())


@pytest.mark.parametrize("document", [None, "Webhook", [webhook()]])
def test_a_spec_is_a_mapping(document: object) -> None:
    assert "a mapping is required" in problems(document)[0]


@pytest.mark.parametrize("provider", ["Salesforce", "webhook", None, 1, ["Webhook"]])
def test_an_unknown_provider_is_told_the_known_ones(provider: object) -> None:
    [problem] = problems(webhook() | {"provider": provider})

    assert problem.startswith("spec.provider: found ")
    assert problem.endswith("allowed are HubSpot, Pipedrive, Webhook, Plugin")


def test_the_block_must_be_the_one_that_provider_names() -> None:
    missing, unknown = problems(webhook() | {"provider": "HubSpot"})

    assert missing == "spec.hubspot: is missing; a value is required"
    assert unknown.startswith("spec.webhook: this field is unknown; allowed here are ")


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        webhook()
        | {
            "tenant": "Acme",
            "suspend": "yes",
            "delivery": {
                "timeout": "2h",
                "throttle": {"burst": 0, "concurrency": 1001, "requestsPerSecond": True},
                "retry": {"maxAttempts": 0, "maxAttemps": 3},
            },
        }
    )

    assert told == [
        (
            "spec.tenant: found 'Acme'; allowed: "
            "lower-case letters, digits and '-', beginning and ending with a letter or digit"
        ),
        "spec.suspend: found text; true or false is required",
        "spec.delivery.throttle.requestsPerSecond: found true; a number is required",
        "spec.delivery.throttle.burst: found 0; the smallest allowed is 1",
        "spec.delivery.throttle.concurrency: found 1001; the largest allowed is 1000",
        "spec.delivery.retry.maxAttempts: found 0; the smallest allowed is 1",
        (
            "spec.delivery.retry.maxAttemps: this field is unknown; "
            "allowed here are expireAfter, initialDelay, maxAttempts, maxDelay, retryAfterMax, schedule"
        ),
        "spec.delivery.timeout: found '2h'; a duration from 100ms to 120s is allowed here",
    ]


def test_a_flood_of_problems_is_cut_short() -> None:
    told = problems(webhook() | {f"field{number}": 1 for number in range(30)})

    assert len(told) == 21
    assert told[-1] == "spec: 10 more problem(s) are not shown"


@pytest.mark.parametrize("number", ["20", 20.5, True, None])
def test_numbers_are_not_converted(number: object) -> None:
    assert "a whole number is required" in problems(webhook() | {"delivery": {"throttle": {"burst": number}}})[0]


@pytest.mark.parametrize("number", [0, 100_001, float("nan"), float("inf")])
def test_the_rate_is_bounded(number: float) -> None:
    document = webhook() | {"delivery": {"throttle": {"requestsPerSecond": number}}}

    assert problems(document)[0].startswith("spec.delivery.throttle.requestsPerSecond: found ")


def test_connections_share_limits_only_if_they_say_so() -> None:
    throttle = DeliverySpec().throttle

    assert (throttle.scope, throttle.daily_budget) == (None, None)


def test_a_budget_says_when_its_day_begins() -> None:
    document = webhook() | {"delivery": {"throttle": {"dailyBudget": {"limit": 1000}}}}

    assert problems(document) == [
        "spec.delivery.throttle.dailyBudget.resetZone: is missing; a value is required",
    ]


@pytest.mark.parametrize("zone", ["europe/berlin", "Berlin", "CEST-2", "Europe/Berlin2", "+02:00", "UTC\n"])
def test_days_begin_in_a_zone_with_a_name(zone: str) -> None:
    document = webhook() | {"delivery": {"throttle": {"dailyBudget": {"limit": 1, "resetZone": zone}}}}

    assert "allowed: a time zone such as Europe/Berlin, America/New_York or UTC" in problems(document)[0]


def test_delays_must_grow() -> None:
    document = webhook() | {"delivery": {"retry": {"initialDelay": "1h", "maxDelay": "5s"}}}

    assert problems(document) == ["spec.delivery.retry: initialDelay must not be longer than maxDelay"]


@pytest.mark.parametrize("replicas", [{"min": 5}, {"min": 2, "max": 1}])
def test_there_are_at_least_as_many_workers_at_most_as_at_least(replicas: dict[str, int]) -> None:
    assert problems(webhook() | {"workers": {"replicas": replicas}}) == [
        "spec.workers.replicas: min must not be larger than max, which is 4 if left out; lower min or raise max"
    ]


@pytest.mark.parametrize("replicas", [{"min": -1}, {"max": 0}, {"max": 51}])
def test_the_number_of_workers_is_bounded(replicas: dict[str, int]) -> None:
    [problem] = problems(webhook() | {"workers": {"replicas": replicas}})

    assert problem.startswith(f"spec.workers.replicas.{next(iter(replicas))}: found ")


@pytest.mark.parametrize("timeout", ["999ms", "25h"])
def test_draining_is_bounded(timeout: str) -> None:
    [problem] = problems(webhook() | {"drainTimeout": timeout})

    assert problem.endswith("a duration from 1s to 24h is allowed here")


@pytest.mark.parametrize("rule", [{"collapse": True}, {"onDeadLetter": "Block"}])
def test_rules_of_order_need_an_order(rule: dict[str, object]) -> None:
    route = {"name": "all", "events": ["*"], "ordering": "Unordered", **rule}

    assert problems(webhook() | {"routes": [route]}) == [
        "spec.routes[0]: collapse and onDeadLetter: Block need ordering: PerSubject; this route is Unordered"
    ]


def test_route_names_are_unique() -> None:
    document = webhook() | {"routes": [{"name": "a", "events": ["*"]}] * 2}

    assert problems(document) == ["spec: each route name may occur only once; repeated: a"]


@pytest.mark.parametrize("count", [0, 33])
def test_the_number_of_routes_is_bounded(count: int) -> None:
    routes = [{"name": f"r{number}", "events": ["*"]} for number in range(count)]

    assert problems(webhook() | {"routes": routes})[0].startswith("spec.routes: found ")


def test_a_refused_item_does_not_make_its_list_too_short() -> None:
    [problem] = problems(webhook() | {"routes": [{"name": "a", "events": ["company"]}]})

    assert problem == (
        "spec.routes[0].events[0]: found 'company'; "
        "allowed: an event type such as company.updated, a prefix such as company.*, or *"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/in?a=b%20c",
        "http://localhost:8080",
        "https://xn--bcher-kva.example/",
        "https://[::1]:8443/x",
        "https://[::1]?x=[y]@z:",
        "https://example.com:00443/@",
        "https://192.0.2.1/",
    ],
)
def test_absolute_web_addresses_are_accepted(url: str) -> None:
    assert parsed_webhook(webhook(url=url)).webhook.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "begins with http:// or https://"),
        ("/in", "begins with http:// or https://"),
        ("https://bücher.example/", "international names as xn--"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com/\n", "percent-encoded"),
        ("https://example.com\\@evil.example/", "percent-encoded"),
        ("https:///in", "needs a host name"),
        ("https://-a.example/", "needs a host name"),
        ("https://user:password@example.com/", "must not hold a user name or password"),
        ("https://example.com/#part", "must not have a fragment"),
        ("https://example.com/#", "must not have a fragment"),
        ("https://example.com:0/", "from 1 to 65535"),
        ("https://example.com:/", "from 1 to 65535"),
        ("https://example.com:65536/", "from 1 to 65535"),
        ("https://[::1]:x/", "from 1 to 65535"),
        ("https://[::1/", "needs a host name"),
        ("https://[::1]x/", "needs a host name"),
        ("https://x[::1]/", "needs a host name"),
        ("https://[v1.x]/", "needs a host name"),
        ("https://[1.2.3.4]/", "needs a host name"),
        ("https://[a:1]/::1", "needs a host name"),
        ("https://[:::]/", "must be an IPv6 address"),
        ("https://[::ffff:127.0.0.1]/", "must be an IPv6 address"),
        ("https://example.com/" + "a" * 2048, "at most 2048 characters"),
    ],
)
def test_other_addresses_are_refused_and_never_repeated(url: str, reason: str) -> None:
    [problem] = problems(webhook(url=url))

    assert problem.startswith("spec.webhook.url: found text; ")
    assert reason in problem
    assert "example" not in problem


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Content-Type", "TRANSFER-ENCODING", "connection", "Webhook-Id", "ce-type"]
)
def test_headers_of_the_delivery_itself_are_reserved(name: str) -> None:
    [problem] = problems(webhook(headers=[{"name": name, "value": "x"}]))

    assert "is set by the delivery itself" in problem


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é"])
def test_a_header_name_is_an_http_token(name: str) -> None:
    assert problems(webhook(headers=[{"name": name, "value": "x"}]))[0].startswith("spec.webhook.headers[0].name: ")


@pytest.mark.parametrize("value", ["a\r\nb", "a\x00", "\ta", "a ", "é", "a\n"])
def test_a_header_value_is_printable_and_never_repeated(value: str) -> None:
    assert problems(webhook(headers=[{"name": "x", "value": value}])) == [
        (
            "spec.webhook.headers[0].value: found text; "
            "allowed: printable ASCII without line breaks and without spaces at either end"
        )
    ]


@pytest.mark.parametrize("entry", [{}, {"value": "x", "valueFrom": TOKEN_FROM}])
def test_a_header_has_exactly_one_value(entry: dict[str, Any]) -> None:
    assert problems(webhook(headers=[{"name": "x"} | entry])) == [
        "spec.webhook.headers[0]: exactly one of value and valueFrom must be given"
    ]


def test_header_names_are_unique_in_any_case() -> None:
    document = webhook(headers=[{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}])

    assert problems(document) == ["spec.webhook: each header name may occur only once; repeated: x-a"]


@pytest.mark.parametrize("count", [0, 11])
def test_one_to_ten_secrets_sign(count: int) -> None:
    secrets = [{"name": "hooks", "key": f"k{number}"} for number in range(count)]

    assert problems(webhook(signing={"secretsFrom": secrets}))[0].startswith("spec.webhook.signing.secretsFrom: ")


def test_a_credential_in_place_of_a_reference_is_not_repeated() -> None:
    told = problems(webhook(signing={"secretsFrom": ["whsec_c2VjcmV0", {"name": "hooks", "key": "whsec_c2Vj/+="}]}))

    assert len(told) == 2
    assert "c2Vj" not in " ".join(told)


def test_the_error_of_the_models_does_not_repeat_values_either() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_connection_spec(webhook(headers=[{"name": "x", "value": "hunter2\n"}]))

    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("provider", "block", "names"),
    [("HubSpot", "hubspot", "oauth and privateApp"), ("Pipedrive", "pipedrive", "oauth and apiToken")],
)
@pytest.mark.parametrize("count", [0, 2])
def test_a_crm_is_proven_to_in_exactly_one_way(provider: str, block: str, names: str, count: int) -> None:
    token = {"HubSpot": "privateApp", "Pipedrive": "apiToken"}[provider]
    ways = {"oauth": {"secretRef": {"name": "crm"}}, token: {"tokenFrom": TOKEN_FROM}} if count else {}

    assert problems(spec(provider, **{block: {"auth": ways}})) == [
        f"spec.{block}.auth: exactly one of {names} must be given"
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            webhook(
                signing={"secretsFrom": [{"name": "hooks", "key": "new"}, {"name": "hooks", "key": "old"}]},
                headers=[{"name": "a", "value": "b"}, {"name": "Authorization", "valueFrom": TOKEN_FROM}],
                tls={"caFrom": {"name": "ca", "key": "ca.crt"}},
            ),
            {("hooks", "new"), ("hooks", "old"), ("crm", "token"), ("ca", "ca.crt")},
        ),
        (webhook(tls={}), {("hooks", "current")}),
        (spec("HubSpot", hubspot={"auth": {"privateApp": {"tokenFrom": TOKEN_FROM}}}), {("crm", "token")}),
        (
            spec("Pipedrive", pipedrive={"auth": {"oauth": {"secretRef": {"name": "app"}}}}),
            {("app", "client_id"), ("app", "client_secret")},
        ),
        (
            spec(
                "HubSpot",
                hubspot={"auth": {"oauth": {"secretRef": {"name": "app"}, "refreshTokenFrom": TOKEN_FROM}}},
            ),
            {("app", "client_id"), ("app", "client_secret"), ("crm", "token")},
        ),
    ],
)
def test_every_referenced_key_is_named(document: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    references = secret_references(parse_connection_spec(document))

    assert {(reference.name, reference.key) for reference in references} == expected


def test_the_provider_decides_the_class() -> None:
    auth = {"auth": {"oauth": {"secretRef": {"name": "crm"}}}}

    assert isinstance(parse_connection_spec(spec("HubSpot", hubspot=auth)), HubSpotConnectionSpec)
    assert isinstance(parse_connection_spec(spec("Pipedrive", pipedrive=auth)), PipedriveConnectionSpec)
    assert isinstance(parse_connection_spec(webhook()), WebhookConnectionSpec)


PLUGIN = {"connector": "Acme", "settings": {"url": "https://acme.example", "rooms": [1, {"a": None}]}}


def test_a_plug_in_s_settings_are_of_any_shape_and_stay_as_they_were_written() -> None:
    parsed = parse_connection_spec(
        spec("Plugin", plugin={**PLUGIN, "secretsFrom": [{"name": "t", "secret": TOKEN_FROM}]})
    )
    again = parse_connection_spec(parsed.model_dump(mode="json", by_alias=True, exclude_none=True))

    assert parsed == again
    assert hash(parsed) == hash(again)
    assert isinstance(parsed, PluginConnectionSpec)
    assert parsed.plugin.settings == PLUGIN["settings"]
    assert parsed.plugin.secret("t") == SecretKeyRef(**TOKEN_FROM)
    assert parsed.plugin.secret("u") is None
    assert secret_references(parsed) == {SecretKeyRef(**TOKEN_FROM)}


@pytest.mark.parametrize(
    ("plugin", "path"),
    [
        ({}, "spec.plugin.connector"),
        ({**PLUGIN, "connector": "acme"}, "spec.plugin.connector"),
        ({**PLUGIN, "settings": "all"}, "spec.plugin.settings"),
        ({**PLUGIN, "settings": {"a": "x" * 17_000}}, "spec.plugin.settings"),
        ({**PLUGIN, "settings": {"a": float("nan")}}, "spec.plugin.settings"),
        ({**PLUGIN, "settings": {"a": object()}}, "spec.plugin.settings"),
        ({**PLUGIN, "secretsFrom": [{"name": "t", "secret": TOKEN_FROM}] * 2}, "spec.plugin"),
        ({**PLUGIN, "secretsFrom": [{"name": "T", "secret": TOKEN_FROM}]}, "spec.plugin.secretsFrom[0].name"),
    ],
)
def test_a_plug_in_s_block_is_bounded(plugin: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidSpecError) as refused:
        parse_connection_spec(spec("Plugin", plugin=plugin))

    assert [problem.path for problem in refused.value.problems] == [path]

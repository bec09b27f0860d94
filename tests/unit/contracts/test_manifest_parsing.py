"""Manifests are read document by document: the good ones are returned, the others explained."""

import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.manifests import MAX_DOCUMENTS, MAX_MANIFEST_CHARACTERS, Manifests, combine_manifests, parse_manifests

CONNECTION = """\
apiVersion: integrations.queast.io/v1alpha1
kind: IntegrationConnection
metadata:
  name: hooks
  namespace: acme
  labels: {team: data}
  annotations: {note: kept by Kubernetes}
spec:
  tenant: acme
  provider: Webhook
  routes: [{name: all, events: ["*"]}]
  webhook:
    url: https://hooks.example.com/in
    signing: {secretsFrom: [{name: hooks, key: current}]}
"""

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: hooks}
type: Opaque
data: {current: aGVsbG8=, other: d29ybGQ=}
stringData: {current: plain}
"""


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse_manifests(text, "crm.yaml").problems]


def test_a_connection_is_read_with_its_metadata() -> None:
    [connection] = parse_manifests(CONNECTION, "crm.yaml").connections

    assert (connection.namespace, connection.name, connection.spec.tenant) == ("acme", "hooks", "acme")
    assert str(connection.origin) == "crm.yaml, document 1"


def test_a_secret_is_decoded_and_plain_text_wins() -> None:
    [secret] = parse_manifests(SECRET, "crm.yaml").secrets

    assert secret.namespace == "default"
    assert secret.data == {"current": b"plain", "other": b"world"}


@given(st.binary(max_size=200))
def test_any_bytes_survive_in_a_secret(value: bytes) -> None:
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata: {{k: '{b64encode(value).decode()}'}}"
    [secret] = parse_manifests(text, "crm.yaml").secrets

    assert secret.data == {"k": value}


def test_folded_base64_is_read() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  k: |\n    aGVs\n    bG8=\n"

    assert parse_manifests(text, "crm.yaml").secrets[0].data == {"k": b"hello"}


def test_a_secret_shows_keys_and_no_values() -> None:
    [secret] = parse_manifests(SECRET, "crm.yaml").secrets

    assert repr(secret) == "Secret(namespace='default', name='hooks', keys=['current', 'other'])"
    assert "plain" not in f"{secret} {parse_manifests(SECRET, 'crm.yaml')}"


def test_dates_in_secrets_stay_text() -> None:
    text = SECRET.replace("current: plain", "current: 2026-01-31")

    assert parse_manifests(text, "crm.yaml").secrets[0].data["current"] == b"2026-01-31"


def test_a_bad_document_does_not_hide_the_good_ones() -> None:
    manifests = parse_manifests(f"{CONNECTION}---\nkind: [\n---\n{SECRET}", "crm.yaml")

    assert [connection.name for connection in manifests.connections] == ["hooks"]
    assert [secret.name for secret in manifests.secrets] == ["hooks"]
    [problem] = manifests.problems
    assert str(problem).startswith("crm.yaml, document 2: line 17, column 1: this is not YAML")


def test_a_problem_names_file_document_resource_and_place() -> None:
    text = f"{SECRET}---\n{CONNECTION}  delivery: {{retry: {{maxAttempts: 0}}}}\n"

    assert problems(text) == [
        (
            "crm.yaml, document 2 (IntegrationConnection hooks): "
            "spec.delivery.retry.maxAttempts: found 0; the smallest allowed is 1"
        )
    ]


def test_metadata_and_spec_problems_are_told_together() -> None:
    text = CONNECTION.replace("name: hooks\n", "name: Hooks\n").replace("tenant: acme", "tenant: Acme")
    told = problems(text + "extra: 1\n")

    assert [problem.split(": ")[1] for problem in told] == ["metadata.name", "extra", "spec.tenant"]


def test_a_missing_spec_is_told_once() -> None:
    text = CONNECTION[: CONNECTION.index("spec:")]

    assert problems(text) == [
        "crm.yaml, document 1 (IntegrationConnection hooks): spec: is missing; a value is required"
    ]


def test_a_status_is_accepted() -> None:
    assert parse_manifests(CONNECTION + "status: {observedGeneration: 1}\n", "crm.yaml").connections


def test_a_resource_defined_twice_is_a_problem_and_the_first_stays() -> None:
    manifests = parse_manifests(f"{SECRET}---\n{SECRET.replace('plain', 'changed')}", "crm.yaml")

    assert [secret.data["current"] for secret in manifests.secrets] == [b"plain"]
    assert [str(problem) for problem in manifests.problems] == [
        (
            "crm.yaml, document 2 (Secret hooks): metadata.name: "
            "namespace default has this Secret already, from crm.yaml, document 1; remove one of them"
        )
    ]


def test_duplicates_are_found_across_files() -> None:
    together = combine_manifests([parse_manifests(CONNECTION, "a.yaml"), parse_manifests(CONNECTION, "b.yaml")])

    assert [connection.origin.source for connection in together.connections] == ["a.yaml"]
    assert [problem.source for problem in together.problems] == ["b.yaml"]


def test_one_name_may_be_in_two_namespaces() -> None:
    manifests = parse_manifests(f"{CONNECTION}---\n{CONNECTION.replace('namespace: acme', 'namespace: b')}", "crm.yaml")

    assert not manifests.problems
    assert len(manifests.connections) == 2


def test_other_kinds_are_skipped() -> None:
    assert parse_manifests("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "a.yaml") == Manifests(skipped=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v1alpha1", "v1", "apiVersion: found 'integrations.queast.io/v1'; allowed is integrations.queast.io/v1alpha1"),
        ("integrations.queast", "integration.queast", "allowed is integrations.queast.io/v1alpha1"),
        ("IntegrationConnection", "Connection", "kind: found 'Connection'; allowed is IntegrationConnection"),
        ("IntegrationConnection", "IntegrationReplay", "kind: replays are started by a command here"),
        ("kind: IntegrationConnection", "kind: 1", "needs apiVersion and kind"),
        ("apiVersion:", "version:", "needs apiVersion and kind"),
    ],
)
def test_a_mistyped_connection_is_not_skipped(old: str, new: str, message: str) -> None:
    [problem] = problems(CONNECTION.replace(old, new))

    assert message in problem


def test_a_list_is_told_to_be_taken_apart() -> None:
    [problem] = problems("apiVersion: v1\nkind: List\nitems: []")

    assert "write its items as documents" in problem


@pytest.mark.parametrize("text", ["", "\n", "---\n---\n", "# only a comment\n---\n  # another\n", "~"])
def test_blank_documents_are_nothing(text: str) -> None:
    assert parse_manifests(text, "crm.yaml") == Manifests()


@pytest.mark.parametrize("text", ["- 1", "text", "3"])
def test_a_document_that_is_no_mapping_is_a_problem(text: str) -> None:
    assert problems(text)[0].endswith("a Kubernetes resource is a mapping")


@pytest.mark.parametrize(
    "line",
    [
        "stringData: {k: 271828}",
        "stringData: {k: [hunter2]}",
        "stringData: {k: true}",
        "stringData: {'hunter2 hunter2': x}",
        "stringData: hunter2",
        "data: {k: hunter2}",
        "data: {k: 271828}",
        "data: [hunter2]",
        "stringData: {k: *hunter2}",
        "stringData: {k: !hunter2 x}",
        "stringData: {k: 'hunter2}",
        'stringData: {k: "hunter2\\q"}',
        "stringData: {k: hunter2, k: hunter2}",
        "stringData: {k: %hunter2}",
        "stringData: {k: @hunter2}",
        "stringData: {k: hunter2\x07}",
        "stringData: {k: !!int hunter2}",
        "hunter2",
    ],
)
def test_a_mistake_in_a_secret_is_told_without_its_value(line: str) -> None:
    told = problems(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: crm}}\n{line}\n")

    assert told
    assert "hunter2" not in " ".join(told)
    assert "271828" not in " ".join(told)


def test_a_secret_has_a_largest_size() -> None:
    aliases = "".join(f"  k{number}: *value\n" for number in range(1_100))
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  k: &value {'x' * 1_000}\n{aliases}"

    assert problems(text) == ["crm.yaml, document 1 (Secret a): data: the values have more than 1048576 bytes together"]


def test_a_huge_file_is_refused_unread() -> None:
    [problem] = problems("#" * (MAX_MANIFEST_CHARACTERS + 1))

    assert "so split it" in problem


def test_too_many_documents_are_refused_unread() -> None:
    [problem] = problems("--- a\n" * (MAX_DOCUMENTS + 1))

    assert "so split it" in problem


@given(st.text(alphabet=st.sampled_from(list("ab:-[]{}\n #&*!|>'\"%@?,0.~\t")), max_size=60))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    manifests = parse_manifests(text, "crm.yaml")

    assert not manifests.connections


def test_a_connection_survives_windows_line_ends() -> None:
    text = f"{CONNECTION}---\n{SECRET}".replace("\n", "\r\n")
    manifests = parse_manifests(text, "crm.yaml")

    assert (len(manifests.connections), len(manifests.secrets), manifests.problems) == (1, 1, ())


def test_an_alias_bomb_is_refused_at_once() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 30))
    started = time.monotonic()
    [problem] = problems(f"l0: &l0 [x]\n{levels}")

    assert "counting those behind aliases each time" in problem
    assert time.monotonic() - started < 5

"""What the chart renders, by the real helm, without a cluster."""

import json
import os
import shutil
import subprocess
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from delivery.settings import DispatcherSettings
from store.retention import Retention
from tests.cluster.helm import CHART, Helm, HelmError
from tests.cluster.program_files import ProgramMissingError, look_up

ROOT = Path(__file__).parents[2]

EVERYTHING = {
    "commonLabels": {"team": "integrations"},
    "image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "operator": {
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "serviceAccount": {"annotations": {"e": "f"}},
    },
    "dispatcher": {"retention": {"tenants": {"acme": {"events": 7, "deadLetters": 30}}}},
    "oauth": {"keysSecret": "integrations-oauth-keys"},
    "ingress": {"enabled": True, "host": "in.example.com", "className": "nginx", "tlsSecret": "in-tls"},
    "workers": {"egressAllow": ["10.0.0.0/8", "fd00::/8"], "imagePullSecrets": ["registry"]},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}]},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
        "rules": {"enabled": True, "runbookURL": "https://runbooks.example.com"},
    },
}
NOTHING = {
    "crds": {"enabled": False},
    "tenantClaims": {"enforce": False},
    "rbac": {"aggregateClusterRoles": False},
    "migrations": {"enabled": False},
    "operator": {"podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
    "dispatcher": {"podDisruptionBudget": {"enabled": False}, "topologySpreadConstraints": []},
    "networkPolicy": {"enabled": False},
}
NAMESPACED = {"operator": {"namespaces": ["acme", "globex"]}}
PROGRAMS = {"operator", "dispatcher", "migrations", "test"}


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    try:
        return Helm(tmp_path_factory.mktemp("helm"))
    except ProgramMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NO CHART TESTS: {error}")


def named(objects: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    return Counter((each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in objects)


def kinds(objects: list[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in objects}


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the spec of each pod that the objects make, by its container's name."""
    specs = [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in {"Pod", "Deployment", "Job"}
    ]
    return {spec["containers"][0]["name"]: spec for spec in specs}


def environment(spec: dict[str, Any]) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}


@pytest.mark.parametrize("values", [{}, EVERYTHING, NOTHING, NAMESPACED], ids=["plain", "all", "none", "namespaced"])
def test_every_object_has_a_name_of_its_own_and_rendering_twice_gives_the_same(
    helm: Helm, values: dict[str, Any]
) -> None:
    objects = helm.render(values)

    assert [name for name, count in named(objects).items() if count > 1] == []
    assert objects == helm.render(values)


def test_a_chart_of_many_releases_names_them_apart(helm: Helm) -> None:
    one = helm("template", "one", str(CHART), "--namespace", "a", values=NOTHING)
    two = helm("template", "two", str(CHART), "--namespace", "b", values=NOTHING)

    assert not named(list(yaml.safe_load_all(one))) & named(list(yaml.safe_load_all(two)))


def test_the_chart_passes_the_linter(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", str(CHART), "--strict", values=EVERYTHING)


def test_a_switch_adds_and_removes_what_it_names(helm: Helm) -> None:
    optional = {
        "CustomResourceDefinition",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "Job",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    monitors = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}

    plain = kinds(helm.render())

    assert optional <= plain
    assert not optional & kinds(helm.render(NOTHING))
    assert not monitors & plain
    assert kinds(helm.render(EVERYTHING)) - plain == monitors | {"Ingress"}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "all"])
def test_every_pod_meets_the_restricted_pod_security_standard(helm: Helm, values: dict[str, Any]) -> None:
    found = pods(helm.render(values))

    assert set(found) == PROGRAMS | ({"ingress"} if values else set())
    for spec in found.values():
        pod, (container,) = spec["securityContext"], spec["containers"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {kind for volume in spec.get("volumes", []) for kind in volume} <= {"name", "emptyDir", "secret"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


def test_only_the_operator_has_a_token_of_the_api_server(helm: Helm) -> None:
    objects = helm.render()

    with_token = {name for name, spec in pods(objects).items() if spec["automountServiceAccountToken"]}
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}

    assert with_token == {"operator"}
    assert len(accounts) == 3


def test_only_the_operator_has_rights(helm: Helm) -> None:
    bindings = [each for each in helm.render() if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}]

    subjects = {subject["name"] for each in bindings for subject in each["subjects"]}

    assert subjects == {"layer-integration-layer-operator"}


def test_an_operator_of_some_namespaces_has_no_rights_elsewhere(helm: Helm) -> None:
    objects = helm.render(NAMESPACED)

    bound = {
        (each["metadata"]["namespace"], each["roleRef"]["kind"]) for each in objects if each["kind"] == "RoleBinding"
    }
    serves = environment(pods(objects)["operator"])["INTEGRATIONS_NAMESPACES"]

    assert "ClusterRoleBinding" not in kinds(objects)
    assert bound == {("integrations", "Role"), ("acme", "Role"), ("globex", "Role")}
    assert json.loads(serves or "") == ["acme", "globex"]


def test_somebody_without_rights_on_the_cluster_can_install_for_some_namespaces(helm: Helm) -> None:
    objects = helm.render({**NOTHING, **NAMESPACED})

    assert [each for each in objects if "namespace" not in each["metadata"]] == []


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["cluster", "namespaced"])
def test_no_rule_has_a_wildcard(helm: Helm, values: dict[str, Any]) -> None:
    roles = [each for each in helm.render(values) if each["kind"] in {"Role", "ClusterRole"}]

    assert not [rule for role in roles for rule in role["rules"] for words in rule.values() if "*" in words]


def test_definitions_outlive_the_release_unless_told_otherwise(helm: Helm) -> None:
    def annotations(values: dict[str, Any]) -> Any:
        found = [each for each in helm.render(values) if each["kind"] == "CustomResourceDefinition"]
        return [each["metadata"].get("annotations") for each in found]

    assert annotations({}) == [{"helm.sh/resource-policy": "keep"}] * 2
    assert annotations({"crds": {"keep": False}}) == [None] * 2


def _name(document: dict[str, Any]) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def test_cluster_wide_files_are_rendered_as_they_are_but_for_their_labels(helm: Helm) -> None:
    rendered = [each for each in helm.render() if each["kind"].startswith(("CustomResource", "ValidatingAdmission"))]
    for each in rendered:
        each["metadata"] = {"name": each["metadata"]["name"]}

    files = (ROOT / "crds").rglob("*.yaml")
    ours = [each for file in files for each in yaml.safe_load_all(file.read_text())]

    assert sorted(rendered, key=_name) == sorted(ours, key=_name)


def test_migrations_run_before_each_release_and_find_their_account_made(helm: Helm) -> None:
    hooks = {
        each["kind"]: each["metadata"]["annotations"]
        for each in helm.render()
        if each["metadata"]["name"].endswith("-migrations") and each["kind"] != "NetworkPolicy"
    }

    weights = {kind: int(annotations["helm.sh/hook-weight"]) for kind, annotations in hooks.items()}

    assert {annotations["helm.sh/hook"] for annotations in hooks.values()} == {"pre-install,pre-upgrade"}
    assert weights["ServiceAccount"] < weights["Job"]


def test_a_digest_wins_over_the_tag_for_all_programs_and_workers(helm: Helm) -> None:
    found = pods(helm.render(EVERYTHING))

    images = {spec["containers"][0]["image"] for spec in found.values()}
    images.add(environment(found["operator"])["INTEGRATIONS_WORKER_IMAGE"])

    assert images == {"ghcr.io/queast/integration-layer@sha256:" + "0" * 64}


def test_constraints_of_spreading_select_the_program_s_own_pods(helm: Helm) -> None:
    for each in helm.render():
        if each["kind"] == "Deployment":
            selector = each["spec"]["selector"]
            constraints = each["spec"]["template"]["spec"]["topologySpreadConstraints"]

            assert [constraint["labelSelector"] for constraint in constraints] == [selector, selector]


def test_programs_get_only_settings_that_they_know(helm: Helm) -> None:
    known = {
        "dispatcher": _settings("delivery.settings", "DispatcherSettings"),
        "operator": _settings("integration_operator.settings", "OperatorSettings"),
        "ingress": _settings("ingress.settings", "IngressSettings"),
    }
    found = pods(helm.render(EVERYTHING))

    for program, names in known.items():
        assert set(environment(found[program])) <= names


def test_a_tenant_s_retention_is_what_the_dispatcher_reads(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(pods(helm.render(EVERYTHING))["dispatcher"]).items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    settings = DispatcherSettings()

    assert settings.events_kept() == Retention(30, {"acme": 7})
    assert settings.attempts_kept() == Retention(30)
    assert settings.dead_letters_kept() == Retention(90, {"acme": 30})


def _settings(module: str, name: str) -> set[str]:
    settings = getattr(import_module(module), name)
    return {f"INTEGRATIONS_{field.upper()}" for field in settings.model_fields}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"oprator": {}}, "oprator"),
        ({"operator": {"replica": 3}}, "replica"),
        ({"operator": {"namespaces": "acme"}}, "namespaces"),
        ({"dispatcher": {"retention": {"events": 0}}}, "retention"),
        ({"dispatcher": {"retention": {"tenants": {"acme": {"event": 7}}}}}, "event"),
        ({"dispatcher": {"resources": {"request": {}}}}, "request"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"workers": {"egressAllow": ["10.0.0.1"]}}, "egressAllow"),
        ({"logLevel": "info"}, "logLevel"),
        ({"database": {"operator": {"urlFrom": {"name": "", "key": "url"}}}}, "urlFrom"),
        ({"database": {"workers": {"address": "postgresql://me:secret@database/x"}}}, "address"),
        ({"database": {"workers": {"address": ""}}}, "Set database.workers.address"),
        ({"metrics": {"rules": {"runbookUrl": "https://example.com"}}}, "runbookUrl"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HelmError, match=complaint):
        helm.render(values)


def test_alerts_are_rendered_with_where_to_read_on(helm: Helm) -> None:
    (found,) = [each for each in helm.render(EVERYTHING) if each["kind"] == "PrometheusRule"]

    rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    pages = {file.stem for file in (ROOT / "docs" / "runbooks").glob("Integration*.md")}

    assert {rule["alert"] for rule in rules} == pages
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"https://runbooks.example.com/{rule['alert']}.md"
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]


def test_alerts_fire_when_they_should_and_only_then(helm: Helm, tmp_path: Path) -> None:
    program = look_up("promtool") or shutil.which("promtool")
    if program is None:
        pytest.skip("NO TEST OF ALERTS: promtool is missing")
    (found,) = [each for each in helm.render(EVERYTHING) if each["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(found["spec"]))
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)

    done = subprocess.run(
        [program, "test", "rules", "alerts_test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr

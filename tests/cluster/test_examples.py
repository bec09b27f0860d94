"""The manifests that people start from are accepted, and the page about the operator tells of every reason there is."""

import re
from pathlib import Path

import httpx
import pytest

from integration_operator import conclusion
from tests.cluster.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]


def test_the_first_connection_is_accepted_as_it_is_written(cluster: ControlPlane, crds: list[str]) -> None:
    example = ROOT / "examples" / "kubernetes" / "first-connection.yaml"
    applied = cluster.kubectl("apply", "--server-side", f"--filename={example}", "--output=name")

    assert "integrationconnection.integrations.queast.io/receiver" in applied
    cluster.kubectl("delete", f"--filename={example}", "--wait=false")


@pytest.mark.parametrize("name", ["first-connection.yaml", "shared-account.yaml"])
def test_strict_validation_finds_no_unknown_field_in_an_example(
    cluster: ControlPlane, crds: list[str], api: httpx.Client, name: str
) -> None:
    example = (ROOT / "examples" / "kubernetes" / name).read_text().split("---")[-1]
    answer = api.post(
        "/apis/integrations.queast.io/v1alpha1/namespaces/default/integrationconnections",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        content=example.replace("namespace: acme", "namespace: default"),
        headers={"Content-Type": "application/yaml"},
    )

    assert answer.status_code == 201, answer.text


def test_every_reason_of_ready_is_explained() -> None:
    page = (ROOT / "docs" / "operator.md").read_text()
    explained = set(re.findall(r"^\| ([A-Z][A-Za-z]+) \| .* \| (?:yes )?\|$", page, re.MULTILINE))
    source = Path(conclusion.__file__).read_text()
    used = set(re.findall(r'ConditionStatus\.(?:FALSE|TRUE), "([A-Za-z]+)"', source))
    used |= set(re.findall(r'"Ready", no, "([A-Za-z]+)"', source))
    healthy = {"Ready", "Suspended", "Valid", "Unwatched", "Published", "Available", "Waiting", "DailyBudgetSpent"}

    assert explained == used - healthy

"""The manifests that people start from are accepted, and the pages about statuses tell of every reason there is."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from integration_operator import conclusion, replay_conclusion
from tests.cluster.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]


EXAMPLES = ROOT / "examples" / "kubernetes"


def test_the_examples_are_accepted_as_they_are_written(cluster: ControlPlane, crds: list[str]) -> None:
    applied = [
        cluster.kubectl("apply", "--server-side", f"--filename={EXAMPLES / file}", "--output=name")
        for file in ("first-connection.yaml", "replay.yaml")
    ]

    assert "integrationconnection.integrations.queast.io/receiver" in applied[0]
    assert applied[1].split() == [
        "integrationreplay.integrations.queast.io/lost-import-count",
        "integrationreplay.integrations.queast.io/lost-import",
    ]
    cluster.kubectl("delete", f"--filename={EXAMPLES / 'first-connection.yaml'}", "--wait=false")


OURS = [
    document
    for file in sorted(EXAMPLES.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if document["apiVersion"].startswith("integrations.queast.io/")
]


@pytest.mark.parametrize("document", OURS, ids=lambda document: document["metadata"]["name"])
def test_strict_validation_finds_no_unknown_field_in_the_examples(
    crds: list[str], api: httpx.Client, document: dict[str, Any]
) -> None:
    namespaced = {**document, "metadata": {**document["metadata"], "namespace": "default"}}
    answer = api.post(
        f"/apis/integrations.queast.io/v1alpha1/namespaces/default/{document['kind'].lower()}s",
        params={"dryRun": "All", "fieldValidation": "Strict"},
        json=namespaced,
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


def test_every_reason_of_a_replay_is_explained() -> None:
    page = (ROOT / "docs" / "replay.md").read_text()
    explained = set(re.findall(r"^\| [A-Z][a-z]+ \| ([A-Z][A-Za-z]+) \|", page, re.MULTILINE))
    used = set(re.findall(r'_Stand\("[A-Za-z]+", "([A-Za-z]+)"', Path(replay_conclusion.__file__).read_text()))

    assert used
    assert explained == used

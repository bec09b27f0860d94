"""What of the chart can be checked without helm: copies are equal, values are described, names are the code's."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "integration-layer"
RUNBOOKS = ROOT / "docs" / "runbooks"


def paths(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Name every value by its path; a map without content is a value too."""
    found = set()
    for key, value in values.items():
        found |= paths(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}"}
    return found


def described(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> set[str]:
    """Name every value that the schema allows, as far as it says what is inside."""
    found = set()
    for key, part in schema["properties"].items():
        inner = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        found |= described(inner, definitions, f"{prefix}{key}.") if "properties" in inner else {f"{prefix}{key}"}
    return found


def metric_names() -> set[str]:
    """Collect the names of metrics from where programs define them, as Prometheus shows them."""
    names: set[str] = set()
    for file in (ROOT / "delivery" / "metrics.py", ROOT / "operator" / "integration_operator" / "metrics.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
                match call.func.id, call.args[0]:
                    case "Counter" | "Tally", ast.Constant(value=str(name)):
                        names.add(f"{name}_total")
                    case "Gauge", ast.Constant(value=str(name)):
                        names.add(name)
    return names


def test_the_chart_carries_the_cluster_wide_files_as_they_are() -> None:
    def contents(folder: Path) -> dict[str, str]:
        return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.yaml")}

    assert contents(CHART / "files" / "crds") == contents(ROOT / "crds")


def test_the_schema_knows_every_value_and_every_value_has_its_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    allowed = described(schema, schema["$defs"]) - {"global"}
    resources = {f"{program}.resources.claims" for program in ("operator", "dispatcher", "ingress", "migrations")}
    given = {re.sub(r"\.(requests|limits)\.\w+$", r".\1", path) for path in paths(values)}

    assert given == allowed - resources


def test_no_part_of_the_schema_is_open_by_mistake() -> None:
    def objects(part: Any) -> list[dict[str, Any]]:
        inner = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
        own = [part] if isinstance(part, dict) and "properties" in part and "type" in part else []
        return own + [found for each in inner for found in objects(each)]

    schema = json.loads((CHART / "values.schema.json").read_text())

    assert [part for part in objects(schema) if part.get("additionalProperties") is not False] == []


def test_the_chart_is_of_the_version_of_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert chart["appVersion"] == version


def test_alerts_ask_only_for_metrics_that_exist() -> None:
    rules = (CHART / "templates" / "alerts.yaml").read_text()

    asked = set(re.findall(r"\bintegrations_\w+", rules))

    assert asked - metric_names() == set()


def test_every_alert_has_a_runbook_that_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", (CHART / "templates" / "alerts.yaml").read_text())
    headings = ["What it means", "How to see it", "What to do", "When to escalate"]

    pages = {alert: (RUNBOOKS / f"{alert}.md").read_text() for alert in alerts}

    assert pages
    for alert, page in pages.items():
        assert page.startswith(f"# {alert}\n")
        assert re.findall(r"^## (.+)$", page, re.MULTILINE) == headings


def test_everything_that_the_image_is_built_from_exists() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    sources = [source for line in copies for source in line.split()]

    let_in = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == let_in

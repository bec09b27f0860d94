"""What is installed is what was tested: the wheel holds every part, and works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "contracts",
    "store",
    "connectors",
    "delivery",
    "ingress",
    "programs",
    "local",
    "integrations",
    "integration_operator",
}
NEWEST = max(file.name for file in (ROOT / "store" / "migrations" / "versions").glob("*.sql"))[:4]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    assert "store/migrations/versions/0001_the_thread.sql" in names
    assert any(name.startswith("contracts/schemas/") and name.endswith(".json") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_unpacked_wheel_runs_and_knows_its_migrations(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import store.migrate, contracts.events, integration_operator, integrations.__main__ as m;"
        f"assert store.__file__.startswith({str(tmp_path)!r}), store.__file__;"
        "print(store.migrate.expected_revision(), len(contracts.events.canonical_event_types()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert result.stdout.split() == [NEWEST, "5"]

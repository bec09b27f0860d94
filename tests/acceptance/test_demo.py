"""The demo shows what the layer promises, and its own count says whether that was kept."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]

EXAMPLES = Path(__file__).parents[2] / "examples" / "local"


@pytest.fixture
def scene(folder: Path) -> None:
    """Copy the demo's manifests, with ports that nobody else uses."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = dict(zip(("8797", "8798", "8799"), (str(probe.getsockname()[1]) for probe in probes), strict=True))
    for manifest in EXAMPLES.glob("*.yaml"):
        copy = Path(shutil.copy(manifest, folder))
        copy.write_text(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: ports[port[0]], copy.read_text()))


@pytest.mark.usefixtures("scene")
def test_the_demo_loses_repeats_and_reorders_nothing_and_works_again_on_kept_data(run: Run) -> None:
    for _ in range(2):
        result = run("local", "--demo", ".", "--once", "--json")
        summary = json.loads(result.stdout)

        assert result.returncode == 0, result.stderr + result.stdout
        assert summary["delivered"] == summary["deliveries"] > summary["events"] == 300
        assert [summary[count] for count in ("lost", "repeated", "out_of_order", "unverified", "altered")] == [0] * 5
        assert [summary[count] for count in ("crm_missing", "crm_twins", "crm_refused")] == [0] * 3
        assert summary["crm_records"] > 36
        assert summary["failed_attempts"] > 0
        assert summary["quarantined_and_recovered"] is True

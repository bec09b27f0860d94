"""The installed command as a person runs it: processes, arguments, output and exit codes, nothing imported."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("integrations")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder for manifests that root's PostgreSQL account can reach as well."""
    with tempfile.TemporaryDirectory(prefix="integration-layer-acceptance-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@pytest.fixture
def command() -> Path:
    """Give the installed command."""
    return COMMAND


@pytest.fixture
def run(folder: Path) -> Run:
    """Give a way to run the command to its end, in the folder, with no settings but those given."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INTEGRATIONS_", "PG"))}
        environment = kept | {f"INTEGRATIONS_{name}": value for name, value in settings.items()}
        return subprocess.run(
            [COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run

"""The real helm, on the chart as it lies in the repository."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.program_files import find

CHART = Path(__file__).parents[2] / "charts" / "integration-layer"

# All that has no default.
REQUIRED = {"database": {"workers": {"address": "postgresql://database.example.com:5432/integrations"}}}


class HelmError(Exception):
    """Helm refused; says what it printed."""


class Helm:
    """Runs helm against a cluster, or, without a kubeconfig, against none."""

    def __init__(self, folder: Path, kubeconfig: Path | None = None) -> None:
        self._program = find("helm")
        self._folder = folder
        places = {f"HELM_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        # A person's own cluster must never be the one that a test installs into.
        self._environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig or folder / "none"),
            **places,
        }

    def __call__(self, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """Run a command, with values beside those that are required, and return what it prints."""
        options: list[str] = []
        for number, given in enumerate((REQUIRED, values) if values is not None else ()):
            file = self._folder / f"values-{number}.yaml"
            file.write_text(yaml.safe_dump(given))
            options += ["--values", str(file)]
        done = subprocess.run(
            [self._program, *arguments, *options],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stdout + done.stderr)
        return done.stdout

    def render(self, values: dict[str, Any] | None = None, *options: str) -> list[dict[str, Any]]:
        """Return the objects of a release `layer` in the namespace `integrations`."""
        command = ("template", "layer", str(CHART), "--namespace", "integrations", *options)
        return [found for found in yaml.safe_load_all(self(*command, values=values or {})) if found]

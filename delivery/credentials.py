"""Secrets as the kubelet mounts them: `<directory>/<namespace>/<secret>/<key>`, read once, and again when they change.

A mounted Secret changes by one atomic swap of its `..data` link. `watch` compares that link (or, in a plain folder,
the files' times) four times a second, so a rotated credential is in use at once and without a restart.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from connectors.context import CredentialMissingError
from contracts.connection import SecretKeyRef

REFRESH_SECONDS = 0.25

_Version = tuple[object, ...]


class MountedSecrets:
    """The Secrets of all namespaces that this worker was given."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._values: dict[tuple[str, str], dict[str, bytes]] = {}
        self._versions: dict[tuple[str, str], _Version] = {}

    def read(self, namespace: str, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        secret = (namespace, reference.name)
        values = self._values.get(secret)
        if values is None:
            values = self._values[secret] = {}
            self._versions[secret] = self._version(secret)
        value = values.get(reference.key)
        if value is None:
            value = values[reference.key] = self._load(secret, reference.key)
        return value

    def refresh(self) -> set[str]:
        """Forget what has changed since it was read; return the namespaces concerned."""
        changed = {secret for secret, version in self._versions.items() if self._version(secret) != version}
        for secret in changed:
            del self._values[secret], self._versions[secret]
        return {namespace for namespace, _ in changed}

    async def watch(self, on_change: Callable[[set[str]], None]) -> None:
        """Refresh until cancelled, telling of the namespaces whose Secrets changed."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            if changed := self.refresh():
                on_change(changed)

    def _load(self, secret: tuple[str, str], key: str) -> bytes:
        folder = self._directory.joinpath(*secret)
        try:
            return (folder / key).read_bytes()
        except FileNotFoundError:
            name = f"{secret[0]}/{secret[1]}"
            missing = f"has no key {key}" if folder.is_dir() else "does not exist"
            raise CredentialMissingError(f"Secret {name} {missing}; create it or correct the reference") from None

    def _version(self, secret: tuple[str, str]) -> _Version:
        folder = self._directory.joinpath(*secret)
        try:
            if (folder / "..data").is_symlink():
                return ((folder / "..data").readlink(),)
            return tuple(sorted((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in folder.iterdir()))
        except OSError:
            return ()


class NamespacedSecrets:
    """The Secrets of one namespace: what a connector may read."""

    def __init__(self, secrets: MountedSecrets, namespace: str) -> None:
        self._secrets = secrets
        self._namespace = namespace

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        return self._secrets.read(self._namespace, reference)

"""Secrets as the kubelet mounts them: `<directory>/<namespace>/<secret>/<key>`, read once, and again when they change.

A mounted volume changes by one atomic swap of its `..data` link. The volume is a namespace's, with a folder for each
Secret, or a single Secret's. `watch` compares those links (or, in a plain folder, the files' times) four times a
second, so a rotated credential is in use at once and without a restart. What counts as changed is what was read from
a Secret and now reads otherwise: a swap that concerned another Secret of the volume is none.

A new value that cannot be used, such as a signing secret cut short, must not stop deliveries that work: the connection
goes on with the former one, as long as this process lives, until another value comes. A Secret that was removed is
gone, though: taking it away is how people stop its use.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from connectors.context import CredentialMissingError
from connectors.errors import UnusableCredentialError
from contracts.spec_values import SecretKeyRef

REFRESH_SECONDS = 0.25

Changes = dict[str, dict[str, Mapping[str, bytes]]]
"""By namespace and Secret: what had been read before the change, by key."""

_Secret = tuple[str, str]
_Version = tuple[object, ...]


class MountedSecrets:
    """The Secrets of all namespaces that this worker was given."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._values: dict[_Secret, dict[str, bytes | None]] = {}
        self._versions: dict[_Secret, _Version] = {}
        self.former: Changes = {}

    def read(self, namespace: str, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        secret = (namespace, reference.name)
        values = self._values.get(secret)
        if values is None:
            values = self._values[secret] = {}
            self._versions[secret] = self._version(secret, self._link(namespace))
        value = values.get(reference.key)
        if value is None:
            value = values[reference.key] = self._load(secret, reference.key)
            if value is None:
                raise self._missing(secret, reference.key)
        return value

    def refresh(self) -> set[str]:
        """Forget what reads otherwise than it did; return the namespaces concerned. `former` then says what it was."""
        links = {namespace: self._link(namespace) for namespace, _ in self._versions}
        self.former = {}
        for secret, former in list(self._versions.items()):
            version = self._version(secret, links[secret[0]])
            if version == former:
                continue
            values = self._values[secret]
            if all(self._load(secret, key) == value for key, value in values.items()):
                self._versions[secret] = version
                continue
            del self._values[secret], self._versions[secret]
            known = {key: value for key, value in values.items() if value is not None}
            self.former.setdefault(secret[0], {})[secret[1]] = known
        return set(self.former)

    async def watch(self, on_change: Callable[[Changes], None]) -> None:
        """Refresh until cancelled, telling of the Secrets that changed."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            if self.refresh():
                on_change(self.former)

    def _load(self, secret: _Secret, key: str) -> bytes | None:
        try:
            return self._directory.joinpath(*secret, key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _missing(self, secret: _Secret, key: str) -> CredentialMissingError:
        missing = f"has no key {key}" if self._directory.joinpath(*secret).is_dir() else "does not exist"
        name = f"{secret[0]}/{secret[1]}"
        return CredentialMissingError(f"Secret {name} {missing}; create it or correct the reference")

    def _link(self, namespace: str) -> Path | None:
        """Return where the link of a namespace's volume points; None if it is none."""
        return _target(self._directory / namespace / "..data")

    def _version(self, secret: _Secret, link: Path | None) -> _Version:
        if link is not None:
            return (link,)
        folder = self._directory.joinpath(*secret)
        if (own := _target(folder / "..data")) is not None:
            return (own,)
        try:
            return tuple(sorted((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in folder.iterdir()))
        except OSError:
            return ()


class ConnectionSecrets:
    """The Secrets of one connection: those of its namespace, with former values in the place of unusable ones."""

    def __init__(self, secrets: MountedSecrets, namespace: str) -> None:
        self._secrets = secrets
        self._namespace = namespace
        self._former: dict[tuple[str, str], bytes] = {}

    @property
    def outdated(self) -> bool:
        """Whether former values are in use because the newest cannot be."""
        return bool(self._former)

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        if self._former:
            value = self._former.get((reference.name, reference.key))
            if value is not None:
                return value
        return self._secrets.read(self._namespace, reference)

    def renew(self, changed: Mapping[str, Mapping[str, bytes]], check: Callable[[], None]) -> list[str]:
        """Go over to the new values of changed Secrets, except those that cannot be used; return why they cannot.

        `changed` are the values until now. `check` raises CredentialMissingError or UnusableCredentialError for the
        values that `read` returns. Each Secret is tried by itself, so that one that is wrong holds back no other.
        """
        for secret, values in changed.items():
            for key, value in values.items():
                self._former.setdefault((secret, key), value)
        problems: list[str] = []
        worked = _problem(check) is None
        for secret in changed:
            former = {name: self._former.pop(name) for name in list(self._former) if name[0] == secret}
            problem = _problem(check)
            if worked and isinstance(problem, UnusableCredentialError):
                self._former |= former
                problems.append(str(problem))
        return problems


def _problem(check: Callable[[], None]) -> Exception | None:
    try:
        check()
    except (CredentialMissingError, UnusableCredentialError) as error:
        return error
    return None


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None

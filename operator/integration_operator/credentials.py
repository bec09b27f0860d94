"""What a connection's Secrets are worth: which keys are missing, whether the connector can use the others.

Values are read when they have changed, shown to the connector, and forgotten; what is kept is a digest of each. Where
thousands of connections are new to a leader, their Secrets are read page by page first: one request for many of them.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from connectors.connector import Connection
from connectors.registry import check_credentials
from contracts.connection import secret_references
from contracts.ids import ConnectionUid
from contracts.spec_values import SecretKeyRef
from integration_operator.conclusion import Credentials
from integration_operator.errors import NotFoundError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, SecretObject, decode, fingerprint, key_of, secret_of
from integration_operator.world import World

UNWATCHED_SECONDS: Final = 300.0
"""How old the knowledge of a Secret that no watch covers may be."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """The last judgement on a connection's credentials: for which generation and digest, and what was wrong."""

    generation: int
    digest: str
    problems: tuple[str, ...]


class CredentialReview:
    """Judges connections' credentials."""

    def __init__(self, kube: Kube, world: World, digest_key: bytes) -> None:
        self._kube = kube
        self._world = world
        self._digest_key = digest_key
        self._fetched: dict[ObjectKey, tuple[float, SecretObject | None]] = {}
        self._checked: dict[ConnectionUid, _Checked] = {}

    async def review_new(self, pages: AsyncIterator[Sequence[Json]]) -> None:
        """Judge connections that were not judged before by the Secrets in these pages.

        What a page cannot tell (Secrets on several pages, a value that has changed since the watch told of it) is left
        to `review`.
        """
        async for page in pages:
            bodies = {key_of(body): body for body in page}
            current = {
                key for key, body in bodies.items() if self._world.secrets.get(key) == secret_of(body, self._digest_key)
            }
            for connection in self._world.users(current):
                if connection.spec is None or connection.uid in self._checked:
                    continue
                keys = {ObjectKey(connection.key.namespace, each.name) for each in secret_references(connection.spec)}
                if keys <= current:
                    await self.review(connection, afresh=False, bodies={key.name: bodies[key] for key in keys})

    async def review(
        self, connection: ConnectionObject, *, afresh: bool, bodies: Mapping[str, Json] = MappingProxyType({})
    ) -> Credentials:
        """Judge a connection's credentials; `afresh` reads Secrets again that no watch covers, `bodies` are known."""
        assert connection.spec is not None  # noqa: S101 -- for the type checker; callers have looked
        references = sorted(secret_references(connection.spec), key=lambda each: (each.name, each.key))
        read = dict(bodies)
        digests: dict[SecretKeyRef, str] = {}
        missing: list[str] = []
        unwatched: list[str] = []
        for name in dict.fromkeys(reference.name for reference in references):
            secret = await self._secret(ObjectKey(connection.key.namespace, name), read, afresh=afresh)
            wanted = [reference for reference in references if reference.name == name]
            if secret is None:
                missing.append(f"Secret {name}")
                continue
            if not secret.watched:
                unwatched.append(name)
            for reference in wanted:
                if reference.key in secret.digests:
                    digests[reference] = secret.digests[reference.key]
                else:
                    missing.append(f"key {reference.key} of Secret {name}")
        digest = _combined(digests)
        if missing:
            return Credentials(digest, tuple(missing), (), tuple(unwatched))
        problems = await self._problems(connection, digest, references, read)
        return Credentials(digest, (), problems, tuple(unwatched))

    def forget(self, uid: ConnectionUid) -> None:
        """Forget a connection that is gone."""
        self._checked.pop(uid, None)

    async def _secret(self, key: ObjectKey, bodies: dict[str, Json], *, afresh: bool) -> SecretObject | None:
        watched = self._world.secrets.get(key)
        if watched is not None:
            return watched
        read_at, known = self._fetched.get(key, (0.0, None))
        if known is not None and not afresh and time.monotonic() - read_at < UNWATCHED_SECONDS:
            return known
        try:
            bodies[key.name] = await self._read(key)
        except NotFoundError:
            self._fetched.pop(key, None)
            return None
        found = secret_of(bodies[key.name], self._digest_key)
        self._fetched[key] = (time.monotonic(), found)
        return found

    async def _problems(
        self, connection: ConnectionObject, digest: str, references: list[SecretKeyRef], bodies: dict[str, Json]
    ) -> tuple[str, ...]:
        assert connection.spec is not None  # noqa: S101 -- as above
        checked = self._checked.get(connection.uid)
        if checked is not None and (checked.generation, checked.digest) == (connection.generation, digest):
            return checked.problems
        if checked is None and _was_valid(connection, digest):
            problems: tuple[str, ...] = ()
        else:
            for name in {reference.name for reference in references} - bodies.keys():
                try:
                    bodies[name] = await self._read(ObjectKey(connection.key.namespace, name))
                except NotFoundError:
                    return (f"Secret {name} was deleted just now",)
            subject = Connection(
                connection.uid, connection.key.namespace, connection.key.name, connection.spec.tenant, connection.spec
            )
            values = {
                reference: decode(bodies[reference.name]["data"][reference.key])
                for reference in references
                if reference.key in (bodies[reference.name].get("data") or {})
            }
            problems = tuple(check_credentials(subject, values))
        self._checked[connection.uid] = _Checked(connection.generation, digest, problems)
        return problems

    async def _read(self, key: ObjectKey) -> Json:
        return await self._kube.get(path_to("v1", "secrets", key.namespace, key.name))


def _was_valid(connection: ConnectionObject, digest: str) -> bool:
    """Whether the status says that these very credentials were found valid, by us before a restart or by another."""
    status = connection.status
    return (
        status.get("observedGeneration") == connection.generation
        and status.get("observedSecretHash") == digest
        and any(
            condition.get("type") == "CredentialsValid" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        )
    )


def _combined(digests: dict[SecretKeyRef, str]) -> str:
    text = "\n".join(f"{reference.name}/{reference.key}={digests[reference]}" for reference in digests)
    return fingerprint(text)

"""Bringing pools to what their connections need: database role and password, Deployment, Secret, disruption budget.

Order, and what a kill leaves behind: first the pool's row, then the Deployment with no worker in it, then the Secret
that its pods wait for, last the password in the database. The password's id is in the Secret and in the database; where
they differ, the Secret's password is put into force. So every step can be repeated, and every kill is healed by the
next run. On a rotation workers that connect in between are refused, try again, and read the new password by then.
"""

import asyncio
import logging
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from contracts.connection import oauth_of
from integration_operator.children import (
    OAUTH_KEYS_FILE,
    database_url,
    deployment,
    password_in,
    pool_secret,
    replica_bounds,
    scaled,
)
from integration_operator.companions import Companion, companions_of
from integration_operator.databases import Databases
from integration_operator.errors import NotFoundError
from integration_operator.kube import Kube, path_to
from integration_operator.names import CREDENTIAL, HASH, POOL_LABEL, SCALER, SECRETS, ObjectKey
from integration_operator.observed import ConnectionObject, PoolObject, PoolSecret, covers, decode, fingerprint, pool_of
from integration_operator.settings import OperatorSettings
from integration_operator.world import World
from programs.key_ring import KeyRingError, read_key_folder
from store.database import Database
from store.leadership import Term
from store.pools import Pool, drop_pool, ensure_pool, read_pools, scram_verifier, set_credential

log = logging.getLogger(__name__)

_UNAVAILABLE_GRACE_SECONDS: Final = 30.0


class PoolKeeper:
    """Keeps the pools of one leader's term."""

    def __init__(self, kube: Kube, world: World, database: Databases, settings: OperatorSettings, term: Term) -> None:
        self._kube = kube
        self._world = world
        self._database = database
        self._settings = settings
        self._term = term
        self._rows: dict[str, Pool] = {}
        self._making = asyncio.Lock()
        self._companions: dict[Companion, dict[ObjectKey, str]] = {}
        self.keda = False
        self.digests: dict[ObjectKey, dict[ObjectKey, str]] = {}

    async def begin(self, database: Database) -> None:
        """Read what exists."""
        self._rows = {pool.name: pool for pool in await read_pools(database)}

    @property
    def rows(self) -> dict[str, Pool]:
        """The pools that the database knows, by name."""
        return self._rows

    def note_companions(self, companion: Companion, found: dict[ObjectKey, str]) -> set[ObjectKey]:
        """Take in which companions of a kind exist, with their digests; return the pools whose is gone or changed."""
        known = self._companions.get(companion, {})
        self._companions[companion] = found
        return {pool for pool, digest in known.items() if found.get(pool) != digest}

    async def row(self, pool: ObjectKey) -> Pool:
        """Return the pool's row, made if need be."""
        name = str(pool)
        async with self._making:
            if name not in self._rows:
                self._rows[name] = await self._database.once(
                    lambda database: ensure_pool(database, name, term=self._term)
                )
            return self._rows[name]

    def note_credentials(self, pool: ObjectKey, connection: ObjectKey, digest: str | None) -> bool:
        """Take in the digest of a connection's usable credentials; say whether the pool's workers must be told.

        Unusable ones (None) are not announced: workers that go on with the former ones shall do so undisturbed.
        """
        known = self.digests.setdefault(pool, {})
        if digest is None:
            digest = known.get(connection, "")
        changed = known.get(connection) != digest
        known[connection] = digest
        return changed

    async def reconcile(self, pool: ObjectKey) -> float | None:
        """Bring a pool to what its connections need; return after how many seconds to look again."""
        if self._world.unreadable_in(pool.namespace):
            return None  # what its pools need is not known; they stay as they are
        members = self._world.members(pool)
        if not members:
            await self._end(pool)
            return None
        row = await self.row(pool)
        observed = self._world.pools.get(pool)
        applied = await self._apply_deployment(pool, observed)
        await self._keep_secret(pool, row, members, applied.uid)
        await self._keep_replicas(pool, members, applied)
        await self._keep_companions(pool, row, members, applied.uid)
        return _UNAVAILABLE_GRACE_SECONDS if applied.unavailable_since else None

    async def _keep_replicas(self, pool: ObjectKey, members: Sequence[ConnectionObject], applied: PoolObject) -> None:
        """Keep the least number of workers; where KEDA scales, only hand the number over, so that no apply sets it."""
        if not applied.replicas_are_ours:
            return
        least = 0 if self.keda else replica_bounds(members)[0]
        if applied.replicas < least or (self.keda and not applied.scaled_by_us):
            await self.scale(pool, max(applied.replicas, least))

    async def _keep_companions(
        self, pool: ObjectKey, row: Pool, members: Sequence[ConnectionObject], owner: str
    ) -> None:
        wanted = companions_of(pool, members, self._settings, role=row.role, owner=owner, keda=self.keda)
        for companion, body in wanted.items():
            digest = body["metadata"]["annotations"][HASH]
            known = self._companions.setdefault(companion, {})
            if known.get(pool) != digest:
                await self._kube.apply(_path(companion.api_version, companion.plural, pool), body)
                known[pool] = digest

    async def scale(self, pool: ObjectKey, replicas: int) -> None:
        """Set the number of a pool's workers."""
        await self._kube.apply(_path("apps/v1", "deployments", pool), scaled(pool, replicas), manager=SCALER)

    def problem(self, pool: ObjectKey) -> str | None:
        """Say in words why a pool's workers cannot work; None if they can, or need not."""
        observed = self._world.pools.get(pool)
        if observed is None:
            return None
        if observed.failure:
            return f"the workers of {pool} cannot be started: {observed.failure}"
        since = observed.unavailable_since
        if since is None or (datetime.now(UTC) - since).total_seconds() < _UNAVAILABLE_GRACE_SECONDS:
            return None
        return (
            f"no worker of {pool} is available since {since:%Y-%m-%dT%H:%M:%SZ}; see:"
            f" kubectl describe pods -n {pool.namespace} -l {POOL_LABEL}={pool.name}"
        )

    async def _apply_deployment(self, pool: ObjectKey, observed: PoolObject | None) -> PoolObject:
        members = self._world.members(pool)
        known = self.digests.get(pool, {})
        present = {member.key for member in members}
        # Until every member's credentials have been looked at, nothing can be said of their change.
        secrets = observed.secrets if observed else ""
        if present <= known.keys():
            secrets = _combined({key: known[key] for key in present})
        wanted = deployment(pool, members, self._settings, secrets=secrets, replicas=_replicas_to_apply(observed))
        if observed is not None:
            unchanged = observed.hash == wanted["metadata"]["annotations"][HASH]
            if unchanged and observed.secrets == secrets and covers(observed.spec, wanted["spec"]):
                return observed
            if observed.secrets != secrets:
                await self._tell_pods(pool, secrets)
        return pool_of(await self._kube.apply(_path("apps/v1", "deployments", pool), wanted))

    async def _tell_pods(self, pool: ObjectKey, secrets: str) -> None:
        """Have the kubelets renew the mounted files at once: they do when the pod changes, else within a minute or two.

        Killed in between, some pods are not told; the Deployment's annotation is written last, so all are told again.
        """
        pods = path_to("v1", "pods", pool.namespace)
        async for pod in self._kube.list(pods, labels=f"{POOL_LABEL}={pool.name}", metadata_only=True):
            path = path_to("v1", "pods", pool.namespace, pod["metadata"]["name"])
            try:
                await self._kube.merge(path, {"metadata": {"annotations": {SECRETS: secrets}}})
            except NotFoundError:
                continue  # it has ended meanwhile

    async def _keep_secret(self, pool: ObjectKey, row: Pool, members: Sequence[ConnectionObject], owner: str) -> None:
        secret = self._world.pool_secrets.get(pool)
        keys = self._oauth_keys(pool, members)
        digest = fingerprint(keys) if keys else ""
        rotates = secret is None or self._is_old(secret)
        rekeys = secret is not None and digest not in ("", secret.oauth_keys)
        if secret is not None and not rotates and not rekeys and secret.credential == row.credential:
            return
        credential, password = randomness.token_hex(8), randomness.token_urlsafe(32)
        rotated_at = datetime.now(UTC)
        if secret is not None:
            body = await self._kube.get(_path("v1", "secrets", pool))
            if not rotates:
                credential, rotated_at = body["metadata"]["annotations"][CREDENTIAL], secret.rotated_at
                password = password_in(decode(body["data"]["url"]).decode())
            if not keys and OAUTH_KEYS_FILE in body["data"]:  # ours cannot be read now; the pool keeps what it has
                keys, digest = decode(body["data"][OAUTH_KEYS_FILE]).decode(), secret.oauth_keys
        if rotates or rekeys:
            held = PoolSecret(credential, rotated_at, digest)
            url = database_url(self._settings, row.role, password)
            await self._kube.apply(_path("v1", "secrets", pool), pool_secret(pool, owner, url, held, keys))
            self._world.pool_secrets[pool] = held
            if secret is not None:
                await self._tell_pods(pool, f"{credential}{digest}")
        if credential == row.credential:
            return
        verifier = scram_verifier(password)
        await self._database.once(
            lambda database: set_credential(database, row.name, credential, verifier, term=self._term)
        )
        self._rows[row.name] = Pool(row.id, row.name, row.role, credential)

    def _oauth_keys(self, pool: ObjectKey, members: Sequence[ConnectionObject]) -> str:
        """Write the keys of a pool that has OAuth grants; nothing if it has none, or there are no master keys."""
        if not any(member.spec and oauth_of(member.spec) for member in members):
            return ""
        try:
            ring = read_key_folder(self._settings.oauth_keys_directory)
        except KeyRingError as error:
            log.error("the master keys of OAuth grants cannot be used", extra={"reason": str(error)})
            return ""
        return ring.derived(f"integration layer, pool {pool}").written() if ring else ""

    def _is_old(self, secret: PoolSecret) -> bool:
        return datetime.now(UTC) - secret.rotated_at > self._settings.password_lifetime

    async def _end(self, pool: ObjectKey) -> None:
        """Take down a pool that no connection needs any more; one whose connections were orphaned stays."""
        name = str(pool)
        if name in self._rows:
            if not await self._database.once(lambda database: drop_pool(database, name, term=self._term)):
                return
            del self._rows[name]
        observed = self._world.pools.get(pool)
        if observed is not None:
            await self._kube.delete(_path("apps/v1", "deployments", pool), uid=observed.uid)
        self.digests.pop(pool, None)
        for known in self._companions.values():
            known.pop(pool, None)


def _replicas_to_apply(observed: PoolObject | None) -> int | None:
    """Return what to say about the number of workers: none at first, then what it is until our scaler has it.

    Leaving out a field that nobody else owns would set it to its default, one worker.
    """
    if observed is None:
        return 0
    if observed.scaled_by_us or not observed.replicas_are_ours:
        return None
    return observed.replicas


def _path(api_version: str, plural: str, key: ObjectKey) -> str:
    return path_to(api_version, plural, key.namespace, key.name)


def _combined(digests: dict[ObjectKey, str]) -> str:
    text = "\n".join(f"{key}={digests[key]}" for key in sorted(digests))
    return fingerprint(text)

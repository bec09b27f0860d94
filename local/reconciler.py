"""Making what is published agree with a folder of manifests, and telling the person what was done and what was not.

A document that cannot be read may be the one that defines a running connection. So nothing is retired, and no Secret
removed, that a present problem may concern: it stays as it was until the problem is mended.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID, uuid5

from contracts.connection import secret_references
from contracts.ids import ConnectionUid, PoolId
from contracts.manifests import IntegrationConnection, ManifestProblem, Manifests
from contracts.problems import Problem
from integration_operator.publication import ConnectionResource, Publication, Verdict, publish_resources
from local.reports import Reporter
from local.secret_files import SecretFiles
from store.database import Database
from store.upkeep import BacklogRow, read_backlog

_UIDS = UUID("5b0d1a8e-6c1c-4d8e-9d1b-0f6a3f0c7b52")
"""Any constant: with it, a connection of this name has the same uid, and so the same message ids, in every run."""


def local_uid(namespace: str, name: str) -> ConnectionUid:
    """Return the uid of a connection that no API server gave one."""
    return ConnectionUid(uuid5(_UIDS, f"{namespace}/{name}"))


class Reconciler:
    """Applies manifests again and again; what it has told once it does not repeat."""

    def __init__(self, pool: PoolId, secrets: Path, reporter: Reporter) -> None:
        self._pool = pool
        self._secrets = SecretFiles(secrets)
        self._reporter = reporter
        self._told: set[str] = set()
        self.problems = 0
        self.present: frozenset[ConnectionUid] = frozenset()

    async def apply(self, database: Database, manifests: Manifests) -> Publication:
        """Write Secrets, publish connections, retire those that are gone; raise StoreError, with nothing published."""
        self._secrets.write(manifests.secrets, lambda name: _may_concern(manifests.problems, name))
        published = await read_backlog(database)
        moved = list(_moved_connections(manifests.connections, published))
        refused = {(problem.connection.namespace, problem.connection.name) for problem in moved}
        resources = [
            ConnectionResource(local_uid(connection.namespace, connection.name), connection, self._pool)
            for connection in manifests.connections
            if (connection.namespace, connection.name) not in refused
        ]
        unreadable = {
            local_uid(row.namespace, row.connection)
            for row in published
            if (row.namespace, row.connection) in refused or _may_concern(manifests.problems, row.connection)
        }
        publication = await publish_resources(database, resources, unreadable=unreadable)
        self.present = frozenset({resource.uid for resource in resources} | unreadable)
        self._tell(manifests, moved, publication, published)
        return publication

    def _tell(
        self,
        manifests: Manifests,
        moved: list["_Moved"],
        publication: Publication,
        published: Iterable[BacklogRow],
    ) -> None:
        names = {local_uid(row.namespace, row.connection): f"{row.namespace}/{row.connection}" for row in published}
        for result in publication.results:
            connection = result.resource.connection
            if result.verdict is Verdict.PUBLISHED:
                verb = "changed" if result.resource.uid in names else "published"
                self._reporter.say(f"connection {connection.namespace}/{connection.name} {verb}")
        for uid in publication.retired:
            self._reporter.say(f"connection {names[uid]} retired: it takes no new events, and delivers what it has")
        problems = [str(problem) for problem in manifests.problems]
        problems += [_sentence(refusal.connection, refusal.problem) for refusal in moved]
        for result in publication.results:
            problems += [_sentence(result.resource.connection, problem) for problem in result.problems]
        self._tell_problems(problems, list(_missing_secrets(manifests)))

    def _tell_problems(self, problems: list[str], warnings: list[str]) -> None:
        for text in problems:
            if text not in self._told:
                self._reporter.problem(text)
        for text in warnings:
            if text not in self._told:
                self._reporter.warn(text)
        if problems and not self._told.issuperset(problems):
            self._reporter.say("what runs goes on as it was; correct the file, it is read again at once")
        if self._told and not problems and not warnings:
            self._reporter.say("all manifests are right again")
        self._told = {*problems, *warnings}
        self.problems = len(problems)


class _Moved:
    """A connection whose manifest says what must not change."""

    def __init__(self, connection: IntegrationConnection, problem: Problem) -> None:
        self.connection = connection
        self.problem = problem


def _moved_connections(
    connections: Iterable[IntegrationConnection], published: Iterable[BacklogRow]
) -> Iterator[_Moved]:
    """Find connections that claim another tenant than they have; in a cluster the API server refuses that."""
    tenants = {(row.namespace, row.connection): row.tenant for row in published}
    for connection in connections:
        tenant = tenants.get((connection.namespace, connection.name), connection.spec.tenant)
        if tenant != connection.spec.tenant:
            message = (
                f"found {connection.spec.tenant!r}; the tenant of a connection is immutable and is {tenant!r}, so"
                " give the connection another name"
            )
            yield _Moved(connection, Problem("spec.tenant", message))


def _may_concern(problems: Iterable[ManifestProblem], name: str) -> bool:
    """Whether a document with a problem may be the one that defines the resource of this name."""
    return any(
        problem.name is None or problem.name == name or problem.path.startswith("metadata") for problem in problems
    )


def _missing_secrets(manifests: Manifests) -> Iterator[str]:
    """Name what connections refer to and the folder does not have; they are published, and wait for it."""
    keys = {(secret.namespace, secret.name): secret.data.keys() for secret in manifests.secrets}
    for connection in manifests.connections:
        for reference in sorted(secret_references(connection.spec), key=lambda key: (key.name, key.key)):
            if reference.key not in keys.get((connection.namespace, reference.name), ()):
                message = (
                    f"key {reference.key} of Secret {connection.namespace}/{reference.name} is in no manifest here;"
                    " deliveries wait until it is"
                )
                yield _sentence(connection, Problem("spec", message))


def _sentence(connection: IntegrationConnection, problem: Problem) -> str:
    origin = connection.origin
    kind = "IntegrationConnection"
    return str(ManifestProblem(origin.source, origin.document, kind, connection.name, problem.path, problem.message))

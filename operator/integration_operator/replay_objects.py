"""What the operator has seen of IntegrationReplays."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contracts.errors import InvalidSpecError
from contracts.ids import ReplayUid
from contracts.replay import ReplaySpec, parse_replay_spec
from integration_operator.kube import Json
from integration_operator.names import ObjectKey
from integration_operator.observed import key_of


@dataclass(frozen=True, slots=True)
class ReplayObject:
    """An IntegrationReplay. `spec` is None if it cannot be read; `problems` says why."""

    key: ObjectKey
    uid: ReplayUid
    generation: int
    resource_version: str
    spec: ReplaySpec | None
    problems: tuple[str, ...]
    deleted: bool
    status: Json = field(repr=False)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, as its status tells: from then on nothing is done about it but to keep it or not."""
        return _time(self.status.get("finishedAt"))

    @property
    def has_started(self) -> bool:
        """Whether its status tells that the database knew of it once."""
        return "startedAt" in self.status


def replay_of(body: Json) -> ReplayObject:
    """Read an IntegrationReplay."""
    metadata = body["metadata"]
    spec: ReplaySpec | None = None
    problems: tuple[str, ...] = ()
    try:
        spec = parse_replay_spec(body.get("spec"))
    except InvalidSpecError as error:
        problems = tuple(map(str, error.problems))
    return ReplayObject(
        key=key_of(body),
        uid=ReplayUid(UUID(metadata["uid"])),
        generation=metadata.get("generation", 1),
        resource_version=metadata["resourceVersion"],
        spec=spec,
        problems=problems,
        deleted="deletionTimestamp" in metadata,
        status=dict(body.get("status") or {}),
    )


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None

"""The kinds of resources that people apply: what each is called, what it says and how `kubectl get` shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from contracts.documents import Schema, connection_schema, model_schema
from contracts.replay import ReplaySpec
from contracts.replay_status import ReplayStatus
from contracts.status import ConnectionStatus

GROUP: Final = "integrations.queast.io"
VERSION: Final = "v1alpha1"


class Column(NamedTuple):
    """A column of `kubectl get`; those of priority 1 are shown by `-o wide` only."""

    name: str
    path: str
    description: str
    priority: int = 0
    type: str = "string"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource."""

    kind: str
    plural: str
    short_name: str
    description: str
    page: str
    """Name of its page in docs/reference/."""
    advice: str
    """What that page says before the first table."""
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    spec: Callable[[], Schema]
    status: Callable[[], Schema]


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_AGE: Final = Column("Age", ".metadata.creationTimestamp", "How long ago it was created.", type="date")
_MESSAGE: Final = Column("Message", f"{_READY}.message", "Why, and what to do next.", 1)

CONNECTION: Final = Kind(
    kind="IntegrationConnection",
    plural="integrationconnections",
    short_name="iconn",
    description="A link between a tenant and its account at a partner, to which events are delivered.",
    page="connection",
    advice="Exactly one of the blocks `webhook`, `hubspot`, `pipedrive` and `plugin` is given: "
    "the one that `provider` names.",
    columns=(
        Column("Ready", f"{_READY}.status", "Whether it delivers as the spec says."),
        Column("Status", ".status.state", "What it does, in one word."),
        Column("Provider", ".spec.provider", "The kind of partner."),
        Column("Tenant", ".spec.tenant", "Whose events are delivered."),
        _AGE,
        _MESSAGE,
        Column("Pool", ".status.pool", "The workers that deliver for it.", 1),
    ),
    selectable=(".spec.tenant", ".spec.provider", ".spec.suspend", ".status.state"),
    spec=connection_schema,
    status=lambda: model_schema(ConnectionStatus),
)

REPLAY: Final = Kind(
    kind="IntegrationReplay",
    plural="integrationreplays",
    short_name="ireplay",
    description="A request to deliver again what was delivered or given up, and what came of it.",
    page="replay",
    advice="Only `cancel` and `ttlAfterFinished` can be changed; for anything else, create another one.",
    columns=(
        Column("State", ".status.state", "What it does, in one word."),
        Column("Connection", ".spec.connection", "To which connection; all of the tenant's here if empty."),
        Column("Tenant", ".spec.tenant", "Whose events are delivered again."),
        Column(
            "Progress", ".status.progress", "Jobs delivered of those made so far; of a dry run, those it would make."
        ),
        Column("Dry run", ".spec.dryRun", "Whether it only counts.", type="boolean"),
        _AGE,
        _MESSAGE,
        Column("Reason", ".spec.reason", "Why it was asked for.", 1),
    ),
    selectable=(".spec.tenant", ".spec.connection", ".spec.dryRun", ".status.state"),
    spec=lambda: model_schema(ReplaySpec),
    status=lambda: model_schema(ReplayStatus),
)

KINDS: Final = (CONNECTION, REPLAY)

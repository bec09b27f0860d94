"""Settings of dispatcher and worker."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from socket import gethostname
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from contracts.wire import DNS_LABEL
from programs.settings import ProgramSettings
from store.retention import Retention

_Days = Annotated[int, Field(ge=1, le=3650)]
_Tenant = Annotated[str, Field(pattern=DNS_LABEL, max_length=63)]


class TenantRetention(BaseModel):
    """Days that one tenant's history is kept; what is left out is kept as long as everybody's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: _Days | None = None
    attempts: _Days | None = None
    dead_letters: _Days | None = Field(default=None, alias="deadLetters")


class DispatcherSettings(ProgramSettings):
    """Settings of the dispatcher."""

    batch: int = Field(default=1000, ge=1, le=10_000, description="Events per transaction at most.")
    event_days: _Days = Field(default=30, description="Days that events are kept.")
    attempt_days: _Days = Field(default=30, description="Days that attempts are kept.")
    dead_letter_days: _Days = Field(default=90, description="Days that dead letters are kept.")
    tenant_retention: dict[_Tenant, TenantRetention] = Field(
        default={},
        max_length=1000,
        description="Days by tenant, where they differ, as a JSON object: "
        '{"acme": {"events": 7, "attempts": 7, "deadLetters": 30}}.',
    )

    def events_kept(self) -> Retention:
        """Return how long events are kept."""
        return self._kept(self.event_days, lambda own: own.events)

    def attempts_kept(self) -> Retention:
        """Return how long attempts are kept."""
        return self._kept(self.attempt_days, lambda own: own.attempts)

    def dead_letters_kept(self) -> Retention:
        """Return how long dead letters are kept, and what people did with them."""
        return self._kept(self.dead_letter_days, lambda own: own.dead_letters)

    def _kept(self, days: int, own_days: Callable[[TenantRetention], int | None]) -> Retention:
        own = {tenant: own_days(retention) for tenant, retention in self.tenant_retention.items()}
        return Retention(days, {tenant: kept for tenant, kept in own.items() if kept is not None})


class WorkerSettings(ProgramSettings):
    """Settings of a delivery worker."""

    worker_name: str = Field(
        default_factory=gethostname, min_length=1, max_length=253, description="Unique in its pool; a pod's name."
    )
    secrets_directory: Path = Field(
        default=Path("/etc/integrations/secrets"), description="Mounted Secrets: <namespace>/<secret>/<key>."
    )
    oauth_keys_file: Path = Field(
        default=Path("/etc/integrations/database/oauth-keys"),
        description="The pool's keys that seal OAuth grants, as the operator writes them; needed for OAuth only.",
    )
    senders: int = Field(default=256, ge=1, le=4096, description="Requests under way at once, over all connections.")
    lease: timedelta = Field(
        default=timedelta(seconds=15),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=5),
        description="How long a silent worker keeps its connections before another takes them.",
    )
    drain: timedelta = Field(
        default=timedelta(seconds=25),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="How long a stopping worker waits for requests under way.",
    )
    egress_allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), description="Networks that may be called although they are private, as a JSON list of CIDRs."
    )

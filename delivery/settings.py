"""Settings of dispatcher and worker."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from socket import gethostname

from pydantic import Field

from programs.settings import ProgramSettings


class DispatcherSettings(ProgramSettings):
    """Settings of the dispatcher."""

    batch: int = Field(default=1000, ge=1, le=10_000, description="Events per transaction at most.")
    event_days: int = Field(default=30, ge=1, le=3650, description="Days that events are kept.")
    attempt_days: int = Field(default=30, ge=1, le=3650, description="Days that attempts are kept.")
    dead_letter_days: int = Field(default=90, ge=1, le=3650, description="Days that dead letters are kept.")


class WorkerSettings(ProgramSettings):
    """Settings of a delivery worker."""

    worker_name: str = Field(
        default_factory=gethostname, min_length=1, max_length=253, description="Unique in its pool; a pod's name."
    )
    secrets_directory: Path = Field(
        default=Path("/etc/integrations/secrets"), description="Mounted Secrets: <namespace>/<secret>/<key>."
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

"""Settings of the operator, read once from the environment (`INTEGRATIONS_…`) and handed down."""

from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from socket import gethostname

from pydantic import Field

from programs.settings import ProgramSettings


class Scaling(StrEnum):
    """Who decides how many workers a pool has."""

    OPERATOR = "Operator"
    KEDA = "KEDA"


class OperatorSettings(ProgramSettings):
    """Settings of the operator."""

    namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces to look after, as a JSON list; all of them by default."
    )
    worker_image: str = Field(min_length=1, description="Image of the workers; its entrypoint is `integrations`.")
    worker_database: str = Field(
        pattern=r"^postgres(ql)?://[^@]+$",
        description="Connection string that workers use, without user and password: postgresql://host:port/database.",
    )
    worker_egress_allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), description="Private networks that workers may call, as a JSON list of CIDRs."
    )
    worker_image_pull_secrets: tuple[str, ...] = Field(
        default=(), description="Secrets to pull the workers' image with, as a JSON list of names."
    )
    worker_cpu: str = Field(default="100m", description="CPU that a worker requests.")
    worker_memory: str = Field(default="256Mi", description="Memory that a worker requests, and its limit.")
    lease_namespace: str = Field(default="default", description="Namespace of the Lease that the leader holds.")
    lease_name: str = Field(default="integration-operator", description="Name of the Lease that the leader holds.")
    identity: str = Field(default_factory=gethostname, description="Name of this replica; a pod's name.")
    scaling: Scaling = Field(
        default=Scaling.OPERATOR,
        description="Who sizes pools: Operator, or KEDA through a ScaledObject for each, if KEDA is installed.",
    )
    quiet: timedelta = Field(
        default=timedelta(seconds=60),
        ge=timedelta(seconds=1),
        le=timedelta(hours=24),
        description="How long a pool has nothing to do before it is made smaller.",
    )
    resync: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=10),
        le=timedelta(hours=24),
        description="How often everything is compared with the API server, whatever the watches said.",
    )
    password_lifetime: timedelta = Field(
        default=timedelta(days=30),
        ge=timedelta(minutes=1),
        le=timedelta(days=3650),
        description="How long a pool keeps its database password.",
    )
    oauth_keys_directory: Path = Field(
        default=Path("/etc/integrations/oauth-keys"),
        description="Mounted Secret with the master keys of OAuth grants, a key in each file; needed for OAuth only.",
    )
    reconcilers: int = Field(default=16, ge=1, le=256, description="Objects that are reconciled at once.")

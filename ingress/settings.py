"""Settings of the ingress."""

from pydantic import Field

from programs.settings import ProgramSettings


class IngressSettings(ProgramSettings):
    """Settings of the ingress."""

    host: str = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104 -- in a pod
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on; plain HTTP, behind a TLS proxy.")

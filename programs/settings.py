"""Settings that every program has, read once from the environment (`INTEGRATIONS_…`) and handed down."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from store.database import ConnectionString, read_connection_string

_IN_FILE = "postgresql://"
"""Stands in the place of a connection string that a file holds; nobody connects with it."""


class ProgramSettings(BaseSettings):
    """What every program needs."""

    model_config = SettingsConfigDict(env_prefix="INTEGRATIONS_", frozen=True)

    database_url: SecretStr = Field(description="PostgreSQL connection string of this program's own role.")
    database_url_file: Path | None = Field(
        default=None, description="File that holds it instead, read anew for every connection: its password may change."
    )
    health_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for /metrics, /healthz and /readyz; none by default."
    )
    health_host: str = Field(default="0.0.0.0", description="Address to serve health on.")  # noqa: S104 -- in a pod
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged.")

    def connection_string(self) -> ConnectionString:
        """Return how to connect."""
        if self.database_url_file is not None:
            return partial(read_connection_string, self.database_url_file)
        return self.database_url.get_secret_value

    @model_validator(mode="before")
    @classmethod
    def _url_in_file(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"database_url": _IN_FILE, **given} if given.get("database_url_file") else given

    @field_validator("database_url_file")
    @classmethod
    def _one_url(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        url = info.data.get("database_url")
        if file is not None and url is not None and url.get_secret_value() != _IN_FILE:
            raise ValueError(
                "the connection string is given already, in INTEGRATIONS_DATABASE_URL; leave one of them out"
            )
        return file

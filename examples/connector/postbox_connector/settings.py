"""What a connection says in `spec.plugin.settings`."""

from pydantic import BaseModel, ConfigDict, Field


class PostboxSettings(BaseModel):
    """Where Postbox is."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(pattern=r"^https?://[^\s/?#@]+$", max_length=200)
    """Its address, without a path."""

"""The part of a connection's spec that is for connectors installed beside ours."""

import json
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from contracts.spec_values import ACTION, SecretKeyRef, refuse_repeated
from contracts.wire import DNS_LABEL, WireModel

PLUGIN_SETTINGS_LIMIT: Final = 16 * 1024
"""Bytes of a plug-in's settings as JSON."""


def _check_plugin_settings(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("settings are JSON: texts, numbers, true, false, null, lists and objects") from None
    if size > PLUGIN_SETTINGS_LIMIT:
        raise ValueError(f"settings of more than {PLUGIN_SETTINGS_LIMIT} bytes are not allowed")
    return settings


class PluginSecret(WireModel):
    """A credential of a plug-in's connection."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """What the connector calls it, once in a connection."""
    secret: SecretKeyRef
    """Where it is kept."""


class PluginSettings(WireModel):
    """A partner of a connector that is installed beside ours."""

    connector: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=ACTION)]
    """Name of the connector, as its package registers it; `integrations connectors` lists those that are installed."""
    settings: Annotated[
        dict[str, Any],
        AfterValidator(_check_plugin_settings),
        WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 64}),
    ] = Field(default={})
    """What the connector wants to know; it checks that itself, when the connection is published."""
    secrets_from: Annotated[tuple[PluginSecret, ...], Field(max_length=16)] = ()
    """The connection's credentials, by the names that the connector has for them."""

    def __hash__(self) -> int:
        return hash((self.connector, json.dumps(self.settings, sort_keys=True), self.secrets_from))

    @model_validator(mode="after")
    def _secret_names_are_unique(self) -> Self:
        refuse_repeated("secret", [each.name for each in self.secrets_from])
        return self

    def secret(self, name: str) -> SecretKeyRef | None:
        """Return where a credential is kept; None if the spec does not say."""
        return next((each.secret for each in self.secrets_from if each.name == name), None)

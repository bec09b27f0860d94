"""The parts of a connection's spec that say which account of a CRM it is to, and how we prove who we are."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    Field,
    Strict,
    StringConstraints,
    model_validator,
)

from contracts.spec_values import Address, SecretKeyRef, SecretRef
from contracts.wire import WireModel

OAUTH_SECRET_KEYS: Final = ("client_id", "client_secret")
"""The keys that a Secret named by `oauth.secretRef` holds, called as RFC 6749 calls them."""

OAUTH_SCOPE = r"^[!#-\[\]-~]+$"


class OAuth(WireModel):
    """An OAuth 2.0 app. An account's owner grants it access with `integrations connect`."""

    secret_ref: SecretRef
    """Secret with the keys client_id and client_secret."""
    refresh_token_from: SecretKeyRef | None = None
    """A refresh token of a grant that was made elsewhere, to begin with. When it changes, it replaces the grant."""
    scopes: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=OAUTH_SCOPE)], ...],
        Field(max_length=64),
    ] = ()
    """What the app asks to be allowed; if left out, what the connector needs."""
    server_url: Address | None = None
    """Where the partner's OAuth pages and token endpoint are; only for tests and for proxies of your own."""


class StaticToken(WireModel):
    """A token that does not run out by itself."""

    token_from: SecretKeyRef
    """Where the token is kept."""


class HubSpotAuth(WireModel):
    """How we prove to HubSpot who we are: exactly one of the fields."""

    oauth: OAuth | None = None
    """As an OAuth app."""
    private_app: StaticToken | None = None
    """With the access token of a private app."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.oauth is None) == (self.private_app is None):
            raise ValueError("exactly one of oauth and privateApp must be given")
        return self


class HubSpotVersion(StrEnum):
    """A version of HubSpot's API, which are dated; each is supported for 18 months."""

    V2026_03 = "2026-03"
    V2026_09 = "2026-09"


class HubSpotSettings(WireModel):
    """A HubSpot account."""

    auth: HubSpotAuth
    """How we prove who we are."""
    api_version: HubSpotVersion = HubSpotVersion.V2026_03
    """The version of HubSpot's API that is called."""
    api_url: Address = "https://api.hubapi.com"
    """Where HubSpot's API is; another address is for tests and for proxies of your own."""


class PipedriveAuth(WireModel):
    """How we prove to Pipedrive who we are: exactly one of the fields."""

    oauth: OAuth | None = None
    """As an OAuth app."""
    api_token: StaticToken | None = None
    """With a user's API token."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.oauth is None) == (self.api_token is None):
            raise ValueError("exactly one of oauth and apiToken must be given")
        return self


PIPEDRIVE_API: Final = "https://api.pipedrive.com"


class PipedriveSettings(WireModel):
    """A Pipedrive company."""

    daily_tokens: Annotated[int, Strict(), Field(ge=1_000, le=100_000_000)] | None = None
    """How many of the company's daily API tokens the connection may spend; without it, all that there are."""

    auth: PipedriveAuth
    """How we prove who we are."""
    api_url: Address = PIPEDRIVE_API
    """Where Pipedrive's API is; another address is for tests and for proxies of your own. With OAuth, Pipedrive says
    itself where a company's is."""

"""A HubSpot connection's spec with its credentials, and its routes made ready."""

from dataclasses import dataclass

from connectors.actions import action_of
from connectors.authorization import Authorization, OAuthAuthorization, StaticAuthorization
from connectors.connector import Action, Connection
from connectors.context import ConnectorContext
from connectors.oauth.provider import ClientIn, OAuthProvider
from connectors.oauth.vault import Vault
from contracts.connection import HubSpotConnectionSpec
from contracts.fields import FieldMapping

UPSERT_COMPANY = Action("UpsertCompany", ("company.*",), "Create or update the company.", takes_fields=True)
ARCHIVE_COMPANY = Action("ArchiveCompany", ("company.deleted",), "Archive the company.")
ADD_NOTE = Action("AddNote", ("signal.published", "ext.*"), "Write a note on the company.")
ADD_TASK = Action("AddTask", ("signal.published", "ext.*"), "Make a task for the company.")
SET_PROPERTIES = Action(
    "SetProperties", ("signal.published", "ext.*"), "Set properties of the company.", takes_fields=True
)
ACTIONS = (UPSERT_COMPANY, ADD_NOTE, ADD_TASK, SET_PROPERTIES, ARCHIVE_COMPANY)

SCOPES = (
    "oauth",
    "crm.objects.companies.read",
    "crm.objects.companies.write",
    "crm.schemas.companies.read",
    "crm.schemas.companies.write",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
)
"""What an app must be allowed (HubSpot's scopes); notes and tasks come with those of contacts."""


def provider(version: str) -> OAuthProvider:
    """Describe HubSpot's OAuth of a version of its API (HubSpot's OAuth guide)."""
    return OAuthProvider(
        "https://app.hubspot.com/oauth/authorize",
        f"https://api.hubapi.com/oauth/{version}/token",
        SCOPES,
        ClientIn.BODY,
        ("hub_id", "scope"),
    )


@dataclass(frozen=True, slots=True)
class Route:
    """A route: what to do, and what the partner's properties are set to; no fields: the connector chooses."""

    name: str
    action: Action
    fields: FieldMapping | None


def routes_of(spec: HubSpotConnectionSpec) -> dict[str, Route]:
    """Return the routes by name; raise NoSuchActionError or InvalidFieldError, which publication has ruled out."""
    return {
        route.name: Route(route.name, action_of(route, ACTIONS), FieldMapping(route.fields) if route.fields else None)
        for route in spec.routes
    }


def authorization_of(connection: Connection, spec: HubSpotConnectionSpec, context: ConnectorContext) -> Authorization:
    """Return what proves to HubSpot who we are."""
    auth = spec.hubspot.auth
    if auth.private_app is not None:
        return StaticAuthorization(context.credentials, auth.private_app.token_from)
    assert auth.oauth is not None  # noqa: S101 -- for the type checker; exactly one is there
    return OAuthAuthorization(Vault(connection, auth.oauth, provider(spec.hubspot.api_version), context))

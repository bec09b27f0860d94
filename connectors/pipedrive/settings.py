"""A Pipedrive connection's spec with its credentials, and its routes made ready."""

from dataclasses import dataclass

from connectors.actions import action_of
from connectors.authorization import Authorization, OAuthAuthorization, StaticAuthorization
from connectors.connector import Action, Connection
from connectors.context import ConnectorContext
from connectors.oauth.provider import ClientIn, OAuthProvider
from connectors.oauth.vault import Vault
from contracts.connection import PipedriveConnectionSpec
from contracts.crm_spec import PIPEDRIVE_API
from contracts.fields import FieldMapping

UPSERT_COMPANY = Action("UpsertCompany", ("company.*",), "Create or update the organisation.", takes_fields=True)
ARCHIVE_COMPANY = Action("ArchiveCompany", ("company.deleted",), "Delete the organisation.")
ADD_NOTE = Action("AddNote", ("signal.published", "ext.*"), "Write a note on the organisation.")
ADD_TASK = Action("AddTask", ("signal.published", "ext.*"), "Make an activity for the organisation.")
ADD_LEAD = Action("AddLead", ("signal.published", "ext.*"), "Make a lead of the organisation.")
SET_PROPERTIES = Action(
    "SetProperties", ("signal.published", "ext.*"), "Set fields of the organisation.", takes_fields=True
)
ACTIONS = (UPSERT_COMPANY, ADD_NOTE, ADD_TASK, ADD_LEAD, SET_PROPERTIES, ARCHIVE_COMPANY)

PROVIDER = OAuthProvider(
    "https://oauth.pipedrive.com/oauth/authorize",
    "https://oauth.pipedrive.com/oauth/token",
    (),
    ClientIn.HEADER,
    ("api_domain", "scope"),
)
"""Pipedrive's OAuth (Pipedrive's OAuth guide); an app's scopes are chosen where it is registered."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route: what to do, and what the organisation's fields are set to; none: the connector chooses."""

    action: Action
    fields: FieldMapping | None


def routes_of(spec: PipedriveConnectionSpec) -> dict[str, Route]:
    """Return the routes by name; raise NoSuchActionError or InvalidFieldError, which publication has ruled out."""
    return {
        route.name: Route(action_of(route, ACTIONS), FieldMapping(route.fields) if route.fields else None)
        for route in spec.routes
    }


def authorization_of(connection: Connection, spec: PipedriveConnectionSpec, context: ConnectorContext) -> Authorization:
    """Return what proves to Pipedrive who we are."""
    auth = spec.pipedrive.auth
    if auth.api_token is not None:
        return StaticAuthorization(context.credentials, auth.api_token.token_from, "x-api-token", "")
    assert auth.oauth is not None  # noqa: S101 -- for the type checker; exactly one is there
    named_by_partner = "api_domain" if spec.pipedrive.api_url == PIPEDRIVE_API else None
    return OAuthAuthorization(Vault(connection, auth.oauth, PROVIDER, context), named_by_partner)

"""A HubSpot connection's spec with its credentials, and its routes made ready."""

from dataclasses import dataclass

from connectors.actions import action_of
from connectors.api_client import StaticAuthorization
from connectors.connector import Action
from connectors.context import ConnectorContext
from connectors.errors import NoConnectorError
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


def authorization_of(spec: HubSpotConnectionSpec, context: ConnectorContext) -> StaticAuthorization:
    """Return what proves to HubSpot who we are; raise NoConnectorError for an OAuth app."""
    private_app = spec.hubspot.auth.private_app
    if private_app is None:
        raise NoConnectorError("OAuth apps are not served yet; use spec.hubspot.auth.privateApp with its access token")
    return StaticAuthorization(context.credentials, private_app.token_from)

"""A Pipedrive connection's spec with its credentials, and its routes made ready."""

from dataclasses import dataclass

from connectors.actions import action_of
from connectors.api_client import StaticAuthorization
from connectors.connector import Action
from connectors.context import ConnectorContext
from connectors.errors import NoConnectorError
from contracts.connection import PipedriveConnectionSpec
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


def authorization_of(spec: PipedriveConnectionSpec, context: ConnectorContext) -> StaticAuthorization:
    """Return what proves to Pipedrive who we are; raise NoConnectorError for an OAuth app."""
    api_token = spec.pipedrive.auth.api_token
    if api_token is None:
        raise NoConnectorError("OAuth apps are not served yet; use spec.pipedrive.auth.apiToken with a user's token")
    return StaticAuthorization(context.credentials, api_token.token_from, "x-api-token", "")

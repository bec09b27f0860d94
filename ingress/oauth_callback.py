"""Where a partner sends its user back to, with an authorization code or a refusal (RFC 6749, 4.1.2).

The state tells which flow it is; it is looked up by its digest, so that comparing takes no time that tells anything.
The code is sealed for the worker that offered the page and written once; nobody is called, and no key is at hand. If
the database is away the page says so, and loading it again is enough.
"""

import hashlib
import logging
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ingress.pages import page
from programs.reconnect import Reconnecting
from programs.sealed_codes import seal_code
from store.errors import DatabaseUnreachableError
from store.flows import FoundFlow, answer_flow, find_flow

log = logging.getLogger(__name__)

PATH: Final = "/v1/oauth/callback"
LONGEST_STATE: Final = 200
LONGEST_CODE: Final = 4_000
_ERROR: Final = re.compile(r"[a-z_]{1,64}")

AGAIN: Final = "Begin again on the command line:"


class OAuthCallback:
    """Answers the redirect."""

    def __init__(self, database: Reconnecting) -> None:
        self._database = database

    async def answer(self, request: Request) -> Response:
        """Take in what the partner answered and tell its user."""
        if request.method != "GET":
            return Response(status_code=405, headers={"Allow": "GET"})
        state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
        error = request.query_params.get("error", "")
        if not 0 < len(state) <= LONGEST_STATE or len(code) > LONGEST_CODE or bool(code) == bool(error):
            return _incomplete()
        digest = hashlib.sha256(state.encode()).digest()
        try:
            flow = await self._database.once(lambda database: find_flow(database, digest))
            return await self._answered(flow, digest, code, error)
        except DatabaseUnreachableError:
            response = page(
                503,
                "Not now",
                told="The database cannot be reached at the moment; nothing is lost.",
                to_do="Load this page again in a minute.",
            )
            response.headers["Retry-After"] = "30"
            return response

    async def _answered(self, flow: FoundFlow | None, digest: bytes, code: str, error: str) -> Response:
        if flow is None:
            return page(
                404,
                "Unknown link",
                told="This page was not asked for here, or a day ago.",
                to_do=AGAIN,
                code="integrations connect",
            )
        again = f"integrations connect {flow.connection_name}"
        if flow.status == "Offered" and not flow.expired and flow.public_key is not None:
            if error:
                name = error if _ERROR.fullmatch(error) else "an unknown error"
                refusal = f"the partner answered {name}"
                await self._database.once(lambda database: answer_flow(database, digest, None, refusal))
                log.info("a partner refused", extra={"connection": flow.connection_name, "error": name})
                return page(403, "Not connected", told=f"{refusal.capitalize()}.", to_do=AGAIN, code=again)
            sealed = seal_code(code, flow.public_key)
            if await self._database.once(lambda database: answer_flow(database, digest, sealed, "")):
                log.info("a partner answered", extra={"connection": flow.connection_name})
                return page(
                    200,
                    "Thank you",
                    told=f"{flow.connection_name} is being connected.",
                    to_do="You can close this page; the command line tells how it went.",
                )
        if flow.expired:
            return page(410, "Too late", told="This link was good for ten minutes.", to_do=AGAIN, code=again)
        return page(
            409,
            "Answered already",
            told="This page was loaded before; a link works once.",
            to_do="If the command line does not say that it is connected, begin again:",
            code=again,
        )


def _incomplete() -> Response:
    return page(
        400,
        "Not complete",
        told="This address is not one that a partner sends its users back to.",
        to_do=AGAIN,
        code="integrations connect",
    )

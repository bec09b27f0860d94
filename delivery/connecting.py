"""A worker's part in having partners grant access, and in keeping what they granted alive.

The worker has what the person, the database and the ingress do not: the app's secret and the pool's keys. It offers the
partner's page with a PKCE challenge (RFC 7636, S256), whose verifier only it can open again, and later makes the grant
of the code that came back. A code works once. Killed after the partner gave the tokens and before they were written
down, the next worker's try is refused, and the person is told to begin again; killed after that, the grant is there,
and the flow says Failed although it works.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

from connectors.connector import ChecksCredentials
from connectors.context import CredentialMissingError
from connectors.errors import ConnectorError, StateUnavailableError
from connectors.oauth.vault import HasVault, Vault
from contracts.ids import ConnectionUid
from delivery.desk import Desk
from delivery.grants import Keys
from delivery.health import Actor
from delivery.lane import Lane
from delivery.memory import Memory
from programs.key_ring import KeyRingError
from programs.sealed_codes import CodeChangedError, new_key_pair, open_code
from store.flows import OpenFlow, end_flow, offer_flow, open_flows

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often flows are looked for, where a lane has OAuth at all: a person waits."""

KEEP_ALIVE_SECONDS: Final = 600.0
AT_ONCE: Final = 8
"""Partners that are asked at once: one that hangs must not keep the others waiting."""


class Connecting:
    """Looks after the grants of one session's lanes."""

    def __init__(self, desk: Desk, memory: Memory, keys: Keys) -> None:
        self._desk = desk
        self._memory = memory
        self._keys = keys
        self._kept_at: dict[ConnectionUid, float] = {}

    async def run(self) -> None:
        """Serve flows and keep grants alive until cancelled."""
        while True:
            lanes = {lane.connection.uid: lane for lane in self._desk.lanes.values() if _vault(lane) is not None}
            if lanes:
                await self._round(lanes)
            await asyncio.sleep(LOOK_SECONDS)

    async def _round(self, lanes: Mapping[ConnectionUid, Lane]) -> None:
        try:
            flows = await self._memory.ask(lambda database: open_flows(database, list(lanes)))
        except StateUnavailableError:
            return
        for flow in flows:
            try:
                await self._serve(flow, lanes[flow.connection])
            except StateUnavailableError:
                return  # the flow is still open
        now = time.monotonic()
        due = [uid for uid in lanes if now - self._kept_at.get(uid, -KEEP_ALIVE_SECONDS) >= KEEP_ALIVE_SECONDS]
        await asyncio.gather(*(self._keep(lanes[uid]) for uid in due[:AT_ONCE]))

    async def _keep(self, lane: Lane) -> None:
        self._kept_at[lane.connection.uid] = time.monotonic()
        vault = _vault(lane)
        assert vault is not None  # noqa: S101 -- for the type checker; others are left out
        try:
            await vault.keep_alive()
        except (ConnectorError, CredentialMissingError) as error:
            name = f"{lane.connection.namespace}/{lane.connection.name}"
            log.warning("an OAuth grant was not renewed", extra={"connection": name, "reason": str(error)})

    async def _serve(self, flow: OpenFlow, lane: Lane) -> None:
        vault = _vault(lane)
        assert vault is not None  # noqa: S101 -- as above
        try:
            if flow.status == "Requested":
                await self._offer(flow, vault)
            else:
                await self._conclude(flow, vault, lane)
        except StateUnavailableError:
            raise
        except (ConnectorError, CredentialMissingError, KeyRingError, CodeChangedError) as error:
            reason = str(error)
            await self._memory.ask(lambda database: end_flow(database, flow.id, "Failed", reason))

    async def _offer(self, flow: OpenFlow, vault: Vault) -> None:
        verifier = secrets.token_urlsafe(48)
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        private_key, public_key = new_key_pair()
        url = vault.authorize_url(flow.redirect_uri, challenge)
        content = json.dumps({"verifier": verifier, "key": b64encode(private_key).decode()})
        name, sealed = self._keys().seal(content.encode(), _bound_to(flow))
        written = json.dumps([name, b64encode(sealed).decode()]).encode()
        await self._memory.ask(lambda database: offer_flow(database, flow.id, url, public_key, written))

    async def _conclude(self, flow: OpenFlow, vault: Vault, lane: Lane) -> None:
        if flow.sealed is None or flow.code is None:
            raise CodeChangedError("the partner's code is not there; begin again")
        name, sealed = json.loads(flow.sealed)
        kept = json.loads(self._keys().open(name, b64decode(sealed), _bound_to(flow)))
        code = open_code(flow.code, b64decode(kept["key"]))
        token = await vault.connect(code, kept["verifier"], flow.redirect_uri)
        detail = ", ".join(f"{name} {value}" for name, value in sorted(token.details.items()))
        await self._memory.ask(lambda database: end_flow(database, flow.id, "Connected", detail))
        self._use(lane)

    def _use(self, lane: Lane) -> None:
        """Have a lane go on with its new grant, which may be another account's."""
        if isinstance(lane.connector, ChecksCredentials):
            lane.connector.check_credentials()
        if lane.health.quarantine_reason is not None:
            now = time.monotonic()
            lane.health.ask_probe(now, Actor.CREDENTIAL)
            self._desk.set_alarm(lane, now)


def _vault(lane: Lane) -> Vault | None:
    return lane.connector.vault if isinstance(lane.connector, HasVault) else None


def _bound_to(flow: OpenFlow) -> bytes:
    return f"oauth_flow|{flow.connection}|{flow.id}".encode()

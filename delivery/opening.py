"""Opening connectors for a worker's connections, from what is published."""

import asyncio
from collections.abc import Callable, Mapping

from connectors.connector import ChecksCredentials, Connection, Connector, ConnectorFactory
from connectors.context import ConnectorContext
from connectors.errors import ConnectorError
from connectors.http import GuardedHttp
from contracts.connection import parse_connection_spec
from contracts.fields import InvalidFieldError
from contracts.ids import ConnectionUid
from delivery.credentials import ConnectionSecrets, MountedSecrets
from delivery.grants import Keys, StoredGrants
from delivery.memory import Memory, StoredFacts, StoredLinks
from delivery.unavailable import UnavailableConnector
from store.lanes import LaneRow

CLOSING_SECONDS = 30.0
"""How long a connector may take to end: a request for a token, and its result written down."""


class Opening:
    """Knows what every connector of this process is given; credentials outlive the connector and the session."""

    def __init__(
        self,
        factory: ConnectorFactory,
        http: GuardedHttp,
        secrets: MountedSecrets,
        memory: Memory,
        keys: Keys,
        clock: Callable[[], float],
    ) -> None:
        self._factory = factory
        self._http = http
        self._secrets = secrets
        self._memory = memory
        self._keys = keys
        self._clock = clock
        self._credentials: dict[ConnectionUid, ConnectionSecrets] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, row: LaneRow) -> tuple[Connection, Connector]:
        """Open a lane's connector; raise InvalidSpecError if another release published a spec unknown to this one."""
        connection = Connection(row.uid, row.namespace, row.name, row.tenant, parse_connection_spec(row.spec))
        if row.uid not in self._credentials:
            self._credentials[row.uid] = ConnectionSecrets(self._secrets, row.namespace)
        context = ConnectorContext(
            self._credentials[row.uid],
            self._http,
            self._clock,
            StoredFacts(self._memory, connection),
            StoredLinks(self._memory, row.tenant),
            StoredGrants(self._memory, connection, self._keys),
        )
        try:
            return connection, self._factory(connection, context)
        except (ConnectorError, InvalidFieldError) as error:
            return connection, UnavailableConnector(str(error))

    def close(self, connector: Connector) -> None:
        """Have a connector end in its own time, which nobody has to wait for: it may be renewing a token."""
        task = asyncio.ensure_future(connector.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Wait until all have ended, as long as a renewal may take."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSING_SECONDS)

    def renew_credentials(
        self, connection: Connection, connector: Connector, changed: Mapping[str, Mapping[str, bytes]]
    ) -> list[str]:
        """Have a connector use changed Secrets; return why it goes on with the former values of some of them."""
        if not isinstance(connector, ChecksCredentials):
            return []
        return self._credentials[connection.uid].renew(changed, connector.check_credentials)

    def is_outdated(self, connection: Connection) -> bool:
        """Whether a connection goes on with former credentials because the newest cannot be used."""
        return self._credentials[connection.uid].outdated

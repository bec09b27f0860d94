"""Opening connectors for a worker's connections, from what is published."""

from connectors.connector import Connection, Connector, ConnectorFactory
from connectors.context import ConnectorContext
from connectors.errors import NoConnectorError
from connectors.http import GuardedHttp
from contracts.connection import parse_connection_spec
from delivery.credentials import MountedSecrets, NamespacedSecrets
from delivery.unavailable import UnavailableConnector
from store.lanes import LaneRow


class Opening:
    """Knows what every connector of this process is given."""

    def __init__(self, factory: ConnectorFactory, http: GuardedHttp, secrets: MountedSecrets) -> None:
        self._factory = factory
        self._http = http
        self._secrets = secrets

    def open(self, row: LaneRow) -> tuple[Connection, Connector]:
        """Open a lane's connector; raise InvalidSpecError if another release published a spec unknown to this one."""
        connection = Connection(row.uid, row.namespace, row.name, row.tenant, parse_connection_spec(row.spec))
        context = ConnectorContext(NamespacedSecrets(self._secrets, row.namespace), self._http)
        try:
            return connection, self._factory(connection, context)
        except NoConnectorError as error:
            return connection, UnavailableConnector(str(error))

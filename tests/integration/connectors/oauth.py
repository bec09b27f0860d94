"""A connection with an OAuth app of a simulated Pipedrive, whose refresh tokens work once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.oauth.vault import Vault
from connectors.pipedrive.simulator import PipedriveSimulator
from delivery.grants import StoredGrants
from tests.integration.connectors.crm import Crm

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

SECRET = "client-secret-22222"
ROUTES = [{"name": "companies", "events": ["company.*"], "action": "UpsertCompany"}]


@dataclass
class Granted:
    """A connection with OAuth and its simulated partner."""

    crm: Crm
    pipedrive: PipedriveSimulator
    layer: "Layer"

    @property
    def refreshes(self) -> int:
        return self.pipedrive.oauth.refreshes

    def connector(self) -> Any:
        return self.crm.open()

    def vault(self) -> Vault:
        vault = self.crm.open().vault
        assert isinstance(vault, Vault)
        return vault

    def store(self) -> StoredGrants:
        return self.crm.grants()

    def seed(self) -> None:
        """Put a new refresh token into the Secret."""
        self.crm.credentials.values["refresh_token"] = self.pipedrive.oauth.grant("company")

    def pass_time(self, hours: float) -> None:
        """Move what is kept of the grant into the past."""
        self.layer.admin.execute(
            "update integration.oauth_token set obtained_at = obtained_at - make_interval(secs => %s),"
            " expires_at = expires_at - make_interval(secs => %s), held_until = held_until - make_interval(secs => %s),"
            " rests_until = rests_until - make_interval(secs => %s)",
            (hours * 3600,) * 4,
        )

    def row(self, columns: str) -> tuple[Any, ...]:
        (row,) = self.layer.rows(f"select {columns} from integration.oauth_token")
        return row

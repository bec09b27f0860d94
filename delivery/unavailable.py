"""What stands in for a connector that is not installed: it quarantines the connection and says why."""

from connectors.connector import Delivery
from contracts.outcomes import Misconfigured, Report


class UnavailableConnector:
    """Answers every delivery with the reason why there is no connector."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def send(self, delivery: Delivery) -> Report:  # noqa: ARG002 -- nothing is sent
        """Report that the connection cannot work here."""
        return Report(Misconfigured(), detail=self._reason)

    async def close(self) -> None:
        """Do nothing."""

"""What can go wrong between a connector and its partner, each error saying how far the request came.

    ConnectorError
    ├── GuardedHttpError
    │   ├── EgressRefusedError      the egress rules forbid the address; nothing was sent
    │   ├── MalformedRequestError   address, header or CA cannot be used; nothing was sent
    │   ├── NotSentError            no connection came about; the partner surely did not see the request
    │   └── NoAnswerError           sent, at least in part, and unanswered; the partner may have acted on it
    ├── UnusableCredentialError     a Secret is there, but its value is not what the connector needs
    ├── NoConnectorError            nothing installed serves the provider
    ├── NoSuchActionError           the connector does not offer what a route asks for
    ├── NoStateError                the program that opened the connector keeps nothing for it
    ├── StateUnavailableError       what is kept for the connector cannot be reached at the moment
    ├── LinkHeldError               another process has the right to make this record
    ├── UnusableGrantError          the key that an OAuth grant was sealed with is not there
    ├── ReconnectNeededError        there is no OAuth grant, or the partner wants no more of it: a person has to act
    └── TokensUnavailableError      no access token can be had at the moment

Messages are safe to store and show: they name hosts, addresses, Secrets and keys, never values, paths or queries.
For that reason errors of the HTTP library, whose texts hold whole addresses, are replaced and never chained.
"""


class ConnectorError(Exception):
    """Anything that a connector, or what it stands on, reports."""


class GuardedHttpError(ConnectorError):
    """A request that got no answer."""


class EgressRefusedError(GuardedHttpError):
    """The egress rules forbid the address; nothing was sent."""


class MalformedRequestError(GuardedHttpError):
    """The address, a header or the CA cannot be used; nothing was sent."""


class NotSentError(GuardedHttpError):
    """No connection came about (name, TCP or TLS): the partner surely did not see the request."""


class NoAnswerError(GuardedHttpError):
    """Sent, at least in part, and unanswered: the partner may or may not have acted on it."""


class UnusableCredentialError(ConnectorError):
    """A Secret is there, but its value is not what the connector needs."""


class NoConnectorError(ConnectorError):
    """Nothing installed serves the provider."""


class NoSuchActionError(ConnectorError):
    """The connector does not offer what a route asks for; the message says what it offers."""


class NoStateError(ConnectorError):
    """The program that opened the connector keeps nothing for it: only workers do."""


class StateUnavailableError(ConnectorError):
    """What is kept for the connector cannot be reached at the moment.

    A connector lets it pass: its deliveries come again, and that costs them no attempt.
    """


class LinkHeldError(ConnectorError):
    """Another process has the right to make this record, at most for `seconds` more."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"another process is making this record; its right ends in {seconds:.0f} s")
        self.seconds = seconds


class UnusableGrantError(ConnectorError):
    """An OAuth grant is there and cannot be opened; the message names the key that it was sealed with.

    `version` is the grant's.
    """

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class ReconnectNeededError(ConnectorError):
    """There is no OAuth grant, or the partner wants no more of it; the message says what a person has to do."""


class TokensUnavailableError(ConnectorError):
    """No access token can be had at the moment, and perhaps in `seconds`; the message says why."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

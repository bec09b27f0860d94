"""What the simulated HubSpot says of tokens that it has issued, and how an app gives one back.

As HubSpot's dated API has it (/oauth/2026-03/token/introspect and /revoke), in the form of RFC 7662 and RFC 7009: a
token that is not good is `active: false`, and giving back what nobody knows is no error. Access tokens cannot be given
back: they end by themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from connectors.oauth.simulator import OAuthServer
from connectors.simulation import Request

ACTIONS: Final = ("introspect", "revoke")

Answer = tuple[int, Mapping[str, Any]]
Refusal = Callable[[str, str], Answer]


class Tokens:
    """The two requests; `described` tells what is said of an account, `refusal` how a request is refused."""

    def __init__(
        self, oauth: OAuthServer, path: str, described: Callable[[str], Mapping[str, object]], refusal: Refusal
    ) -> None:
        self._oauth = oauth
        self._paths = {f"{path}/{action}": action for action in ACTIONS}
        self._described = described
        self._refusal = refusal

    def serves(self, request: Request) -> bool:
        """Whether a request is one of the two."""
        return request.method == "POST" and request.path in self._paths

    def answer(self, request: Request) -> Answer:
        """Answer an app that says who it is."""
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        secret, token = form.get("client_secret"), form.get("token", "")
        if secret is None or self._oauth.clients.get(form.get("client_id", "")) != secret:
            return self._refusal("invalid_client", "client id or secret is wrong")
        return self._introspect(token) if self._paths[request.path] == "introspect" else self._revoke(token)

    def _introspect(self, token: str) -> Answer:
        account, use = self._oauth.account_of(token), "access_token"
        if account is None:
            account = next((each.account for each in self._oauth.grants if each.refresh == token), None)
            use = "refresh_token"
        if account is None:
            return 200, {"active": False}
        return 200, {"active": True, "token_use": use, **self._described(account)}

    def _revoke(self, token: str) -> Answer:
        if self._oauth.account_of(token) is not None:
            return self._refusal("unsupported_token_type", "only refresh tokens can be revoked")
        self._oauth.grants = [each for each in self._oauth.grants if each.refresh != token]
        return 200, {}

"""What stands in several places of a connection's spec: names, addresses, references to Secrets."""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    StringConstraints,
)

from contracts.wire import WireModel

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY = r"^[-._a-zA-Z0-9]+$"


WEB_ADDRESS = r"^https?://([A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|#|%[0-9A-Fa-f]{2})+$"
ACTION = r"^[A-Z][A-Za-z0-9]*$"


_HOST: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]"
_PORT: Final = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"

ADDRESS_RULES: Final = (
    (
        r"^https?://[^/?#@]*([/?#]|$)",
        "the address must not hold a user name or password; use headers with valueFrom instead",
    ),
    (
        r"^https?://([^/?#]*@)?(" + _HOST + r")(:[^/?#]*)?([/?#]|$)",
        "the address needs a host name or IP address after http:// or https://, an IPv6 address in brackets",
    ),
    (
        r"^https?://([^/?#]*@)?([^/?#:]*|\[[^/?#]*\])(:0*(" + _PORT + r"))?([/?#]|$)",
        "the port of the address must be from 1 to 65535, or left out together with its ':'",
    ),
    (r"^[^#]*$", "the address must not have a fragment; remove '#' and what follows it"),
)
"""What an address must match to be called, beyond WEB_ADDRESS, and what to tell those whose address does not."""

NOT_AN_IPV6_ADDRESS: Final = (
    "what is in brackets in the address must be an IPv6 address, and not an IPv4 one in disguise"
)

_BRACKETED = re.compile(r"https?://\[([^\]]*)\]")


SecretName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DATA_KEY)]


class SecretRef(WireModel):
    """A whole Secret in the connection's own namespace."""

    name: SecretName
    """Name of the Secret."""


class SecretKeyRef(WireModel):
    """One key of a Secret in the connection's own namespace."""

    name: SecretName
    """Name of the Secret."""
    key: SecretKey
    """Key in the Secret's data."""


def _check_address(url: str) -> str:
    for pattern, message in ADDRESS_RULES:
        if not re.search(pattern, url):
            raise ValueError(message)
    bracketed = _BRACKETED.match(url)
    if bracketed and not _is_ipv6_address(bracketed[1]):
        raise ValueError(NOT_AN_IPV6_ADDRESS)
    return url


def _is_ipv6_address(text: str) -> bool:
    try:
        return IPv6Address(text).ipv4_mapped is None
    except AddressValueError:
        return False


Address = Annotated[
    str, StringConstraints(min_length=1, max_length=2048, pattern=WEB_ADDRESS), AfterValidator(_check_address)
]


def refuse_repeated(what: str, names: list[str]) -> None:
    """Raise ValueError if a name occurs twice; `what` says what it names."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"each {what} name may occur only once; repeated: {', '.join(repeated)}")

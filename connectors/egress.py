"""Which addresses partners may have, so that a connection never becomes a way into our own network.

A tenant chooses the address we call. Whatever is not an ordinary public unicast address is refused: private and
shared ranges, everything local, cloud metadata, multicast, documentation and reserved space, and every IPv6 form
that carries an IPv4 address inside, by which any of those could be reached in disguise. For IPv4 the list follows
the IANA special-purpose registry; for IPv6 only global unicast (2000::/3) is open at all, less its special ranges.

Only parsed addresses are judged. Turning spellings such as `0x7f.1` into addresses is left to the URL parser that
the HTTP client itself uses, so that guard and client can never read one host differently.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from connectors.errors import EgressRefusedError

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def _networks(*entries: tuple[str, str]) -> tuple[tuple[IPNetwork, str], ...]:
    return tuple((ip_network(network), what) for network, what in entries)


_METADATA = frozenset(
    ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's platform address, public in form only
        "169.254.0.23",  # Tencent Cloud
        "169.254.169.254",  # AWS, Azure, Google Cloud, and most others
        "169.254.170.2",  # AWS container credentials
        "169.254.170.23",  # AWS EKS pod identity
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)

_SPECIAL = _networks(
    ("0.0.0.0/8", "an unspecified address"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "a shared (CGNAT) address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a protocol assignment"),
    ("192.0.2.0/24", "a documentation address"),
    ("192.31.196.0/24", "an AS112 address"),
    ("192.52.193.0/24", "an AMT address"),
    ("192.88.99.0/24", "a 6to4 relay address"),
    ("192.168.0.0/16", "a private address"),
    ("192.175.48.0/24", "an AS112 address"),
    ("198.18.0.0/15", "a benchmarking address"),
    ("198.51.100.0/24", "a documentation address"),
    ("203.0.113.0/24", "a documentation address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("100::/64", "a discard-only address"),
    ("2001::/23", "a protocol assignment"),
    ("2001:db8::/32", "a documentation address"),
    ("2620:4f:8000::/48", "an AS112 address"),
    ("3fff::/20", "a documentation address"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a private address"),
    ("ff00::/8", "a multicast address"),
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")

_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP_INTERFACES = (0x00005EFE, 0x02005EFE)
_LOW_32_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The public internet, plus the networks that configuration allows.

    An allowed network opens its own addresses only: an address inside it that carries an IPv4 address is judged by
    that one, too, and a cloud metadata address is opened by nothing wider than itself (a /32 or /128), because a
    range like `fd00::/8` is allowed for its services and not for the credentials that AWS hands out in it.
    """

    allowed: tuple[IPNetwork, ...] = ()
    setting: str = "egress_allowed_networks"
    """Name of the setting that `allowed` comes from, for messages."""

    def vet(self, host: str, addresses: Iterable[IPAddress]) -> None:
        """Raise EgressRefusedError unless every address of `host` may be called."""
        for address in addresses:
            reason = self.refusal(address)
            if reason is not None:
                raise EgressRefusedError(
                    f"{host} has the address {address}, {reason}, which connections may not call; "
                    f"if it is meant to be reached, an administrator can allow it with the setting {self.setting}"
                )

    def refusal(self, address: IPAddress) -> str | None:
        """Say why the address may not be called, or None if it may."""
        if address in _METADATA:
            return None if ip_network(address) in self.allowed else "a cloud metadata address"
        allowed = any(address in network for network in self.allowed)
        for kind, embedded in _embedded(address):
            reason = self.refusal(embedded)
            if reason is not None:
                return f"an {kind} address that leads to {embedded}, {reason}"
            if not allowed:
                return f"an {kind} address that leads to {embedded}"
        return None if allowed else _speciality(address)


def _speciality(address: IPAddress) -> str | None:
    for network, what in _SPECIAL:
        if address in network:
            return f"{what} ({network})"
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return f"outside the global unicast range ({_GLOBAL_UNICAST})"
    return None


def _embedded(address: IPAddress) -> Iterator[tuple[str, IPv4Address]]:
    """Find the IPv4 addresses that an IPv6 address carries, with the name of each form."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    low = IPv4Address(number & _LOW_32_BITS)
    if address in _MAPPED:
        yield "IPv4-mapped", low
    elif address in _TRANSLATED:
        yield "IPv4-translated", low
    elif address in _COMPATIBLE and number > 1:
        yield "IPv4-compatible", low
    elif address in _NAT64 or address in _NAT64_LOCAL:
        yield "NAT64", low
    elif address in _SIX_TO_FOUR:
        yield "6to4", IPv4Address(number >> 80 & _LOW_32_BITS)
    elif address in _TEREDO:
        yield "Teredo", IPv4Address(number >> 64 & _LOW_32_BITS)
        yield "Teredo", IPv4Address(~number & _LOW_32_BITS)
    if number >> 32 & _LOW_32_BITS in _ISATAP_INTERFACES:
        yield "ISATAP", low

"""No address that leads into our own network may be called, in whatever form it is written."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyreqwest.http import Url

from connectors.egress import EgressPolicy
from connectors.errors import EgressRefusedError

PUBLIC_ONLY = EgressPolicy()

REFUSED = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local": ["169.254.1.1", "fe80::1"],
    "metadata": [
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.170.2",
        "192.0.0.192",
    ],
    "documentation": ["192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1"],
    "benchmarking": ["198.18.0.1", "198.19.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
    "protocol": ["192.0.0.1", "2001:2::1", "2001:10::1", "2001:20::1"],
    "relay": ["192.88.99.1"],
    "outside the global unicast range": ["4000::1", "5f00::1", "8000::1", "0:0:1::1"],
    "discard": ["100::1"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254"],
    "IPv4-compatible": ["::127.0.0.1", "::8.8.8.8"],
    "IPv4-translated": ["::ffff:0:10.0.0.1"],
    "6to4": ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "NAT64": ["64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1"],
    "ISATAP": ["2600::5efe:10.0.0.1", "2600::200:5efe:192.168.1.1"],
}

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "172.15.255.255", "172.32.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2600::1", "2606:4700::1111",
    "2a00:1450:4001::200e",
]  # fmt: skip

ODD_SPELLINGS = [
    "http://0x7f.1/", "http://0x7f000001/", "http://2130706433/", "http://017700000001/", "http://127.1/",
    "http://127.0.1/", "http://0177.0.0.1/", "http://%31%32%37.0.0.1/", "http://127。0。0。1/", "http://\uff11\uff12\uff17.0.0.1/",
    "http://127.0.0.1./", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://0/", "http://[::]/",
    "http://0xa9fea9fe/", "http://169.16689662/", "http://example.com@127.0.0.1/", "http:\\\\127.0.0.1\\",
]  # fmt: skip

ipv4 = st.ip_addresses(v=4)
ipv6 = st.ip_addresses(v=6)


@pytest.mark.parametrize(
    ("address", "kind"), [(address, kind) for kind, addresses in REFUSED.items() for address in addresses]
)
def test_special_addresses_are_refused_by_their_kind(address: str, kind: str) -> None:
    reason = PUBLIC_ONLY.refusal(ip_address(address))

    assert reason is not None
    assert kind in reason


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    assert PUBLIC_ONLY.refusal(ip_address(address)) is None


@pytest.mark.parametrize("url", ODD_SPELLINGS)
def test_odd_spellings_are_addresses_before_they_are_judged(url: str) -> None:
    parsed = Url(url)

    assert parsed.domain is None
    assert PUBLIC_ONLY.refusal(ip_address((parsed.host_str or "").strip("[]"))) is not None


@given(ipv4)
@example(IPv4Address("192.88.99.2"))
def test_nothing_that_python_knows_as_not_global_is_open(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert PUBLIC_ONLY.refusal(address) is not None


@given(ipv6)
def test_nothing_in_ipv6_that_python_knows_as_not_global_is_open(address: IPv6Address) -> None:
    if not address.is_global or address.is_multicast:
        assert PUBLIC_ONLY.refusal(address) is not None


@given(ipv4, st.sampled_from(["::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "2600::5efe:0:0"]))
def test_no_ipv4_address_can_be_reached_inside_an_ipv6_address(inner: IPv4Address, prefix: str) -> None:
    outer = IPv6Address(int(IPv6Address(prefix)) | int(inner))

    assert PUBLIC_ONLY.refusal(outer) is not None


@given(ipv4, st.integers(min_value=0, max_value=(1 << 80) - 1))
def test_no_ipv4_address_can_be_reached_through_6to4(inner: IPv4Address, rest: int) -> None:
    outer = IPv6Address(0x2002 << 112 | int(inner) << 80 | rest)

    assert PUBLIC_ONLY.refusal(outer) is not None


@given(ipv4 | ipv6)
def test_an_allowed_address_may_be_called_unless_it_carries_another(address: IPv4Address | IPv6Address) -> None:
    policy = EgressPolicy((ip_network(address),))

    reason = policy.refusal(address)

    assert reason is None or "leads to" in reason


def test_an_allowed_network_opens_its_own_addresses_only() -> None:
    policy = EgressPolicy((ip_network("10.1.0.0/16"),))

    assert policy.refusal(ip_address("10.1.2.3")) is None
    assert policy.refusal(ip_address("10.2.0.1")) is not None
    assert policy.refusal(ip_address("::ffff:10.1.2.3")) is not None


def test_an_allowed_translator_leads_to_public_addresses_only() -> None:
    policy = EgressPolicy((ip_network("64:ff9b::/96"),))

    assert policy.refusal(ip_address("64:ff9b::8.8.8.8")) is None
    assert policy.refusal(ip_address("64:ff9b::10.0.0.1")) is not None


@pytest.mark.parametrize(
    ("network", "address"),
    [("169.254.0.0/16", "169.254.169.254"), ("fd00::/8", "fd00:ec2::254"), ("100.64.0.0/10", "100.100.100.200")],
)
def test_metadata_is_opened_by_nothing_wider_than_its_own_address(network: str, address: str) -> None:
    metadata = ip_address(address)

    assert EgressPolicy((ip_network(network),)).refusal(metadata) is not None
    assert EgressPolicy((ip_network(metadata),)).refusal(metadata) is None


def test_one_refused_address_refuses_the_name() -> None:
    addresses = [ip_address("8.8.8.8"), ip_address("10.0.0.1")]

    with pytest.raises(EgressRefusedError):
        PUBLIC_ONLY.vet("mixed.example", addresses)


def test_a_refusal_names_host_address_and_setting() -> None:
    policy = EgressPolicy(setting="WORKER_EGRESS")

    with pytest.raises(EgressRefusedError, match=r"(?s)intranet\.example.*10\.0\.0\.1.*private.*WORKER_EGRESS"):
        policy.vet("intranet.example", [ip_address("10.0.0.1")])

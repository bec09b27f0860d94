"""The one way out keeps its promises over real sockets."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from time import monotonic

import pytest

from connectors.egress import EgressPolicy
from connectors.errors import (
    EgressRefusedError,
    GuardedHttpError,
    MalformedRequestError,
    NoAnswerError,
    NotSentError,
)
from connectors.http import DRAIN_LIMIT, EXCERPT_LIMIT, USER_AGENT, GuardedHttp, HttpAnswer
from connectors.simulation import Exchange, Request, SimulatorServer

pytestmark = pytest.mark.anyio

TLS = Path(__file__).parent / "tls"
LONG = timedelta(seconds=20)
SHORT = timedelta(seconds=0.5)


class Partner:
    """A server that answers by path and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.server = SimulatorServer(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        kind, _, argument = exchange.request.path.strip("/").partition("/")
        await getattr(self, f"_{kind or 'hello'}")(exchange, *([argument] if argument else []))

    async def _hello(self, exchange: Exchange) -> None:
        await exchange.respond(200, {}, b"hello")

    async def _close(self, exchange: Exchange) -> None:
        await exchange.respond(200, {"Connection": "close"})

    async def _body(self, exchange: Exchange, argument: str) -> None:
        await exchange.respond(200, {}, b"x" * int(argument))

    async def _endless(self, exchange: Exchange) -> None:
        await exchange.begin(500, {})
        while True:
            await exchange.write(b"x" * 65_536)
            self.sent_bytes += 65_536

    async def _drip(self, exchange: Exchange) -> None:
        await exchange.begin(200, {})
        while True:
            await exchange.write(b"x")
            await asyncio.sleep(0.02)

    async def _hang(self, exchange: Exchange) -> None:
        await exchange.wait_until_closed()

    async def _reset(self, exchange: Exchange) -> None:
        exchange.reset()

    async def _slow(self, exchange: Exchange) -> None:
        await asyncio.sleep(0.3)
        await exchange.respond(200)

    async def _headers(self, exchange: Exchange) -> None:
        await exchange.respond(200, {"X-Long": "v" * 10_000, "X-Latin": "gr\xfcn", "Set-Cookie": "a=b"})

    async def _gzip(self, exchange: Exchange) -> None:
        await exchange.respond(200, {"Content-Encoding": "gzip"}, b"not really")

    async def _to(self, exchange: Exchange, argument: str) -> None:
        await exchange.respond(307, {"Location": f"http://127.0.0.1:{argument}/"})

    @property
    def port(self) -> int:
        return self.server.port

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def serving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Partner]:
    partner = Partner()
    await partner.server.start(host, port)
    try:
        yield partner
    finally:
        await partner.server.close()


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with serving() as partner:
        yield partner


class Names:
    """A name server under the test's control."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] | OSError = addresses
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        await asyncio.sleep(0)
        if isinstance(self.addresses, OSError):
            raise self.addresses
        return self.addresses


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def post(http: GuardedHttp, url: str, time_limit: timedelta = LONG, ca: bytes | None = None) -> HttpAnswer:
    return await http.post(url, [("X-Test", "1")], b"{}", time_limit, ca)


def everything_said(error: BaseException | None) -> str:
    """Collect the texts of an error and of all that it drags along."""
    if error is None:
        return ""
    return f"{error!s} {error!r} {everything_said(error.__cause__)} {everything_said(error.__context__)}"


# The pin.


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("no-such-host.invalid", "no-such-host.invalid"),
        ("NO-Such-Host.Invalid", "no-such-host.invalid"),
        ("no-such-host.invalid.", "no-such-host.invalid."),
        ("b\xfccher.invalid", "xn--bcher-kva.invalid"),
        ("under_score.invalid", "under_score.invalid"),
        ("single", "single"),
    ],
)
async def test_a_host_is_reached_at_the_vetted_address_and_not_by_dns(
    partner: Partner, loopback: EgressPolicy, written: str, resolved: str
) -> None:
    names = Names("127.0.0.1")
    async with GuardedHttp(loopback, resolver=names) as http:
        answer = await post(http, partner.url(host=written))

    assert answer.status == 200
    assert names.asked == [(resolved, partner.port)]
    assert partner.requests[0].headers["host"] == f"{resolved}:{partner.port}"


@pytest.mark.parametrize("host", ["six.invalid", "[::1]", "[0:0::0:1]"])
async def test_an_ipv6_address_is_pinned_like_any_other(host: str) -> None:
    policy = EgressPolicy((ip_network("::1/128"),))
    try:
        partner = Partner()
        await partner.server.start("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with GuardedHttp(policy, resolver=Names("::1")) as http:
        answer = await post(http, partner.url(host=host))
    await partner.server.close()

    assert answer.status == 200


async def test_a_name_that_moves_within_its_ttl_is_not_followed(partner: Partner, loopback: EgressPolicy) -> None:
    names, clock = Names("127.0.0.1"), Clock()
    async with serving("127.0.0.2", partner.port) as other, GuardedHttp(loopback, resolver=names, clock=clock) as http:
        await post(http, partner.url("/close", host="moving.invalid"))
        names.addresses = ["127.0.0.2"]
        await post(http, partner.url("/close", host="moving.invalid"))
        before = len(partner.requests), len(other.requests)
        clock.now += 31
        await post(http, partner.url(host="moving.invalid"))

    assert before == (2, 0)
    assert partner.server.opened_connections == 2
    assert (len(partner.requests), len(other.requests)) == (2, 1)
    assert len(names.asked) == 2


async def test_a_name_that_moves_to_a_refused_address_is_refused_after_its_ttl(
    partner: Partner, loopback: EgressPolicy
) -> None:
    names, clock = Names("127.0.0.1"), Clock()
    async with GuardedHttp(loopback, resolver=names, clock=clock) as http:
        await post(http, partner.url(host="moving.invalid"))
        names.addresses = ["169.254.169.254"]
        clock.now += 31

        with pytest.raises(EgressRefusedError, match=r"169\.254\.169\.254"):
            await post(http, partner.url(host="moving.invalid"))

    assert len(partner.requests) == 1


async def test_concurrent_requests_share_one_resolution(partner: Partner, loopback: EgressPolicy) -> None:
    names = Names("127.0.0.1")
    async with GuardedHttp(loopback, resolver=names) as http:
        await asyncio.gather(*(post(http, partner.url(host="busy.invalid")) for _ in range(20)))

    assert len(names.asked) == 1


async def test_one_refused_address_refuses_the_name(partner: Partner, loopback: EgressPolicy) -> None:
    async with GuardedHttp(loopback, resolver=Names("127.0.0.1", "10.0.0.1")) as http:
        with pytest.raises(EgressRefusedError, match=r"mixed\.invalid has the address 10\.0\.0\.1"):
            await post(http, partner.url(host="mixed.invalid"))

    assert partner.server.opened_connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_loopback_is_refused_however_it_is_written(partner: Partner, host: str) -> None:
    async with GuardedHttp(EgressPolicy()) as http:
        with pytest.raises(EgressRefusedError):
            await post(http, partner.url(host=host))

    assert partner.server.opened_connections == 0


async def test_the_next_address_is_tried_if_the_first_does_not_listen(partner: Partner, loopback: EgressPolicy) -> None:
    async with GuardedHttp(loopback, resolver=Names("127.0.0.3", "127.0.0.1")) as http:
        answers = [await post(http, partner.url(host="two.invalid")) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert partner.server.opened_connections == 1


async def test_a_request_that_was_sent_is_not_repeated_at_the_next_address(
    partner: Partner, loopback: EgressPolicy
) -> None:
    async with serving("127.0.0.2", partner.port) as other:
        async with GuardedHttp(loopback, resolver=Names("127.0.0.1", "127.0.0.2")) as http:
            with pytest.raises(NoAnswerError):
                await post(http, partner.url("/reset", host="two.invalid"))

        assert len(other.requests) == 0


async def test_failed_resolution_is_remembered_for_a_moment(partner: Partner, loopback: EgressPolicy) -> None:
    names, clock = Names(), Clock()
    names.addresses = OSError("no such name")
    async with GuardedHttp(loopback, resolver=names, clock=clock) as http:
        for _ in range(3):
            with pytest.raises(NotSentError, match=r"late\.invalid was not resolved: no such name"):
                await post(http, partner.url(host="late.invalid"))
        asked = len(names.asked)
        names.addresses = ["127.0.0.1"]
        clock.now += 6
        answer = await post(http, partner.url(host="late.invalid"))

    assert asked == 1
    assert answer.status == 200


async def test_a_name_server_that_does_not_answer_takes_no_longer_than_the_request_may(loopback: EgressPolicy) -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return []

    async with GuardedHttp(loopback, resolver=silent) as http:
        with pytest.raises(NotSentError, match=r"slow\.invalid was not resolved in time"):
            await post(http, "http://slow.invalid/", timedelta(seconds=0.1))


async def test_names_are_resolved_by_the_system_by_default(partner: Partner, http: GuardedHttp) -> None:
    with pytest.raises(NotSentError, match=r"no-such-host\.invalid was not resolved"):
        await post(http, partner.url(host="no-such-host.invalid"))


# What is never done.


async def test_redirects_are_not_followed(partner: Partner, http: GuardedHttp) -> None:
    async with serving() as elsewhere:
        answer = await post(http, partner.url(f"/to/{elsewhere.port}"))

        assert answer.status == 307
        assert answer.header("Location") == f"http://127.0.0.1:{elsewhere.port}/"
        assert elsewhere.server.opened_connections == 0


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
async def test_proxies_of_the_environment_are_not_used(
    partner: Partner, loopback: EgressPolicy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with GuardedHttp(loopback, resolver=Names("127.0.0.1")) as http:
        answer = await post(http, partner.url(host="direct.invalid"))

    assert answer.status == 200


async def test_a_request_carries_what_it_was_given_and_nothing_of_the_one_before(
    partner: Partner, http: GuardedHttp
) -> None:
    await post(http, partner.url("/headers"))
    await post(http, partner.url("/headers"))

    assert partner.requests[1].headers == {
        "x-test": "1",
        "accept": "*/*",
        "user-agent": USER_AGENT,
        "host": f"127.0.0.1:{partner.port}",
        "content-length": "2",
    }
    assert USER_AGENT.startswith("queast-integration-layer/")


async def test_nothing_is_decompressed(partner: Partner, http: GuardedHttp) -> None:
    answer = await post(http, partner.url("/gzip"))

    assert answer.body == b"not really"


# Bounds.


@pytest.mark.parametrize("size", [0, 1, EXCERPT_LIMIT, EXCERPT_LIMIT + 1, DRAIN_LIMIT])
async def test_an_excerpt_is_kept_and_the_connection_used_again(partner: Partner, http: GuardedHttp, size: int) -> None:
    answers = [await post(http, partner.url(f"/body/{size}")) for _ in range(5)]

    assert {len(answer.body) for answer in answers} == {min(size, EXCERPT_LIMIT)}
    assert {answer.complete for answer in answers} == {size <= EXCERPT_LIMIT}
    assert partner.server.opened_connections == 1


@pytest.mark.parametrize("path", ["/body/5000000", "/endless"])
async def test_a_large_body_is_dropped_with_its_connection(partner: Partner, http: GuardedHttp, path: str) -> None:
    answer = await post(http, partner.url(path))
    again = await post(http, partner.url("/"))

    assert (len(answer.body), answer.complete) == (EXCERPT_LIMIT, False)
    assert again.body == b"hello"
    assert partner.server.opened_connections == 2
    assert partner.sent_bytes < 50_000_000


async def test_a_caller_can_ask_for_more_of_the_body(partner: Partner, http: GuardedHttp) -> None:
    answer = await http.request("GET", partner.url("/body/1000000"), [], None, LONG, body_limit=2_000_000)

    assert (len(answer.body), answer.complete) == (1_000_000, True)
    assert partner.requests[0].method == "GET"


async def test_a_body_that_drips_ends_with_the_time_limit(partner: Partner, http: GuardedHttp) -> None:
    answer = await post(http, partner.url("/drip"), SHORT)

    assert (answer.status, answer.complete) == (200, False)
    assert answer.body.startswith(b"x")


async def test_header_values_are_cut_and_other_text_than_ascii_is_left_out(partner: Partner, http: GuardedHttp) -> None:
    answer = await post(http, partner.url("/headers"))

    assert answer.header("x-long") == "v" * 4096
    assert answer.header("x-latin") is None
    assert answer.header("x-none") is None


async def test_forgotten_destinations_finish_what_is_in_flight(partner: Partner, loopback: EgressPolicy) -> None:
    async with GuardedHttp(loopback, resolver=Names("127.0.0.1"), destination_limit=1) as http:
        slow = asyncio.create_task(post(http, partner.url("/slow", host="a.invalid")))
        await until(lambda: len(partner.requests) == 1)
        for host in ("b.invalid", "c.invalid"):
            await post(http, partner.url(host=host))
        answer = await slow

    assert answer.status == 200


async def test_cancelling_a_request_leaves_the_way_out_usable(partner: Partner, http: GuardedHttp) -> None:
    hanging = asyncio.create_task(post(http, partner.url("/hang")))
    await until(lambda: len(partner.requests) == 1)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging

    assert (await post(http, partner.url())).status == 200


# How far a request came.


@pytest.mark.parametrize("path", ["/hang", "/reset"])
async def test_a_request_that_was_sent_and_not_answered_is_ambiguous(
    partner: Partner, http: GuardedHttp, path: str
) -> None:
    with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1 did not answer"):
        await post(http, partner.url(path), SHORT)

    assert len(partner.requests) == 1


async def test_a_connection_that_was_kept_and_hangs_is_ambiguous_too(partner: Partner, http: GuardedHttp) -> None:
    await post(http, partner.url())

    with pytest.raises(NoAnswerError):
        await post(http, partner.url("/hang"), SHORT)


async def test_a_port_where_nobody_listens_was_not_sent_to(http: GuardedHttp) -> None:
    async with serving() as gone:
        url = gone.url()

    with pytest.raises(NotSentError, match=r"(?i)refused"):
        await post(http, url)


@contextmanager
def full_backlog() -> Iterator[int]:
    """Listen on a port that completes no further handshake: nothing is accepted, and the queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        try:
            yield port
        finally:
            for client in waiting:
                client.close()


async def test_a_host_that_does_not_accept_was_not_sent_to(loopback: EgressPolicy) -> None:
    with full_backlog() as port:
        async with GuardedHttp(loopback, connect_timeout=timedelta(seconds=0.3)) as http:
            with pytest.raises(NotSentError):
                await post(http, f"http://127.0.0.1:{port}/")


@asynccontextmanager
async def serving_tls() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_private_ca_is_trusted_where_it_is_named(loopback: EgressPolicy) -> None:
    ca = (TLS / "ca.pem").read_bytes()
    async with serving_tls() as port, GuardedHttp(loopback, resolver=Names("127.0.0.1")) as http:
        answer = await post(http, f"https://tls.test:{port}/", ca=ca)
        bundled = await post(http, f"https://tls.test:{port}/", ca=b"# two\n" + ca + b"\n" + ca)

        with pytest.raises(NotSentError, match=r"tls\.test could not be connected to: .*certificate"):
            await post(http, f"https://tls.test:{port}/")

    assert (answer.status, bundled.status) == (200, 200)


async def test_a_certificate_for_another_name_is_not_sent_to(loopback: EgressPolicy) -> None:
    ca = (TLS / "ca.pem").read_bytes()
    async with serving_tls() as port, GuardedHttp(loopback, resolver=Names("127.0.0.1")) as http:
        with pytest.raises(NotSentError, match="certificate"):
            await post(http, f"https://other.test:{port}/", ca=ca)


async def test_a_server_without_tls_is_not_sent_to(partner: Partner, http: GuardedHttp) -> None:
    with pytest.raises(NotSentError):
        await post(http, f"https://127.0.0.1:{partner.port}/")


@pytest.mark.parametrize(
    "ca", [b"", b"garbage", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
async def test_an_unreadable_ca_is_refused(http: GuardedHttp, ca: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="CA"):
        await post(http, "https://127.0.0.1/", ca=ca)


async def test_a_machine_without_trusted_certificates_says_so(
    partner: Partner, http: GuardedHttp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))

    with pytest.raises(NotSentError, match="No CA certificates"):
        await post(http, partner.url())


# What an error tells.


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/hunter2",
        "hunter2",
        "http://127.0.0.1:hunter2/",
        "http://user:hunter2@127.0.0.1/",
        "http://127.0.0.1:0/hunter2",
    ],
)
async def test_an_unusable_address_is_refused_without_being_shown(http: GuardedHttp, url: str) -> None:
    with pytest.raises(MalformedRequestError) as refused:
        await post(http, url)

    assert "hunter2" not in everything_said(refused.value)


@pytest.mark.parametrize("header", [("X-Token", "hunter2\r\nX: y"), ("X hunter2", "a"), ("", "hunter2")])
async def test_an_impossible_header_is_refused_without_being_shown(
    partner: Partner, http: GuardedHttp, header: tuple[str, str]
) -> None:
    with pytest.raises(MalformedRequestError) as refused:
        await http.post(partner.url(), [header], b"{}", LONG)

    assert "hunter2" not in everything_said(refused.value)


@pytest.mark.parametrize("path", ["/hang?token=hunter2", "/reset?token=hunter2"])
async def test_errors_name_the_host_and_never_path_or_query(partner: Partner, http: GuardedHttp, path: str) -> None:
    with pytest.raises(GuardedHttpError) as failed:
        await post(http, partner.url(path), SHORT)

    said = everything_said(failed.value)
    assert "127.0.0.1" in said
    assert "hunter2" not in said
    assert "http://" not in said


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    deadline = monotonic() + 20
    while not condition():
        assert monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)

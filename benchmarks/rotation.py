"""How soon a changed credential is used: from the change of the Secret to the first delivery signed with it.

The whole way is real: API server, operator, a worker as the pod of its Deployment, events all the time, a receiver that
checks signatures with both secrets. The process kubelet stands in for a node; it renews mounted files as a real one
does, at once when the pod changes and else within a minute.
"""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import standardwebhooks

from benchmarks.bed import Bed
from benchmarks.operator_bed import OperatorBed, open_operator_bed
from benchmarks.result import Result, percentile
from benchmarks.waiting import until
from tests.cluster.kubelet.process_kubelet import ProcessKubelet

ROTATIONS = 20
EVERY_SECONDS = 0.02
NAME = "rotated"


class Receiver:
    """A receiver that accepts what any secret so far has signed, and notes when each was first used."""

    def __init__(self) -> None:
        self.first_used: dict[str, float] = {}
        self.accepted: set[str] = set()
        self.refused = 0
        self._verifiers: dict[str, standardwebhooks.Webhook] = {}

    def expect(self, secret: str) -> None:
        """Accept a secret from now on."""
        self._verifiers[secret] = standardwebhooks.Webhook(secret)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve for the length of a block; yield the address."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(204 if receiver.takes(dict(self.headers.items()), body) else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/hook"
            server.shutdown()

    def takes(self, headers: dict[str, str], body: bytes) -> bool:
        """Check a request with the newest secret first; note which one has signed it."""
        lowered = {name.lower(): value for name, value in headers.items()}
        for secret, verifier in reversed(list(self._verifiers.items())):
            try:
                verifier.verify(body.decode(), lowered)
            except standardwebhooks.WebhookVerificationError:
                continue
            self.first_used.setdefault(secret, time.monotonic())
            self.accepted.add(lowered["webhook-id"])
            return True
        self.refused += 1
        return False


def results(bed: Bed, scale: float) -> list[Result]:
    """Rotate one connection's credential again and again, under load."""
    rotations = max(3, int(ROTATIONS * scale))
    with open_operator_bed(bed, 1) as operators, ProcessKubelet(operators.cluster):
        waits, emitted, receiver = _rotate(bed, operators, rotations)
    lost = emitted - len(receiver.accepted)
    detail = f"{rotations} rotations under load; median {percentile(waits, 0.5):.2f} s"
    undelivered = f"of {emitted} events, {receiver.refused} requests refused"
    return [
        Result.at_most("secret_rotation_s", max(waits), 3, "s", detail),
        Result.at_most("secret_rotation_undelivered", lost, 0, "events", undelivered),
    ]


def _rotate(bed: Bed, operators: OperatorBed, rotations: int) -> tuple[list[float], int, Receiver]:
    receiver = Receiver()
    first = _new_secret()
    receiver.expect(first)
    with receiver.listening() as url, operators.replica("rotation"), bed.program("dispatcher"):
        operators.connect(NAME, url, first)
        with _load(bed) as load:
            until(lambda: first in receiver.first_used, "the first delivery")
            waits = [_rotated(operators, receiver) for _ in range(rotations)]
        until(lambda: len(receiver.accepted) >= load.emitted, "everything is delivered")
    return waits, load.emitted, receiver


def _rotated(operators: OperatorBed, receiver: Receiver) -> float:
    secret = _new_secret()
    receiver.expect(secret)
    began = time.monotonic()
    operators.change_secret(NAME, secret)
    until(lambda: secret in receiver.first_used, "the changed credential is used", every_seconds=0.005)
    return receiver.first_used[secret] - began


class _Load:
    """Events at a steady rate."""

    def __init__(self, dsn: str) -> None:
        self.emitted = 0
        self._dsn = dsn
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._emit)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _emit(self) -> None:
        data = json.dumps({"id": "c", "name": "Kestrel Instruments GmbH", "employees": 412})
        with psycopg.connect(self._dsn, autocommit=True) as database:
            while not self._stop.wait(EVERY_SECONDS):
                database.execute(
                    "select integration.emit_event('t0', 'company.updated', %s, %s::jsonb)", (str(self.emitted), data)
                )
                self.emitted += 1


@contextmanager
def _load(bed: Bed) -> Iterator[_Load]:
    load = _Load(bed.dsn("bench_producer"))
    load.start()
    try:
        yield load
    finally:
        load.stop()


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()

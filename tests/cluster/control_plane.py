"""A real Kubernetes control plane, as processes on loopback: etcd, kube-apiserver and kube-controller-manager.

All that is Kubernetes is real: validation, RBAC, admission, watches, server-side apply, garbage collection, rollouts,
the audit log. There is no scheduler and no node: `kubelet.py` stands in for both, where a test needs pods that run.
Starts in about five seconds; loses its data at the end.
"""

import json
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.cluster import certificates, program_files
from tests.cluster.audit import POLICY, AuditLog
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.processes import Process

START_SECONDS = 120.0
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
    "root-ca-certificate-publisher-controller",
    "disruption-controller",
    "endpointslice-controller",
    "validatingadmissionpolicy-status-controller",
    "resourcequota-controller",
)
# Below the ports that systems give to outgoing connections: one of those could take a server's while it is stopped.
PORTS = range(15000, 32000)


class ControlPlaneError(Exception):
    """A part of the control plane did not start; has the end of its log."""


class ControlPlane:
    """A control plane in a folder of its own; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("etcd", "apiserver", "audit", "certificates"):
            (folder / name).mkdir(parents=True)
        self.authority = certificates.Authority(folder / "certificates")
        self.admin = self.authority.client("admin", "system:masters")
        self._etcd_port, self.port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.admin_kubeconfig = write_kubeconfig(
            folder / "admin.kubeconfig", self.url, self.authority.certificate, client=self.admin
        )
        self._audit_file = folder / "audit" / "audit.log"
        self.audit = AuditLog(self._audit_file)
        self._etcd: Process | None = None
        self._apiserver: Process | None = None
        self._controller_manager: Process | None = None
        self._write_files()

    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.start_apiserver()
            self._start_controller_manager()
            _wait_until(self._has_default_service_account, "the controllers are at work", self._all_processes)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def client(self) -> httpx.Client:
        """Make a client that is an administrator; the caller closes it."""
        return httpx.Client(base_url=self.url, verify=self.admin_tls(), timeout=60.0, trust_env=False)

    def admin_tls(self) -> ssl.SSLContext:
        """Make a TLS context that trusts the API server and shows an administrator's certificate."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        return context

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run the real kubectl and return its output; its complaints are the error's notes."""
        done = subprocess.run(
            [program_files.find("kubectl"), "--kubeconfig", kubeconfig or self.admin_kubeconfig, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
        )
        if done.returncode:
            raise KubectlError(arguments, done.returncode, done.stderr)
        return done.stdout

    def service_account_kubeconfig(self, namespace: str, name: str, *, server: str | None = None) -> Path:
        """Write a kubeconfig with an hour's token of a service account, which exists."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "1h").strip()
        return write_kubeconfig(
            self.folder / f"{namespace}-{name}-{random.randrange(10**9)}.kubeconfig",
            server or self.url,
            self.authority.certificate,
            token=token,
            namespace=namespace,
        )

    def start_apiserver(self) -> None:
        """Start the API server, on the port that it has had and will have, and wait until it is ready."""
        self._apiserver = Process(self._apiserver_command(), self.folder / "apiserver.log")
        _wait_until(self._is_ready, "the API server is ready", lambda: [self._apiserver])

    def stop_apiserver(self) -> None:
        """Kill the API server: connections break at once, and no new ones are taken until it is started again."""
        assert self._apiserver is not None
        self._apiserver.kill()

    def pause_apiserver(self) -> None:
        """Freeze the API server: connections stay and nothing comes through them."""
        assert self._apiserver is not None
        self._apiserver.signal(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """Let a frozen API server go on."""
        assert self._apiserver is not None
        self._apiserver.signal(signal.SIGCONT)

    def _write_files(self) -> None:
        key = certificates.new_key()
        certificates.write_key(key, self._file("service-account.key"))
        certificates.write_public_key(key, self._file("service-account.pub"))
        self.folder.joinpath("audit-policy.yaml").write_text(json.dumps(POLICY))
        # Readers of the log find it before its first line.
        self._audit_file.touch()

    def _file(self, name: str) -> Path:
        return self.folder / "certificates" / name

    def _start_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        command: list[str | Path] = [
            program_files.find("etcd"),
            *("--data-dir", self.folder / "etcd", "--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync", "--log-level", "warn"),
        ]
        self._etcd = Process(command, self.folder / "etcd.log")
        _wait_until(lambda: _answers(f"{url}/readyz"), "etcd is ready", lambda: [self._etcd])

    def _apiserver_command(self) -> Sequence[str | Path]:
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1"]
        serving = self.authority.server("kube-apiserver", *names)
        options = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "cert-dir": self.folder / "apiserver",
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "client-ca-file": self.authority.certificate,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": self._file("service-account.pub"),
            "service-account-signing-key-file": self._file("service-account.key"),
            "service-cluster-ip-range": "10.0.0.0/24",
            "authorization-mode": "Node,RBAC",
            "allow-privileged": "true",
            "endpoint-reconciler-type": "none",
            "enable-priority-and-fairness": "true",
            "audit-policy-file": self.folder / "audit-policy.yaml",
            "audit-log-path": self._audit_file,
            "audit-log-mode": "blocking",
            "audit-log-maxsize": 2000,
        }
        return [program_files.find("kube-apiserver"), *(f"--{name}={value}" for name, value in options.items())]

    def _start_controller_manager(self) -> None:
        user = self.authority.client("system:kube-controller-manager")
        kubeconfig = write_kubeconfig(
            self.folder / "controller-manager.kubeconfig", self.url, self.authority.certificate, client=user
        )
        options = {
            "kubeconfig": kubeconfig,
            "root-ca-file": self.authority.certificate,
            "service-account-private-key-file": self._file("service-account.key"),
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            "secure-port": 0,
            "controllers": ",".join(CONTROLLERS),
            # Its own throttle would slow rollouts down that tests wait for.
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        }
        command: list[str | Path] = [
            program_files.find("kube-controller-manager"),
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        self._controller_manager = Process(command, self.folder / "controller-manager.log")

    def _has_default_service_account(self) -> bool:
        with self.client() as client:
            return client.get("/api/v1/namespaces/default/serviceaccounts/default").is_success

    def _is_ready(self) -> bool:
        return _answers(f"{self.url}/readyz", self.admin_tls())

    def _all_processes(self) -> Sequence[Process | None]:
        return [self._controller_manager, self._apiserver, self._etcd]

    def _end(self) -> None:
        """Kill everything: the data are thrown away."""
        for process in self._all_processes():
            if process is not None:
                process.kill()


class KubectlError(Exception):
    """The real kubectl has failed; says what it said."""

    def __init__(self, arguments: Sequence[str], code: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)} ended with {code}: {stderr.strip()}")
        self.code = code
        self.stderr = stderr


def free_port() -> int:
    """Find a port that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _answers(url: str, tls: ssl.SSLContext | bool = False) -> bool:
    try:
        return httpx.get(url, verify=tls, timeout=5.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _wait_until(condition: Callable[[], bool], what: str, processes: Callable[[], Sequence[Process | None]]) -> None:
    """Wait for a part to be ready; if it ends instead, or takes too long, show the end of its log."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        needed = [process for process in processes() if process is not None]
        late = time.monotonic() > deadline
        for process in needed:
            if process.exit_code is not None or late:
                reason = f"{START_SECONDS:.0f} s were not enough" if late else f"ended with {process.exit_code}"
                raise ControlPlaneError(f"waiting until {what}: {reason}; end of {process.log.name}:\n{process.tail()}")
        time.sleep(0.05)

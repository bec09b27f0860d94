"""The layer's programs as processes of this machine: `python -m integrations dispatcher|worker|ingress`.

Each gets a complete environment: its settings, with the connection string of its own role, and the few variables any
program may need. Nothing secret is on a command line, where every user of the machine could read it. With `-P`, a
folder of the current directory is not taken for one of our packages.
"""

import json
import os
import sys
from pathlib import Path

from local.access import Access
from local.supervisor import Program
from store.roles import Group

HOST = "127.0.0.1"
"""Address that programs of this machine listen on."""

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Networks that workers of this machine may call beside public ones: partners in simulation live there."""

_PASSED_ON = (
    "DYLD_LIBRARY_PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
)


def dispatcher(access: Access) -> Program:
    """Describe the dispatcher."""
    return _program("dispatcher", "dispatcher", {"DATABASE_URL": access.dsn(Group.DISPATCHER)})


def ingress(access: Access) -> Program:
    """Describe the ingress; it listens on loopback alone."""
    settings = {"DATABASE_URL": access.dsn(Group.INGRESS), "HOST": HOST, "PORT": str(access.ingress_port)}
    return _program("ingress", "ingress", settings)


def worker(access: Access, secrets: Path, keys: Path, number: int) -> Program:
    """Describe the worker of a slot; started again under its name, it replaces its former session at once."""
    settings = {
        "DATABASE_URL": access.dsn(Group.WORKER),
        "WORKER_NAME": f"worker-{number}",
        "SECRETS_DIRECTORY": str(secrets),
        "OAUTH_KEYS_FILE": str(keys),
        "EGRESS_ALLOW": json.dumps(LOOPBACK),
    }
    return _program(f"worker-{number}", "worker", settings)


def _program(name: str, command: str, settings: dict[str, str]) -> Program:
    return Program(name, [sys.executable, "-P", "-m", "integrations", command], environment(settings))


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return a program's environment: what any program may need, and settings under their full names."""
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return inherited | {f"INTEGRATIONS_{name}": value for name, value in settings.items()}

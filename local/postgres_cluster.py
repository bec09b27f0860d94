"""The data of a PostgreSQL server: made once, complete or not at all.

A data folder holds

    cluster/              PostgreSQL's own files; a link to them if the server's account cannot reach this folder
    superuser.password    mode 0600
    port                  where the server listened last
    server.log            this run's log; server.log.1 is the run before
    lock                  held by the one process that uses the folder, naming it

`initdb` works in a folder of its own that is renamed when it is complete, so a run that was killed half-way leaves
nothing that could be taken for a cluster.
"""

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local.errors import PostgresDataError
from local.postgres_installation import Account, Installation, make_passable

SUPERUSER = "postgres"

# PostgreSQL's own collation provider exists since this version; it makes no use of the machine's locales.
FIRST_MAJOR_WITH_BUILTIN_LOCALES = 17

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cluster:
    """An initialised cluster and the password of its superuser."""

    directory: Path
    password: str


def prepare_cluster(
    data_directory: Path, installation: Installation, account: Account, fallback: Path, *, durable: bool
) -> Cluster:
    """Return the cluster of a data folder, made now if it has none; only the holder of the folder's lock may call this.

    `durable` says whether the files of a new cluster are flushed to the disk.
    """
    link = data_directory / "cluster"
    password_file = data_directory / "superuser.password"
    if link.exists():
        _check(link, installation, account)
    else:
        _initialise(link, password_file, installation, account, fallback, durable=durable)
    try:
        return Cluster(link.resolve(), password_file.read_text())
    except OSError as error:
        message = (
            f"cannot read {password_file}: {error.strerror}. Without it nobody can log in: put it back, or remove"
            f" {data_directory} to begin anew."
        )
        raise PostgresDataError(message) from error


def _check(link: Path, installation: Installation, account: Account) -> None:
    """Refuse a cluster that this installation or this account cannot run."""
    cluster = link.resolve()
    if not account.can_enter(cluster):
        message = (
            f"PostgreSQL would run as {account}, who cannot enter {cluster}: run this program as the owner of that"
            " folder, or let the owner pass through the folders above it."
        )
        raise PostgresDataError(message)
    made_by = (cluster / "PG_VERSION").read_text().strip()
    if made_by != str(installation.major):
        message = (
            f"{cluster} was made by PostgreSQL {made_by}, and PostgreSQL {installation.major} cannot read it: use"
            f" version {made_by}, or move the data with pg_upgrade, or remove {link.parent} to begin anew."
        )
        raise PostgresDataError(message)


def _initialise(
    link: Path, password_file: Path, installation: Installation, account: Account, fallback: Path, *, durable: bool
) -> None:
    """Make a new cluster."""
    place = _place_for(link, account, fallback)
    for leftover in place.glob("initialising-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # A name of its own, for an initdb whose parent was killed may still be writing to an older one.
    staging = Path(tempfile.mkdtemp(dir=place, prefix="initialising-"))
    password = secrets.token_urlsafe(24)
    _write_private(password_file, password)
    _write_private(staging / "password", password)
    account.take(staging / "password")
    account.take(staging)

    result = account.run(
        [
            installation.program("initdb"),
            f"--pgdata={staging / 'cluster'}",
            f"--username={SUPERUSER}",
            f"--pwfile={staging / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            *_locale_arguments(installation),
            *([] if durable else ["--no-sync"]),
        ]
    )
    if result.returncode != 0:
        raise PostgresDataError(f"initdb could not make {link}:\n{result.stdout}")

    (staging / "cluster").rename(place / "cluster")
    if place != link.parent:
        link.unlink(missing_ok=True)
        link.symlink_to(place / "cluster")
    shutil.rmtree(staging)


def _place_for(link: Path, account: Account, fallback: Path) -> Path:
    """Return the folder for a new cluster: where it was wanted, or one that the account can reach."""
    if account.can_enter(link.parent):
        link.unlink(missing_ok=True)
        return link.parent
    digest = hashlib.sha256(os.fsencode(link.parent)).hexdigest()[:12]
    place = fallback / f"{link.parent.name}-{digest}"
    logger.warning("PostgreSQL runs as %s, who cannot reach %s: its data go to %s", account, link.parent, place)
    make_passable(fallback)
    # A cluster that is there already belonged to a data folder that has been removed since, its password with it.
    shutil.rmtree(place, ignore_errors=True)
    make_passable(place)
    return place


def _locale_arguments(installation: Installation) -> list[str]:
    if installation.major >= FIRST_MAJOR_WITH_BUILTIN_LOCALES:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)

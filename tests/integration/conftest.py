"""A real PostgreSQL server for the tests: one per test process, ended with it whatever happens."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.postgres import PostgresServer

# A test database may be lost in a power failure. A test of durability starts a server of its own.
QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "128MB"}


@contextmanager
def _reachable_directory() -> Iterator[Path]:
    """Make a folder for a server's data; pytest's own are closed to the account that runs root's server."""
    directory = Path(tempfile.mkdtemp(prefix="integration-layer-tests-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def reachable_directory() -> Iterator[Path]:
    """Give a test a folder that the account of a PostgreSQL server can reach."""
    with _reachable_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run the server that all tests of this process share; if the process is killed, its guardian ends it."""
    with _reachable_directory() as directory, PostgresServer(directory / "data", settings=QUICK) as server:
        yield server


@pytest.fixture(scope="session")
def admin_dsn(postgres: PostgresServer) -> str:
    """Give the superuser's way into the database `postgres`, from which tests make databases of their own."""
    return postgres.dsn()

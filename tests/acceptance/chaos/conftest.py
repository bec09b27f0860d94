"""A durable server for the tests of this folder, and the layer on it for each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.bed import Bed
from chaos.server import database, durable_server
from local.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """Run a server that flushes to the disk, on a port that stays its own while it is down."""
    with durable_server() as server:
        yield server


@pytest.fixture
def bed(server: PostgresServer, tmp_path: Path) -> Iterator[Bed]:
    """Give a test a database, a partner, and the means to start and kill programs."""
    with database(server) as name, Bed(server, name, tmp_path) as bed:
        yield bed

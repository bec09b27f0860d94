"""The server of one machine keeps its promises, in crashes too."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from local.errors import (
    PostgresDataError,
    PostgresError,
    PostgresInstallationError,
    PostgresInUseError,
    PostgresStartError,
)
from local.postgres import PostgresServer, StopMode
from local.postgres_installation import find_installation, reachable_installation, server_account
from local.postgres_process import find_postmaster

ROOT = Path(__file__).parents[3]
SMALL = {"shared_buffers": "16MB", "max_connections": "20"}
QUICK = {**SMALL, "fsync": "off"}

# A program that owns a server and says so; run as a process of its own, so that it can be killed.
OWNER = """
import sys, time
from pathlib import Path
from local.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1]), settings={"shared_buffers": "16MB", "max_connections": "20"})
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another account")


@contextmanager
def owner_process(data: Path) -> Iterator[subprocess.Popen[str]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with owner:
        try:
            yield owner
        finally:
            owner.kill()
            # The server and its guardian, or initdb, may still be at work in the folder.
            assert eventually(lambda: not has_users(data))


def read_pid(owner: subprocess.Popen[str]) -> int:
    assert owner.stdout is not None
    return int(owner.stdout.readline())


def has_users(directory: Path) -> bool:
    command_lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return any(str(directory) in argument for command in command_lines for argument in command[1:])


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


def value(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def remember(server: PostgresServer, number: int) -> None:
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS memory (number int)")
        connection.execute("INSERT INTO memory VALUES (%s)", [number])


def memories(server: PostgresServer) -> list[int]:
    with psycopg.connect(server.dsn()) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM memory ORDER BY number")]


def test_nobody_gets_in_without_the_password(postgres: PostgresServer) -> None:
    for dsn in (postgres.dsn(user="postgres"), postgres.dsn(user="postgres", password="guessed")):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(dsn)


def test_every_way_in_asks_for_scram(postgres: PostgresServer) -> None:
    methods = value(postgres, "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules")

    assert methods == ["scram-sha-256"]


def test_the_password_is_for_its_owner_alone(postgres: PostgresServer) -> None:
    mode = (postgres.data_directory / "superuser.password").stat().st_mode

    assert stat.S_IMODE(mode) == 0o600


def test_only_this_machine_reaches_the_server(postgres: PostgresServer) -> None:
    connections = psutil.Process(postgres.pid).net_connections(kind="all")

    assert {c.laddr[:2] for c in connections if c.status == psutil.CONN_LISTEN} == {("127.0.0.1", postgres.port)}
    assert value(postgres, "SHOW unix_socket_directories") == ""


def test_a_new_cluster_has_checksums_and_does_not_depend_on_the_machines_locales(postgres: PostgresServer) -> None:
    assert value(postgres, "SHOW data_checksums") == "on"
    assert value(postgres, "SHOW server_encoding") == "UTF8"
    assert value(postgres, "SELECT datlocprovider::text FROM pg_database WHERE datname = 'template1'") == "b"


def test_a_caller_s_settings_win_except_over_the_promises(reachable_directory: Path) -> None:
    settings = {**QUICK, "jit": "on", "listen_addresses": "*", "unix_socket_directories": "/tmp"}

    with PostgresServer(reachable_directory / "data", settings=settings) as server:
        assert value(server, "SHOW jit") == "on"
        assert value(server, "SHOW listen_addresses") == "127.0.0.1"
        assert value(server, "SHOW unix_socket_directories") == ""


def test_a_server_without_overrides_is_set_up_as_in_production(reachable_directory: Path) -> None:
    with PostgresServer(reachable_directory / "data") as server:
        assert value(server, "SHOW fsync") == "on"
        assert value(server, "SHOW synchronous_commit") == "on"
        assert value(server, "SHOW shared_buffers") == "256MB"
        assert value(server, "SHOW shared_preload_libraries") == "pg_stat_statements"
        assert value(server, "SHOW wal_compression") != "off"


def test_data_port_and_password_are_kept_between_runs(reachable_directory: Path) -> None:
    with PostgresServer(reachable_directory / "data", settings=QUICK) as first:
        remember(first, 1)

    with PostgresServer(reachable_directory / "data", settings=QUICK) as second:
        assert second.dsn() == first.dsn()
        assert memories(second) == [1]


def test_a_port_that_was_taken_is_replaced(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data", settings=QUICK)
    with server:
        before = server.port

    with socket.create_server(("127.0.0.1", before)), server:
        assert server.port != before
        assert value(server, "SHOW port") == str(server.port)


def test_a_data_folder_in_use_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(PostgresInUseError, match=f"in use by process {os.getpid()}"):
        PostgresServer(postgres.data_directory).start()

    assert value(postgres, "SELECT 1") == 1


def test_a_data_folder_in_use_by_another_program_is_refused(reachable_directory: Path) -> None:
    with owner_process(reachable_directory / "data") as owner:
        read_pid(owner)

        with pytest.raises(PostgresInUseError, match=f"in use by process {owner.pid}"):
            PostgresServer(reachable_directory / "data").start()


def test_stopping_a_server_of_the_past_leaves_the_present_one_alone(reachable_directory: Path) -> None:
    past = PostgresServer(reachable_directory / "data", settings=QUICK)
    with past:
        pass

    with PostgresServer(reachable_directory / "data", settings=QUICK) as present:
        past.stop()

        assert value(present, "SELECT 1") == 1


def test_the_server_ends_with_a_program_that_was_killed(reachable_directory: Path) -> None:
    with owner_process(reachable_directory / "data") as owner:
        pid = read_pid(owner)
        owner.kill()

        assert eventually(lambda: not is_alive(pid))


def test_a_start_right_after_the_owner_was_killed_succeeds(reachable_directory: Path) -> None:
    with owner_process(reachable_directory / "data") as owner:
        pid = read_pid(owner)
        owner.kill()
        owner.wait()

    with PostgresServer(reachable_directory / "data", settings=SMALL) as server:
        assert server.pid != pid
        assert value(server, "SELECT 1") == 1


def test_a_server_that_lost_both_owner_and_guardian_is_ended_by_the_next_start(reachable_directory: Path) -> None:
    with owner_process(reachable_directory / "data") as owner:
        abandoned = psutil.Process(read_pid(owner))
        guardian = abandoned.parent()
        assert guardian is not None
        guardian.kill()
        owner.kill()
        owner.wait()
        assert is_alive(abandoned.pid)

        with PostgresServer(reachable_directory / "data", settings=SMALL) as server:
            assert server.pid != abandoned.pid
            assert not is_alive(abandoned.pid)


def test_stop_ends_a_server_whose_guardian_was_killed(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data", settings=QUICK)
    server.start()
    pid = server.pid
    guardian = psutil.Process(pid).parent()
    assert guardian is not None
    guardian.kill()

    server.stop()

    assert not is_alive(pid)


def test_what_was_committed_survives_a_killed_server(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data", settings=SMALL)
    for number in range(3):
        server.start()
        remember(server, number)
        os.kill(server.pid, signal.SIGKILL)
        server.stop()

    with server:
        assert memories(server) == [0, 1, 2]


def test_what_was_committed_survives_an_immediate_stop(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data", settings=SMALL)
    server.start()
    remember(server, 1)
    server.stop(StopMode.IMMEDIATE)

    with server:
        assert memories(server) == [1]


def test_an_initialisation_that_was_killed_is_done_anew(reachable_directory: Path) -> None:
    data = reachable_directory / "data"
    with owner_process(data) as owner:
        assert eventually(lambda: any(data.glob("initialising-*/cluster/PG_VERSION")))
        owner.kill()
        owner.wait()
    assert not (data / "cluster").exists()

    with PostgresServer(data, settings=QUICK) as server:
        assert value(server, "SELECT 1") == 1


def test_a_process_id_that_now_belongs_to_another_program_hinders_nobody(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data", settings=SMALL)
    server.start()
    cluster = (reachable_directory / "data" / "cluster").resolve()
    pid_file = cluster / "postmaster.pid"
    content = pid_file.read_text()
    server.stop(StopMode.IMMEDIATE)
    owner = cluster.stat()
    with subprocess.Popen(["sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None) as other:
        pid_file.write_text(f"{other.pid}\n{content.partition(chr(10))[2]}")
        os.chown(pid_file, owner.st_uid, owner.st_gid)

        try:
            with server:
                assert find_postmaster(cluster) is not None
                assert other.poll() is None
        finally:
            other.kill()


def test_a_cluster_of_another_major_version_is_refused(reachable_directory: Path) -> None:
    with PostgresServer(reachable_directory / "data", settings=QUICK):
        pass
    (reachable_directory / "data" / "cluster" / "PG_VERSION").write_text("9\n")

    with pytest.raises(PostgresDataError, match=r"made by PostgreSQL 9, and PostgreSQL \d+ cannot read it"):
        PostgresServer(reachable_directory / "data").start()


def test_a_lost_password_is_reported(reachable_directory: Path) -> None:
    with PostgresServer(reachable_directory / "data", settings=QUICK):
        pass
    (reachable_directory / "data" / "superuser.password").unlink()

    with pytest.raises(PostgresDataError, match="put it back"):
        PostgresServer(reachable_directory / "data").start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(reachable_directory: Path) -> None:
    with pytest.raises(PostgresStartError, match='parameter "jit" requires'):
        PostgresServer(reachable_directory / "data", settings={**QUICK, "jit": "perhaps"}).start()


def test_a_failed_start_lets_go_of_the_data_folder(reachable_directory: Path) -> None:
    with pytest.raises(PostgresStartError):
        PostgresServer(reachable_directory / "data", settings={**QUICK, "jit": "perhaps"}).start()

    with PostgresServer(reachable_directory / "data", settings=QUICK) as server:
        assert value(server, "SELECT 1") == 1


def test_a_folder_without_postgresql_is_refused(reachable_directory: Path) -> None:
    with pytest.raises(PostgresInstallationError, match="Name the folder of a PostgreSQL installation"):
        PostgresServer(reachable_directory / "data", installation=reachable_directory).start()


def test_what_needs_a_started_server_says_so(reachable_directory: Path) -> None:
    server = PostgresServer(reachable_directory / "data")

    for ask in (lambda: server.port, lambda: server.pid, server.dsn):
        with pytest.raises(PostgresError, match=r"call start\(\)"):
            ask()


def test_a_dsn_takes_any_name_and_password(postgres: PostgresServer) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres.dsn("a/b", user="o'hara@", password="p:w?&"))

    assert (parts["dbname"], parts["user"], parts["password"]) == ("a/b", "o'hara@", "p:w?&")


@needs_root
def test_root_s_server_runs_as_another_account(postgres: PostgresServer) -> None:
    assert psutil.Process(postgres.pid).uids().real != 0


@needs_root
def test_root_s_data_go_elsewhere_if_the_server_cannot_reach_their_folder(reachable_directory: Path) -> None:
    private = reachable_directory / "private"
    private.mkdir(mode=0o700)
    fallback = reachable_directory / "fallback"
    server = PostgresServer(private / "data", settings=QUICK, fallback_directory=fallback)
    with server:
        remember(server, 1)

    with server:
        assert memories(server) == [1]
        assert (private / "data" / "cluster").resolve().is_relative_to(fallback)


@needs_root
def test_a_removed_data_folder_is_not_revived_from_elsewhere(reachable_directory: Path) -> None:
    private = reachable_directory / "private"
    private.mkdir(mode=0o700)
    server = PostgresServer(private / "data", settings=QUICK, fallback_directory=reachable_directory / "fallback")
    with server:
        remember(server, 1)
    shutil.rmtree(private / "data")

    with server:
        assert value(server, "SELECT to_regclass('memory')") is None


@needs_root
def test_root_s_programs_are_copied_if_the_server_s_account_cannot_reach_them(reachable_directory: Path) -> None:
    wheel = find_installation()
    private = reachable_directory / "private"
    private.mkdir(mode=0o700)
    for part in wheel.parts:
        (private / part.name).symlink_to(part)
    unreachable = replace(
        wheel,
        root=private / wheel.root.relative_to(wheel.parts[0].parent),
        parts=tuple(private / part.name for part in wheel.parts),
    )
    account = server_account(reachable_directory / "no-cluster-yet")

    copy = reachable_installation(unreachable, account, reachable_directory / "fallback")

    with PostgresServer(reachable_directory / "data", settings=QUICK, installation=copy.root) as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(reachable_directory / "fallback")
    assert reachable_installation(unreachable, account, reachable_directory / "fallback") == copy


@needs_root
def test_programs_that_cannot_be_copied_must_be_reachable(reachable_directory: Path) -> None:
    private = reachable_directory / "private"
    private.mkdir(mode=0o700)
    (private / "postgresql").symlink_to(find_installation().root)

    with pytest.raises(PostgresInstallationError, match="that every account can reach"):
        PostgresServer(reachable_directory / "data", installation=private / "postgresql").start()

"""Workers go on through what an operator does under them: passwords change, Secrets are wrong, connections end."""

import logging
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from connectors.simulation_faults import Delay, Drip
from store.pools import ensure_pool, scram_verifier, set_credential
from store.removal import remove

if TYPE_CHECKING:
    from tests.integration.conftest import Published
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

NEXT_SECRET = "whsec_" + b64encode(b"another key that signs everything").decode()


def project(root: Path, version: str, **secrets: str) -> None:
    """Lay out the Secrets of the namespace `acme` as the kubelet does in one projected volume."""
    volume = root / "acme"
    data = volume / f"..{version}"
    for secret, value in secrets.items():
        (data / secret).mkdir(parents=True)
        (data / secret / "signing").write_text(value)
        if not (volume / secret).is_symlink():
            (volume / secret).symlink_to(Path("..data", secret))
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")


# Database passwords -----------------------------------------------------------------------------------------------


@pytest.fixture
def pool_name(house: "House") -> Iterator[str]:
    """Name a pool; its role belongs to the whole server and is dropped at the end."""
    name = f"acme/integrations-{uuid4().hex[:8]}"
    yield name
    with psycopg.connect(house.layer.admin_dsn, autocommit=True) as admin:
        for (role,) in admin.execute("select role from integration.pool where name = %s", (name,)).fetchall():
            admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


async def test_a_worker_waits_for_its_password_and_goes_over_to_a_new_one(
    house: "House", pool_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "url"
    async with await house.layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)

        def write(password: str) -> None:
            file.write_text(house.layer.postgres.dsn(house.layer.name, pool.role, password))

        await house.layer.publish(house.layer.spec(house.simulator.url("/hook")), pool="pool_a")
        house.layer.admin.execute("update integration.pool set name = 'unused' where name = 'pool_a'")
        house.layer.admin.execute("update integration.lane set pool_id = %s", (pool.id,))
        house.layer.admin.execute("update integration.tenant_role set role = %s", (pool.role,))
        house.simulator.change("/hook")
        house.start_dispatcher()
        house.start_worker(database_url_file=file)
        house.layer.emit("one")
        await house.until(lambda: "cannot read the connection string" in str([vars(r) for r in caplog.records]))
        write("first")
        await house.until(lambda: "password authentication failed" in str([vars(r) for r in caplog.records]))
        await set_credential(operator, pool_name, "1", scram_verifier("first"))
        await house.until_accepted(1)
        session = house.layer.column("select id from integration.worker_session")
        await set_credential(operator, pool_name, "2", scram_verifier("second"))
        house.layer.emit("two")
        await house.until_accepted(2)
        house.cut_connections()
        write("second")
        house.layer.emit("three")
        await house.until_accepted(3)
        await house.until_settled()
        await house.stop("worker")

    assert len(session) == 1
    assert house.simulator.stats("/hook").accepted == 3


# Secrets ----------------------------------------------------------------------------------------------------------


async def test_a_malformed_secret_leaves_the_former_in_use_until_a_good_one_comes(
    house: "House", caplog: pytest.LogCaptureFixture
) -> None:
    house.secrets = house.secrets.with_name("projected")
    secret = (house.secrets.with_name("secrets") / "acme" / "hook" / "signing").read_text()
    project(house.secrets, "1", hook=secret, other=secret)
    await house.publish()
    house.start()
    house.layer.emit("one")
    await house.until_accepted(1)
    project(house.secrets, "2", hook="whsec_very-private", other=secret)
    await house.until(lambda: "the former one stays in use" in caplog.text)
    house.layer.emit("two")
    await house.until_accepted(2)
    project(house.secrets, "3", hook=NEXT_SECRET, other=secret)
    house.simulator.change("/hook", secrets=[NEXT_SECRET])
    house.layer.emit("three")
    await house.until_settled()

    (warning,) = [record for record in caplog.records if "the former one stays" in record.message]
    assert warning.levelno == logging.WARNING
    assert "key signing of Secret hook" in vars(warning)["reason"]
    assert "very-private" not in str([vars(record) for record in caplog.records])
    assert house.simulator.stats("/hook").accepted == 3
    assert house.lane() == ("Open", None)


# Connections that end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
async def test_a_connection_that_ends_with_requests_under_way_costs_the_others_nothing(
    house: "House", keep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    doomed = await house.publish("/doomed", name="doomed", tenant="acme", timeout="20s")
    await house.publish("/hook", name="hook")
    house.start()
    house.simulator.change("/doomed", script=[Delay(seconds=1, times=None)])
    for number in range(60):
        house.layer.emit(f"subject-{number}")
    await house.until(lambda: house.simulator.stats("/doomed").received > 3)
    session = house.layer.column("select id from integration.worker_session")
    ended = await _remove(house, doomed, keep=keep)
    await house.until(lambda: house.layer.column("select count(*) from integration.lane where owner is null") == [0])
    house.layer.emit("afterwards")
    await house.until_accepted(61)
    await house.until_settled()
    await house.stop("worker")

    assert 0 < ended <= 60
    assert house.layer.value("select count(*) from integration.dead_letter") == (ended if keep else 0)
    assert house.layer.column("select distinct worker from integration.attempt") == session
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_tenant_that_leaves_a_pool_with_requests_under_way_costs_the_others_nothing(
    house: "House", caplog: pytest.LogCaptureFixture
) -> None:
    """The pool may record nothing for that tenant any more, not even what it was doing."""
    doomed = await house.publish("/doomed", name="doomed", tenant="globex", timeout="1s")
    await house.publish("/hook", name="hook")
    house.start()
    house.simulator.change("/doomed", script=[Drip(status=429, times=None)])
    for number in range(10):
        house.layer.emit(f"subject-{number}", tenant="globex")
    await house.until(lambda: house.simulator.stats("/doomed").received > 3)
    await _remove(house, doomed, keep=True)
    for number in range(10):
        house.layer.emit(f"subject-{number}")
    await house.until_accepted(10)
    await house.until_settled()
    await house.stop("worker")

    assert house.layer.rows("select role, tenant_id from integration.tenant_role") == [("pool_a", "acme")]
    assert len(house.layer.column("select distinct worker from integration.attempt where outcome = 'Delivered'")) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _remove(house: "House", published: "Published", *, keep: bool) -> int:
    async with await house.layer.connect("operator") as operator:
        return (await remove(operator, [published.uid], keep=keep, reason="test"))[published.uid]

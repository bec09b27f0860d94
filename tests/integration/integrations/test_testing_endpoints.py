"""`integrations test` finds a connection and its Secrets, and its exit code says whether the partner took the event."""

import asyncio
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from typer.testing import CliRunner, Result

from connectors.simulation_faults import Status
from connectors.webhook.simulator import WebhookSimulator
from integrations.__main__ import app

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

SECRET = "whsec_" + b64encode(b"the key that signs everything").decode()


@pytest.fixture
def partner() -> Iterator[WebhookSimulator]:
    """Run a simulated partner beside the command, which has an event loop of its own."""
    simulator, loop = WebhookSimulator([SECRET]), asyncio.new_event_loop()
    loop.run_until_complete(simulator.__aenter__())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield simulator
    asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "acme" / "hook"
    folder.mkdir(parents=True)
    (folder / "signing").write_text(SECRET)
    return tmp_path


def command(layer: "Layer", secrets: Path, *arguments: str, role: str = "reader") -> Result:
    place = ["--database", layer.dsn(role), "--secrets", str(secrets)]
    environment = {"INTEGRATIONS_EGRESS_ALLOW": '["127.0.0.0/8"]'}
    return CliRunner().invoke(app, ["test", *place, *arguments], env=environment)


@pytest.mark.parametrize("role", ["reader", "pool_a"])
def test_a_partner_that_takes_the_event_is_exit_code_0(
    layer: "Layer", partner: WebhookSimulator, secrets: Path, role: str
) -> None:
    asyncio.run(layer.publish(layer.spec(partner.url("/hook"))))
    result = command(layer, secrets, "acme/hook", role=role)

    assert result.exit_code == 0, result.output
    words = ["credentials", "resolve", "vet", "connect", "request", "status"]
    assert [line.split()[1] for line in result.stdout.splitlines()[:-1]] == words
    assert partner.stats("/hook").accepted == 1
    assert layer.value("select count(*) from integration.event") == 0


def test_a_partner_that_refuses_is_exit_code_1_and_says_what_to_do(
    layer: "Layer", partner: WebhookSimulator, secrets: Path
) -> None:
    partner.change("/hook", script=[Status(status=404)])
    asyncio.run(layer.publish(layer.spec(partner.url("/hook"))))
    result = command(layer, secrets, "acme/hook")

    assert result.exit_code == 1
    assert "HTTP 404" in result.stdout
    assert "correct the path" in result.stdout


def test_a_program_reads_the_steps_as_json(layer: "Layer", partner: WebhookSimulator, secrets: Path) -> None:
    asyncio.run(layer.publish(layer.spec(partner.url("/hook"))))
    document = orjson.loads(command(layer, secrets, "acme/hook", "--json").stdout)

    assert (document["connection"], document["passed"]) == ("acme/hook", True)
    assert [step["name"] for step in document["steps"]][-1] == "status"
    assert set(document["steps"][0]) == {"name", "passed", "seconds", "found", "advice"}


def test_a_worker_s_own_settings_say_where_everything_is(
    layer: "Layer", partner: WebhookSimulator, secrets: Path, tmp_path: Path
) -> None:
    asyncio.run(layer.publish(layer.spec(partner.url("/hook"))))
    (tmp_path / "url").write_text(layer.dsn("pool_a"))
    environment = {
        "INTEGRATIONS_DATABASE_URL_FILE": str(tmp_path / "url"),
        "INTEGRATIONS_SECRETS_DIRECTORY": str(secrets),
        "INTEGRATIONS_EGRESS_ALLOW": '["127.0.0.0/8"]',
    }

    assert CliRunner().invoke(app, ["test", "acme/hook"], env=environment).exit_code == 0


def test_a_connection_that_is_not_there_is_told(layer: "Layer", secrets: Path) -> None:
    result = command(layer, secrets, "acme/nothing")

    assert "there is no connection acme/nothing" in str(result.exception)


def test_a_report_is_written_beside_what_is_printed(
    layer: "Layer", partner: WebhookSimulator, secrets: Path, tmp_path: Path
) -> None:
    partner.change("/hook", script=[Status(status=404)])
    asyncio.run(layer.publish(layer.spec(partner.url("/hook"))))
    result = command(layer, secrets, "acme/hook", "--report", str(tmp_path / "report"))
    document = orjson.loads((tmp_path / "report").read_bytes())

    assert result.exit_code == 1
    assert (document["connection"], document["passed"]) == ("acme/hook", False)
    assert document["steps"][-1]["advice"].endswith("correct the path of the connection's address.")

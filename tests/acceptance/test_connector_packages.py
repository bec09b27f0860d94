"""A new connector: made by the command, built as a package, installed, listed, and certified."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.running import eventually, running

if TYPE_CHECKING:
    from tests.acceptance.conftest import Run

ROOT = Path(__file__).parents[2]


def installed(package: Path, target: Path) -> None:
    """Build a package and put it where an installer would."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target / "dist")]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    (wheel,) = (target / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "site")


def certify(connector: str, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "connectors.certification"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [*command, "--connector", connector],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("name", ["AcmeChat", "Postbox"])
def test_a_new_connector_is_certified_as_soon_as_it_is_installed(run: "Run", folder: Path, name: str) -> None:
    made = run("connectors", "new", name)
    installed(folder / f"{name.lower()}-connector", folder)
    certified = certify(name, folder / "site", folder)

    assert made.returncode == 0, made.stderr
    assert certified.returncode == 0, certified.stdout + certified.stderr
    assert "passed" in certified.stdout


def test_what_is_installed_is_listed_with_what_it_can_do(
    run: "Run", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("connectors", "new", "AcmeChat")
    installed(folder / "acmechat-connector", folder)
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    listed = run("connectors", "list", "--json")
    shown = run("connectors", "list")
    connectors = {each["connector"]: each for each in json.loads(listed.stdout)["connectors"]}

    assert list(connectors) == ["HubSpot", "Pipedrive", "Webhook", "AcmeChat"]
    assert connectors["AcmeChat"]["provider"] == "Plugin"
    assert [action["name"] for action in connectors["AcmeChat"]["actions"]] == ["PutMessage"]
    assert "UpsertCompany" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("chat",), "begins with a capital"),
        (("HubSpot",), "it is built in"),
        (("A" * 41,), "up to 40 letters"),
        (("Chat", "--directory", "."), "is there and not empty"),
    ],
)
def test_a_name_or_place_that_does_not_do_is_refused(
    run: "Run", folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    (folder / "something").write_text("x")
    ended = run("connectors", "new", *arguments)

    assert ended.returncode != 0
    assert said in ended.stderr
    assert [file.name for file in folder.iterdir()] == ["something"]


@contextmanager
def postbox(site: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Serve the example's simulated partner in a process of its own; its address, and how many messages it has."""
    code = (
        "import asyncio\n"
        "from postbox_connector.simulator import PostboxSimulator\n"
        "async def main():\n"
        "    async with PostboxSimulator('a-token-of-postbox') as box:\n"
        "        print(box.url, flush=True)\n"
        "        while True:\n"
        "            await asyncio.sleep(0.05)\n"
        "            print(len(box.messages), flush=True)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        lines = program.stdout
        try:
            yield lines.readline().strip(), lambda: int(lines.readline())
        finally:
            program.kill()


def test_a_plug_in_s_connection_is_checked_and_delivered_to(
    run: "Run", command: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(ROOT / "examples" / "connector", folder)
    site = folder / "site"
    monkeypatch.setenv("PYTHONPATH", str(site))
    manifest = (ROOT / "examples" / "connector" / "connection.yaml").read_text()
    _, connection = manifest.split("---\n")
    with postbox(site) as (url, messages):
        (folder / "good.yaml").write_text(manifest.replace("https://postbox.example", url))
        bad = connection.replace("name: postbox\n", "name: bad\n", 1).replace("https:", "ftp:")
        (folder / "bad.yaml").write_text(bad)
        with running(command, folder) as local:
            local.wait_until_told("connection acme/postbox is ready")
            local.wait_until_told("spec.plugin.settings.url")
            data = ("--data", '{"id": "c-1", "name": "Kestrel"}')
            emitted = run("emit", "--tenant", "acme", "--type", "company.updated", "--subject", "c-1", *data)
            eventually(lambda: messages() == 1)

    assert emitted.returncode == 0, emitted.stderr

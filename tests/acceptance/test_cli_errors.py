"""A command that cannot do its work says why in one message, gives no secret away, and ends with a telling code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]

NOBODY_THERE = "postgresql://somebody:hunter2@127.0.0.1:1/postgres"


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",),
        ("jobs", "list"),
        ("events", "show", "evt_1_00000000"),
        ("connections", "list"),
        ("connections", "release", "acme/crm"),
        ("connections", "show", "acme/crm"),
        ("emit", "--tenant", "acme", "--type", "ext.test.done", "--subject", "s", "--data", "{}"),
    ],
)
def test_a_database_that_does_not_answer_is_exit_code_3(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, DATABASE_URL=NOBODY_THERE)

    assert result.returncode == 3
    assert result.stderr.startswith("cannot reach the database: ")
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://somebody:hun/ter2@127.0.0.1/postgres",
        "postgresql://somebody:hun@ter2@127.0.0.1/postgres",
        "postgresql://somebody:hunter2%@127.0.0.1/postgres",
        "mysql://somebody:hunter2@127.0.0.1/db",
    ],
)
@pytest.mark.parametrize("program", [("jobs", "list"), ("migrate",), ("dispatcher",), ("worker",)])
def test_a_connection_string_that_cannot_be_read_is_never_repeated(
    run: Run, program: tuple[str, ...], url: str
) -> None:
    result = run(*program, DATABASE_URL=url)

    assert result.returncode == 2
    assert "INTEGRATIONS_DATABASE_URL" in result.stderr
    assert not any(part in result.stderr for part in ("hunter2", "ter2", "hun/", "somebody"))


@pytest.mark.parametrize("program", ["dispatcher", "worker"])
def test_a_program_names_the_variables_that_are_wrong(run: Run, program: str) -> None:
    result = run(program, LOG_LEVEL="LOUD")

    assert result.returncode == 2
    assert "INTEGRATIONS_DATABASE_URL is missing" in result.stderr
    assert "INTEGRATIONS_LOG_LEVEL: " in result.stderr


@pytest.mark.parametrize("value", ["10.0.0.0/8", '["10.0.0.0/99"]'])
def test_a_list_of_networks_that_cannot_be_read_is_named(run: Run, value: str) -> None:
    result = run("worker", DATABASE_URL=NOBODY_THERE, EGRESS_ALLOW=value)

    assert result.returncode == 2
    assert "INTEGRATIONS_EGRESS_ALLOW: " in result.stderr


def test_without_any_database_a_command_says_how_to_name_one(run: Run) -> None:
    result = run("jobs", "list")

    assert result.returncode == 2
    assert "--database" in result.stderr
    assert "--local" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("local", "nowhere"), "nowhere is no folder"),
        (("local", "--once"), "add --demo"),
        (("local", "--workers", "0"), "workers"),
        (("jobs", "show", "42"), "they look like job_1f_2c"),
        (("events", "show", "42"), "they look like evt_1f_0a1b2c3d"),
        (("connections", "release", "crm", "--database", NOBODY_THERE), "NAMESPACE/NAME"),
        (("jobs", "list", "--local", "."), "no layer has run in ."),
    ],
)
def test_wrong_use_is_exit_code_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert said in result.stderr


@pytest.mark.parametrize("data", ["{", "[1]", "@nowhere.json"])
def test_data_that_is_no_json_object_is_refused_before_anything_else(run: Run, data: str) -> None:
    result = run("emit", "--tenant", "acme", "--type", "ext.a.b", "--subject", "s", "--data", data)

    assert result.returncode == 2
    assert "--data" in result.stderr


def test_help_explains_exit_codes_and_settings(run: Run) -> None:
    result = run("worker", "--help")

    assert result.returncode == 0
    assert "INTEGRATIONS_EGRESS_ALLOW" in result.stdout
    assert "Exit codes" in result.stdout


def test_the_demo_needs_manifests_that_fit(run: Run, folder: Path) -> None:
    result = run("local", "--demo", "--once")

    assert result.returncode == 1
    assert "a demo needs webhook connections" in result.stderr
    assert not (folder / ".integrations").exists()


def test_a_command_ends_before_the_interpreter_takes_itself_apart(tmp_path: Path) -> None:
    script = "import atexit, os; atexit.register(os.abort); from integrations.__main__ import main; main()"
    command = [sys.executable, "-c", script, "events", "show", "no-event"]
    ended = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)

    assert ended.returncode == 2
    assert "no-event" in ended.stderr

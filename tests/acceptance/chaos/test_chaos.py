"""The harness as a person runs it: nothing breaks a sound build, and every broken build is found and told why."""

import subprocess
import sys
from typing import Any

import orjson
import pytest

from chaos.__main__ import ALL_KINDS
from chaos.misfortunes import FILL_DISK

Run = subprocess.CompletedProcess[str]


def chaos(*arguments: str) -> Run:
    return subprocess.run(
        [sys.executable, "-P", "-m", "chaos", *arguments], capture_output=True, text=True, check=False, timeout=240
    )


def account(run: Run) -> dict[str, Any]:
    """Return the account: what a run with --json writes, and the last line of it."""
    document: dict[str, Any] = orjson.loads(run.stdout)
    return document


def breaches(run: Run) -> set[str]:
    return {breach["name"] for breach in account(run)["breaches"]}


@pytest.mark.serial
@pytest.mark.timeout(300)
def test_whatever_befalls_a_sound_build_every_event_is_accounted_for() -> None:
    run = chaos("--seconds", "30", "--seed", "1", "--json")

    told = account(run)
    fates = told["deliveries"]
    assert (run.returncode, told["breaches"]) == (0, [])
    assert fates["wanted"] == fates["delivered"] + sum(fates["dead_lettered"].values()) > 1_000
    assert (fates["expired"], fates["queued"], fates["lost"], told["different_payloads"]) == (0, 0, 0, 0)
    assert set(told["misfortunes"]) | ({FILL_DISK} if told["not_exercised"] else set()) == set(ALL_KINDS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("broken", "misfortune", "breach"),
    [
        ("without-fence", "stall-worker", "late-write"),
        ("without-order", "partner-unavailable", "overtaken"),
        ("without-retries", "partner-unavailable", "lost"),
        ("with-new-ids", "partner-unavailable", "second-id"),
    ],
)
def test_a_broken_build_is_found(broken: str, misfortune: str, breach: str) -> None:
    run = chaos("--seconds", "10", "--broken", broken, "--only", misfortune, "--json")

    assert run.returncode == 1
    assert breach in breaches(run)


@pytest.mark.parametrize("wrong", [("--seconds", "soon"), ("--only", "rain"), ("--broken", "bone"), ("--seconds", "1")])
def test_a_wrong_command_line_is_told_apart_from_a_breach(wrong: tuple[str, str]) -> None:
    run = chaos(*wrong)

    assert run.returncode == 2
    assert wrong[0] in run.stderr

"""Our connectors are certified, and certification finds those that break a promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WRONG = "tests.integration.connectors.wrong_connectors"


def certify(connector: str, *options: str) -> tuple[int, str]:
    """Run the suite as an author of a connector does."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "connectors.certification", "--connector", connector]
    command += ["-p", "no:cacheprovider", "-q", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("connector", ["HubSpot", "Pipedrive", "Webhook"])
def test_our_connectors_are_certified(connector: str) -> None:
    code, told = certify(connector)

    assert code == 0, told
    assert "passed" in told
    assert "skipped" not in told


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("NewIdEachTime", "test_a_delivery_has_its_effect_once_however_often_it_comes"),
        ("Talkative", "test_no_secret_shows_wherever_the_partner_repeats_it"),
        ("Patient", "test_a_delivery_ends_in_its_time_whatever_the_partner_does"),
        ("Sorry", "test_what_a_partner_does_is_called_by_its_name"),
        ("Stale", "test_the_later_of_two_deliveries_is_what_the_partner_has"),
        ("Lenient", "test_wrong_settings_are_refused_by_their_place"),
    ],
)
def test_a_connector_that_breaks_a_promise_is_found_out(wrong: str, found: str) -> None:
    code, told = certify(f"{WRONG}:{wrong}", "-k", f"{found} or actions_are_named")
    failed = set(re.findall(r"FAILED \S+::(\w+)", told))

    assert code == 1, told
    assert failed == {found}


def test_a_connector_that_nobody_knows_is_named_with_those_that_are_known() -> None:
    code, told = certify("Salesforce")

    assert code != 0
    assert "no connector Salesforce can be certified here; there are: HubSpot, Pipedrive, Webhook" in told

"""The pytest plug-in of the certification: `--connector` says which connector the tests are made for."""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

import pytest

from connectors.certification.crashing import Moment
from connectors.certification.partner import CertifiedPartner

ENTRY_POINT_GROUP: Final = "integrations.certified_partners"

SUITE: Final = "connectors.certification.test_connector"

_BUILT_IN: Final = {
    "HubSpot": "connectors.hubspot.certified:CertifiedHubSpot",
    "Pipedrive": "connectors.pipedrive.certified:CertifiedPipedrive",
    "Webhook": "connectors.webhook.certified:CertifiedWebhook",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--connector",
        metavar="NAME",
        help="certify this connector: its provider's name, or package.module:CertifiedPartner",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the suite's tests for the connector's actions, misfortunes and settings."""
    wanted = {"partner_type", "wrong"}.intersection(metafunc.fixturenames)
    if not wanted or metafunc.module.__name__ != SUITE:
        return
    name = metafunc.config.getoption("--connector")
    if name is None:
        raise pytest.UsageError("certification needs --connector NAME")
    partner_type = certified_partner(name)
    if "partner_type" in wanted:
        metafunc.parametrize("partner_type", [partner_type], ids=[name.rpartition(":")[2]])
    if "action" in metafunc.fixturenames:
        actions = [action.name for action in partner_type.connector.actions]
        metafunc.parametrize("action", actions)
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
    if "misfortune" in metafunc.fixturenames:
        metafunc.parametrize("misfortune", partner_type.misfortunes, ids=lambda each: each.name)
    if "wrong" in metafunc.fixturenames:
        metafunc.parametrize("wrong", partner_type.wrong_settings, ids=lambda each: each.path)


@cache
def certified_partner(name: str) -> type[CertifiedPartner]:
    """Find what a connector brings to be certified; raise pytest.UsageError."""
    place = name if ":" in name else _BUILT_IN.get(name) or _installed(name)
    module, _, attribute = place.partition(":")
    try:
        found: type[CertifiedPartner] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"{place} cannot be loaded: {error}") from error
    return found


def _installed(name: str) -> str:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(found) != 1:
        known = sorted({*_BUILT_IN, *(each.name for each in entry_points(group=ENTRY_POINT_GROUP))})
        raise pytest.UsageError(f"no connector {name} can be certified here; there are: {', '.join(known)}")
    return found[0].value

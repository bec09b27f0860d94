"""A grant's tokens are renewed ahead of time, once, and nobody is asked twice for what is lost in between."""

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors.errors import (
    ReconnectNeededError,
    StateUnavailableError,
    TokensUnavailableError,
    UnusableCredentialError,
    UnusableGrantError,
)
from connectors.oauth.grants import NewTokens, TokenPair
from connectors.simulation_faults import Delay, Hang, ResetInBody, Status
from contracts.ids import ConnectionUid
from contracts.outcomes import AuthRevoked, Delivered, Misconfigured, Transient
from programs.key_ring import KeyRing, KeyRingError
from store.database import connect
from store.removal import remove
from tests.integration.connectors.crm import KEYS, company
from tests.integration.connectors.oauth import SECRET, Granted

pytestmark = pytest.mark.anyio


# Once ---------------------------------------------------------------------------------------------------------------


async def test_the_first_token_comes_from_the_secret_and_serves_until_it_ages(granted: Granted) -> None:
    vault = granted.vault()
    first = await vault.current()
    again = await vault.current()
    elsewhere = await granted.vault().current()

    assert first == again == elsewhere
    assert granted.pipedrive.oauth.account_of(first.value) == "company"
    assert first.details == {"api_domain": granted.pipedrive.url, "scope": "base"}
    assert granted.refreshes == 1


async def test_two_hundred_workers_at_one_expiry_renew_once(granted: Granted) -> None:
    await granted.vault().current()
    granted.pass_time(hours=2)
    vaults = [granted.vault() for _ in range(8)]
    tokens = await asyncio.gather(*(vaults[number % 8].current() for number in range(200)))

    assert granted.refreshes == 2
    assert {token.version for token in tokens} == {2}


async def test_a_token_is_renewed_before_it_runs_out_and_once_by_whoever_comes(granted: Granted) -> None:
    first = await granted.vault().current()
    granted.pass_time(hours=0.9)
    second = await granted.vault().current()

    assert second.version == first.version + 1
    assert granted.pipedrive.oauth.account_of(first.value) == "company"


async def test_while_another_process_renews_a_token_that_still_works_is_used(granted: Granted) -> None:
    first = await granted.vault().current()
    granted.pass_time(hours=0.9)
    assert await granted.store().claim(1, timedelta(minutes=1))

    assert await granted.vault().current() == first


async def test_a_refused_token_is_renewed_once_for_all_who_were_refused(granted: Granted) -> None:
    vaults = [granted.vault() for _ in range(4)]
    refused = [await vault.current() for vault in vaults]
    renewed = await asyncio.gather(
        *(vault.renew(token) for vault, token in zip(vaults, refused, strict=True) for _ in range(5))
    )

    assert {token.version for token in renewed} == {2}
    assert granted.refreshes == 2


async def test_a_delivery_whose_token_the_partner_forgot_goes_on_with_another(granted: Granted) -> None:
    connector = granted.connector()
    token = await connector.vault.current()
    del granted.pipedrive.oauth._access[token.value]
    report = await connector.send(company(name="Acme"))

    assert report.outcome == Delivered()
    assert granted.refreshes == 2


# Lost on the way ------------------------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_does_not_lose_the_tokens(granted: Granted) -> None:
    vault = granted.vault()
    for _ in range(3):
        task = asyncio.create_task(vault.current())
        await asyncio.sleep(0.002)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await vault.close()

    assert (await granted.vault().current()).version == 1
    assert granted.refreshes == 1


async def test_a_renewal_that_died_is_made_by_the_next_when_its_time_is_over(granted: Granted) -> None:
    await granted.vault().current()
    granted.pass_time(hours=2)
    assert await granted.store().claim(1, timedelta(minutes=1))
    granted.pass_time(hours=0.1)

    assert (await granted.vault().current()).version == 2


async def test_tokens_lost_with_a_process_are_said_to_be_lost(granted: Granted) -> None:
    await granted.vault().current()
    granted.pass_time(hours=2)
    await granted.store().claim(1, timedelta(minutes=1))
    granted.pipedrive.oauth.grants[0].refresh = "went to a process that was killed"
    granted.pass_time(hours=0.1)
    with pytest.raises(ReconnectNeededError, match=r"left no result.*run `integrations connect acme/crm`"):
        await granted.vault().current()

    assert (await granted.store().read()).tokens is not None  # type: ignore[union-attr]


async def test_a_process_that_was_frozen_with_an_answer_still_brings_it_in(granted: Granted) -> None:
    await granted.vault().current()
    await granted.store().refuse(1, "invalid_grant")
    saved = await granted.store().save(1, NewTokens(TokenPair("a", "r"), timedelta(hours=1), {}))

    assert saved is not None
    assert granted.row("version, refusal") == (2, None)


async def test_a_frozen_process_never_overwrites_what_others_have_got_since(granted: Granted) -> None:
    vault = granted.vault()
    await vault.renew(await vault.current())
    saved = await granted.store().save(1, NewTokens(TokenPair("a", "r"), timedelta(hours=1), {}))

    assert saved is None
    assert granted.row("version") == (2,)


async def test_a_refusal_means_nothing_once_another_version_is_there(granted: Granted) -> None:
    first = await granted.vault().current()
    behind, ahead = granted.vault(), granted.vault()
    used = granted.pipedrive.oauth.grants[0].refresh
    await behind.current()
    store = granted.store()
    assert await store.claim(1, timedelta(minutes=1))
    granted.pipedrive.oauth.befall(Hang())
    waiting = asyncio.create_task(behind._renew(1, used, "", await store.read()))
    await asyncio.sleep(0.1)
    granted.pass_time(hours=0.1)
    second = await ahead.renew(first)
    waiting.cancel()
    answer = await behind._renew(1, used, "", None)

    assert answer is None
    assert second.version == 2
    assert granted.row("version, refusal") == (2, None)


# What a person has to do ----------------------------------------------------------------------------------------------


async def test_a_withdrawn_grant_quarantines_with_words_that_say_what_to_do(granted: Granted) -> None:
    connector = granted.connector()
    await connector.vault.current()
    granted.pipedrive.oauth.revoke("company")
    report = await connector.send(company(name="Acme"))

    assert report.outcome == AuthRevoked()
    assert "run `integrations connect acme/crm`" in report.detail
    assert granted.row("version, refusal is not null, sealed is not null") == (1, True, True)


async def test_a_new_seed_in_the_secret_replaces_a_grant_that_was_withdrawn(granted: Granted) -> None:
    connector = granted.connector()
    token = await connector.vault.current()
    granted.pipedrive.oauth.revoke("company")
    with pytest.raises(ReconnectNeededError):
        await connector.vault.renew(token)
    granted.seed()
    connector.check_credentials()

    assert (await connector.send(company(name="Acme"))).outcome == Delivered()


async def test_a_connection_that_nobody_has_connected_says_so(granted: Granted) -> None:
    granted.crm.credentials.values["refresh_token"] = "unknown"
    report = await granted.connector().send(company(name="Acme"))

    assert report.outcome == AuthRevoked()
    assert "invalid_grant" in report.detail


async def test_a_wrong_client_secret_is_ours_to_mend_and_costs_no_grant(granted: Granted) -> None:
    granted.crm.credentials.values["client_secret"] = "wrong-secret-3333"
    report = await granted.connector().send(company(name="Acme"))
    granted.crm.credentials.values["client_secret"] = SECRET

    assert report.outcome == Misconfigured()
    assert "Secret app" in report.detail
    assert "wrong-secret-3333" not in report.detail
    assert (await granted.vault().current()).version == 1


@pytest.mark.parametrize("fault", [Status(status=503), Status(status=500, body="{"), ResetInBody(), Status(status=200)])
async def test_a_token_endpoint_in_trouble_is_tried_again_later(granted: Granted, fault: Any) -> None:
    granted.pipedrive.oauth.befall(fault)
    connector = granted.connector()
    first = await connector.send(company(name="Acme"))
    soon = await connector.send(company(name="Acme"))
    granted.pass_time(hours=0.1)
    later = await connector.send(company(name="Acme"))

    assert isinstance(first.outcome, Transient)
    assert isinstance(soon.outcome, Transient)
    assert later.outcome == Delivered()
    assert granted.refreshes == 1


async def test_a_partner_that_asks_for_patience_gets_it(granted: Granted) -> None:
    granted.pipedrive.oauth.befall(Status(status=429, retry_after_seconds=120))
    vault = granted.vault()
    with pytest.raises(TokensUnavailableError) as first:
        await vault.current()
    with pytest.raises(TokensUnavailableError) as second:
        await vault.current()

    assert first.value.seconds == 120
    assert 110 < second.value.seconds <= 120


async def test_an_attempt_does_not_wait_longer_than_its_time(granted: Granted) -> None:
    granted.pipedrive.oauth.befall(Delay(seconds=2))
    spec = granted.crm.connection.spec
    granted.crm.connection = _with_timeout(granted.crm.connection, spec)
    connector = granted.connector()
    report = await asyncio.wait_for(connector.send(company(name="Acme")), 1.5)
    await connector.close()

    assert report.outcome == Transient()
    assert "still being renewed" in report.detail


def _with_timeout(connection: Any, spec: Any) -> Any:
    delivery = spec.delivery.model_copy(update={"timeout": timedelta(seconds=0.3)})
    return replace(connection, spec=spec.model_copy(update={"delivery": delivery}))


# Kept alive -----------------------------------------------------------------------------------------------------------


async def test_a_grant_that_nobody_uses_is_renewed_daily(granted: Granted) -> None:
    vault = granted.vault()
    await vault.keep_alive()
    await vault.keep_alive()
    granted.pass_time(hours=21)
    await granted.vault().keep_alive()

    assert granted.refreshes == 2


async def test_a_day_old_grant_wakes_its_pool(granted: Granted) -> None:
    await granted.vault().current()
    demand = "select count(*) from integration.lane_demand(100, 5.0)"
    fresh = granted.layer.value(demand)
    granted.pass_time(hours=21)
    due = granted.layer.value(demand)
    granted.layer.admin.execute("update integration.oauth_token set refused_at = now(), refusal = 'x'")

    assert (fresh, due, granted.layer.value(demand)) == (0, 1, 0)


async def test_a_grant_that_was_withdrawn_is_left_alone(granted: Granted) -> None:
    vault = granted.vault()
    await vault.current()
    await granted.store().refuse(1, "invalid_grant")
    granted.pass_time(hours=21)
    await granted.vault().keep_alive()

    assert granted.refreshes == 1


async def test_a_suspended_connection_s_grant_is_kept_alive_too(granted: Granted) -> None:
    await granted.vault().current()
    granted.pass_time(hours=21)
    granted.layer.admin.execute("update integration.lane set suspended = true")

    assert granted.layer.value("select count(*) from integration.lane_demand(100, 5.0)") == 1


# What partners say of a grant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["x" * 5_000, "ü" * 900, "\x1b[31mred", ["a", "list"], {"an": "object"}, None])
async def test_what_cannot_be_kept_of_a_grant_costs_no_token(granted: Granted, said: object) -> None:
    granted.pipedrive.oauth._described = lambda _: {"api_domain": granted.pipedrive.url, "scope": said}
    token = await granted.vault().current()

    assert token.details == {"api_domain": granted.pipedrive.url}
    assert granted.row("version") == (1,)


async def test_a_seed_that_is_no_token_is_ours_to_mend(granted: Granted) -> None:
    granted.crm.credentials.values["refresh_token"] = "x" * 9_000
    report = await granted.connector().send(company(name="Acme"))

    assert report.outcome == Misconfigured()
    assert "refresh_token of Secret app" in report.detail
    assert granted.refreshes == 0


# Sealed ---------------------------------------------------------------------------------------------------------------


async def test_no_token_is_in_the_database_in_clear(granted: Granted) -> None:
    vault = granted.vault()
    tokens = [await vault.current()]
    tokens.append(await vault.renew(tokens[0]))
    secrets = [token.value for token in tokens] + [SECRET, granted.crm.credentials.values["refresh_token"]]
    secrets += [each for grant in granted.pipedrive.oauth.grants for each in [grant.refresh, *grant.former]]
    tables = granted.layer.column(
        "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind = 'r'"
    )
    dump = "".join(
        row for table in tables for row in granted.layer.column(f"select t::text from integration.{table} t")
    )

    assert "oauth_token" in tables
    assert [secret for secret in secrets if secret in dump or secret.encode().hex() in dump] == []


async def test_no_token_shows_in_the_text_of_any_object(granted: Granted) -> None:
    vault = granted.vault()
    token = await vault.current()
    grant = await granted.store().read()
    shown = f"{token!r} {grant!r} {KEYS!r} {TokenPair('a-token', 'r-token')!r}"

    assert token.value not in shown
    assert not re.search("a-token|r-token|x00", shown)


async def test_a_row_that_was_moved_or_changed_does_not_open(granted: Granted) -> None:
    await granted.vault().current()
    granted.layer.admin.execute("update integration.oauth_token set version = version + 1")
    with pytest.raises(UnusableGrantError, match="2026"):
        await granted.store().read()
    granted.layer.admin.execute(
        "update integration.oauth_token set version = 1, sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)"
    )
    with pytest.raises(UnusableGrantError):
        await granted.store().read()


async def test_a_new_key_takes_over_with_the_next_renewal(granted: Granted) -> None:
    await granted.vault().current()
    granted.crm.keys = KeyRing({**KEYS.keys, "2027": bytes(32)})
    vault = granted.vault()
    await vault.renew(await vault.current())
    granted.crm.keys = KeyRing({"2027": bytes(32)})

    assert granted.row("key_name") == ("2027",)
    assert (await granted.vault().current()).version == 2


async def test_a_key_that_was_taken_away_is_named(granted: Granted) -> None:
    await granted.vault().current()
    granted.crm.keys = KeyRing({"2027": bytes(32)})
    report = await granted.connector().send(company(name="Acme"))

    assert report.outcome == AuthRevoked()
    assert "the key 2026 is not there any more; put it back, or run `integrations connect acme/crm`" in report.detail


async def test_without_any_key_nothing_is_asked_of_the_partner(granted: Granted) -> None:
    def missing() -> KeyRing:
        raise KeyRingError("there are no keys")

    granted.crm.read_keys = missing
    with pytest.raises(UnusableCredentialError, match="there are no keys"):
        await granted.vault().current()

    assert granted.refreshes == 0


async def test_pools_see_no_grant_but_their_own(granted: Granted) -> None:
    await granted.vault().current()
    seen = {}
    for role in ("pool_a", "pool_b"):
        database = await granted.layer.connect(role)
        seen[role] = len(await (await database.execute(b"select 1 from integration.oauth_token")).fetchall())
    reader = await granted.layer.connect("reader")

    assert seen == {"pool_a": 1, "pool_b": 0}
    with pytest.raises(Exception, match="permission denied"):
        await reader.execute(b"select sealed from integration.oauth_token")


async def test_a_grant_ends_with_its_connection(granted: Granted) -> None:
    await granted.vault().current()
    uid = ConnectionUid(granted.crm.connection.uid)
    async with await connect(granted.layer.dsn("operator"), "test") as operator:
        await remove(operator, [uid], keep=False, reason="test")

    assert granted.layer.rows("select from integration.oauth_token") == []


async def test_tokens_wait_for_a_database_that_is_away(granted: Granted) -> None:
    vault = granted.vault()
    await granted.store().read()
    granted.layer.admin.execute("alter role pool_a nologin")
    granted.layer.admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pool_a'")
    with pytest.raises(StateUnavailableError):
        await vault.current()
    granted.layer.admin.execute("alter role pool_a login")

    assert (await vault.current()).version == 1
    assert granted.refreshes == 1

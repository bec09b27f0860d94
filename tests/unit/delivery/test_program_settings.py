"""Settings come from the environment, within their bounds, and keep the database's password to themselves."""

import os
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from delivery.settings import DispatcherSettings, TenantRetention, WorkerSettings
from programs.settings import ProgramSettings
from store.errors import DatabaseUnreachableError

PASSWORD = "very-private"
DATABASE_URL = f"postgresql://worker:{PASSWORD}@db.example/integrations"

PROGRAMS = [ProgramSettings, DispatcherSettings, WorkerSettings]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INTEGRATIONS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL", DATABASE_URL)


@pytest.mark.parametrize(
    ("kind", "name", "text", "value"),
    [
        (ProgramSettings, "health_port", "8080", 8080),
        (ProgramSettings, "health_host", "127.0.0.1", "127.0.0.1"),
        (ProgramSettings, "log_level", "DEBUG", "DEBUG"),
        (DispatcherSettings, "batch", "10", 10),
        (DispatcherSettings, "event_days", "7", 7),
        (DispatcherSettings, "attempt_days", "7", 7),
        (DispatcherSettings, "dead_letter_days", "7", 7),
        (
            DispatcherSettings,
            "tenant_retention",
            '{"acme": {"deadLetters": 7}}',
            {"acme": TenantRetention(deadLetters=7)},
        ),
        (WorkerSettings, "worker_name", "worker-0", "worker-0"),
        (WorkerSettings, "secrets_directory", "secrets", Path("secrets")),
        (WorkerSettings, "senders", "16", 16),
        (WorkerSettings, "lease", "PT20S", timedelta(seconds=20)),
        (WorkerSettings, "drain", "PT0S", timedelta(0)),
        (
            WorkerSettings,
            "egress_allow",
            '["10.0.0.0/8", "fd00::/8"]',
            (ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        ),
    ],
)
def test_a_setting_is_read_from_its_environment_variable(
    kind: type[ProgramSettings], name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INTEGRATIONS_{name.upper()}", text)

    assert getattr(kind(), name) == value


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_database_url_is_all_a_program_needs(kind: type[ProgramSettings]) -> None:
    assert kind().database_url.get_secret_value() == DATABASE_URL


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_connection_string_in_a_file_is_read_anew_each_time(
    kind: type[ProgramSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    monkeypatch.delenv("INTEGRATIONS_DATABASE_URL")
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL_FILE", str(file))
    say = kind().connection_string()
    said = []
    for url in (DATABASE_URL, DATABASE_URL + "?sslmode=require"):
        file.write_text(url + "\n")
        said.append(say())

    assert said == [DATABASE_URL, DATABASE_URL + "?sslmode=require"]


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_connection_string_is_given_in_one_way_only_and_not_repeated(
    kind: type[ProgramSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTEGRATIONS_DATABASE_URL_FILE", "/somewhere")

    with pytest.raises(ValidationError, match="leave one of them out") as caught:
        kind()

    assert PASSWORD not in f"{caught.value!s} {caught.value!r} {caught.value.json()}"


@pytest.mark.parametrize("content", [None, "", "nonsense " + PASSWORD, "postgresql://", b"\xff\xfe"])
def test_a_file_without_a_connection_string_counts_as_an_unreachable_database(
    content: str | bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    monkeypatch.delenv("INTEGRATIONS_DATABASE_URL")
    say = ProgramSettings(database_url_file=file).connection_string()  # type: ignore[call-arg]

    with pytest.raises(DatabaseUnreachableError, match="url") as caught:
        say()

    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_no_program_runs_without_a_database_url(kind: type[ProgramSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTEGRATIONS_DATABASE_URL")

    with pytest.raises(ValidationError, match="database_url"):
        kind()


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (ProgramSettings, "health_port", "-1"),
        (ProgramSettings, "health_port", "65536"),
        (ProgramSettings, "log_level", "LOUD"),
        (ProgramSettings, "log_level", "info"),
        (DispatcherSettings, "batch", "0"),
        (DispatcherSettings, "batch", "10001"),
        (DispatcherSettings, "event_days", "0"),
        (DispatcherSettings, "attempt_days", "3651"),
        (DispatcherSettings, "dead_letter_days", "many"),
        (DispatcherSettings, "tenant_retention", '{"acme": {"events": 0}}'),
        (DispatcherSettings, "tenant_retention", '{"acme": {"event": 7}}'),
        (DispatcherSettings, "tenant_retention", '{"Acme": {"events": 7}}'),
        (WorkerSettings, "worker_name", ""),
        (WorkerSettings, "worker_name", "w" * 254),
        (WorkerSettings, "senders", "0"),
        (WorkerSettings, "senders", "4097"),
        (WorkerSettings, "lease", "PT0.5S"),
        (WorkerSettings, "lease", "PT301S"),
        (WorkerSettings, "drain", "-PT1S"),
        (WorkerSettings, "egress_allow", '["10.0.0.1/8"]'),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_by_name(
    kind: type[ProgramSettings], name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"INTEGRATIONS_{name.upper()}", text)

    with pytest.raises(ValidationError, match=name):
        kind()


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("show", [repr, str, lambda settings: settings.model_dump_json()])
def test_the_password_is_never_shown(kind: type[ProgramSettings], show: type[str]) -> None:
    assert PASSWORD not in show(kind())


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_error_about_another_setting_does_not_tell_the_password(
    kind: type[ProgramSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTEGRATIONS_HEALTH_PORT", "many")

    with pytest.raises(ValidationError) as caught:
        kind()

    assert PASSWORD not in f"{caught.value!s} {caught.value!r} {caught.value.json()}"


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_error_about_the_database_url_does_not_tell_it(kind: type[ProgramSettings]) -> None:
    with pytest.raises(ValidationError) as caught:
        kind(database_url=DATABASE_URL.encode() + b"\xff")  # type: ignore[arg-type]

    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_error_about_a_misspelt_setting_does_not_tell_the_password(kind: type[ProgramSettings]) -> None:
    with pytest.raises(ValidationError) as caught:
        kind(databse_url="x")  # type: ignore[call-arg]

    assert PASSWORD not in str(caught.value)


def test_settings_do_not_change() -> None:
    settings = ProgramSettings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.log_level = "DEBUG"


def test_a_worker_is_named_after_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WorkerSettings().worker_name == os.uname().nodename

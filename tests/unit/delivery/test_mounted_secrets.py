"""Mounted Secrets are read once, and anew as soon as they change."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from connectors.context import CredentialMissingError
from contracts.connection import SecretKeyRef
from delivery.credentials import MountedSecrets, NamespacedSecrets

TOKEN = SecretKeyRef(name="partner", key="token")
OTHER_KEY = SecretKeyRef(name="partner", key="password")


def mount(root: Path, version: str, namespace: str = "team", secret: str = "partner", **keys: str) -> None:
    """Lay out a Secret as the kubelet does, and swap it in by one rename."""
    folder = root / namespace / secret
    data = folder / f"..{version}"
    data.mkdir(parents=True)
    for key, value in keys.items():
        (data / key).write_text(value)
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(Path("..data", key))
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").rename(folder / "..data")


def write_plain(root: Path, value: str) -> None:
    folder = root / "team" / "partner"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(value)


def test_a_mounted_value_is_read(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")

    assert MountedSecrets(tmp_path).read("team", TOKEN) == b"first"


def test_a_value_in_a_plain_folder_is_read(tmp_path: Path) -> None:
    write_plain(tmp_path, "first")

    assert MountedSecrets(tmp_path).read("team", TOKEN) == b"first"


def test_a_value_is_read_from_disk_once(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    mount(tmp_path, "two", token="second")

    assert secrets.read("team", TOKEN) == b"first"


def test_the_swap_of_a_mounted_secret_is_noticed(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    mount(tmp_path, "two", token="second")

    assert secrets.refresh() == {"team"}


def test_a_value_read_after_a_rotation_is_the_new_one(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    mount(tmp_path, "two", token="second")
    secrets.refresh()

    assert secrets.read("team", TOKEN) == b"second"


def test_a_second_rotation_is_noticed_as_well(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    for version in ("two", "three"):
        secrets.read("team", TOKEN)
        mount(tmp_path, version, token=version)
        secrets.refresh()

    assert secrets.read("team", TOKEN) == b"three"


def test_a_change_in_a_plain_folder_is_noticed(tmp_path: Path) -> None:
    write_plain(tmp_path, "first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    write_plain(tmp_path, "second, longer")

    assert secrets.refresh() == {"team"}


def test_a_value_read_after_a_change_in_a_plain_folder_is_the_new_one(tmp_path: Path) -> None:
    write_plain(tmp_path, "first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    write_plain(tmp_path, "second, longer")
    secrets.refresh()

    assert secrets.read("team", TOKEN) == b"second, longer"


def test_what_has_not_changed_is_not_reported(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)

    assert secrets.refresh() == set()


def test_a_change_is_reported_once(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)
    mount(tmp_path, "two", token="second")
    secrets.refresh()
    secrets.read("team", TOKEN)

    assert secrets.refresh() == set()


def test_a_secret_that_nobody_read_is_not_watched(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)

    mount(tmp_path, "two", token="second")

    assert secrets.refresh() == set()


def test_a_change_concerns_only_its_own_namespace(tmp_path: Path) -> None:
    for namespace in ("team", "others"):
        mount(tmp_path, "one", namespace, token="first")
    secrets = MountedSecrets(tmp_path)
    for namespace in ("team", "others"):
        secrets.read(namespace, TOKEN)

    mount(tmp_path, "two", "others", token="second")

    assert secrets.refresh() == {"others"}


def test_a_secret_that_comes_later_is_noticed(tmp_path: Path) -> None:
    secrets = MountedSecrets(tmp_path)
    with suppress(CredentialMissingError):
        secrets.read("team", TOKEN)

    mount(tmp_path, "one", token="first")

    assert secrets.refresh() == {"team"}


def test_a_key_that_comes_later_is_noticed(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    with suppress(CredentialMissingError):
        secrets.read("team", OTHER_KEY)

    mount(tmp_path, "two", token="first", password="second")

    assert secrets.refresh() == {"team"}


def test_a_swap_between_two_reads_of_one_secret_is_noticed(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first", password="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)
    mount(tmp_path, "two", token="second", password="second")
    secrets.read("team", OTHER_KEY)

    secrets.refresh()

    assert {secrets.read("team", key) for key in (TOKEN, OTHER_KEY)} == {b"second"}


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialMissingError, match="Secret team/partner does not exist"):
        MountedSecrets(tmp_path).read("team", TOKEN)


def test_a_missing_key_is_named_with_its_secret(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")

    with pytest.raises(CredentialMissingError, match="Secret team/partner has no key password"):
        MountedSecrets(tmp_path).read("team", OTHER_KEY)


def test_a_missing_key_tells_no_value_of_its_secret(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="very-private")

    with pytest.raises(CredentialMissingError) as caught:
        MountedSecrets(tmp_path).read("team", OTHER_KEY)

    assert "very-private" not in str(caught.value)


def test_the_secrets_of_another_namespace_are_out_of_reach(tmp_path: Path) -> None:
    mount(tmp_path, "one", "others", token="first")
    secrets = NamespacedSecrets(MountedSecrets(tmp_path), "team")

    with pytest.raises(CredentialMissingError, match="team/partner"):
        secrets.read(TOKEN)


def test_a_connector_reads_the_secrets_of_its_own_namespace(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")

    assert NamespacedSecrets(MountedSecrets(tmp_path), "team").read(TOKEN) == b"first"


def test_the_watch_tells_of_namespaces_whose_secrets_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)
    told: list[set[str]] = []
    seconds = 0.0

    async def sleep(delay: float) -> None:
        nonlocal seconds
        seconds += delay
        if seconds == 2:
            mount(tmp_path, "two", token="second")
        if seconds == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with suppress(asyncio.CancelledError):
        asyncio.run(secrets.watch(told.append))

    assert told == [{"team"}]

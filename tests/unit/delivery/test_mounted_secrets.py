"""Mounted Secrets are read once, and anew as soon as they change."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from connectors.context import CredentialMissingError
from connectors.errors import UnusableCredentialError
from contracts.spec_values import SecretKeyRef
from delivery.credentials import Changes, ConnectionSecrets, MountedSecrets

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


def project(root: Path, version: str, namespace: str = "team", **secrets: dict[str, str]) -> None:
    """Lay out several Secrets as the kubelet does in one projected volume, and swap them in by one rename."""
    volume = root / namespace
    data = volume / f"..{version}"
    for secret, keys in secrets.items():
        (data / secret).mkdir(parents=True)
        for key, value in keys.items():
            (data / secret / key).write_text(value)
        if not (volume / secret).is_symlink():
            (volume / secret).symlink_to(Path("..data", secret))
    (volume / "..data_tmp").symlink_to(data.name)
    (volume / "..data_tmp").rename(volume / "..data")


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
    secrets = ConnectionSecrets(MountedSecrets(tmp_path), "team")

    with pytest.raises(CredentialMissingError, match="team/partner"):
        secrets.read(TOKEN)


def test_a_connector_reads_the_secrets_of_its_own_namespace(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first")

    assert ConnectionSecrets(MountedSecrets(tmp_path), "team").read(TOKEN) == b"first"


def test_the_watch_tells_of_namespaces_whose_secrets_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, "one", token="first")
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)
    told: list[Changes] = []
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

    assert told == [{"team": {"partner": {"token": b"first"}}}]


# One volume for all Secrets of a namespace ------------------------------------------------------------------------


def test_a_rotation_in_a_namespace_s_volume_is_noticed(tmp_path: Path) -> None:
    project(tmp_path, "one", partner={"token": "first"})
    secrets = MountedSecrets(tmp_path)
    read = [secrets.read("team", TOKEN)]
    project(tmp_path, "two", partner={"token": "second"})
    secrets.refresh()
    read.append(secrets.read("team", TOKEN))

    assert read == [b"first", b"second"]
    assert secrets.former == {"team": {"partner": {"token": b"first"}}}


def test_a_swap_that_concerned_another_secret_of_the_volume_is_no_change(tmp_path: Path) -> None:
    project(tmp_path, "one", partner={"token": "first"}, other={"token": "first"})
    secrets = MountedSecrets(tmp_path)
    for name in ("partner", "other"):
        secrets.read("team", SecretKeyRef(name=name, key="token"))
    project(tmp_path, "two", partner={"token": "first"}, other={"token": "second"})
    secrets.refresh()
    former = secrets.former

    assert former == {"team": {"other": {"token": b"first"}}}
    assert secrets.refresh() == set()


def test_a_change_after_one_that_was_none_is_noticed(tmp_path: Path) -> None:
    project(tmp_path, "one", partner={"token": "first"})
    secrets = MountedSecrets(tmp_path)
    secrets.read("team", TOKEN)
    project(tmp_path, "two", partner={"token": "first"})
    secrets.refresh()
    project(tmp_path, "three", partner={"token": "second"})

    assert secrets.refresh() == {"team"}


def test_a_secret_that_comes_into_the_volume_later_is_noticed(tmp_path: Path) -> None:
    project(tmp_path, "one", other={"token": "first"})
    secrets = MountedSecrets(tmp_path)
    with pytest.raises(CredentialMissingError):
        secrets.read("team", TOKEN)
    project(tmp_path, "two", other={"token": "first"}, partner={"token": "first"})
    secrets.refresh()

    assert secrets.former == {"team": {"partner": {}}}
    assert secrets.read("team", TOKEN) == b"first"


# New values that cannot be used -----------------------------------------------------------------------------------


class Checked:
    """A connection whose connector uses two Secrets and takes only values that begin with `good`."""

    def __init__(self, root: Path, *names: str) -> None:
        self.mounted = MountedSecrets(root)
        self.secrets = ConnectionSecrets(self.mounted, "team")
        self.references = [SecretKeyRef(name=name, key="token") for name in names]

    def check(self) -> None:
        for reference in self.references:
            if not self.secrets.read(reference).startswith(b"good"):
                raise UnusableCredentialError(f"key {reference.key} of Secret {reference.name} is no good")

    def renew(self) -> list[str]:
        self.mounted.refresh()
        return self.secrets.renew(self.mounted.former.get("team", {}), self.check)

    def values(self) -> list[bytes]:
        return [self.secrets.read(reference) for reference in self.references]


def test_a_new_value_that_cannot_be_used_leaves_the_former_in_use(tmp_path: Path) -> None:
    project(tmp_path, "1", one={"token": "good"})
    connection = Checked(tmp_path, "one")
    connection.check()
    project(tmp_path, "2", one={"token": "bad"})
    problems = connection.renew()

    assert problems == ["key token of Secret one is no good"]
    assert connection.values() == [b"good"]
    assert connection.secrets.outdated


def test_one_wrong_secret_does_not_hold_back_another_that_changed_with_it(tmp_path: Path) -> None:
    names = ("one", "two", "three", "four")
    project(tmp_path, "1", **{name: {"token": "good"} for name in names})
    connection = Checked(tmp_path, *names)
    connection.check()
    values = {"one": "bad", "two": "good 2", "three": "bad", "four": "good 2"}
    project(tmp_path, "2", **{name: {"token": value} for name, value in values.items()})
    problems = connection.renew()

    assert len(problems) == 2
    assert connection.values() == [b"good", b"good 2", b"good", b"good 2"]


def test_a_value_that_can_be_used_again_ends_the_use_of_the_former(tmp_path: Path) -> None:
    project(tmp_path, "1", one={"token": "good"})
    connection = Checked(tmp_path, "one")
    connection.check()
    for version, value in (("2", "bad"), ("3", "worse"), ("4", "good again")):
        project(tmp_path, version, one={"token": value})
        problems = connection.renew()
        used = connection.values()

    assert (problems, used) == ([], [b"good again"])
    assert not connection.secrets.outdated


def test_a_second_wrong_value_leaves_the_one_that_last_worked(tmp_path: Path) -> None:
    project(tmp_path, "1", one={"token": "good"})
    connection = Checked(tmp_path, "one")
    connection.check()
    for version, value in (("2", "bad"), ("3", "worse")):
        project(tmp_path, version, one={"token": value})
        connection.renew()

    assert connection.values() == [b"good"]


def test_a_connection_that_did_not_work_before_takes_whatever_comes(tmp_path: Path) -> None:
    project(tmp_path, "1", one={"token": "bad"}, two={"token": "good"})
    connection = Checked(tmp_path, "one", "two")
    connection.values()
    project(tmp_path, "2", one={"token": "bad"}, two={"token": "bad as well"})
    problems = connection.renew()

    assert problems == []
    assert connection.values() == [b"bad", b"bad as well"]


def test_a_secret_that_was_taken_away_is_used_no_longer(tmp_path: Path) -> None:
    project(tmp_path, "1", one={"token": "good"}, two={"token": "good"})
    connection = Checked(tmp_path, "one", "two")
    connection.check()
    project(tmp_path, "2", two={"token": "good"})
    connection.renew()

    with pytest.raises(CredentialMissingError):
        connection.values()

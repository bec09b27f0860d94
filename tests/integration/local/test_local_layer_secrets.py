"""Secrets on a machine look to a worker exactly as mounted ones do."""

import stat
from pathlib import Path

import pytest

from connectors.context import CredentialMissingError
from contracts.manifests import Origin, Secret
from contracts.spec_values import SecretKeyRef
from delivery.credentials import MountedSecrets
from local.secret_files import SecretFiles

ORIGIN = Origin("test", 1)


def secret(name: str = "hook", namespace: str = "acme", **data: bytes) -> Secret:
    return Secret(namespace, name, data, ORIGIN)


def write(root: Path, *secrets: Secret, keep: bool = False) -> None:
    SecretFiles(root).write(secrets, lambda _: keep)


def read(root: Path, key: str = "signing", name: str = "hook") -> bytes:
    return MountedSecrets(root).read("acme", SecretKeyRef(name=name, key=key))


def test_a_worker_reads_what_a_manifest_says(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one", token=b"two"))

    assert (read(tmp_path), read(tmp_path, "token")) == (b"one", b"two")


def test_keys_are_links_through_the_current_version(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one"))

    folder = tmp_path / "acme" / "hook"
    assert (folder / "signing").readlink() == Path("..data/signing")
    assert (folder / "..data").is_symlink()


def test_only_the_owner_can_read_values(tmp_path: Path) -> None:
    write(tmp_path / "secrets", secret(signing=b"one"))

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_a_worker_notices_a_change(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one"))
    mounted = MountedSecrets(tmp_path)
    mounted.read("acme", SecretKeyRef(name="hook", key="signing"))

    write(tmp_path, secret(signing=b"two"))

    assert mounted.refresh() == {"acme"}
    assert read(tmp_path) == b"two"


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one"))
    before = (tmp_path / "acme" / "hook" / "..data").readlink()

    write(tmp_path, secret(signing=b"one"))

    assert (tmp_path / "acme" / "hook" / "..data").readlink() == before


def test_former_versions_and_removed_keys_are_cleared_away(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one", token=b"two"))

    write(tmp_path, secret(signing=b"one"))

    folder = tmp_path / "acme" / "hook"
    versions = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    assert [version.name for version in versions] == [str((folder / "..data").readlink())]
    with pytest.raises(CredentialMissingError):
        read(tmp_path, "token")


def test_a_run_that_was_killed_half_way_is_made_good(tmp_path: Path) -> None:
    write(tmp_path, secret(signing=b"one"))
    folder = tmp_path / "acme" / "hook"
    (folder / "..data_new").symlink_to("..nowhere")
    (folder / "..half").mkdir()
    (folder / "..data").unlink()
    (folder / "..data").symlink_to("..gone")

    write(tmp_path, secret(signing=b"one"))

    assert read(tmp_path) == b"one"
    assert not (folder / "..half").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_secret_that_is_gone_is_removed_unless_it_is_to_be_kept(tmp_path: Path, keep: bool) -> None:
    write(tmp_path, secret(signing=b"one"))

    write(tmp_path, keep=keep)

    assert (tmp_path / "acme" / "hook").exists() is keep

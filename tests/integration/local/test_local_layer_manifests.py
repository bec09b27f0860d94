"""A folder of manifests is followed: what changes is read, what is half-written is not."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.manifests import Manifests
from local.errors import ManifestFolderError
from local.manifests import ManifestFolder

pytestmark = pytest.mark.anyio

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: value}}\n"


def write(folder: Path, name: str, *secrets: str) -> None:
    (folder / name).write_text("---\n".join(SECRET.format(name=secret) for secret in secrets))


def names(manifests: Manifests) -> list[str]:
    return sorted(secret.name for secret in manifests.secrets)


async def following(folder: Path) -> AsyncIterator[Manifests]:
    async for manifests in ManifestFolder(folder, look_seconds=0.02).changes():
        yield manifests


async def test_every_yaml_file_of_the_folder_itself_is_read(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml", "one")
    write(tmp_path, "two.yml", "two")
    write(tmp_path, ".hidden.yaml", "hidden")
    write(tmp_path, "notes.txt", "notes")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", "deep.yaml", "deep")

    assert names(ManifestFolder(tmp_path).read()) == ["one", "two"]


async def test_changed_new_and_removed_files_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml", "one")
    changes = following(tmp_path)
    async with asyncio.timeout(30):
        seen = [names(await anext(changes))]
        write(tmp_path, "one.yaml", "one", "two")
        seen.append(names(await anext(changes)))
        write(tmp_path, "three.yaml", "three")
        seen.append(names(await anext(changes)))
        (tmp_path / "one.yaml").unlink()
        seen.append(names(await anext(changes)))

    assert seen == [["one"], ["one", "two"], ["one", "three", "two"], ["three"]]


async def test_a_folder_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    folder = ManifestFolder(tmp_path, look_seconds=0.02)
    changes = folder.changes()
    write(tmp_path, "one.yaml", "one")
    first = names(await anext(changes))
    told = asyncio.ensure_future(anext(changes))
    for size in range(20):
        write(tmp_path, "one.yaml", *(f"part-{part}" for part in range(size)))
        os.utime(tmp_path / "one.yaml", ns=(size, size))
        await asyncio.sleep(0.005)
    write(tmp_path, "one.yaml", "whole")

    async with asyncio.timeout(30):
        second = names(await told)

    assert first == ["one"]
    assert second[-1] == "whole" or second[0].startswith("part-")


async def test_a_folder_that_is_away_for_a_while_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder, "one.yaml", "one")
    changes = following(folder)
    async with asyncio.timeout(30):
        await anext(changes)
        told = asyncio.ensure_future(anext(changes))
        folder.rename(tmp_path / "away")
        await asyncio.sleep(0.1)
        (tmp_path / "away").rename(folder)
        write(folder, "two.yaml", "two")

        assert names(await told) == ["one", "two"]


async def test_a_file_that_is_no_text_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff")
    write(tmp_path, "one.yaml", "one")

    manifests = ManifestFolder(tmp_path).read()

    assert names(manifests) == ["one"]
    assert [str(problem) for problem in manifests.problems] == [
        "binary.yaml: the file is not UTF-8 text: byte 4 is none; save it as UTF-8"
    ]


async def test_a_folder_that_does_not_exist_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestFolderError, match="Name a folder with manifests"):
        ManifestFolder(tmp_path / "nowhere").read()

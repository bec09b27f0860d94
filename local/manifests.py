"""A folder of manifests, watched: plain files as `kubectl apply` takes them.

Files are looked at a few times a second rather than by the system's notifications, which differ everywhere and are
silent on network file systems and in containers. A change counts once the folder has been the same in two looks: an
editor that writes in pieces must not make a connection vanish for a moment, because a vanished one takes no events.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from contracts.manifests import MAX_MANIFEST_CHARACTERS, ManifestProblem, Manifests, combine_manifests, parse_manifests
from local.errors import ManifestFolderError

LOOK_SECONDS = 0.4
_SUFFIXES = frozenset({".yaml", ".yml"})
_MOST_BYTES_A_CHARACTER = 4

_State = tuple[tuple[str, int, int, int], ...]


class ManifestFolder:
    """The files `*.yaml` and `*.yml` directly in a folder, hidden ones left out."""

    def __init__(self, folder: Path, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._folder = folder
        self._look_seconds = look_seconds

    def read(self) -> Manifests:
        """Read all files; raise ManifestFolderError if the folder cannot be read."""
        return combine_manifests(_read_file(file) for file in self._files())

    async def changes(self) -> AsyncIterator[Manifests]:
        """Yield what the folder says at first, and again whenever it says something else; ends only by cancellation.

        A folder that cannot be read for a while counts as unchanged.
        """
        told: _State | None = None
        last: _State | None = None
        while True:
            try:
                state = self._state()
                if state == last and state != told:
                    manifests = self.read()
                    told = state
                    yield manifests
                last = state
            except ManifestFolderError:
                last = None
            await asyncio.sleep(self._look_seconds)

    def _files(self) -> list[Path]:
        try:
            entries = sorted(self._folder.iterdir())
        except OSError as error:
            message = f"cannot read the folder {self._folder}: {error.strerror}. Name a folder with manifests."
            raise ManifestFolderError(message) from error
        return [
            entry
            for entry in entries
            if entry.suffix in _SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        ]

    def _state(self) -> _State:
        state = []
        for file in self._files():
            try:
                status = file.stat()
            except OSError:
                continue  # removed since it was listed
            state.append((file.name, status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(state)


def _read_file(file: Path) -> Manifests:
    try:
        if file.stat().st_size > MAX_MANIFEST_CHARACTERS * _MOST_BYTES_A_CHARACTER:
            return _unreadable(file, f"the file has more than {MAX_MANIFEST_CHARACTERS} characters, so split it")
        return parse_manifests(file.read_text(encoding="utf-8"), file.name)
    except UnicodeDecodeError as error:
        return _unreadable(file, f"the file is not UTF-8 text: byte {error.start + 1} is none; save it as UTF-8")
    except OSError as error:
        return _unreadable(file, f"the file cannot be read: {error.strerror}")


def _unreadable(file: Path, message: str) -> Manifests:
    return Manifests(problems=(ManifestProblem(file.name, None, None, None, "", message),))

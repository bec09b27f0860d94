"""A disk of the database's own that can be made full: a tmpfs, whose size is changed while it is in use.

What is full is full for PostgreSQL alone, and nothing has to be written to fill it. It is memory: a server on it
survives whatever kills processes, and no power failure; nothing here simulates one.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

FULL_SIZE = "8g"


class SmallDisk:
    """A mounted disk; `fill` leaves no room on it, `free` gives the room back."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        """Leave no more room than what is used now."""
        while True:
            disk = os.statvfs(self.place)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            try:
                _mount("-o", f"remount,size={used}", str(self.place))
            except subprocess.CalledProcessError:
                continue  # more was written since it was measured
            return

    def free(self) -> None:
        """Give the room back."""
        _mount("-o", f"remount,size={FULL_SIZE}", str(self.place))


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk | None]:
    """Mount a small disk for the length of a block; None if this machine does not let us mount one."""
    with tempfile.TemporaryDirectory(prefix="integration-layer-disk-") as name:
        place = Path(name)
        try:
            _mount("-t", "tmpfs", "-o", f"size={FULL_SIZE},mode=0711", "chaos", name)
        except (OSError, subprocess.CalledProcessError):
            yield None
            return
        try:
            yield SmallDisk(place)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)

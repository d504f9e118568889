"""Disks of the nodes: small filesystems of their own, which fill up, stand still, and lose what was not synced.

    fill, free       a file takes all room that there is, and goes again
    freeze, thaw     every write and sync waits, as on a disk that has hung
    cut_power        the filesystem forgets what was not on the medium; then it has to be mounted anew

The idea: an ext4 in a file, mounted through a loop device, is a disk that this process may break. Needs root; the whole
run takes place in a mount namespace (see __main__.py), so nothing stays mounted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from tests.faults.namespaces import call

SIZE = "3G"
"""Room for the log and two snapshots of all that is written in one round, and then some; the image is sparse."""
_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, and how: without writing the journal first."""
_NO_LOG_FLUSH = struct.pack("I", 2)


class Disk:
    """Of one node."""

    def __init__(self, directory: Path, name: str) -> None:
        self.place = directory / name
        self._image = directory / f"{name}.img"
        self._ballast = self.place / "ballast"
        self._is_frozen = False

    def make(self) -> None:
        """Raises: OSError: the system does not allow it."""
        self.place.mkdir()
        call("truncate", "--size", SIZE, str(self._image))
        call("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.mount()

    def mount(self) -> None:
        call("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        """Requires: nobody works on it."""
        call("umount", str(self.place))

    def fill(self) -> None:
        with open(self._ballast, "ab") as ballast:
            size = 0
            for step in (1 << 24, 1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(ballast.fileno(), size, step)
                        size += step

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def freeze(self) -> None:
        call("fsfreeze", "--freeze", str(self.place))
        self._is_frozen = True

    def thaw(self) -> None:
        if self._is_frozen:
            self._is_frozen = False
            call("fsfreeze", "--unfreeze", str(self.place))

    def cut_power(self) -> None:
        """From now on everything fails, until it is mounted anew."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)

    def remove(self) -> None:
        self.thaw()
        with contextlib.suppress(OSError):
            self.unmount()
        self._image.unlink(missing_ok=True)

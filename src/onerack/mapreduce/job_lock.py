"""Job lock: how anybody can tell whether a job's process still lives.

The idea: the process that runs a job holds a lock (flock) on a file in the job's directory. The kernel lets go of it
when the process ends, however it ends. A recorded process id could not tell as much: ids are used again, and mean
nothing in another container or on another machine with the same home.

The rule: in doubt the job lives. Where the file system has no locks, every job that did not end in order lives for
ever, and nothing of it is touched.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO

from onerack.errors import storing

FILE = "lock"


class JobLock:
    """Held from its making until `release`, or until the process ends. Made by `make_lock` and `take_over`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def release(self) -> None:
        """The job has ended in order, or was tidied up after: its record says how."""
        with suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Lets go; the file stays, and says that there is still something to tidy up."""
        self._file.close()


def make_lock(directory: Path) -> JobLock:
    """The lock of a job that begins. Raises: StorageFull."""
    path = directory / FILE
    unfinished = path.with_suffix(".tmp")
    with storing(str(path)):
        file = unfinished.open("wb")  # Not inherited by programs that are started meanwhile.
    with suppress(OSError):  # No locks here: the file's existence still says that the job has not ended in order.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unfinished.replace(path)  # Whoever finds the file finds it locked.
    return JobLock(path, file)


def take_over(directory: Path) -> JobLock | None:
    """The lock of a job whose process ended without releasing it; None when it lives, or there is no such job."""
    path = directory / FILE
    try:
        file = path.open("rb+")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return JobLock(path, file)


def is_held(directory: Path) -> bool:
    """Whether the job in `directory` is being run by a living process."""
    try:
        with (directory / FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False

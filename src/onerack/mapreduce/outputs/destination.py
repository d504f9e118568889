"""The door for clients: the output directory, which appears complete or not at all.

The idea: attempts write into a staging directory beside the output (same file system, hidden name, named by the job).
When the job is done, the accepted attempts' parts get their final names there, `_SUCCESS` is written, and one rename
puts the whole directory in its place. A failed or interrupted job removes its staging directory, nothing else; a
killed one cannot, and `recover` does it for it later.

The rules: only what this job wrote, and, with `overwrite`, the one directory that the user named, is ever removed;
never `/`, the home directory, or one that holds the current directory.

Source: Dean & Ghemawat, OSDI 2004, section 3.3. There each part is renamed by itself; here all appear at once.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from onerack.errors import OutputExists, UsageError, storing
from onerack.mapreduce.inputs.sources import is_remote, local_path
from onerack.mapreduce.messages import Part, Quarantined
from onerack.mapreduce.outputs.place import OVERWRITE, SUCCESS, Destination, final_name, success_mark
from onerack.mapreduce.outputs.quarantine import DIRECTORY, FILE, quarantine_lines
from onerack.mapreduce.outputs.remote import RemoteDestination

__all__ = ["Destination", "open_destination", "recover"]


def open_destination(url: str, *, overwrite: bool, job: str) -> Destination:
    """Checks the output directory and makes the staging directory.

    Raises: OutputExists: something is there already. UsageError: it could not be written there.
    """
    if not url:
        raise UsageError("the output has no name; name a directory")
    if is_remote(url):
        return RemoteDestination(url, overwrite=overwrite, job=job)
    return LocalDestination(local_path(url), overwrite=overwrite, job=job)


def recover(path: str, job: str) -> None:
    """Removes what `job`, whose process was killed, has left beside its output, the absolute `path`.

    If it died while it replaced an older output, that one comes back. Raises: OSError: something could not be removed.
    """
    staging, aside = _beside(path, job)
    if os.path.isdir(aside):
        if not os.path.lexists(path):
            os.rename(aside, path)
        elif _is_output_of(path, job):
            shutil.rmtree(aside)
    if os.path.isdir(staging):
        shutil.rmtree(staging)


class LocalDestination(Destination):
    """A directory of this machine's file systems."""

    def __init__(self, path: str, *, overwrite: bool, job: str) -> None:
        # A link's target is replaced, not the link: rename works on what has the name.
        self.url = os.path.realpath(path)
        self._overwrite = overwrite
        _check_output(self.url, overwrite)
        parent = os.path.dirname(self.url)
        self.staging, self._aside = _beside(self.url, job)
        try:
            with storing(self.staging):
                os.mkdir(self.staging)
        except FileNotFoundError as error:
            raise UsageError(f"{path}: its parent directory {parent} does not exist; make it first") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot write to {parent}: {error.strerror}") from error

    def commit(
        self, parts: Sequence[Part], success: dict[str, Any], quarantined: Sequence[Quarantined] = ()
    ) -> list[str]:
        names = [final_name(index, part.path) for index, part in enumerate(parts)]
        for part, name in zip(parts, names, strict=True):
            os.rename(os.path.join(self.staging, part.path), os.path.join(self.staging, name))
        self._remove_others(set(names))
        if quarantined:
            self._write(os.path.join(DIRECTORY, FILE), quarantine_lines(quarantined))
        self._write(SUCCESS, success_mark(parts, success))
        self._put_in_place()
        return [os.path.join(self.url, name) for name in names]

    def abort(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)

    def _remove_others(self, names: set[str]) -> None:
        """Parts of attempts that nobody accepted: losers, and workers that died."""
        for entry in os.listdir(self.staging):
            if entry not in names:
                os.unlink(os.path.join(self.staging, entry))

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self.staging, name)
        with storing(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)

    def _put_in_place(self) -> None:
        """One rename; with an old output two, and the old one comes back when the second fails."""
        _check_output(self.url, self._overwrite)
        replaced = bool(_entries(self.url))
        if replaced:
            os.rename(self.url, self._aside)
        try:
            os.rename(self.staging, self.url)
        except OSError as error:
            if replaced:
                os.rename(self._aside, self.url)
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            self._move_in()
        if replaced:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _move_in(self) -> None:
        """The output directory is a mount point, which has to stay: file by file, `_SUCCESS` last, or none at all."""
        moved: list[str] = []
        try:
            for name in sorted(os.listdir(self.staging), key=lambda name: (name == SUCCESS, name)):
                moved.append(os.path.join(self.url, name))
                with storing(moved[-1]):
                    shutil.move(os.path.join(self.staging, name), moved[-1])
        except BaseException:
            for path in moved:
                _remove(path)
            raise
        os.rmdir(self.staging)


def _beside(path: str, job: str) -> tuple[str, str]:
    """The staging directory, and where an older output waits while the new one takes its place."""
    parent, name = os.path.split(path)
    return os.path.join(parent, f".{name}.{job}.staging"), os.path.join(parent, f".{name}.{job}.replaced")


def _is_output_of(path: str, job: str) -> bool:
    with suppress(OSError, msgspec.MsgspecError, AttributeError), open(os.path.join(path, SUCCESS), "rb") as mark:
        return bool(msgspec.json.decode(mark.read()).get("job") == job)
    return False


def _remove(path: str) -> None:
    """Removes what this job has just put there, if it got there."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _entries(path: str) -> list[str]:
    """What lies in a directory that may not exist."""
    with suppress(FileNotFoundError):
        return os.listdir(path)
    return []


def _check_output(path: str, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise OutputExists(f"{path}: a file has this name; the output is a directory, choose another name")
    if not _entries(path):
        if os.path.samefile(path, os.curdir) and not os.path.ismount(path):
            raise UsageError(f"{path} is the current directory, and the output takes its place; name one that is not")
        return
    if not overwrite:
        raise OutputExists(f"{path}: the output directory exists and is not empty; {OVERWRITE}")
    if os.path.ismount(path) and path != "/":
        raise UsageError(f"{path} is a mount point and not empty, so it cannot be replaced; choose a directory in it")
    kept = {"/": "the root directory", os.path.expanduser("~"): "the home directory"}
    here = os.getcwd()
    if here == path or here.startswith(path + os.sep):
        kept[path] = "the current directory, or holds it"
    if path in kept or os.path.expanduser("~").startswith(path + os.sep):
        what = kept.get(path, "a directory that holds the home directory")
        raise UsageError(f"{path} is {what}; it will not be overwritten, choose another directory")

"""Output behind an fsspec URL: no rename of directories, so the mark comes last.

The idea: object stores have neither directories nor an atomic rename of them. Attempts write below
`<url>/_staging.<job>`; the commit moves the accepted parts to their final names one by one and writes `_SUCCESS`
after the last. Readers of such a place must look for `_SUCCESS`; a directory of this machine needs no such care.

The rule: with `overwrite` the old `_SUCCESS` goes first, so old and new parts never count as one output.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import fsspec

from onerack.errors import OutputExists, UsageError, storing
from onerack.mapreduce.messages import Part, Quarantined
from onerack.mapreduce.outputs.place import OVERWRITE, SUCCESS, Destination, final_name, success_mark
from onerack.mapreduce.outputs.quarantine import DIRECTORY, FILE, quarantine_lines


class RemoteDestination(Destination):
    """A prefix of a store."""

    def __init__(self, url: str, *, overwrite: bool, job: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._filesystem, self._root = fsspec.core.url_to_fs(self.url)
            self._old = self._files()
        except ImportError as error:
            raise UsageError(f"{url}: its scheme needs a package that is not installed: {error}") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{url}: cannot be reached: {error}") from error
        if self._old and not overwrite:
            raise OutputExists(f"{url}: the output directory exists and is not empty; {OVERWRITE}")
        if self._old and not self._root.strip("/"):
            raise UsageError(f"{url} is the root of its store; it will not be overwritten, choose another directory")
        step = f"_staging.{job}"
        self.staging = f"{self.url}/{step}"
        self._staged = f"{self._root}/{step}"
        try:
            self._filesystem.makedirs(self._staged, exist_ok=True)
        except (OSError, NotImplementedError) as error:  # A store may be for reading only, as http and zip are.
            raise UsageError(f"{url}: cannot be written to: {error or type(error).__name__}") from error

    def commit(
        self, parts: Sequence[Part], success: dict[str, Any], quarantined: Sequence[Quarantined] = ()
    ) -> list[str]:
        self._remove_old()
        names = [final_name(index, part.path) for index, part in enumerate(parts)]
        with storing(self.url):
            for part, name in zip(parts, names, strict=True):
                self._filesystem.mv(f"{self._staged}/{part.path}", f"{self._root}/{name}")
            if quarantined:
                self._filesystem.makedirs(f"{self._root}/{DIRECTORY}", exist_ok=True)
                self._filesystem.pipe_file(f"{self._root}/{DIRECTORY}/{FILE}", quarantine_lines(quarantined))
            self.abort()
            self._filesystem.pipe_file(f"{self._root}/{SUCCESS}", success_mark(parts, success))
        return [f"{self.url}/{name}" for name in names]

    def abort(self) -> None:
        with suppress(FileNotFoundError):
            self._filesystem.rm(self._staged, recursive=True)

    def _files(self) -> list[str]:
        if self._filesystem.isfile(self._root):
            raise OutputExists(f"{self.url}: a file has this name; the output is a directory, choose another name")
        with suppress(FileNotFoundError):
            return list(self._filesystem.find(self._root))
        return []

    def _remove_old(self) -> None:
        """What was there when the job began, the mark first."""
        for name in sorted(self._old, key=lambda name: (not name.endswith(f"/{SUCCESS}"), name)):
            with suppress(FileNotFoundError):
                self._filesystem.rm_file(name)

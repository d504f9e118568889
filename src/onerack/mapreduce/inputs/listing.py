"""Listing: which files a user's names mean, and how long they are.

The idea: a name is a file, a directory (everything in it), a pattern with * ? [ ] or **, or any URL that fsspec
knows. Local names go through os.scandir and nothing else: twenty thousand files must cost a fraction of a second.

The rules: a literal name is taken as it is, whatever its letters. In a directory, names that start with `_` or `.` are
left out (they are marks and unfinished output); the warning counts those that may be a surprise. A pattern matches as
in a shell, but never the marks of a job's output. A file that several names mean is read once. Order is by path.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from onerack.errors import InputError
from onerack.mapreduce.inputs.sources import absolute_path, is_remote, refuse_undecodable

MARKS: Final = ("_SUCCESS", "_quarantine")
"""What a job puts beside its parts."""
_MAGIC: Final = frozenset("*?[")


class Found(NamedTuple):
    """One input file."""

    path: str
    size: int


class Listing(NamedTuple):
    """All input files, in order of their paths."""

    files: list[Found]
    warnings: list[str]


def list_files(inputs: Sequence[str]) -> Listing:
    """The files behind `inputs`. Raises: InputError: a name means nothing, or something that cannot be read."""
    files: dict[str, int] = {}
    hidden: list[str] = []
    for name in inputs:
        if not name:
            raise InputError("''", "an empty name is no input; name a file, a directory, a pattern or a URL")
        files.update(_list_remote(name) if is_remote(name) else _list_local(absolute_path(name), hidden))
    for path in files:
        refuse_undecodable(path)
    warnings = []
    if hidden:
        warnings.append(
            f"{len(hidden)} files were left out because their names, or their directories', start with '_' "
            f"(such as {hidden[0]}); a pattern (e.g. '**/*.py') takes them"
        )
    return Listing([Found(path, files[path]) for path in sorted(files)], warnings)


# ---------------------------------------------------------------------------------------------- local


def _list_local(name: str, hidden: list[str]) -> Iterable[Found]:
    try:
        if os.path.lexists(name) or not _MAGIC.intersection(name):
            return _list_path(name, hidden)
        return _list_pattern(name, hidden)
    except FileNotFoundError as error:
        path = error.filename or name
        what = "is a link to nothing" if os.path.islink(path) else "no such file or directory"
        raise InputError(path, what) from error
    except OSError as error:
        raise InputError(error.filename or name, f"cannot be read: {error.strerror}") from error


def _list_path(name: str, hidden: list[str]) -> Iterable[Found]:
    if os.path.isdir(name):
        files = list(_walk(name, hidden))
        if not files:
            raise InputError(name, "is a directory without input files")
        return files
    return [_regular(name, os.stat(name))]


def _list_pattern(pattern: str, hidden: list[str]) -> Iterable[Found]:
    files: list[Found] = []
    deep = "**" in pattern
    for name in glob.iglob(pattern, recursive=True):
        if not _MARKED.isdisjoint(name.split("/")):
            continue
        entry = os.stat(name)
        if not stat.S_ISDIR(entry.st_mode):
            files.append(_regular(name, entry))
        elif not deep:
            files.extend(_walk(name, hidden))
    if not files:
        raise InputError(pattern, "no file matches this pattern")
    return files


_MARKED: Final = frozenset(MARKS)


def _walk(directory: str, hidden: list[str]) -> Iterator[Found]:
    """Every file below a directory. Links to files are followed, links to directories are not: they could go round."""
    directories = [directory]
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.name[0] in "._":
                    if entry.name[0] == "_" and entry.name not in MARKS:
                        hidden.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif not entry.is_dir():
                    yield _regular(entry.path, entry.stat())


def _regular(path: str, entry: os.stat_result) -> Found:
    if not stat.S_ISREG(entry.st_mode):
        raise InputError(path, "is no regular file (a pipe, socket or device); copy its content into a file first")
    if not os.access(path, os.R_OK):
        raise InputError(path, "permission denied; the job's user must be able to read it")
    return Found(path, entry.st_size)


# ---------------------------------------------------------------------------------------------- remote


def _list_remote(name: str) -> Iterable[Found]:
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(name)
        if _MAGIC.intersection(root) and not filesystem.exists(root):
            entries = filesystem.glob(root, detail=True)
        else:
            entries = {root: filesystem.info(root)}
        found = [
            Found(_url_of(file["name"], filesystem, root, name), _size_of(file, name))
            for file in _remote_files(filesystem, entries.values())
        ]
    except FileNotFoundError as error:
        raise InputError(name, "no such file or directory") from error
    except ImportError as error:
        raise InputError(name, f"its scheme needs a package that is not installed: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(name, f"cannot be listed: {error}") from error
    if not found:
        raise InputError(name, "no input files are there")
    return found


def _remote_files(filesystem: Any, entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if entry["type"] == "directory":
            below = filesystem.find(entry["name"], detail=True).values()
            steps = len(entry["name"].rstrip("/"))
            yield from (file for file in below if not _is_hidden(file["name"][steps:]))
        elif _MARKED.isdisjoint(entry["name"].split("/")):
            yield entry


def _url_of(path: str, filesystem: Any, root: str, name: str) -> str:
    """The URL of a file found below `root`, which is what fsspec has made of the URL `name`.

    Its host, its user, and the archive that it lies in are in `name` alone, so the file's path takes the root's place
    there.
    """
    links = name.split("::")
    for place, link in enumerate(links):
        stem = link if link.endswith(root) else link.rstrip("/")
        if "://" in link and stem.endswith(root):
            links[place] = stem[: len(stem) - len(root)] + path
            return "::".join(links)
    return str(filesystem.unstrip_protocol(path))


def _size_of(file: dict[str, Any], name: str) -> int:
    if file["size"] is None:
        raise InputError(name, f"its store does not say how long {file['name']} is; copy it to this machine first")
    return int(file["size"])


def _is_hidden(path: str) -> bool:
    return any(step[0] in "._" for step in path.split("/") if step)

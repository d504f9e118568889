"""The names on a disk that remembers every moment of its life: what a crash may have left of them.

The idea: a name stands for the number of a content. A change of names is durable when the directory is synced; of the
changes since, a crash leaves any subset, because a file system may write them in any order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from typing import TypeVar

from onerack.sim.disk import SimLock

T = TypeVar("T")

Change = tuple[tuple[str, int | None], ...]
"""What one operation does to names: each then stands for a content, or for none."""


def subsets(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return chain.from_iterable(combinations(things, count) for count in range(len(things) + 1))


def named(names: dict[str, int], changes: Sequence[Change]) -> dict[str, int]:
    """The names when these changes have been made to them."""
    after = dict(names)
    for name, number in chain.from_iterable(changes):
        if number is None:
            after.pop(name, None)
        else:
            after[name] = number
    return after


class NamesThatCrash:
    """The half of a `Disk` of one directory that is about names."""

    def __init__(self) -> None:
        self._durable_names: dict[str, int] = {}
        self._changes: list[Change] = []
        self._names: dict[str, int] = {}
        self._held: set[str] = set()

    @abstractmethod
    def happened(self, operation: str) -> None:
        """A picture is taken."""

    def rename(self, source: str, target: str) -> None:
        self._change((source, None), (target, self._names[source]))
        self.happened(f"rename {source} to {target}")

    def unlink(self, path: str) -> None:
        self.require(path)
        self._change((path, None))
        self.happened(f"unlink {path}")

    def sync_directory(self, path: str) -> None:
        self._durable_names = dict(self._names)
        self._changes = []
        self.happened(f"sync directory {path}")

    def make_directory(self, path: str) -> None:
        return

    def names(self, directory: str) -> Sequence[str]:
        return sorted(name.removeprefix(f"{directory}/") for name in self._names)

    def lock(self, path: str) -> SimLock:
        return SimLock(self._held, path)

    def require(self, path: str) -> int:
        """The number of its content. Raises: FileNotFoundError."""
        if path not in self._names:
            raise FileNotFoundError(path)
        return self._names[path]

    def _change(self, *change: tuple[str, int | None]) -> None:
        self._changes.append(change)
        self._names = named(self._names, [change])

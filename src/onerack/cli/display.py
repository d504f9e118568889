"""Which display suits where standard error goes: a terminal, a file or pipe, or nobody."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from onerack.mapreduce.messages import JobStatus


class Display(Protocol):
    """Shows a running job."""

    def show(self, status: JobStatus) -> None:
        """Takes a new picture of the job."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class NoDisplay:
    """Shows nothing: --quiet."""

    def show(self, status: JobStatus) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def display_for(*, quiet: bool) -> Display:
    """Live on a terminal that can move its cursor, else occasional lines."""
    if quiet:
        return NoDisplay()
    from rich.console import Console

    from onerack.cli.lines import LineDisplay
    from onerack.cli.live import LiveDisplay

    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(console)
    return LineDisplay(sys.stderr)

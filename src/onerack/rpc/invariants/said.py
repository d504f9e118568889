"""What the properties of both sides share: the name of a call, and how to see what is new in a core's words."""

from __future__ import annotations

from typing import Any

from onerack.runtime.seam import Output

Xid = tuple[int, int]
"""(session, seq): the name of a deduplicated call."""


class Said:
    """What is new in a core's Output since the last look: the same Output, grown by a step, or the next one."""

    def __init__(self) -> None:
        self._output = Output()
        self._sends = self._applied = 0

    def new_in(self, output: Output) -> tuple[list[Any], list[Any]]:
        """Envelopes and decisions."""
        if output is not self._output:
            self._output = output
            self._sends = self._applied = 0
        sends, applied = output.sends[self._sends :], output.applied[self._applied :]
        self._sends, self._applied = len(output.sends), len(output.applied)
        return list(sends), applied

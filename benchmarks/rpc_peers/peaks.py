"""The highest resident memory of client and server, in a rehearsal and after it.

The rule: what counts is peak over peak, so that a cache which fills once is no leak, and one that fills twice is.
"""

from __future__ import annotations

import asyncio
import os

from benchmarks.rpc_peers.server_process import ServerProcess, resident_bytes

MB = 1e6
SAMPLE_INTERVAL_S = 0.02


class Peaks:
    """Two pairs of numbers: the rehearsal's, and those since."""

    def __init__(self, server: ServerProcess) -> None:
        self._pids = {"client": os.getpid(), "server": server.pid}
        self._rehearsal = dict.fromkeys(self._pids, 0)
        self._current = dict.fromkeys(self._pids, 0)

    def look(self) -> None:
        for side, pid in self._pids.items():
            self._current[side] = max(self._current[side], resident_bytes(pid))

    def rehearsed(self) -> None:
        self.look()
        self._rehearsal, self._current = self._current, dict.fromkeys(self._pids, 0)

    def figures(self) -> dict[str, float]:
        self.look()
        figures: dict[str, float] = {}
        for side, peak in self._current.items():
            figures[f"{side}_mb"] = peak / MB
            figures[f"{side}_growth"] = peak / self._rehearsal[side]
        return figures

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(SAMPLE_INTERVAL_S)

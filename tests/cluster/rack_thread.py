"""Control nodes in a thread with an event loop of its own, for tests of what talks to them from outside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from onerack.cluster.control import ControlNode
from onerack.config import RaftConfig
from onerack.errors import UsageError

T = TypeVar("T")
QUICK = RaftConfig(
    election_timeout_s=0.15, heartbeat_interval_s=0.03, entry_bytes_max=2 << 20, segment_bytes=4 << 20
)  # fmt: skip
_TRIES = 5


def free_address() -> str:
    """Where nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


class RackThread:
    """Nodes that live in another thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: dict[str, ControlNode] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rack")
        self._thread.start()

    def run(self, procedure: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(procedure(), self._loop).result(timeout=60)

    def start(self, name: str, **settings: Any) -> ControlNode:
        """A node; alone in its group, unless `members` says otherwise."""

        async def begin() -> ControlNode:
            for tries in range(_TRIES):
                members = settings.pop("members", None) or {name: free_address()}
                node = ControlNode(name, self.directory / name, members=members, raft_config=QUICK, **settings)
                try:
                    await node.start()
                except UsageError:
                    if "members" in settings or tries == _TRIES - 1:
                        raise
                    continue
                return node
            raise AssertionError("the last try returns, or raises")

        node = self.nodes[name] = self.run(begin)
        self.run(node.node.catch_up)
        return node

    def stop(self, name: str) -> None:
        self.run(self.nodes.pop(name).close)

    def end(self) -> None:
        for name in list(self.nodes):
            self.stop(name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def rack_thread(directory: Path) -> Iterator[RackThread]:
    rack = RackThread(directory)
    try:
        yield rack
    finally:
        rack.end()

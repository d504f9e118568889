"""Nodes of one group in one event loop, on real files and sockets, for the tests of the server.

The idea: a test starts and stops nodes by name, and waits until something is so. Nothing here waits for a time. The
sockets are unix sockets in a directory of their own: unlike a port, nobody else can take one before its node does.

The machine is a set of lists that are appended to; each command is answered by the list's new length.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec

from onerack.config import KIB, RaftConfig
from onerack.errors import CallError
from onerack.raft.commands import USER
from onerack.raft.server import RaftNode
from onerack.raft.server.host import Host
from onerack.raft.server.members import Member

CONFIG = RaftConfig(
    heartbeat_interval_s=0.03,
    election_timeout_s=0.15,
    segment_bytes=1024 * KIB,
    entry_bytes_max=256 * KIB,
    uncommitted_bytes_max=512 * KIB,
    kept_bytes=1,
)
PATIENCE_S = 30.0
"""After which a condition is taken for one that never comes."""


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(_bounded(story))


async def _bounded(story: Coroutine[Any, Any, None]) -> None:
    """Nodes of a story that has failed are closed, or their sockets would be held against the tests that follow."""
    try:
        await asyncio.wait_for(story, 100)
    finally:
        for group in [*_groups]:
            await group.__aexit__()


_groups: weakref.WeakSet[Group] = weakref.WeakSet()


async def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    """Returns when it holds. Raises: TimeoutError."""
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.003)


class Lists:
    """A StateMachine."""

    def __init__(self) -> None:
        self.lists: dict[str, list[int]] = {}
        self.pieces_given = 0

    def apply(self, command: bytes, wanted: bool) -> int:
        key, value, *_ = msgspec.msgpack.decode(command)
        values = self.lists.setdefault(key, [])
        values.append(value)
        return len(values)

    def snapshot(self) -> Iterator[bytes]:
        copies = [(key, tuple(values)) for key, values in sorted(self.lists.items())]
        return (self._piece(each) for each in copies)

    def _piece(self, pair: tuple[str, tuple[int, ...]]) -> bytes:
        self.pieces_given += 1
        return msgspec.msgpack.encode(pair)

    def restore(self, pieces: Iterator[bytes]) -> None:
        decoded = (msgspec.msgpack.decode(piece, type=tuple[str, list[int]]) for piece in pieces)
        self.lists = dict(decoded)

    def of(self, key: str) -> list[int]:
        return self.lists.get(key, [])


def host_of(node: RaftNode) -> Host:
    """What runs behind a node that was started."""
    assert node._host is not None
    return node._host


def append(key: str, value: int) -> bytes:
    return msgspec.msgpack.encode((key, value))


class Group:
    """`async with Group(tmp_path) as group`: three nodes run, and one of them leads."""

    def __init__(
        self, directory: Path, names: tuple[str, ...] = ("n1", "n2", "n3"), config: RaftConfig = CONFIG, **settings: Any
    ) -> None:
        self.directory = directory
        self.config = config
        self.settings = settings
        self.sockets = tempfile.mkdtemp(prefix="raft")
        _groups.add(self)
        weakref.finalize(self, shutil.rmtree, self.sockets, ignore_errors=True)
        self.addresses = {name: self.address_of(name) for name in names}
        self.nodes: dict[str, RaftNode] = {}
        self.machines: dict[str, Lists] = {}

    async def __aenter__(self) -> Group:
        try:
            for name in self.addresses:
                await self.start(name)
            await self.led()
        except BaseException:
            await self.__aexit__()  # Nobody else does, of what was never entered.
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        nodes, self.nodes = self.nodes, {}
        await asyncio.gather(*(node.close() for node in nodes.values()))

    def address_of(self, name: str) -> str:
        return f"unix://{self.sockets}/{name}"

    def make(self, name: str, **settings: Any) -> RaftNode:
        """A node that was not started yet."""
        self.machines[name] = Lists()
        chosen: dict[str, Any] = {
            "members": self.addresses, "machines": {USER: self.machines[name]}, "config": self.config,
            "request_timeout_s": PATIENCE_S, **self.settings, **settings,
        }  # fmt: skip
        return RaftNode(name, self.directory / name, **chosen)

    async def start(self, name: str, **settings: Any) -> RaftNode:
        node = self.make(name, **settings)
        await node.start()
        self.nodes[name] = node
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).close()

    async def join(self, name: str, role: str = "learner", **settings: Any) -> RaftNode:
        """A new node, which the group takes in."""
        address = self.address_of(name)
        leader = await self.led()
        node = await self.start(name, joins=True, address=address, **settings)
        await leader.add_member(Member(name, address), role)
        return node

    async def led(self) -> RaftNode:
        """Returns the node that leads, when there is one that has committed something."""
        await until(lambda: any(self._leads(node) for node in self.nodes.values()))
        return next(node for node in self.nodes.values() if self._leads(node))

    @staticmethod
    def _leads(node: RaftNode) -> bool:
        core = host_of(node).core
        return node.is_leader and core.term_at(core.commit) == core.term

    async def followers(self) -> list[RaftNode]:
        leader = await self.led()
        return [node for node in self.nodes.values() if node is not leader]

    async def append(self, name: str, key: str, value: int) -> int:
        """Through this node. Raises: CallError."""
        length: int = await self.nodes[name].execute(USER, append(key, value))
        return length

    async def surely(self, name: str, key: str, value: int) -> int:
        """Tries as long as it was definitely not executed."""
        while True:
            try:
                return await self.append(name, key, value)
            except CallError as error:
                if error.executed is not False:
                    raise
                await asyncio.sleep(0.01)

    async def read(self, name: str, key: str) -> list[int]:
        """Linearizably, at this node."""
        await self.nodes[name].catch_up()
        return list(self.machines[name].of(key))

    async def agree(self) -> None:
        """Returns when all machines have seen the same, and everything that is committed."""
        leader = await self.led()
        await until(lambda: all(node.applied >= leader.status().commit for node in self.nodes.values()))
        states = [self.machines[name].lists for name in self.nodes]
        assert all(state == states[0] for state in states)

"""Links between the nodes of a store, which can be cut one way.

    node n1 ──▶ relay before n2 ──▶ node n2        all dial the relay, whose address is n2's for them
            ◀──                 ◀──                 the relay asks /proc whose socket it is that dials

The idea: a node has one address, which all others learn from the log, so who speaks cannot be told from where he dials.
But the dialling socket belongs to a process, and Linux says to which. A relay needs no rights and no tools; what it
holds while a link is cut is delivered late, or is lost with its connection. Real loss is in namespaces.py.

The rule: only nodes are cut from each other; clients always get through.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

CLIENT = ""
"""Whoever is no node."""
Link = tuple[str, str]
"""Who speaks, and who hears."""


class Links(Protocol):
    """How nodes reach each other, and how they are kept from it."""

    kind: str

    async def start(self, names: list[str]) -> None: ...

    def address(self, name: str) -> str:
        """host:port that the others dial, and that the group knows."""

    def listen(self, name: str) -> str:
        """host that the node itself binds."""

    def command(self, name: str) -> list[str]:
        """What stands before the command line of a node."""

    def runs(self, name: str, pid: int, port: int) -> None:
        """The node has started, and listens for the others at this port."""

    async def cut(self, *links: Link) -> None: ...

    async def mend(self, chance: Random) -> None:
        """All of them."""

    async def close(self) -> None: ...


class RelayLinks:
    """A relay before each node."""

    kind = "relay"

    def __init__(self) -> None:
        self._relays: dict[str, Relay] = {}
        self._pids: dict[str, int] = {}
        self._flows: dict[Link, asyncio.Event] = {}

    async def start(self, names: list[str]) -> None:
        for name in names:
            relay = self._relays[name] = Relay(name, self.who_dials, self.flow)
            await relay.start()

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self._relays[name].port}"

    def listen(self, name: str) -> str:
        return "127.0.0.1"

    def command(self, name: str) -> list[str]:
        return []

    def runs(self, name: str, pid: int, port: int) -> None:
        self._pids[name] = pid
        self._relays[name].to = port

    def flow(self, speaker: str, hearer: str) -> asyncio.Event:
        """Set as long as the link is whole."""
        flow = self._flows.get((speaker, hearer))
        if flow is None:
            flow = self._flows[speaker, hearer] = asyncio.Event()
            flow.set()
        return flow

    def who_dials(self, port: int) -> str:
        """Which node has a socket at this port of 127.0.0.1; a client, if none has."""
        inode = inode_of(port)
        for name, pid in self._pids.items():
            if inode and inode in sockets_of(pid):
                return name
        return CLIENT

    async def cut(self, *links: Link) -> None:
        for link in links:
            self.flow(*link).clear()

    async def mend(self, chance: Random) -> None:
        if chance.random() < 0.5:
            for relay in self._relays.values():
                relay.reset()
        for flow in self._flows.values():
            flow.set()

    async def close(self) -> None:
        for relay in self._relays.values():
            await relay.close()


class Relay:
    """Takes connections for one node, and passes on what comes, unless the link is cut."""

    def __init__(self, name: str, who_dials: Callable[[int], str], flow: Callable[[str, str], asyncio.Event]) -> None:
        self.to = 0
        """The port where the node listens now; 0: nowhere."""
        self._name = name
        self._who_dials = who_dials
        self._flow = flow
        self._tasks: set[asyncio.Task[None]] = set()
        self._between_nodes: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def reset(self) -> None:
        """All connections between nodes are lost, and what was in them."""
        for writer in list(self._between_nodes):
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_writer: asyncio.StreamWriter | None = None
        try:
            name = self._who_dials(writer.get_extra_info("peername")[1])
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)
            if name != CLIENT:
                self._between_nodes.update((writer, there_writer))
            await asyncio.gather(
                pipe(reader, there_writer, self._flow(name, self._name)),
                pipe(there_reader, writer, self._flow(self._name, name)),
            )
        except OSError:
            pass  # It is over, for both sides.
        finally:
            for each in (writer, there_writer):
                if each is not None:
                    self._between_nodes.discard(each)
                    each.transport.abort()


async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, flow: asyncio.Event) -> None:
    while piece := await source.read(1 << 16):
        await flow.wait()
        sink.write(piece)
        await sink.drain()
    await flow.wait()
    raise ConnectionResetError("one side has closed, and so does the other")


def inode_of(port: int) -> str:
    """Of the socket on this machine that is bound to 127.0.0.1:port and connected. Empty: it is gone."""
    (number,) = (int.from_bytes(socket.inet_aton("127.0.0.1"), "little"),)
    local = f"{number:08X}:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == local and words[3] == "01":
            return words[9]
    return ""


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found: set[str] = set()
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            kind, _, rest = os.readlink(f"/proc/{pid}/fd/{descriptor}").partition(":[")
            if kind == "socket":
                found.add(rest[:-1])
    except OSError:
        pass  # The process, or a file of it, has gone meanwhile.
    return found

"""A group of processes, the links between them, and clients that write down what they see.

    node n1 ── relay n1>n2 ──▶ node n2        one relay for each pair and direction of dialling
            ◀──────────────                   each direction of each relay can be held up by itself
    clients ──▶ node (no relay)

The idea: processes are killed and stopped for real, and links are cut in between; a checker that knows nothing of raft
then says whether what clients saw can have come from one list per key. What a cut link holds is delivered when the cut
ends, late, or is lost with its connection, as chance will have it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from onerack import rpc
from onerack.config import RaftConfig
from onerack.errors import CallError, OnerackError
from onerack.sim.checker import APPENDS, History, Verdict, check_linearizable
from tests.raft.server.child import Answer, Look, Store
from tests.raft.server.group import CONFIG, until

ROOT = Path(__file__).parents[3]
PROCESSES = msgspec.structs.replace(CONFIG, heartbeat_interval_s=0.05, election_timeout_s=0.3)
"""As a user has it, but for the sizes."""
MANY = 40
DEADLINE_S = 1.0
"""Of a client's call."""


async def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power switch would; nothing of it stays open."""
    process.kill()
    await asyncio.to_thread(process.wait)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


class Relay:
    """Takes connections at one socket, and passes what comes on to another."""

    def __init__(self, listen_at: str, to: str) -> None:
        self._listen_at = listen_at
        self._to = to
        self._flows = (asyncio.Event(), asyncio.Event())
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.mend()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._listen_at)

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Nothing gets through any more, in the one direction or in both."""
        for flow, is_cut in zip(self._flows, (there, back), strict=True):
            if is_cut:
                flow.clear()

    def mend(self) -> None:
        for flow in self._flows:
            flow.set()

    def reset(self) -> None:
        """All connections are lost, and what was in them."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.reset()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_unix_connection(self._to)
        except OSError:
            writer.close()
            return
        there, back = self._flows
        for source, sink, flow in ((reader, there_writer, there), (there_reader, writer, back)):
            pipe = asyncio.create_task(self._pipe(source, sink, flow))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flow: asyncio.Event) -> None:
        self._writers.add(sink)
        try:
            while piece := await source.read(1 << 16):
                await flow.wait()
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(sink)
            sink.close()


class Processes:
    """`async with Processes(tmp_path, 3) as group`: all run, and one of them leads."""

    def __init__(self, directory: Path, count: int, config: RaftConfig = PROCESSES) -> None:
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.directory = directory
        self.directories = {name: directory / name for name in self.names}
        self.config = config
        self.sockets = tempfile.mkdtemp(prefix="raft")
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.stopped: set[str] = set()
        self.cut_off: set[str] = set()
        self.relays: dict[tuple[str, str], Relay] = {}
        self.clients: dict[str, rpc.Client[Store]] = {}

    async def __aenter__(self) -> Processes:
        for name in self.names:
            for other in self.names:
                if name != other:
                    relay = Relay(f"{self.sockets}/{name}-{other}", f"{self.sockets}/{other}")
                    self.relays[name, other] = relay
                    await relay.start()
        await asyncio.gather(*(self.start(name) for name in self.names))
        await self.led()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for client in self.clients.values():
            await client.close()
        for name in list(self.running):
            await self.kill(name)
        for relay in self.relays.values():
            await relay.close()
        shutil.rmtree(self.sockets, ignore_errors=True)

    # ------------------------------------------------------------------------------------------------ processes

    async def start(self, name: str) -> None:
        members = {
            other: f"unix://{self.sockets}/{other if other == name else f'{name}-{other}'}" for other in self.names
        }
        with open(self.directory / f"{name}.log", "ab") as log:  # noqa: ASYNC230 - a test may wait for its disk
            process = self.running[name] = subprocess.Popen(  # noqa: ASYNC220
                [
                    sys.executable, "-m", "tests.raft.server.child", str(self.directories[name]), name,
                    msgspec.json.encode(members).decode(), members[name], msgspec.json.encode(self.config).decode(),
                ],
                cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line == b"ready\n", self.said(name)

    def said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-3000:]

    async def kill(self, name: str) -> None:
        """As a power switch would."""
        process = self.running.pop(name)
        self.stopped.discard(name)
        await kill(process)

    def stop(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGSTOP)
        self.stopped.add(name)

    def go_on(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGCONT)
        self.stopped.discard(name)

    # ------------------------------------------------------------------------------------------------ links

    def cut(self, name: str, *, hears: bool, speaks: bool) -> None:
        """A node that hears nobody, or whom nobody hears, or both."""
        self.cut_off.add(name)
        for (dialling, dialled), relay in self.relays.items():
            if dialling == name:
                relay.cut(there=not speaks, back=not hears)
            elif dialled == name:
                relay.cut(there=not hears, back=not speaks)

    def mend(self, chance: Random) -> None:
        self.cut_off.clear()
        for relay in self.relays.values():
            if chance.random() < 0.5:
                relay.reset()
            relay.mend()

    # ------------------------------------------------------------------------------------------------ looking

    async def stub(self, name: str) -> Store:
        """Raises: OnerackError."""
        if name not in self.clients:
            self.clients[name] = await rpc.connect(
                Store, f"unix://{self.sockets}/{name}", cluster="onerack", deadline=DEADLINE_S, connect_timeout=1.0
            )
        return self.clients[name].stub

    async def look(self, name: str) -> Look | None:
        try:
            return await (await self.stub(name)).look()
        except OnerackError:
            return None

    async def led(self, besides: str = "") -> str:
        """Who leads in the highest term, as soon as somebody does. Not `besides`, who cannot know yet."""
        async with asyncio.timeout(30):
            while True:
                names = [name for name in self.running if name not in self.stopped and name != besides]
                looks = zip(names, await asyncio.gather(*map(self.look, names)), strict=True)
                leaders = [(look.term, name) for name, look in looks if look is not None and look.leads]
                if leaders:
                    return max(leaders)[1]
                await asyncio.sleep(0.01)


class Clients:
    """They append and read at any node, one thing at a time each, and write it all down."""

    def __init__(self, group: Processes, count: int, seed: int, keys: int = 4) -> None:
        self.history = History()
        self.acknowledged = 0
        self.unknown = 0
        self.latest = 0
        """When the last one began that has succeeded."""
        self._group = group
        self._chance = Random(seed)
        self._keys = keys
        self._value = 0
        self._is_over = False
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(count)]

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _work(self, number: int) -> None:
        life = 0
        while not self._is_over:
            name = self._somebody()
            key = f"k{self._chance.randrange(self._keys)}.{self.acknowledged // 400}"
            is_sure = await self.one(f"c{number}.{life}", name, key, reads=self._chance.random() < 0.4)
            life += not is_sure
            await asyncio.sleep(0.002 if is_sure else 0.02)

    def _somebody(self) -> str:
        """Mostly a node that is well: whoever asks another one may have to wait for his deadline."""
        group = self._group
        well = [name for name in group.names if name in group.running and name not in group.stopped | group.cut_off]
        return self._chance.choice(well if well and self._chance.random() < 0.97 else group.names)

    async def one(self, client: str, name: str, key: str, *, reads: bool) -> bool:
        """False: nobody knows what became of it, and so nobody of that name asks for anything again."""
        history, argument = self.history, None
        if not reads:
            self._value += 1
            argument = self._value
        begun_at = time.monotonic_ns()
        number = history.begin(client, key, "read" if reads else "append", argument, begun_at)
        answer = await self._ask(name, key, argument)
        if answer.executed:
            history.end(number, answer.values if reads else None, time.monotonic_ns())
            self.acknowledged += not reads
            self.latest = max(self.latest, begun_at)
        elif reads or answer.executed is False:
            history.forget(number)
        else:
            self.unknown += 1
            return False
        return True

    async def _ask(self, name: str, key: str, value: int | None) -> Answer:
        try:
            stub = await self._group.stub(name)
            return await (stub.read(key) if value is None else stub.append(key, value))
        except CallError as error:
            return Answer(error.executed, cause=error.cause)
        except OnerackError:
            return Answer(False)  # There was no connection to begin with.

    async def success(self, since_ns: int) -> float:
        """Returns when many commands have been taken that came after `since_ns`: how many seconds passed until the
        first one was."""
        await until(lambda: self.latest > since_ns)
        gap_s = (time.monotonic_ns() - since_ns) / 1e9
        before = self.acknowledged
        await until(lambda: self.acknowledged > before + MANY)
        return gap_s

    async def verdict(self) -> Verdict:
        """Every key is read once more, at every node; then the checker has its say."""
        await self.end()
        keys = sorted({operation.key for operation in self.history.operations()})
        for name in self._group.names:
            for key in keys:
                async with asyncio.timeout(30):
                    while not (await self._ask(name, key, None)).executed:
                        await asyncio.sleep(0.05)
                number = self.history.begin(f"last {name}", key, "read", None, time.monotonic_ns())
                answer = await self._ask(name, key, None)
                assert answer.executed, answer
                self.history.end(number, answer.values, time.monotonic_ns())
        operations: list[Any] = self.history.operations()
        return await asyncio.to_thread(check_linearizable, operations, APPENDS)

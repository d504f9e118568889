"""One schedule of the store: a raft cluster in trouble, whose clients put, read, transact, lease, compact and watch.

The idea: everything of raft's schedules, faults and judge included, with the store as the state machine and with
watchers beside the clients. So the store meets crashes, snapshots in the middle of its life, and replicas that lag.
"""

from __future__ import annotations

from typing import Any

from onerack.raft.messages import Entry, Kind
from onerack.sim.kv.clients import EVERYTHING, Book, KvClient
from onerack.sim.kv.judge import check_registers, check_replica, check_store
from onerack.sim.kv.kit import KvKit
from onerack.sim.kv.node import KvNode, Told
from onerack.sim.kv.options import draw
from onerack.sim.kv.watchers import SimWatcher
from onerack.sim.raft.clients import SimClient
from onerack.sim.raft.node import SimNode
from onerack.sim.raft.options import Options
from onerack.sim.raft.schedule import Schedule
from onerack.sim.raft.story import Story
from onerack.sim.seeds import stream

WATCHERS = 2


class KvSchedule(Schedule):
    node_class = KvNode
    last_operations = 30  # What went wrong in trouble shows in what the store answers afterwards.

    def __init__(self, seed: int, kit: KvKit, story: Story | None = None, *, options: Options | None = None) -> None:
        self.book = Book()
        self.commands: dict[int, bytes] = {}
        """Index -> the command that whoever came first has applied there."""
        super().__init__(seed, kit, story, options=options or draw(stream(seed, "options")))
        names = [f"w{number + 1}" for number in range(WATCHERS)]
        self.watchers = {name: SimWatcher(self, name, stream(seed, name)) for name in names}

    def _make_client(self, name: str) -> SimClient:
        return KvClient(self, name, stream(self.seed, name))

    def begin(self) -> None:
        super().begin()
        for number, watcher in enumerate(self.watchers.values()):
            self.world.after(0.2 + 0.5 * number, watcher.connect)

    def _deliver(self, to: str, message: Any, sender: str) -> None:
        if isinstance(message, Told):
            self.watchers[to].hear(message)
        else:
            super()._deliver(to, message, sender)

    def applying(self, node: SimNode, entry: Entry) -> None:
        super().applying(node, entry)
        if entry.kind == Kind.COMMANDS and entry.payload:
            self.commands.setdefault(entry.index, entry.payload)

    def newest_revision(self) -> int:
        """Of any store."""
        machines: list[Any] = [node.machine for node in self.nodes.values()]
        return max(int(machine.kv.revision) for machine in machines)

    # ------------------------------------------------------------------------------------------------ the end

    def _read_all(self, client: SimClient) -> None:
        assert isinstance(client, KvClient)
        client.wish(EVERYTHING)
        self.live_until(lambda: not client.is_busy)

    def _all_equal(self) -> bool:
        newest = self.newest_revision()
        return super()._all_equal() and all(watcher.reached >= newest for watcher in self.watchers.values())

    def _what_is_open(self) -> str:
        watchers = ", ".join(f"{watcher.name} has reached {watcher.reached}" for watcher in self.watchers.values())
        return f"{super()._what_is_open()}; {watchers}; the newest revision is {self.newest_revision()}"

    def _check_clients(self) -> int:
        for watcher in self.watchers.values():
            watcher.close()
        records = [record for watcher in self.watchers.values() for record in watcher.records]
        replay = check_store((self.commands[index] for index in sorted(self.commands)), self.book, records)
        leader = self._leader()
        assert leader is not None
        for name in leader.configuration.members:
            if name not in leader.configuration.witnesses:
                machine: Any = self.nodes[name].machine
                check_replica(name, machine, replay.model)
        return check_registers(self.book)

    def _operations(self) -> int:
        return len(self.book)

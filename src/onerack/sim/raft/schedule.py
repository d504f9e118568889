"""One schedule: nodes, clients, operators and a network live through what one seed has in store for them.

The idea: faults strike for a while; then all is mended, and the cluster must show that it is well: there is a leader,
every operation ends, every change of the configuration comes to its end, and all replicas are equal. All along the
judge looks after every step; at the end both checkers read what the clients saw.

The rule: a run is told from its seed alone; nothing is drawn but from streams of the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from onerack.raft.invariants import Watch
from onerack.raft.messages import Configuration, Entry, SnapshotMark
from onerack.runtime.seam import Envelope, Output, Tick
from onerack.sim.checker import History
from onerack.sim.raft.clients import SimClient, keys_of
from onerack.sim.raft.clock import Clock
from onerack.sim.raft.fate import Fate, Operators
from onerack.sim.raft.judge import Broken, Judge, check_history, require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.network import Network
from onerack.sim.raft.node import SimNode
from onerack.sim.raft.options import Options, draw
from onerack.sim.raft.requests import Reply, Request, SnapshotPiece
from onerack.sim.raft.story import Story
from onerack.sim.seeds import stream
from onerack.sim.world import NS, World

HEAL_S: Final = 4.0
END_S: Final = 40.0
"""By then everything must have ended."""
STEPS_MAX: Final = 60_000
"""More messages than that are a storm."""
CRASHES_MAX: Final = 12
"""Crash points at which one run may die by chance."""

_ENCODE = msgspec.msgpack.Encoder(enc_hook=str).encode


class Report(msgspec.Struct, frozen=True):
    """What one schedule was like."""

    seed: int
    seconds: float
    """Simulated."""
    nodes: int
    events: int
    steps: int
    """Messages that cores took."""
    faults: int
    elections: int
    """Terms that had a leader."""
    entries: int
    """That were committed."""
    restores: int
    operations: int
    unknown: int
    """Keys whose search was given up."""
    trace_hash: str


class Schedule:
    """One run; what nodes and clients find around them. `watches`: False leaves all to judge and checkers."""

    node_class = SimNode
    last_operations = 4
    """Of each client when all is mended: a cluster that is well finds few bugs, and costs as much as a sick one."""

    def __init__(
        self,
        seed: int,
        kit: Kit,
        story: Story | None = None,
        *,
        options: Options | None = None,
        watches: bool = True,
    ) -> None:
        self.seed = seed
        self.kit = kit
        self.options = options or draw(stream(seed, "options"))
        self.world = World()
        self.history = History()
        self.story = story
        self.healed = False
        self.steps = self.crashes = self.restores = 0
        self.slow_until_ns: dict[str, int] = {}
        self._values = 0
        self._hash = hashlib.blake2b(digest_size=8)
        self._points = stream(seed, "points")
        self._disk = stream(seed, "disk")
        self._fate_of_dead = stream(seed, "restarts")
        kit.chance = lambda name: stream(seed, name)
        self.network = Network(
            self.world, stream(seed, "network"), self.options.weather, self._deliver, codec=self.options.codec
        )
        self.first = first_configuration(self.options)
        self.nodes: dict[str, SimNode] = {}
        self.clients: dict[str, SimClient] = {}
        for number in range(self.options.nodes + self.options.spares):
            self._make_node(f"n{number + 1}")
        for number in range(self.options.clients):
            name = f"c{number + 1}"
            self.clients[name] = self._make_client(name)
        self.judge = Judge(self.nodes)
        self.watch = Watch() if watches else None
        self.fate = Fate(self, stream(seed, "fate"))
        self._operators = Operators(self, stream(seed, "operators"))

    def _make_node(self, name: str) -> None:
        first = self.first if name in self.first.members else Configuration()
        storage = self.kit.make_storage(name, stream(self.seed, f"disk/{name}"), first, self.options)
        spread = self.options.clock_spread
        rate = stream(self.seed, f"clock/{name}").uniform(1.0 - spread, 1.0 + spread)
        self.nodes[name] = self.node_class(self, name, storage, Clock(self.world, rate))

    def _make_client(self, name: str) -> SimClient:
        return SimClient(self, name, stream(self.seed, name))

    # ------------------------------------------------------------------------------------------------ the run

    def run(self) -> Report:
        """Raises: Broken; whatever the code under test raises."""
        self.begin()
        self.world.after(HEAL_S, self.heal)
        self.live_until(lambda: self.healed)
        self._live_until_all_ended()
        return self._report(self._check_clients())

    def _check_clients(self) -> int:
        """What they saw could be; gives the number of keys that were too hard to decide."""
        return check_history(self.history.operations())

    def begin(self) -> None:
        for name in self.first.members:
            self.nodes[name].start()
        for number, client in enumerate(self.clients.values()):
            self.world.after(0.1 * number, client.go_on)
        at = 0.0
        for _ in range(self.options.faults):
            at += stream(self.seed, f"strike/{at}").expovariate(1.0 / self.options.fault_mean_s)
            self.world.after(min(at, HEAL_S - 0.1), self.fate.strike)
        if self.options.spurious_ticks:
            self.world.after(0.1, self._tick_somebody)
        self._operators.begin()

    def live_for(self, seconds: float) -> None:
        end_ns = self.world.now_ns + round(seconds * NS)
        self.world.at(end_ns, lambda: None)
        while self.world.now_ns < end_ns:
            self.world.step()

    def live_until(self, condition: Any, most_s: float = END_S) -> None:
        world = self.world
        end_ns = world.now_ns + round(most_s * NS)
        while not condition():
            if not world.step() or world.now_ns > end_ns or self.steps > STEPS_MAX:
                raise Broken("liveness", f"after {world.now:.1f} s: {self._what_is_open()}")

    def heal(self) -> None:
        """All is mended, and nothing fails any more; whoever is down comes back."""
        self.healed = True
        self.tell("everything", "is mended")
        self.network.heal()
        self.slow_until_ns.clear()
        for client in self.clients.values():
            client.left = min(client.left, self.last_operations)
        for node in self.nodes.values():
            node.storage.sync_fails = False
            if not node.alive and node.life:
                node.start()

    def _live_until_all_ended(self) -> None:
        self.live_until(self._all_ended)
        # The last word: every client reads every key once more.
        for client in list(self.clients.values())[:2]:
            self._read_all(client)
        self.live_until(self._all_equal)
        leader = self._leader()
        assert leader is not None
        self.judge.check_replicas(leader.configuration)

    def _read_all(self, client: SimClient) -> None:
        for key in keys_of(self.options):
            client.begin("read", key)
            self.live_until(lambda: not client.is_busy)

    def _leader(self) -> SimNode | None:
        """The one of the highest term."""
        leaders = [node for node in self.nodes.values() if node.is_leader]
        return max(leaders, key=lambda node: node.core.term) if leaders else None

    def _all_ended(self) -> bool:
        for client in self.clients.values():
            if client.left > 0 or client.is_busy:
                return False
        return self._leader() is not None

    def _all_equal(self) -> bool:
        leader = self._leader()
        if leader is None or leader.configuration.is_joint:
            return False
        last = leader.core.last_index
        members = [self.nodes[name] for name in leader.configuration.members]
        # A witness applies nothing, but must know all the same.
        witnesses = leader.configuration.witnesses
        return all(
            node.alive and (node.core.commit if node.name in witnesses else node.applied) == last for node in members
        )

    def _what_is_open(self) -> str:
        busy = [client.name for client in self.clients.values() if client.is_busy or client.left > 0]
        nodes = [
            f"{node.name} {node.core.role} term={node.core.term} applied={node.applied}/{node.core.last_index}"
            for node in self.nodes.values()
            if node.alive
        ]
        return f"clients {busy} are busy; {'; '.join(nodes)}"

    def _report(self, unknown: int) -> Report:
        return Report(
            seed=self.seed,
            seconds=self.world.now,
            nodes=self.options.nodes,
            events=self.world.events,
            steps=self.steps,
            faults=self.fate.struck + self.crashes + self.network.lost + self.network.repeated,
            elections=len(self.judge.leaders),
            entries=len(self.judge.committed) - 1,
            restores=self.restores,
            operations=self._operations(),
            unknown=unknown,
            trace_hash=self._hash.hexdigest(),
        )

    def _operations(self) -> int:
        return len(self.history)

    # ------------------------------------------------------------------------------------------------ around clients

    def send(self, sender: str, to: str, message: Any) -> None:
        self.network.send(sender, to, message)

    def _deliver(self, to: str, message: Any, sender: str) -> None:
        if self.story is not None and isinstance(message, Request | Reply | SnapshotPiece):
            self.story.message(self.world.now, sender, to, message)
        if isinstance(message, Reply):
            self.clients[to].receive(message)
        else:
            self.nodes[to].receive(message, sender)

    def servers(self) -> Sequence[str]:
        """Where clients may ask. Witnesses are no servers for them; whoever left may still be asked."""
        return [name for name, node in self.nodes.items() if node.life and name not in self.first.witnesses]

    def next_value(self) -> int:
        self._values += 1
        return self._values

    def is_healed(self) -> bool:
        return self.healed

    # ------------------------------------------------------------------------------------------------ around nodes

    def booted(self, node: SimNode) -> None:
        self.judge.booted(node)
        if self.watch is None:
            return
        if node.life == 1:
            self.watch.look(node.core)
        else:
            self.watch.restarted(node.core)

    def stepped(self, node: SimNode, message: Any, sender: str) -> None:
        self.steps += 1
        self._hash.update(_ENCODE((self.world.now_ns, node.name, sender, type(message).__name__, message)))
        if self.story is not None:
            self.story.message(self.world.now, sender, node.name, message)
        self._look(node)

    def _look(self, node: SimNode) -> None:
        """After every step; only what has changed can have become wrong."""
        core = node.core
        outline = core._state.outline()
        if outline != node.looked_at:
            node.looked_at = outline
            self.judge.look(node)
            if self.watch is not None:
                self.watch.look(core)

    def drained(self, node: SimNode, output: Output) -> None:
        self._look(node)
        if output.writes:
            self.judge.written(node, output.writes)
        if self.story is not None:
            for event in output.events:
                self.story.event(self.world.now, node.name, event)

    def leaving(self, node: SimNode, envelope: Envelope) -> None:
        self.judge.leaving(node, envelope.to, envelope.message)
        if self.watch is not None:
            self.watch.sent(node.name, (envelope,))

    def decided(self, node: SimNode, decisions: Sequence[Any]) -> None:
        if self.watch is not None:
            self.watch.handed_out(node.name, decisions)

    def applying(self, node: SimNode, entry: Entry) -> None:
        self.judge.applying(node, entry)

    def snapshotted(self, node: SimNode, mark: SnapshotMark) -> None:
        self.judge.snapshotted(node, mark)

    def restored(self, node: SimNode, mark: SnapshotMark) -> None:
        self.restores += 1
        self.judge.restored(node, mark)

    def lets_die(self, node: SimNode, point: str) -> bool:
        if self.healed or not self.options.crash_point or self.crashes >= CRASHES_MAX:
            return False
        if self._points.random() >= self.options.crash_point:
            return False
        self.crashes += 1
        return True

    def draw_prefix(self, size: int) -> int:
        """How many of so many messages leave before the node dies."""
        return self._points.randint(0, size) if self._points.random() < 0.7 else 0

    def draw_sync_s(self, node: SimNode) -> float:
        options = self.options
        if not self.healed and options.sync_fault and self._disk.random() < options.sync_fault:
            node.storage.sync_fails = True
        mean = options.sync_s
        if self.slow_until_ns.get(node.name, 0) > self.world.now_ns:
            mean = 0.2
        return self._disk.uniform(0.5, 1.5) * mean

    def died(self, node: SimNode, why: str) -> None:
        self.tell(node.name, f"dies: {why}")
        down_s = 0.05 if self.healed else self._fate_of_dead.choice(self.options.down_s)
        self.world.after(down_s, self._restart, node)

    def _restart(self, node: SimNode) -> None:
        if not node.alive:
            self.tell(node.name, "starts")
            node.start()

    def wake_spare(self, name: str) -> None:
        """Somebody who is to become a member is started, with an empty disk."""
        if not self.nodes[name].life:
            self.tell(name, "starts for the first time")
            self.nodes[name].start()

    def _tick_somebody(self) -> None:
        """An alarm that nobody has set rings somewhere: harmless."""
        node = self._points.choice(list(self.nodes.values()))
        if node.alive and not node.is_paused:
            node.tell_core(Tick())
        if not self.healed:
            self.world.after(self._points.uniform(0.05, 0.5), self._tick_somebody)

    def tell(self, who: str, words: str) -> None:
        if self.story is not None:
            self.story.fate(self.world.now, who, words)


def first_configuration(options: Options) -> Configuration:
    names = [f"n{number + 1}" for number in range(options.nodes)]
    if options.learner and options.nodes > 2:
        return Configuration(voters=tuple(names[:-1]), learners=(names[-1],))
    witnesses = (names[-1],) if options.witness and options.nodes > 2 else ()
    return Configuration(voters=tuple(names), witnesses=witnesses)


__all__ = ["Broken", "Report", "Schedule", "require"]

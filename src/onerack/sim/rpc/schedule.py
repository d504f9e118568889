"""One schedule: servers, clients and their links live through what one seed has in store for them.

The idea: this file is the hand of fate. It draws crashes, pauses, cuts and resets, lets processes die at crash points
and come back, and when all faults are mended it waits until every call has its outcome and every lease is over; then
nothing may be left anywhere.

The rule: faults strike before `HEAL_S`; every call must end, one at least each `STALL_S`. A run that cannot be told
from its seed alone is a bug here: nothing is drawn but from streams of the seed.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any, Final

import msgspec

from onerack.errors import InvariantBroken
from onerack.rpc.core.client import ClientCore
from onerack.rpc.core.server import ServerCore
from onerack.sim.rpc.client import Life, SimClient
from onerack.sim.rpc.judge import Judge
from onerack.sim.rpc.kit import Kit
from onerack.sim.rpc.links import Links
from onerack.sim.rpc.options import Fault, Options, draw
from onerack.sim.rpc.server import Boot, SimServer
from onerack.sim.rpc.story import Story
from onerack.sim.rpc.workload import make_calls
from onerack.sim.seeds import stream
from onerack.sim.world import NS, World

HEAL_S: Final = 8.0
STALL_S: Final = 90.0
"""Longer than any lease: when nothing has ended for so long, nothing will."""
CRASHES_MAX: Final = 6
"""Crash points at which one run may die by chance."""

_ENCODE = msgspec.msgpack.Encoder().encode


class Report(msgspec.Struct, frozen=True):
    """What one schedule was like."""

    seed: int
    seconds: float
    """Simulated."""
    events: int
    steps: int
    """Messages that cores took."""
    faults: int
    points: int
    """Crash points that were passed while faults could strike."""
    calls: dict[str, int]
    """Mode -> calls."""
    outcomes: dict[str, int]
    trace_hash: str


class Schedule:
    """One run; what servers and clients find around them.

    `crash_at`: whichever process passes one of these crash points, the first being 1, dies there, and none at others.
    `watches`: False leaves everything to the judge.
    """

    def __init__(
        self,
        seed: int,
        kit: Kit,
        story: Story | None = None,
        *,
        options: Options | None = None,
        crash_at: tuple[int, ...] = (),
        watches: bool = True,
    ) -> None:
        self.seed = seed
        self.options = options or draw(stream(seed, "options"))
        self.watches = watches
        self.world = World()
        self.faults = self.steps = self.points = 0
        calls = make_calls(stream(seed, "workload"), self.options)
        self.judge = Judge(calls, self.options)
        self.links = Links(self.world, stream(seed, "network"), self.options)
        self._kit = kit
        self._story = story
        self._crash_at = crash_at
        self._crashes = 0
        self._healed = False
        self._over = False
        self._fate = stream(seed, "fate")
        self._points = stream(seed, "points")
        self._hash = hashlib.blake2b(digest_size=8)
        self.servers = [SimServer(self, f"s{index}", self._stream) for index in range(self.options.servers)]
        self.clients = [SimClient(self, name, mine, self._stream) for name, mine in calls.items()]

    def _stream(self, name: str) -> random.Random:
        return stream(self.seed, name)

    # ------------------------------------------------------------------------------------------------ the run

    def run(self) -> Report:
        """Raises: InvariantBroken."""
        for server in self.servers:
            server.start()
        for client in self.clients:
            client.start()
        at = 0.0
        for _ in range(self.options.faults):
            at += self._fate.expovariate(1.0 / self.options.fault_mean_s)
            self.world.after(min(at, HEAL_S - 0.1), self._strike)
        if self.options.spurious_ticks:
            self.world.after(0.1, self._tick_somebody)
        self.world.after(HEAL_S, self._heal)
        self._live_until_all_ended()
        self._live_until_all_quiet()
        return self._report()

    def _live_until_all_ended(self) -> None:
        judge, world = self.judge, self.world
        left, stalled_ns = judge.left, round((HEAL_S + STALL_S) * NS)
        while judge.left:
            if judge.left != left:
                left, stalled_ns = judge.left, max(stalled_ns, world.now_ns + round(STALL_S * NS))
            if not world.step() or world.now_ns > stalled_ns:
                raise InvariantBroken("every_call_ends", f"{judge.open_calls()} are open after {world.now:.1f} s")

    def _live_until_all_quiet(self) -> None:
        """All clients leave, with a word or without; then every lease runs out, and nothing may be left."""
        self._heal()
        self._over = True
        for client in self.clients:
            if self._fate.random() < 0.5:
                client.close()
            else:
                client.die()
        for server in self.servers:
            if not server.alive:
                server.start()
        self._live_for(1.0)
        while any(server.core.open_calls for server in self.servers):
            # Handlers go on without their callers, as long as it takes.
            self._live_for(1.0)
        self._live_for(self.options.config.session_lease_s * 1.6 + 5.0)
        for server in self.servers:
            server.check_rest()
        self.judge.check_end(self.servers[0].state if self.options.durable else None)

    def _live_for(self, seconds: float) -> None:
        end_ns = self.world.now_ns + round(seconds * NS)
        self.world.at(end_ns, lambda: None)
        while self.world.now_ns < end_ns:
            self.world.step()

    def _report(self) -> Report:
        calls: dict[str, int] = {}
        outcomes: dict[str, int] = {}
        for case in self.judge.cases.values():
            mode = case.call.mode.name
            calls[mode] = calls.get(mode, 0) + 1
            outcomes[case.ending] = outcomes.get(case.ending, 0) + 1
        return Report(
            seed=self.seed,
            seconds=self.world.now,
            events=self.world.events,
            steps=self.steps,
            faults=self.faults + self._crashes + self.links.lost + self.links.repeated,
            points=self.points,
            calls=dict(sorted(calls.items())),
            outcomes=dict(sorted(outcomes.items())),
            trace_hash=self._hash.hexdigest(),
        )

    # ------------------------------------------------------------------------------------------------ around everybody

    def boot_server(self, boot: Boot) -> ServerCore:
        return self._kit.boot_server(boot, self.options)

    def start_client(self, life: Life, now: float) -> ClientCore:
        return self._kit.start_client(life, self.options, now)

    def find_server(self) -> SimServer:
        return self._fate.choice(self.servers)

    def heard(self, who: str, message: Any, sender: str) -> None:
        self.steps += 1
        self._hash.update(_ENCODE((self.world.now_ns, who, sender, type(message).__name__, message)))
        if self._story is not None:
            self._story.message(self.world.now, sender, who, message)

    def lets_die(self, point: str) -> bool:
        if self._healed:
            return False
        self.points += 1
        dies = self.points in self._crash_at
        if not self._crash_at and self._crashes < CRASHES_MAX and self.options.crash_point:
            dies = self._points.random() < self.options.crash_point
        if dies:
            self._crashes += 1
            self._tell(point, "dies")
        return dies

    def server_died(self, server: SimServer) -> None:
        self.world.after(self._fate.choice(self.options.down_s), self._restart, server)

    def client_died(self, client: SimClient) -> None:
        if not client.is_done and not self._over:
            self.world.after(self._fate.choice([0.02, 0.5]), self._restart, client)

    def _restart(self, node: SimServer | SimClient) -> None:
        if not node.alive:
            self._tell(node.name, "starts")
            node.start()

    # ------------------------------------------------------------------------------------------------ faults

    def _strike(self) -> None:
        """One fault hits somebody."""
        if self._healed:
            return
        self.faults += 1
        kind = self._fate.choice(self.options.fault_kinds)
        self._tell(kind, "")
        if kind in ("break_link", "cut_link"):
            self._strike_link(kind)
        elif kind in ("crash_client", "close_client", "pause_client"):
            self._strike_client(kind)
        else:
            self._strike_server(kind)

    def _strike_link(self, kind: Fault) -> None:
        links = self.links.live()
        if not links:
            return
        link = self._fate.choice(links)
        if kind == "cut_link":
            self.links.cut(link, self._fate.choice([0.05, 0.5, 2.0]))
            if self._fate.random() < 0.5:
                # The client gives up on it a moment later, and what it sent meanwhile comes by itself afterwards.
                self.world.after(self._fate.uniform(0.0, 0.3), self.links.reset, link, "<")
        else:
            self.links.reset(link, self._fate.choice(["<", ">"]))

    def _strike_client(self, kind: Fault) -> None:
        clients = [client for client in self.clients if client.is_awake]
        if not clients:
            return
        client = self._fate.choice(clients)
        if kind == "crash_client":
            client.die()
        elif kind == "close_client":
            client.close()
        else:
            client.pause(self._fate.choice([0.1, 0.5, 2.0]))

    def _strike_server(self, kind: Fault) -> None:
        servers = [server for server in self.servers if server.alive]
        if not servers:
            return
        server = self._fate.choice(servers)
        if kind == "crash_server":
            server.die()
        elif kind == "pause_server":
            server.pause(self._fate.choice([0.1, 0.5, 2.0]))
        elif kind == "stop_server":
            server.stop()
        else:
            server.fail_log()

    def _tick_somebody(self) -> None:
        """An alarm that nobody has set rings somewhere: harmless."""
        node = self._fate.choice([*self.servers, *self.clients])
        if node.alive:
            node.tick()
        if not self._over:
            self.world.after(self._fate.uniform(0.05, 1.0), self._tick_somebody)

    def _heal(self) -> None:
        if not self._healed:
            self._healed = True
            self._tell("everything", "is mended")
            self.links.heal()
            for server in self.servers:
                server.log.repeats = False

    def _tell(self, who: str, words: str) -> None:
        if self._story is not None:
            self._story.fate(self.world.now, who, words)

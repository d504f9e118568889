"""Fate: what strikes the nodes of a schedule, and the operators who change their cluster meanwhile.

The rule: faults are drawn from one stream, operators' wishes from another, so that one can be looked at without the
other; every fault ends by itself, and none ends another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from onerack.raft.messages import Configuration
from onerack.sim.raft.network import Network, Pair, between
from onerack.sim.raft.node import SimNode
from onerack.sim.raft.options import Fault, Options
from onerack.sim.world import NS, World

HOUR_S: Final = 3600.0


class Scene(Protocol):
    """Whom fate strikes."""

    world: World
    options: Options
    network: Network
    nodes: dict[str, SimNode]
    slow_until_ns: dict[str, int]
    healed: bool

    @property
    def clients(self) -> Mapping[str, Any]: ...
    def tell(self, who: str, words: str) -> None: ...
    def wake_spare(self, name: str) -> None: ...


class Fate:
    """The hand that strikes."""

    def __init__(self, schedule: Scene, chance: random.Random) -> None:
        self._schedule = schedule
        self._chance = chance
        self.struck = 0

    def strike(self) -> None:
        schedule = self._schedule
        if schedule.healed:
            return
        self.struck += 1
        kind = self._chance.choice(schedule.options.fault_kinds)
        alive = [node for node in schedule.nodes.values() if node.alive]
        if not alive:
            return
        node = self._chance.choice(alive)
        if kind in ("crash_leader", "isolate_leader", "minority"):
            leaders = [each for each in alive if each.is_leader]
            node = self._chance.choice(leaders or alive)
        schedule.tell(node.name, f"is struck: {kind}")
        self._strikers[kind](self, node)

    def _crash(self, node: SimNode) -> None:
        node.die("crash")

    def _crash_all(self, node: SimNode) -> None:
        for each in self._schedule.nodes.values():
            each.die("all crash")

    def _divide(self, node: SimNode) -> None:
        """Two groups; clients stay on one side, or reach both."""
        names = sorted(self._schedule.nodes)
        self._chance.shuffle(names)
        size = self._chance.randint(1, max(1, len(names) - 1))
        left, right = names[:size], names[size:]
        if self._chance.random() < 0.5:
            right = right + list(self._schedule.clients)
        self._cut(between(left, right))

    def _cut_one_way(self, node: SimNode) -> None:
        """One node hears nobody, or is not heard, by some of the others."""
        others = [name for name in self._schedule.nodes if name != node.name]
        some = self._chance.sample(others, self._chance.randint(min(1, len(others)), len(others)))
        deaf = self._chance.random() < 0.5
        self._cut([(other, node.name) if deaf else (node.name, other) for other in some])

    def _isolate(self, node: SimNode) -> None:
        """From the other nodes; clients may still reach it."""
        others = [name for name in self._schedule.nodes if name != node.name]
        self._cut(between([node.name], others))

    def _leave_in_minority(self, node: SimNode) -> None:
        """It keeps one other node, and its clients."""
        others = [name for name in self._schedule.nodes if name != node.name]
        kept = self._chance.choice(others or [node.name])
        self._cut(between([node.name, kept], [name for name in others if name != kept]))

    def _cut(self, pairs: list[Pair]) -> None:
        self._schedule.network.cut(pairs, self._fault_s())

    def _pause(self, node: SimNode) -> None:
        node.pause(self._schedule.world.now_ns + round(self._fault_s() * NS))

    def _fail_sync(self, node: SimNode) -> None:
        node.storage.sync_fails = True

    def _slow_disk(self, node: SimNode) -> None:
        self._schedule.slow_until_ns[node.name] = self._schedule.world.now_ns + round(self._fault_s() * NS)

    def _clock_jump(self, node: SimNode) -> None:
        node.clock.jump(self._chance.choice([0.3, 5.0, HOUR_S]))
        node.rearm()

    def _clock_stop(self, node: SimNode) -> None:
        """As a monotonic clock shows a jump back: it stands still for a while."""
        node.clock.run(0.0)
        self._schedule.world.after(self._fault_s(), self._clock_runs, node, 1.0)

    def _clock_rate(self, node: SimNode) -> None:
        self._clock_runs(node, self._chance.choice([0.5, 2.0]))
        self._schedule.world.after(self._fault_s(), self._clock_runs, node, 1.0)

    def _clock_runs(self, node: SimNode, rate: float) -> None:
        node.clock.run(rate)
        node.rearm()

    def _fault_s(self) -> float:
        return self._chance.choice(self._schedule.options.fault_s)

    _strikers: Final[dict[Fault, Callable[[Fate, SimNode], None]]] = {
        "crash": _crash,
        "crash_all": _crash_all,
        "crash_leader": _crash,
        "divide": _divide,
        "cut_one_way": _cut_one_way,
        "isolate_leader": _isolate,
        "minority": _leave_in_minority,
        "pause": _pause,
        "fail_sync": _fail_sync,
        "slow_disk": _slow_disk,
        "clock_jump": _clock_jump,
        "clock_stop": _clock_stop,
        "clock_rate": _clock_rate,
    }


class Operators:
    """People who change the configuration of a cluster that is in trouble, and move its leader about."""

    def __init__(self, schedule: Scene, chance: random.Random) -> None:
        self._schedule = schedule
        self._chance = chance

    def begin(self) -> None:
        options = self._schedule.options
        if options.change_mean_s:
            self._later(options.change_mean_s, self._change)
        if options.transfer_mean_s:
            self._later(options.transfer_mean_s, self._transfer)

    def _later(self, mean_s: float, action: Callable[[], None]) -> None:
        self._schedule.world.after(self._chance.expovariate(1.0 / mean_s), action)

    def _leader(self) -> SimNode | None:
        leaders = [node for node in self._schedule.nodes.values() if node.is_leader]
        return self._chance.choice(leaders) if leaders else None

    def _transfer(self) -> None:
        if self._schedule.healed:
            return
        leader = self._leader()
        if leader is not None:
            to = self._chance.choice(sorted(self._schedule.nodes))
            self._schedule.tell(leader.name, f"is asked to make {to} the leader")
            leader.ask(to)
        self._later(self._schedule.options.transfer_mean_s, self._transfer)

    def _change(self) -> None:
        if self._schedule.healed:
            return
        leader = self._leader()
        if leader is not None and not leader.configuration.is_joint:
            wanted = self._draw(leader.configuration)
            self._schedule.tell(leader.name, f"is asked for {wanted}")
            for name in wanted.members:
                self._schedule.wake_spare(name)
            leader.ask(wanted)
        self._later(self._schedule.options.change_mean_s, self._change)

    def _draw(self, now: Configuration) -> Configuration:
        """One or two random steps from what there is."""
        voters, learners = set(now.voters), set(now.learners)
        for _ in range(self._chance.choice([1, 1, 2])):
            outside = [name for name in self._schedule.nodes if name not in voters | learners]
            step = self._chance.choice(["add", "learn", "promote", "demote", "remove", "remove", "replace"])
            if step in ("add", "replace") and outside:
                voters.add(self._chance.choice(sorted(outside)))
            elif step == "learn" and outside:
                learners.add(self._chance.choice(sorted(outside)))
            elif step == "promote" and learners:
                name = self._chance.choice(sorted(learners))
                learners.discard(name)
                voters.add(name)
            leaving = sorted(voters - set(now.witnesses))
            if step in ("remove", "demote", "replace") and len(leaving) > 1:
                name = self._chance.choice(leaving)
                voters.discard(name)
                if step == "demote":
                    learners.add(name)
        witnesses = tuple(sorted(set(now.witnesses) & voters))
        return Configuration(tuple(sorted(voters)), (), tuple(sorted(learners)), (), witnesses)

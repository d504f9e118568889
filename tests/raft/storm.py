"""A storm: a hand-driven network in which everything that may happen does, by the dice of one seed.

Messages are lost, repeated, delayed and overtaken; nodes crash, also while their disk works, with any part of the write
done; links are cut one way; time jumps; clients propose, read, change the members, hand over leadership; hosts take
snapshots and carry them. After each step all invariants hold, and a read that is answered covers everything that was
committed when it was asked.
"""

from __future__ import annotations

from random import Random
from typing import Any

from onerack.config import RaftConfig
from onerack.raft.messages import (
    Change,
    Configuration,
    Propose,
    Read,
    ReadReady,
    SnapshotArrived,
    SnapshotMark,
    SnapshotSent,
    SnapshotTaken,
    Transfer,
)
from onerack.runtime.seam import Envelope, Output, Tick
from tests.raft.network import CONFIG, Network


class Storm:
    """One run."""

    def __init__(
        self, seed: int, *, size: int = 3, spare: int = 2, config: RaftConfig = CONFIG, calm: float = 0.0
    ) -> None:
        self.dice = Random(seed)
        self.calm = calm
        """The share of misfortunes that are spared."""
        witnesses = ("n3",) if size == 3 and self.dice.random() < 0.3 else ()
        names = tuple(f"n{number}" for number in range(1, size + 1))
        first = Configuration(voters=names, witnesses=witnesses)
        self.network = Network(configuration=first, config=config, seed=seed)
        self.names = [*names, *(f"n{size + number}" for number in range(1, spare + 1))]
        for name in self.names[size:]:
            self.network.start(name)
        self.working: dict[str, Output] = {}
        """Nodes whose disk works."""
        self.sleepy: set[str] = set()
        """Nodes whose timers do not go: they hear and answer, and never notice that it is late."""
        self.siege = 0
        """For so many turns a leader stays cut off, and nothing else befalls the others: they elect another."""
        self.reads: dict[tuple[str, int], int] = {}
        self.answered = 0
        self.carried: list[tuple[str, str, int, SnapshotMark]] = []

    def run(self, turns: int) -> None:
        for _ in range(turns):
            self.turn()

    def calm_down(self) -> None:
        """All is well again; within a few seconds there must be a leader, and what it proposes is committed."""
        network = self.network
        for name in sorted(self.working):
            self._finish(name)
        for name in sorted(network.crashed):
            self._restart(name)
        network.heal()
        self.sleepy.clear()
        for sender, to, term, mark in self.carried:
            self._carry(sender, to, term, mark, True)
            network.drain(sender)
        for _ in range(60):
            network.settle()
            network.pass_time(0.5)
            network.carry_snapshots()
        leader = network.wait_for_leader()
        answer = network.propose(leader, b"last")
        network.settle()
        network.pass_time(1.0)
        for name in network[leader].configuration.members:
            assert network[name].commit >= answer.index, (name, network[name].commit, answer)

    # ------------------------------------------------------------------------------------------------- one turn

    def turn(self) -> None:
        dice, network = self.dice, self.network
        kind = dice.random()
        if kind < 0.60:
            self._deliver()
        elif kind < 0.80:
            self._pass_time()
        elif kind < 0.94:
            self._ask()
        elif kind < 0.96:
            self._snapshot()
        elif not self.siege and dice.random() >= self.calm:
            self._misfortune()
        self.siege = max(0, self.siege - 1)
        for name in sorted(self.working):
            if dice.random() < 0.5:
                self._finish(name)
        for name in network.alive:
            if name not in self.working and dice.random() < 0.8:
                self._begin(name)

    def _begin(self, name: str) -> None:
        output = self.network.begin_drain(name)
        self.working[name] = output
        if not output.writes or self.dice.random() < 0.5:
            self._finish(name)

    def _finish(self, name: str) -> None:
        self.network.finish(name, self.working.pop(name))
        node = self.network.nodes[name]
        for answer in node.answers:
            asked = self.reads.pop((name, answer.number), None)
            if asked is not None and isinstance(answer, ReadReady):
                assert answer.index >= asked, f"{name} would answer a read at {answer.index}; {asked} was committed"
                self.answered += 1
        node.answers.clear()

    def _feed(self, name: str, message: Any, sender: str = "") -> None:
        if name not in self.network.crashed:
            self.network.feed(name, message, sender)

    def _deliver(self) -> None:
        flying, dice = self.network.flying, self.dice
        for _ in range(min(len(flying), dice.randrange(1, 8))):
            place = 0 if dice.random() < 0.7 else dice.randrange(len(flying))
            sender, envelope = flying[place]
            fate = dice.random() + self.calm / 10
            if fate > 0.05:
                del flying[place]
            if fate > 0.10:
                self._arrive(sender, envelope)

    def _arrive(self, sender: str, envelope: Envelope) -> None:
        if envelope.to in self.network.nodes and (sender, envelope.to) not in self.network.cut:
            self._feed(envelope.to, envelope.message, sender)

    def _pass_time(self) -> None:
        network, dice = self.network, self.dice
        network.now += dice.choice([0.01, 0.1, 0.1, 0.3, 0.6])
        for name in network.alive:
            wake_at = network.nodes[name].wake_at
            if (wake_at is not None and wake_at <= network.now and dice.random() < 0.8) or dice.random() < 0.02:
                self._feed(name, Tick())

    def _ask(self) -> None:
        network, dice = self.network, self.dice
        network._number += 1
        number = network._number
        name = dice.choice(network.leaders() or network.alive) if dice.random() < 0.7 else dice.choice(self.names)
        if name in network.crashed:
            return
        kind = dice.random()
        if kind < 0.5:
            self._feed(name, Propose(number, b"%d" % number * dice.randrange(1, 9)))
        elif kind < 0.8:
            self.reads[name, number] = network.watch.history.last_committed
            self._feed(name, Read(number))
        elif kind < 0.9:
            self._feed(name, Transfer(number, dice.choice(self.names)))
        else:
            self._feed(name, Change(number, self._any_configuration(network[name].configuration)))

    def _any_configuration(self, current: Configuration) -> Configuration:
        """Somebody is added as learner, promoted, demoted, or removed. Witnesses stay what they are."""
        voters, learners = set(current.voters), set(current.learners)
        name = self.dice.choice([name for name in self.names if name not in current.witnesses])
        if name in learners and self.dice.random() < 0.7:
            learners.remove(name)
            voters.add(name)
        elif name in voters and len(voters) > 2:
            voters.remove(name)
            if self.dice.random() < 0.5:
                learners.add(name)
        elif name not in voters:
            (voters if self.dice.random() < 0.2 else learners).add(name)
            learners -= voters
        witnesses = tuple(sorted(set(current.witnesses) & voters))
        return Configuration(tuple(sorted(voters)), learners=tuple(sorted(learners)), witnesses=witnesses)

    # ------------------------------------------------------------------------------------- snapshots, misfortunes

    def _snapshot(self) -> None:
        network, dice = self.network, self.dice
        name = dice.choice(self.names)
        if name in network.crashed:
            return
        node = network.nodes[name]
        if dice.random() < 0.5:
            self._feed(name, SnapshotTaken(node.core.applied, dice.choice([0, 0, 2, 10])))
            if node.core.mark.index > node.mark.index:
                node.mark = node.core.mark
                node.entries = [entry for entry in node.entries if entry.index >= node.core.first_index]
        wanted, node.snapshots_wanted = node.snapshots_wanted, []
        self.carried += [(name, request.to, request.term, node.mark) for request in wanted if node.mark.index]
        for place in range(len(self.carried) - 1, -1, -1):
            if dice.random() < 0.5:
                sender, to, term, mark = self.carried[place]
                done = (sender, to) not in network.cut and to not in network.crashed and dice.random() < 0.8
                if dice.random() < 0.8:
                    del self.carried[place]
                self._carry(sender, to, term, mark, done)

    def _carry(self, sender: str, to: str, term: int, mark: SnapshotMark, done: bool) -> None:
        if done:
            self._feed(to, SnapshotArrived(term, mark), sender)
            # "Done" means restored, so the host waits for the Output in which that is said.
            if to in self.working:
                self._finish(to)
            self.network.drain(to)
            done = self.network[to].commit >= mark.index
        self._feed(sender, SnapshotSent(to, mark.index, done))

    def _misfortune(self) -> None:
        network, dice = self.network, self.dice
        kind = dice.random()
        leaders = network.leaders()
        if kind < 0.2 and len(network.crashed) < (len(self.names) - 1) // 4:
            self._crash(dice.choice(leaders or network.alive) if dice.random() < 0.5 else dice.choice(network.alive))
        elif kind < 0.5 and network.crashed:
            self._restart(dice.choice(sorted(network.crashed)))
        elif kind < 0.7 and leaders:
            # It goes on for a while, and does not know that it leads nobody any more.
            network.heal()
            leader = dice.choice(leaders)
            network.isolate(leader, *dice.sample(self.names, dice.randrange(2)))
            self.sleepy = {leader}
            self.siege = dice.choice([20, 120])
        elif kind < 0.8:
            network.heal()
            one, other = dice.sample(self.names, 2)
            network.cut.add((one, other))
            if dice.random() < 0.5:
                network.cut.add((other, one))
        else:
            network.heal()
            self.sleepy.clear()

    def _crash(self, name: str) -> None:
        output = self.working.pop(name, None)
        if output is not None:
            # Any part of what was being written is there, in order.
            self.network.nodes[name].write(output.writes[: self.dice.randrange(len(output.writes) + 1)])
        self.network.crashed.add(name)

    def _restart(self, name: str) -> None:
        self.network.restart(name)
        self.reads = {key: value for key, value in self.reads.items() if key[0] != name}

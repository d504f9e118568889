"""A tiny network of raft cores, driven by hand: the tests say when time passes, who is cut off, and who crashes.

The idea: each node has a disk that is just the list of what was written, a state machine that is just the list of what
was applied, and its core. `settle` delivers until nobody has anything to say; `pass_time` lets the timers go. Messages
to a node that is cut off or has crashed are lost. A test that needs the order of single messages holds them back with
`hold`, and delivers what it likes.

The rule: nothing here knows the protocol: the writes of an Output are durable before its sends leave, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from onerack.config import RaftConfig
from onerack.raft.core import RaftCore
from onerack.raft.invariants import Watch
from onerack.raft.messages import (
    Change,
    Committed,
    Configuration,
    Entry,
    HardState,
    LogReset,
    Propose,
    Proposed,
    Read,
    ReadReady,
    Recovered,
    Refused,
    Restore,
    SendSnapshot,
    SnapshotArrived,
    SnapshotMark,
    SnapshotSent,
    SnapshotTaken,
    Synced,
    Transfer,
)
from onerack.runtime.seam import Envelope, Event, Output, Tick

CONFIG = RaftConfig(heartbeat_interval_s=0.1, election_timeout_s=1.0, commit_notice_s=0)
"""Round numbers, so that tests can be read."""


def drained(core: RaftCore) -> Output:
    """What a drain gives; and if it gives anything, the core has said before that it would."""
    has_work = core.has_work
    output = core.drain()
    assert has_work or not (output.sends or output.early or output.writes or output.applied or output.events)
    return output


class Node:
    """One node: core, disk, and state machine."""

    def __init__(self, name: str, recovered: Recovered, config: RaftConfig, seed: int, now: float) -> None:
        self.name = name
        self.seed = seed
        self.config = config
        self.hard_state = recovered.hard_state
        self.mark = recovered.mark
        self.entries: list[Entry] = list(recovered.entries)
        """The log on the disk."""
        self.applied: list[Entry] = []
        """Everything that was handed out in this run."""
        self.restored: list[SnapshotMark] = []
        self.answers: list[Any] = []
        """Proposed, Refused, ReadReady."""
        self.snapshots_wanted: list[SendSnapshot] = []
        self.events: list[Event] = []
        self.wake_at: float | None = None
        self.core = RaftCore(name, recovered, config, Random(f"{seed}/{name}"), now)

    def write(self, records: Iterable[Any]) -> None:
        for record in records:
            if isinstance(record, HardState):
                self.hard_state = record
            elif isinstance(record, LogReset):
                self.entries, self.mark = [], record.mark
            else:
                self.entries = [entry for entry in self.entries if entry.index < record.index]
                assert not self.entries or self.entries[-1].index == record.index - 1, "the log would have a gap"
                self.entries.append(record)

    def apply(self, decision: Any) -> None:
        if isinstance(decision, Committed):
            self.applied += decision.entries
        elif isinstance(decision, Restore):
            self.restored.append(decision.mark)
        elif isinstance(decision, SendSnapshot):
            self.snapshots_wanted.append(decision)
        else:
            assert isinstance(decision, Proposed | Refused | ReadReady)
            self.answers.append(decision)

    def recovered(self) -> Recovered:
        """What a restart finds."""
        return Recovered(self.hard_state, self.mark, tuple(self.entries))

    @property
    def commands(self) -> list[bytes]:
        return [entry.payload for entry in self.applied if entry.kind == 0]


class Network:
    """Nodes n1, n2 ... with one configuration; more can be added."""

    def __init__(
        self,
        size: int = 3,
        *,
        configuration: Configuration | None = None,
        config: RaftConfig = CONFIG,
        seed: int = 1,
        recovered: dict[str, Recovered] | None = None,
    ) -> None:
        names = tuple(f"n{number}" for number in range(1, size + 1))
        self.configuration = configuration or Configuration(voters=names)
        self.config = config
        self.seed = seed
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.crashed: set[str] = set()
        self.cut: set[tuple[str, str]] = set()
        """(from, to): what is sent there is lost."""
        self.held: Callable[[str, Envelope], bool] = lambda sender, envelope: False
        self.kept: list[tuple[str, Envelope]] = []
        """What was held back."""
        self.sent: list[tuple[str, Envelope]] = []
        """Everything that has left a node, for tests that count."""
        self.flying: list[tuple[str, Envelope]] = []
        self.watch = Watch()
        """Every invariant, after every step."""
        self._number = 0
        for name in self.configuration.members:
            first = Recovered(mark=SnapshotMark(configuration=self.configuration))
            self.start(name, (recovered or {}).get(name, first))

    # --------------------------------------------------------------------------------------------------- nodes

    def __getitem__(self, name: str) -> RaftCore:
        return self.nodes[name].core

    def start(self, name: str, recovered: Recovered | None = None) -> None:
        self._number += 1
        self.nodes[name] = Node(name, recovered or Recovered(), self.config, self.seed + self._number, self.now)
        self.crashed.discard(name)
        self.watch.restarted(self[name])
        self.drain(name)

    def crash(self, name: str) -> None:
        self.crashed.add(name)
        self.flying = [(sender, envelope) for sender, envelope in self.flying if sender != name]

    def restart(self, name: str) -> None:
        """From what its disk has."""
        self.start(name, self.nodes[name].recovered())

    @property
    def alive(self) -> list[str]:
        return [name for name in sorted(self.nodes) if name not in self.crashed]

    # ----------------------------------------------------------------------------------------- messages and time

    def step(self, name: str, message: Any, sender: str = "") -> None:
        """One message, and everything that follows from it on that node."""
        self.feed(name, message, sender)
        self.drain(name)

    def feed(self, name: str, message: Any, sender: str = "") -> None:
        """One message; what follows from it waits for the next drain."""
        core = self.nodes[name].core
        core.step(message, sender or name, self.now)
        self.watch.look(core)

    def drain(self, name: str) -> None:
        """Until there is nothing to write any more: a sync may commit, which moves others."""
        while self.finish(name, self.begin_drain(name)):
            pass

    def begin_drain(self, name: str) -> Output:
        """The disk begins to work; what may leave early does."""
        output = drained(self.nodes[name].core)
        self.watch.look(self.nodes[name].core)
        self._leave(name, output.early)
        return output

    def finish(self, name: str, output: Output) -> bool:
        """The disk is done; True when there was something to write."""
        node = self.nodes[name]
        node.write(output.writes)
        if output.writes:
            self.feed(name, Synced())
        self._leave(name, output.sends)
        self.watch.handed_out(name, output.applied)
        for decision in output.applied:
            node.apply(decision)
        node.events += output.events
        node.wake_at = output.wake_at
        return bool(output.writes)

    def _leave(self, name: str, envelopes: list[Envelope]) -> None:
        self.watch.sent(name, envelopes)
        for envelope in envelopes:
            self.sent.append((name, envelope))
            (self.kept if self.held(name, envelope) else self.flying).append((name, envelope))

    def deliver(self, sender: str, envelope: Envelope) -> None:
        if envelope.to in self.nodes and envelope.to not in self.crashed and (sender, envelope.to) not in self.cut:
            self.step(envelope.to, envelope.message, sender)

    def settle(self) -> None:
        """Delivers until there is silence."""
        while self.flying:
            self.deliver(*self.flying.pop(0))

    def release(self) -> None:
        """Delivers what was held back, and everything that follows."""
        self.held = lambda sender, envelope: False
        self.flying, self.kept = self.kept + self.flying, []
        self.settle()

    def tick(self, name: str) -> None:
        self.step(name, Tick())

    def pass_time(self, seconds: float) -> None:
        """Lets every timer go when it is due, and settles each time."""
        end = self.now + seconds
        while True:
            due = [(node.wake_at, name) for name, node in sorted(self.nodes.items()) if node.wake_at is not None]
            due = [each for each in due if each[1] not in self.crashed and each[0] <= end]
            if not due:
                break
            wake_at, name = min(due)
            self.now = max(self.now, wake_at)
            self.tick(name)
            self.settle()
        self.now = end

    # ---------------------------------------------------------------------------------------------- cut and heal

    def isolate(self, *names: str) -> None:
        """Cuts these off from everybody else, not from each other."""
        for one in names:
            for other in self.nodes:
                if other not in names:
                    self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cut.clear()

    # --------------------------------------------------------------------------------------------------- clients

    def elect(self, name: str) -> RaftCore:
        """Makes `name` the leader by its own timer, before anybody else's."""
        core = self[name]
        for _ in range(20):
            if core.role == "leader":
                return core
            others = [each for each in self.alive if each != name and (each, name) not in self.cut]
            self.now = max([self.now, self.nodes[name].wake_at or 0.0, self.now + self.config.election_timeout_s])
            assert others or core.configuration.members == (name,)
            self.tick(name)
            self.settle()
        raise AssertionError(f"{name} was not elected")

    def leaders(self) -> list[str]:
        return [name for name in self.alive if self[name].role == "leader"]

    def wait_for_leader(self) -> str:
        """Lets time pass until there is one, and no other of its term."""
        for _ in range(200):
            newest = max(self[name].term for name in self.alive)
            found = [name for name in self.leaders() if self[name].term == newest and self._reaches_quorum(name)]
            if found:
                assert len(found) == 1
                return found[0]
            self.pass_time(self.config.heartbeat_interval_s)
        raise AssertionError("nobody was elected")

    def _reaches_quorum(self, name: str) -> bool:
        reached = [other for other in self.alive if (name, other) not in self.cut and (other, name) not in self.cut]
        voters = self[name].configuration.voters
        return 2 * len(set(reached) & set(voters)) > len(voters)

    def propose(self, name: str, payload: bytes = b"x") -> Any:
        return self.ask(name, lambda number: Propose(number, payload))

    def read(self, name: str) -> int:
        """The number of the read; its answer may come later."""
        self._number += 1
        self.step(name, Read(self._number))
        return self._number

    def change(self, name: str, wanted: Configuration) -> Any:
        return self.ask(name, lambda number: Change(number, wanted))

    def transfer(self, name: str, to: str) -> Any:
        return self.ask(name, lambda number: Transfer(number, to))

    def ask(self, name: str, question: Callable[[int], Any]) -> Any:
        """Asks and gives the answer, which comes at once; nothing has been delivered then."""
        self._number += 1
        self.step(name, question(self._number))
        answer = self.answer(name, self._number)
        assert answer is not None
        return answer

    def answer(self, name: str, number: int) -> Any:
        found = [answer for answer in self.nodes[name].answers if answer.number == number]
        assert len(found) <= 1
        return found[0] if found else None

    # -------------------------------------------------------------------------------------------------- snapshots

    def take_snapshot(self, name: str, keep: int = 0) -> None:
        """Of everything that is applied."""
        node = self.nodes[name]
        node.core.step(SnapshotTaken(node.core.applied, keep), name, self.now)
        node.mark = node.core.mark
        node.entries = [entry for entry in node.entries if entry.index >= node.core.first_index]
        self.drain(name)

    def carry_snapshots(self) -> None:
        """Does for every node what its host would do for those that need a snapshot."""
        for name in self.alive:
            node = self.nodes[name]
            wanted, node.snapshots_wanted = node.snapshots_wanted, []
            for request in wanted:
                done = request.to in self.alive and (name, request.to) not in self.cut
                if done:
                    self.step(request.to, SnapshotArrived(request.term, node.mark), name)
                self.step(name, SnapshotSent(request.to, node.mark.index, done))
        self.settle()

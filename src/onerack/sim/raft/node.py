"""A simulated node: the production core under a host that keeps the contract, on a storage that may fail.

The idea: this is the host's contract (runtime/seam.py, raft/messages.py), spelled out where every step of it can be
interrupted. Messages are stepped as they come; one Output is in flight; `early` leaves at once, while the disk works;
what was written is durable before `sends` leave, entries are applied, and the core hears `Synced`.

The rule: a crash takes the core, the machine, what waits and what is not durable; it leaves the storage. Nothing that
an earlier life has planned ever happens in a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from onerack.raft.core import RaftCore
from onerack.raft.core.membership import decode_configuration
from onerack.raft.messages import (
    Change,
    Committed,
    Configuration,
    Entry,
    Kind,
    Propose,
    Proposed,
    Read,
    ReadReady,
    Refused,
    Restore,
    SendSnapshot,
    SnapshotMark,
    SnapshotTaken,
    Synced,
    Transfer,
)
from onerack.runtime.seam import Envelope, Output, Tick
from onerack.sim.raft.clock import NEVER, Clock
from onerack.sim.raft.disk import Storage, SyncFailed
from onerack.sim.raft.kit import Boot, Kit
from onerack.sim.raft.machine import Command, Replicated, encode_command
from onerack.sim.raft.options import Options
from onerack.sim.raft.requests import Reply, Request, SnapshotDone, SnapshotPiece
from onerack.sim.raft.streams import Arrivals, Departures
from onerack.sim.world import World


class Surroundings(Protocol):
    """What a node finds around it."""

    world: World
    options: Options
    kit: Kit

    def send(self, sender: str, to: str, message: Any) -> None: ...
    def booted(self, node: SimNode) -> None: ...
    def stepped(self, node: SimNode, message: Any, sender: str) -> None: ...
    def drained(self, node: SimNode, output: Output) -> None: ...
    def leaving(self, node: SimNode, envelope: Envelope) -> None: ...
    def decided(self, node: SimNode, decisions: Sequence[Any]) -> None: ...
    def applying(self, node: SimNode, entry: Entry) -> None: ...
    def snapshotted(self, node: SimNode, mark: SnapshotMark) -> None: ...
    def restored(self, node: SimNode, mark: SnapshotMark) -> None: ...
    def lets_die(self, node: SimNode, point: str) -> bool: ...
    def draw_sync_s(self, node: SimNode) -> float: ...
    def draw_prefix(self, size: int) -> int: ...
    def died(self, node: SimNode, why: str) -> None: ...


class SimNode:
    def __init__(self, around: Surroundings, name: str, storage: Storage, clock: Clock) -> None:
        self.around = around
        self.name = name
        self.storage = storage
        self.clock = clock
        self.life = 0
        """Which one this is; 0: it has never lived."""
        self.alive = False
        self.core: RaftCore
        self.machine: Replicated = around.kit.machine()
        self.applied = self.applied_term = 0
        self.applied_configuration = Configuration()
        """As of the last applied entry; a snapshot of the machine is a snapshot of this, too."""
        self.alarm_works = True
        """False: only a script says when the timer rings."""
        self.arrivals = Arrivals(self)
        self.departures = Departures(self)
        self._paused_until_ns = 0
        self._held: list[tuple[Any, str]] = []
        self._listeners: dict[type, Callable[[Any, str], None]] = {
            Request: self._on_request,
            SnapshotPiece: self.arrivals.on_piece,
            SnapshotDone: self.departures.on_done,
        }
        """Whoever hears what is not for the core."""
        self._reset()

    def _reset(self) -> None:
        self._busy = False
        self._turn_planned = False
        self._wake_at: float | None = None
        self._alarm_ns = NEVER
        self._number = 0
        self._asked: dict[int, Request] = {}
        """Requests by the number of their Propose or Read."""
        self._placed: dict[int, tuple[int, int]] = {}
        """Index -> term and number of what was proposed here."""
        self._reads: list[tuple[int, int]] = []
        """Index and number of reads that wait for it to be applied."""
        self._taking_snapshot = False
        self._held.clear()
        self._paused_until_ns = 0
        self.looked_at: tuple[Any, ...] | None = None
        """What the core looked like when it was last checked."""

    # ------------------------------------------------------------------------------------------------ life and death

    def start(self) -> None:
        assert not self.alive
        self.life += 1
        self.alive = True
        self._reset()
        recovered = self.storage.recover()
        self.machine = self.around.kit.machine()
        self._load_snapshot(recovered.mark)
        boot = Boot(self.name, self.life, recovered, self.around.options.config, self.clock.now)
        self.core = self.around.kit.boot(boot)
        self.around.booted(self)
        self.step(Tick(), self.name)
        self._turn()

    def die(self, why: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self._held.clear()
        self.arrivals.forget_all()
        self.departures.forget_all()
        self.storage.crash()
        self.around.died(self, why)

    def pause(self, until_ns: int) -> None:
        """The process stands still; what arrives waits. When it goes on, its alarm rings first."""
        self._paused_until_ns = max(self._paused_until_ns, until_ns)
        self.later_at(self._paused_until_ns, self._go_on)

    @property
    def is_paused(self) -> bool:
        return self.around.world.now_ns < self._paused_until_ns

    def _go_on(self) -> None:
        if self.is_paused:
            return
        self._ring(self._alarm_ns)
        held, self._held = self._held, []
        for message, sender in held:
            self.receive(message, sender)

    def later(self, seconds: float, action: Any, *arguments: Any) -> None:
        """Plans something that this life does; it waits for the end of a pause."""
        self.around.world.after(seconds, self._if_alive, self.life, action, arguments)

    def later_at(self, moment_ns: int, action: Any, *arguments: Any) -> None:
        self.around.world.at(moment_ns, self._if_alive, self.life, action, arguments)

    def _if_alive(self, life: int, action: Any, arguments: tuple[Any, ...]) -> None:
        if not self.alive or self.life != life:
            return
        if self.is_paused:
            self.later_at(self._paused_until_ns, action, *arguments)
        else:
            action(*arguments)

    # ------------------------------------------------------------------------------------------------ the host's turn

    def receive(self, message: Any, sender: str) -> None:
        if not self.alive:
            return
        if self.is_paused:
            self._held.append((message, sender))
        else:
            hear = self._listeners.get(type(message), self.tell_core)
            hear(message, sender)

    def tell_core(self, message: Any, sender: str | None = None) -> None:
        """Steps a message, and sees to it that what follows is carried out."""
        self.step(message, sender or self.name)
        if not self._busy and self.alive:
            if not self.around.options.turn_s:
                self._turn()
            elif not self._turn_planned:
                self._turn_planned = True
                self.later(self.around.options.turn_s, self._turn)

    def step(self, message: Any, sender: str) -> None:
        self.core.step(message, sender, self.clock.now)
        self.around.stepped(self, message, sender)

    def _turn(self) -> None:
        self._turn_planned = False
        if self._busy or not self.alive:
            return
        output = self.core.drain()
        self.around.drained(self, output)
        self._arm(output.wake_at)
        if output.early and not self._send_all(output.early, "early"):
            return
        if not output.writes:
            self._finish(output)
            return
        self._busy = True
        try:
            self.around.kit.append(self.storage, output.writes)
        except SyncFailed:
            self.die("fsync failed")
            return
        if self.around.lets_die(self, "written"):
            self.die("crash point: written, not durable")
            return
        if self.around.kit.sends_before_sync:
            self._finish(output)
            output = Output()
        if self.around.kit.synced_before_sync:
            self.step(Synced(), self.name)
        self.later(self.around.draw_sync_s(self), self._sync, output)

    def _sync(self, output: Output) -> None:
        try:
            self.storage.sync()
        except SyncFailed:
            if not self.around.kit.ignores_sync_failure:
                self.die("fsync failed")
                return
        if self.around.lets_die(self, "durable"):
            self.die("crash point: durable, nothing sent")
            return
        if not self.around.kit.synced_before_sync:
            self.step(Synced(), self.name)
        self._busy = False
        self._finish(output)
        if self.alive:
            self._turn()

    def _finish(self, output: Output) -> None:
        """Sends, then what was decided."""
        if output.sends and not self._send_all(output.sends, "sends"):
            return
        if output.applied:
            self.around.decided(self, output.applied)
            for decision in output.applied:
                self._carry_out(decision)
            self._answer_reads()

    def _send_all(self, envelopes: list[Envelope], point: str) -> bool:
        """False if the node died on the way."""
        dies = self.around.lets_die(self, point)
        if dies:
            envelopes = envelopes[: self.around.draw_prefix(len(envelopes))]
        for envelope in envelopes:
            self.around.leaving(self, envelope)
            self.around.send(self.name, envelope.to, envelope.message)
        if dies:
            self.die(f"crash point: {point} half sent")
        return not dies

    def _arm(self, wake_at: float | None) -> None:
        if wake_at != self._wake_at or self._alarm_ns <= self.around.world.now_ns:
            self._wake_at = wake_at
            self.rearm()

    def rearm(self) -> None:
        """Also after the clock was touched."""
        if not self.alarm_works:
            return
        moment = NEVER if self._wake_at is None or not self.alive else self.clock.moment_ns(self._wake_at)
        if moment < self._alarm_ns or self._alarm_ns <= self.around.world.now_ns:
            self._alarm_ns = moment
            if moment != NEVER:
                self.later_at(moment, self._ring, moment)

    def _ring(self, moment_ns: int) -> None:
        if moment_ns != self._alarm_ns:
            return
        self._alarm_ns = NEVER
        if self._wake_at is None:
            return
        if self.clock.now >= self._wake_at:
            self._wake_at = None
            self.tell_core(Tick())
        else:
            self.rearm()

    # ------------------------------------------------------------------------------------------------ decisions

    def _carry_out(self, decision: Any) -> None:
        match decision:
            case Committed(entries):
                for entry in entries:
                    self._apply(entry)
                self._consider_snapshot()
            case Proposed(number, term, index):
                if self.around.kit.replies_when_proposed:
                    self._answer(number, "done")
                if number in self._asked:
                    self._placed[index] = (term, number)
            case Refused(number, cause, leader):
                self._answer(number, "refused", cause, leader)
            case ReadReady(number, index):
                self._reads.append((index, number))
            case SendSnapshot(to, term):
                self.departures.begin(to, term)
            case Restore(mark):
                self._load_snapshot(mark)
                self.around.restored(self, mark)
            case _:
                raise AssertionError(f"a decision that no host knows: {decision}")

    def _apply(self, entry: Entry) -> None:
        self.around.applying(self, entry)
        assert entry.index == self.applied + 1, f"entry {entry.index} is applied after {self.applied}"
        self.applied, self.applied_term = entry.index, entry.term
        result = None
        if entry.kind == Kind.CONFIGURATION:
            self.applied_configuration = decode_configuration(entry.payload)
        if entry.kind == Kind.COMMANDS and entry.payload:
            result = self.machine.apply(entry.payload)
        placed = self._placed.pop(entry.index, None)
        if placed is not None:
            term, number = placed
            # Another term's entry at this place: ours is lost, and whoever asked may ask again.
            self._answer(number, *(("done", result) if term == entry.term else ("refused", "lost")))

    def _load_snapshot(self, mark: SnapshotMark) -> None:
        if mark.index:
            # There may be a newer one: it came while the disk was busy with what led to this.
            self.machine.restore(self.storage.read_snapshot(mark))
        self.applied, self.applied_term = mark.index, mark.term
        self.applied_configuration = mark.configuration
        for index in [index for index in self._placed if index <= mark.index]:
            self._asked.pop(self._placed.pop(index)[1], None)

    def _consider_snapshot(self) -> None:
        options = self.around.options
        if self._taking_snapshot or self.name in self.core.configuration.witnesses:
            return
        if self.applied - self.storage.durable.mark.index < options.snapshot_after:
            return
        self._taking_snapshot = True
        # The machine is read now, and written to the disk while it goes on.
        applied = SnapshotMark(self.applied, self.applied_term, self.applied_configuration)
        mark = self.around.kit.mark_of(applied, self.core)
        self.later(options.snapshot_s, self._snapshot_written, mark, self.machine.snapshot())
        if self.around.kit.cuts_before_snapshot:
            self.storage.cut_before(mark.index + 1)

    def _snapshot_written(self, mark: SnapshotMark, content: bytes) -> None:
        self._taking_snapshot = False
        newest = self.storage.newest_snapshot()
        if newest is not None and newest[0].index >= mark.index:
            return  # a newer one has arrived meanwhile
        try:
            self.storage.keep_snapshot(mark, content)
        except SyncFailed:
            self.die("fsync of a snapshot failed")
            return
        self.around.snapshotted(self, mark)
        if self.around.lets_die(self, "snapshot"):
            self.die("crash point: snapshot durable, the log is not cut")
            return
        keep = self.around.options.keep
        self.tell_core(SnapshotTaken(mark.index, keep))
        if self.alive:
            self.storage.cut_before(mark.index - keep + 1)
            self.storage.delete_snapshots_before(mark.index)

    # ------------------------------------------------------------------------------------------------ clients

    def _on_request(self, request: Request, sender: str) -> None:
        self._number += 1
        self._asked[self._number] = request
        if request.kind == "read":
            self.tell_core(Read(self._number))
        else:
            command = Command(request.session, request.number, request.kind, request.key, request.argument)
            self.tell_core(Propose(self._number, encode_command(command)))

    def ask(self, wish: Configuration | str) -> None:
        """An operator wants this configuration, or that node as leader; nobody waits for the answer."""
        if self.alive and not self.is_paused:
            self._number += 1
            self.tell_core(Transfer(self._number, wish) if isinstance(wish, str) else Change(self._number, wish))

    def _answer_reads(self) -> None:
        if not self._reads:
            return
        ready = [number for index, number in self._reads if index <= self.applied]
        self._reads = [(index, number) for index, number in self._reads if index > self.applied]
        for number in ready:
            request = self._asked.get(number)
            if request is not None:
                self._answer(number, "done", self.machine.read(request.key, request.argument))

    def _answer(self, number: int, status: str, result: Any = None, leader: str = "") -> None:
        request = self._asked.pop(number, None)
        if request is not None:
            reply = Reply(request.session, request.number, request.attempt, status, result, leader)
            self.around.send(self.name, request.client, reply)

    # ------------------------------------------------------------------------------------------------ for others

    @property
    def configuration(self) -> Configuration:
        return self.core.configuration

    @property
    def is_leader(self) -> bool:
        return self.alive and self.core.role == "leader"

"""Drive: turns of one raft core against disk, peers and clock.

    step whatever comes -> [one turn of the loop] -> gather -> drain -> early sends -> disk's thread -> the other sends
                                                                     -> applied, while the disk works

The idea: as the seam says, with one liberty that raft allows. What is committed has a majority on the disk already, so
it may be applied while this node's own disk works on what came after it: else every command would wait for two syncs.

A disk that syncs in less time than two threads need to take turns is written to right here: see DiskPace.

The rules: one Output is in flight, and meanwhile messages are stepped but nothing is drained; `sends` leave when the
writes are durable; a reset of the log is durable before the snapshot that it speaks of is put in place; a disk that
fails halts the node. A disk that is full is met long before the log has no room: from then on the host takes no more
entries, and what is left is for terms and votes. If nothing is left (the disk filled up while the next segment was
being made), the node waits for room as it would for a slow disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from onerack.errors import StorageFull
from onerack.raft.core import RaftCore
from onerack.raft.messages import Entry, LogReset, PeerMessage, Synced
from onerack.raft.server.disk_thread import DiskPace, DiskThread
from onerack.raft.storage import RaftLog
from onerack.rpc.alarm import Alarm
from onerack.runtime.seam import Envelope, NodeId, Output, Tick

_GRACE_S: Final = 0.001
"""Between the timer and its message, so that what the sockets hold is stepped first."""
_ROOM_S: Final = 0.5
"""Between two tries to write for what there was no room at all."""

log = logging.getLogger(__name__)


class Drive:
    """Of one node. Everything is called in the thread of the event loop."""

    def __init__(
        self,
        core: RaftCore,
        storage: RaftLog,
        *,
        gather: Callable[[float], None],
        send: Callable[[NodeId, list[PeerMessage]], None],
        decided: Callable[[Any], None],
        turned: Callable[[], None],
        halted: Callable[[BaseException], None],
        reserve_bytes: int,
    ) -> None:
        """`gather`: steps what has gathered, just before a drain. `decided`: one thing of `applied`. `turned`: that was
        all of it. `reserve_bytes`: so much of the log may still be written once the disk is full.
        """
        self.core = core
        self._storage = storage
        self._gather = gather
        self._send = send
        self._decided = decided
        self._turned = turned
        self._halted = halted
        self._reserve_bytes = reserve_bytes
        self._written_while_full = 0
        self._loop = asyncio.get_running_loop()
        self._disk = DiskThread(self._loop, f"raft disk {core.node}")
        self._alarm = Alarm(self._loop, self._tick)
        self._pace = DiskPace()
        self._is_turning = False
        self._is_inside = False
        """A turn is being made."""
        self._is_writing = False
        self._is_wanted = False
        """Something has come while the disk works."""
        self._is_over = False

    def step(self, message: Any, sender: NodeId = "") -> None:
        """From a peer, or (`sender` empty) from this node itself."""
        self._step((message,), sender or self.core.node)
        self.turn_soon()

    def step_all(self, messages: Sequence[Any], sender: NodeId) -> None:
        """What has come from a peer together. Somebody waits for what follows from it, if anything: so at once."""
        self._step(messages, sender)
        if self.core.has_work:
            self.turn_now()

    def _step(self, messages: Sequence[Any], sender: NodeId) -> None:
        if self._is_over:
            return
        step, now = self.core.step, self._loop.time()
        try:
            for message in messages:
                step(message, sender, now)
        except Exception as error:  # A rule that does not hold, or a step half done: neither can be gone on from.
            self._halt(error)

    def turn_soon(self) -> None:
        """Something is to be done: a turn follows in this round of the loop, or when the disk has done its work."""
        if self._is_writing:
            self._is_wanted = True
        elif not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def turn_now(self) -> None:
        """A turn right here, unless one is being made or the disk works; then as soon as that is over."""
        if self._is_inside or self._is_writing:
            self.turn_soon()
        else:
            self._turn()

    @property
    def has_room(self) -> bool:
        """Whether the log should grow."""
        return self._storage.full is None or self._written_while_full < self._reserve_bytes

    def try_disk_again(self) -> None:
        """If it is full: maybe there is room now."""
        if self._storage.full is None:
            self._written_while_full = 0
        elif not self._is_writing:
            self._storage.try_again()

    def stop(self) -> None:
        """Nothing is stepped, and nothing leaves any more."""
        self._is_over = True
        self._alarm.cancel()

    def close(self) -> None:
        """Returns when the disk has done what it was given. May be called in a thread, after `stop`."""
        self._is_over = True
        self._disk.close()

    # ------------------------------------------------------------------------------------------------ the turn

    def _turn(self) -> None:
        self._is_turning = False
        if self._is_writing or self._is_over:
            self._is_wanted = True  # `_written` has another turn made.
            return
        self._is_inside = True
        try:
            self._gather(self._loop.time())
            output = self.core.drain()
            if output.early:
                self._send_all(output.early)
            if not output.writes:
                self._finish(output)
                return
            self._is_writing = True
            if self._pace.is_fast:
                self._store_here(output)
                return
            self._disk.do(partial(self._store, output.writes), partial(self._written, output))
            if not any(type(write) is LogReset for write in output.writes):
                decisions, output.applied = output.applied, []
                self._decide(decisions)
        except Exception as error:  # A machine, or a rule that does not hold.
            self._halt(error)
        finally:
            self._is_inside = False

    def _store_here(self, output: Output) -> None:
        error: BaseException | None = None
        try:
            self._store(output.writes)
        except BaseException as raised:
            error = raised
        self._written(output, error)

    def _store(self, writes: Sequence[Any]) -> None:
        began_at = perf_counter()
        self._storage.append(writes)
        self._storage.sync()
        self._pace.took(perf_counter() - began_at)
        if self._storage.full is not None:
            self._written_while_full += sum(len(write.payload) for write in writes if type(write) is Entry)

    def _store_again(self, output: Output) -> None:
        if not self._is_over:
            self._disk.do(partial(self._store, output.writes), partial(self._written, output))

    def _written(self, output: Output, error: BaseException | None) -> None:
        if isinstance(error, StorageFull) and not self._is_over:
            # Nothing that depends on it has left, and to write again what was written in part is no harm.
            log.warning("%s waits for room: %s", self.core.node, error)
            self._loop.call_later(_ROOM_S, self._store_again, output)
            return
        self._is_writing = False
        if self._is_over:
            return
        if error is not None:
            self._halt(error)
            return
        try:
            self.core.step(Synced(), self.core.node, self._loop.time())
            self._finish(output)
        except Exception as raised:
            self._halt(raised)
        # A leader's own log may have been what a quorum lacked.
        if self._is_wanted or self.core.commit > self.core.applied:
            self._is_wanted = False
            self.turn_soon()

    def _finish(self, output: Output) -> None:
        if output.sends:
            self._send_all(output.sends)
        if output.applied:
            self._decide(output.applied)
        for event in output.events:
            log.info("%s %s", self.core.node, event)
        self._alarm.set(output.wake_at)
        self._turned()

    def _decide(self, decisions: Sequence[Any]) -> None:
        for decision in decisions:
            self._decided(decision)

    def _send_all(self, envelopes: Sequence[Envelope]) -> None:
        """All that one peer gets of one turn travels together."""
        by_peer: dict[NodeId, list[PeerMessage]] = {}
        for envelope in envelopes:
            by_peer.setdefault(envelope.to, []).append(envelope.message)
        for to, messages in by_peer.items():
            self._send(to, messages)

    def _tick(self) -> None:
        # A loop that was held up has timers run before it reads: whoever has spoken meanwhile must not seem silent.
        self._loop.call_later(_GRACE_S, self.step, Tick())

    def _halt(self, error: BaseException) -> None:
        if not self._is_over:
            self.stop()
            self._halted(error)

"""Watchers: clients who are told of changes, lose their connection, and go on somewhere else from where they were.

The idea: a connection keeps order and loses nothing, or ends. So a response that is not the next one of its stream ends
the stream, and so does silence, or mere chance; the next stream begins, at any node, behind the revision up to which
all has been told.

The rule: what one watch was told, over all its streams, is one record; if it is cut short by a compaction, the next
record begins where the store says that it may.
"""

from __future__ import annotations

import random
from typing import Any, Final

from onerack.kv import messages
from onerack.sim.checker.revisions import Watch
from onerack.sim.kv.node import AskProgress, Listen, Told
from onerack.sim.kv.wishes import item_of
from onerack.sim.raft.judge import require
from onerack.sim.world import NS

CONNECTED_MEAN_S: Final = 1.0
SILENCE_S: Final = 0.8
ALL: Final = ("a", "z")
RANGES: Final = (ALL, ("t0", "t9"), ("r0", ""), ("l0", ""))


class SimWatcher:
    def __init__(self, around: Any, name: str, chance: random.Random) -> None:
        self.name = name
        self.first, self.behind = chance.choice(RANGES)
        self.records: list[Watch] = []
        self._around = around
        self._chance = chance
        self._sessions = 0
        self._session = ""
        self._opened_ns = 0
        """When the present stream was opened; 0: it has not been heard yet."""
        self._expected = 0
        self._target = ""
        self._heard_ns = 0
        self._from_now = chance.random() < 0.5
        self._next = 0 if self._from_now else chance.choice([1, 1, 2, 15])
        """The first revision of which it has not been told; 0: not known yet."""
        self._start = self._next
        """Of the present record."""
        self._told: list[tuple[int, Any]] = []

    @property
    def reached(self) -> int:
        return self._next - 1

    def connect(self) -> None:
        """A new stream, at any node."""
        self._sessions += 1
        self._session, self._opened_ns, self._expected = f"{self.name}.{self._sessions}", 0, 0
        self._target = self._chance.choice(self._around.servers())
        self._heard_ns = self._around.world.now_ns
        self._around.send(self.name, self._target, Listen(self._session, self.first, self.behind, self._next))
        self._around.world.after(self._chance.expovariate(1.0 / CONNECTED_MEAN_S), self._end_of, self._session)
        self._around.world.after(SILENCE_S, self._look, self._session)

    def _end_of(self, session: str) -> None:
        """The connection is cut; when all is mended, it holds."""
        if session == self._session and not self._around.is_healed():
            self.connect()

    def _look(self, session: str) -> None:
        """Silence: whoever was asked is dead, or far behind."""
        if session != self._session:
            return
        world = self._around.world
        is_late = self._around.is_healed() and self.reached < self._around.newest_revision()
        if is_late or world.now_ns - self._heard_ns > SILENCE_S * NS:
            self.connect()
        else:
            self._around.send(self.name, self._target, AskProgress(session))
            world.after(SILENCE_S, self._look, session)

    # ------------------------------------------------------------------------------------------------ what it hears

    def hear(self, message: Told) -> None:
        if message.session != self._session or self._opened_ns not in (0, message.opened_ns):
            return
        self._opened_ns = message.opened_ns
        if message.number < self._expected:
            return
        if message.number > self._expected:
            self.connect()  # Something was lost: no connection has that.
            return
        self._expected += 1
        self._heard_ns = self._around.world.now_ns
        self._take(messages.WatchResponse.FromString(message.content))

    def _take(self, response: Any) -> None:
        revision = response.header.revision
        if response.created:
            require(not response.canceled, "watches_are_created", f"{self.name}: {response.cancel_reason}")
            if not self._next:
                self._next = self._start = revision + 1
        elif response.canceled:
            self._be_cut_short(response.compact_revision)
        else:
            self._note_events(response.events)
            self._told.append((revision, ()))
            self._next = max(self._next, revision + 1)

    def _note_events(self, events: Any) -> None:
        for event in events:
            kv = event.kv
            change = (kv.key.decode(), None if event.type == messages.Event.DELETE else item_of(kv))
            if self._told and self._told[-1][0] == kv.mod_revision and self._told[-1][1]:
                self._told[-1] = (kv.mod_revision, (*self._told[-1][1], change))
            else:
                self._told.append((kv.mod_revision, (change,)))

    def _be_cut_short(self, compacted: int) -> None:
        detail = f"{self.name} wants {self._next}, and is told that {compacted} is compacted"
        require(self._next < compacted, "only_the_compacted_is_refused", detail)
        self._close(whole=False)
        self._next = self._start = compacted
        self.connect()

    def close(self) -> None:
        """All should have been told by now."""
        self._close(whole=True)

    def _close(self, *, whole: bool) -> None:
        behind = self.behind or self.first + "\0"
        # In which order one revision's events come is not promised.
        told = tuple((revision, tuple(sorted(changes, key=_key_of))) for revision, changes in self._told)
        if self._start:
            self.records.append(Watch(self.first, behind, self._start, told, closed=whole))
        self._told = []


def _key_of(change: tuple[str, Any]) -> str:
    return change[0]

"""A simulated node whose state machine is the store: it has watchers, whom it tells after each turn.

The idea: the hub decides what is told to whom; here its responses are put on their way, numbered, as a connection would
keep them in order. Now and then a stream is held up, as one whose client does not read.

The rule: streams end with the life of the node; the other side notices by itself.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

from onerack.kv import messages
from onerack.raft.core import RaftCore
from onerack.runtime.seam import Output
from onerack.sim.kv.machine import SimKvMachine
from onerack.sim.raft.node import SimNode
from onerack.sim.seeds import stream

PROGRESS_S: Final = 0.3
HELD_UP_S: Final = 0.2


class Listen(msgspec.Struct, frozen=True):
    """Somebody watches [first, behind) from `start` on; 0: from now on."""

    session: str
    first: str
    behind: str
    start: int


class AskProgress(msgspec.Struct, frozen=True):
    session: str


class Told(msgspec.Struct, frozen=True):
    """One response of the hub, the `number`th of its stream.

    `opened_ns`: when the stream was opened; a request that comes twice opens two, of which a connection is one.
    """

    session: str
    opened_ns: int
    number: int
    content: bytes


class _Ear:
    """One stream."""

    def __init__(self, watcher: str, session: str, opened_ns: int) -> None:
        self.watcher = watcher
        self.session = session
        self.opened_ns = opened_ns
        self.told = 0


class KvNode(SimNode):
    machine: SimKvMachine
    core: RaftCore

    def __init__(self, around: Any, name: str, storage: Any, clock: Any) -> None:
        self._chance: random.Random = stream(around.seed, f"held up/{name}")
        super().__init__(around, name, storage, clock)
        self._listeners[Listen] = self._on_listen
        self._listeners[AskProgress] = self._on_ask_progress

    def _reset(self) -> None:
        super()._reset()
        self._ears: dict[int, _Ear] = {}
        self._streams = 0

    def start(self) -> None:
        super().start()
        self.later(PROGRESS_S, self._announce)

    # ------------------------------------------------------------------------------------------------ watchers

    def _on_listen(self, message: Listen, sender: str) -> None:
        self._streams += 1
        self._ears[self._streams] = _Ear(sender, message.session, self.around.world.now_ns)
        request = messages.WatchCreateRequest(
            key=message.first.encode(), range_end=message.behind.encode(), start_revision=message.start,
            progress_notify=True,
        )  # fmt: skip
        self.machine.hub.create(self._streams, "", request)
        self._tell()

    def _on_ask_progress(self, message: AskProgress, sender: str) -> None:
        for number, ear in self._ears.items():
            if ear.session == message.session:
                self.machine.hub.ask_progress(number)
        self._tell()

    def _announce(self) -> None:
        self.machine.hub.announce_progress()
        self._tell()
        self.later(PROGRESS_S, self._announce)

    def _finish(self, output: Output) -> None:
        super()._finish(output)
        if self.alive and output.applied:
            self._tell()

    def _tell(self) -> None:
        hub = self.machine.hub
        for number, response in hub.advance():
            ear = self._ears[number]
            self.around.send(self.name, ear.watcher, Told(ear.session, ear.opened_ns, ear.told, response))
            ear.told += 1
            if self._chance.random() < 0.1:
                hub.pause(number)
                self.later(HELD_UP_S, self._resume, number)
        if hub.busy:
            self.later(0.001, self._tell)

    def _resume(self, number: int) -> None:
        self.machine.hub.resume(number)
        self._tell()

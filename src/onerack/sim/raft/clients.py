"""Clients: they read and write a few keys, try again when they hear nothing, and write down what they saw.

The idea: a client does one thing at a time, under a session and a number; every attempt of it carries the same two, so
that the machine does it once. Who gives up leaves the operation open in the history, for it may still happen, and goes
on under another session.

The rule: values are unique over a whole run, so that a read tells which write it saw. Which checker fits a key is told
by its first letter: r registers (both checkers), c registers with compare-and-swap, l lists.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, Protocol

from onerack.sim.checker import History
from onerack.sim.raft.options import Options
from onerack.sim.raft.requests import Reply, Request
from onerack.sim.world import World

PATIENCE_S: Final = 0.4
"""Then the next attempt goes to another node."""


class Surroundings(Protocol):
    """What a client finds around it."""

    world: World
    options: Options
    history: History

    def send(self, sender: str, to: str, message: Any) -> None: ...
    def servers(self) -> Sequence[str]: ...
    def next_value(self) -> int: ...
    def is_healed(self) -> bool: ...


def keys_of(options: Options) -> list[str]:
    return ["r0", "c0", "l0", "r1"][: options.keys]


class SimClient:
    def __init__(self, around: Surroundings, name: str, chance: random.Random) -> None:
        self.around = around
        self.name = name
        self.left = around.options.operations
        self._chance = chance
        self._sessions = 0
        self._session = f"{name}.0"
        self._number = 0
        self._request: Request | None = None
        self._recorded = 0
        self._target = ""
        self._seen: dict[str, Any] = {}
        """What was last read of a key: the expectation of a compare-and-swap."""

    @property
    def is_busy(self) -> bool:
        return self._request is not None

    # ------------------------------------------------------------------------------------------------ the workload

    def go_on(self) -> None:
        """The next operation, or none if all are done."""
        if self._request is not None or self.left <= 0:
            return
        self.left -= 1
        key = self._chance.choice(keys_of(self.around.options))
        if self._chance.random() < self.around.options.reads:
            self.begin("read", key)
        else:
            self.begin(*self._draw_change(key))

    def _draw_change(self, key: str) -> tuple[str, str, Any]:
        value = self.around.next_value()
        if key.startswith("l"):
            return "append", key, value
        if key.startswith("c") and self._chance.random() < 0.6:
            return "cas", key, (self._seen.get(key), value)
        return "write", key, value

    def begin(self, kind: str, key: str, argument: Any = None, to: str = "") -> None:
        """One operation, also for scenarios; `to` is where its first attempt goes."""
        assert self._request is None, f"{self.name} does one thing at a time"
        self._number += 1
        self._request = Request(self.name, self._session, self._number, 1, kind, key, argument)
        self._note_begun(self._request)
        anywhere = kind == "read" and self._chance.random() < self.around.options.follower_reads
        if to:
            self._target = to
        elif anywhere or not self._target:
            self._target = self._chance.choice(self.around.servers())
        self._send()

    def _note_begun(self, request: Request) -> None:
        self._recorded = self.around.history.begin(
            request.session, request.key, request.kind, request.argument, self.around.world.now_ns
        )

    def _note_ended(self, request: Request, result: Any) -> None:
        self.around.history.end(self._recorded, result, self.around.world.now_ns)
        if request.kind == "read":
            self._seen[request.key] = result

    # ------------------------------------------------------------------------------------------------ attempts

    def _send(self) -> None:
        request = self._request
        assert request is not None
        self.around.send(self.name, self._target, request)
        self.around.world.after(PATIENCE_S, self._time_out, request.session, request.number, request.attempt)

    def _time_out(self, session: str, number: int, attempt: int) -> None:
        request = self._request
        if request is not None and (request.session, request.number, request.attempt) == (session, number, attempt):
            self._try_again("")

    def _try_again(self, leader: str) -> None:
        request = self._request
        assert request is not None
        if request.attempt >= self.around.options.attempts_max and not self.around.is_healed():
            self.give_up()
            return
        self._request = Request(
            request.client, request.session, request.number, request.attempt + 1, request.kind, request.key,
            request.argument,
        )  # fmt: skip
        servers = self.around.servers()
        self._target = leader if leader in servers else self._chance.choice(servers)
        self._send()

    def give_up(self) -> None:
        """Nobody will ever know; what is sent under the new session cannot be taken for it."""
        self._request = None
        self._sessions += 1
        self._session = f"{self.name}.{self._sessions}"
        self._number = 0
        self._pause()

    # ------------------------------------------------------------------------------------------------ answers

    def receive(self, reply: Reply) -> None:
        request = self._request
        if request is None or (request.session, request.number) != (reply.session, reply.number):
            return
        if reply.status == "done":
            self._request = None
            self._note_ended(request, reply.result)
            self._pause()
        elif reply.attempt == request.attempt:
            # Not done by this attempt; an earlier one may still be, so the operation stays the same.
            self.around.world.after(0.01, self._refused, request, reply.leader)

    def _refused(self, request: Request, leader: str) -> None:
        if self._request is request:
            self._try_again(leader)

    def _pause(self) -> None:
        mean = self.around.options.pause_s
        self.around.world.after(self._chance.expovariate(1.0 / mean) if mean else 0.0, self.go_on)

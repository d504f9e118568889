"""The simulated client: hosts the production client core, makes the calls of its user, and keeps a link up.

The idea: it is the shell of runtime: it dials, tells the core of links that come and go, and gives it what arrives by
the link that is up. Its user makes one call after the other, some at once, loses interest in some, and goes on after
the process has died: as a new client, which knows nothing of the calls of the old one.

The rule: what arrives by a link that has ended is not heard; a process that has died hears nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from onerack.rpc.core.client import (
    Abandon,
    Answered,
    ClientCore,
    Close,
    GoingAway,
    Invoke,
    Linked,
    Unlinked,
    Unreachable,
)
from onerack.rpc.core.runs import Parcel
from onerack.rpc.invariants import ClientWitness, check_client
from onerack.rpc.messages import GoAway, Mode, Request, Response
from onerack.runtime.seam import Tick
from onerack.sim.rpc.judge import Judge
from onerack.sim.rpc.links import Links, SimLink
from onerack.sim.rpc.node import Node
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.server import DRAIN_S, SimServer
from onerack.sim.rpc.service import attachment_of
from onerack.sim.rpc.workload import SimCall
from onerack.sim.world import World

USER: Final = "user"
ONE_WAY_S: Final = 0.002


class Life(msgspec.Struct, frozen=True):
    """What a client process is born with."""

    number: int
    chance: random.Random
    before: ClientCore | None
    """The core of the process that died; no production core knows it."""


class Surroundings(Protocol):
    """What a client finds around it."""

    world: World
    options: Options
    links: Links
    judge: Judge
    watches: bool
    """Invariants are checked."""

    def start_client(self, life: Life, now: float) -> ClientCore: ...
    def heard(self, who: str, message: Any, sender: str) -> None: ...
    def lets_die(self, point: str) -> bool: ...
    def find_server(self) -> SimServer:
        """Where dialling leads to this time."""

    def client_died(self, client: SimClient) -> None: ...


class SimClient(Node):
    core: ClientCore

    def __init__(
        self, around: Surroundings, name: str, calls: list[SimCall], stream: Callable[[str], random.Random]
    ) -> None:
        super().__init__(around.world, 0.0)
        self.name = name
        self.link: SimLink | None = None
        self._said: SimLink | None = None
        """The link that the core has been told of."""
        self._around = around
        self._stream = stream
        self._work = stream(f"{name} work")
        self._calls = calls[::-1]
        self._user_planned = False
        self._open: dict[int, SimCall] = {}
        """By the number that the core knows."""
        self._number = 0
        self._sent: set[tuple[int, str]] = set()
        self._retries = 0
        """Attempts of calls that are not exactly-once, by a link by which they had been sent before."""
        self._born_at = 0.0

    # ------------------------------------------------------------------------------------------------ lives and deaths

    def start(self) -> None:
        before = self.core if self.life else None
        chance = self._stream(f"{self.name} life {self.life + 1}")
        self.be_born(chance)
        self.link = self._said = None
        self.core = self._around.start_client(Life(self.life, chance, before), self.now)
        self._witness = ClientWitness(self.core)
        self._born_at = self.now
        self._user_planned = False
        self._open, self._sent = {}, set()
        self._number = self._retries = 0
        self._dial(self.life)
        self._plan_user(0.0)

    def die(self) -> None:
        """The process is gone; the kernel closes its link, and what it had sent is on its way."""
        if not self.alive:
            return
        self.alive = False
        if self.link is not None:
            self._around.links.close(self.link, "<")
            self.link = None
        for call in self._open.values():
            self._around.judge.orphan(call.number)
        self._open = {}
        self._around.client_died(self)

    def close(self) -> None:
        """The user wants nothing more."""
        if self.alive:
            self._step(Close(), USER)
            self._carry_out()
            self.die()

    @property
    def is_done(self) -> bool:
        return not self._calls and not self._open

    # ------------------------------------------------------------------------------------------------ the user

    def _plan_user(self, seconds: float) -> None:
        if not self._user_planned:
            self._user_planned = True
            self.world.after(seconds, self._use, self.life)

    def _use(self, life: int) -> None:
        """The user makes as many calls as it wants to have open, or one and waits a little."""
        if life != self.life or not self.alive:
            return
        if self.world.now_ns < self.paused_until_ns:
            self.world.at(self.paused_until_ns, self._use, life)
            return
        self._user_planned = False
        options = self._around.options
        while self._calls and len(self._open) < options.outstanding:
            self._make(self._calls.pop())
            if options.pause_s:
                self._plan_user(self._work.expovariate(1.0 / options.pause_s))
                break
        self._carry_out()
        if options.closes and self.is_done:
            self.close()

    def _make(self, call: SimCall) -> None:
        self._number += 1
        self._open[self._number] = call
        deadline_at = None if call.deadline_s is None else self.now + call.deadline_s
        attachment = attachment_of(call.number) if call.attachment else None
        attempts_max = self._around.options.attempts_max
        invoke = Invoke(self._number, call.method, call.mode, call.encoded, attachment, deadline_at, attempts_max)
        self._step(invoke, USER)
        if call.abandon_s is not None:
            self.world.after(call.abandon_s, self._abandon, self.life, self._number)

    def _abandon(self, life: int, number: int) -> None:
        if life == self.life and self.is_awake and number in self._open:
            self._around.judge.abandon(self._open.pop(number).number)
            self._step(Abandon(number), USER)
            self._carry_out()
            self._plan_user(0.0)

    # ------------------------------------------------------------------------------------------------ the link

    def _dial(self, life: int) -> None:
        self.world.after(ONE_WAY_S * self._work.random(), self._greet, life)

    def _greet(self, life: int) -> None:
        """The server's answer sets out; what happens to it on the way happens to the link."""
        if life != self.life or not self.alive:
            return
        server = self._around.find_server()
        back_s = ONE_WAY_S * self._work.random()
        if not server.alive or server.stopping:
            self.world.after(back_s, self._miss, life)
            return
        link = self._around.links.connect(f"{self.name}.{life}", self, server)
        server.accept(link)
        self.world.after(back_s, self._be_linked, life, link, server.epoch)

    def _be_linked(self, life: int, link: SimLink, epoch: int) -> None:
        if life != self.life or not self.alive:
            self._around.links.close(link, "<")
        elif not link.open["<"]:
            self._miss(life)
        else:
            self.link = link
            self.take(Linked(link.name, epoch, self._around.options.reliable), link.name)

    def _miss(self, life: int) -> None:
        if life == self.life and self.alive:
            self.take(Unreachable("nobody answers"), USER)
            self.world.after(self._work.uniform(0.02, 0.2), self._dial, life)

    def receive(self, link: SimLink, message: Any, attachment: bytes | None) -> None:
        if self.alive and link is self.link:
            if isinstance(message, Response) and attachment is not None:
                message = Answered(message, attachment)
            elif isinstance(message, GoAway):
                message = GoingAway()
                if not self._around.options.reliable:
                    # The end of such a link is not told, so it is left when the server may have gone.
                    self.world.after(DRAIN_S, self._around.links.reset, link, "<")
            self.take(message, link.name)

    def lose(self, link: SimLink) -> None:
        if self.alive and link is self.link:
            self.link = None
            self.take(Unlinked("the link was lost"), USER)
            self._dial(self.life)

    # ------------------------------------------------------------------------------------------------ the host

    def live(self, arrivals: list[tuple[Any, str]], *, is_due: bool) -> None:
        for message, sender in arrivals:
            self._step(message, sender)
            if isinstance(message, Linked | Unlinked):
                # What the core wants sent now belongs to this link, even if the next message tells of another.
                self._said = self.link if self.link is not None and self.link.name == sender else None
                self._carry_out()
                if not self.alive:
                    return
        if is_due:
            self._step(Tick(), self.name)
        self._carry_out()

    def _step(self, message: Any, sender: str) -> None:
        self._around.heard(f"{self.name}.{self.life}", message, sender)
        self.core.step(message, sender, self.now)
        if self._around.watches:
            self._witness.check(message, sender)

    def _carry_out(self) -> None:
        if self._around.watches:
            check_client(self.core)
        output = self.core.drain()
        for envelope in output.sends:
            link = self._said
            if link is not None:
                if self._around.lets_die(f"{self.name} before_send"):
                    self.die()
                    return
                if isinstance(envelope.message, Request):
                    self._count(envelope.message, link)
                attachment = envelope.attachment if isinstance(envelope, Parcel) else None
                self._around.links.send(link, "<", envelope.message, attachment)
        self.arm(output.wake_at)
        for outcome in output.applied:
            self._around.judge.ended(self._open.pop(outcome.call).number, outcome)
            self._plan_user(0.0)

    def _count(self, request: Request, link: SimLink) -> None:
        """Every attempt is counted, and whether there have been too many."""
        call = self._open.get(request.call)
        if call is None:
            return  # Abandoned in this very turn.
        by_this_link = (request.call, link.name)
        self._around.judge.sent(call.number)
        if by_this_link in self._sent and call.mode != Mode.EXACTLY_ONCE:
            self._retries += 1
            self._around.judge.retried(self._retries, self._number, self.now - self._born_at)
        self._sent.add(by_this_link)

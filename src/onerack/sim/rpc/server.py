"""The simulated server: hosts the production server core through crashes, and is the shell of its handlers and log.

The idea: what a shell does between two messages are steps at which the process can die: before and after the core has
seen a message, after some of its answers have left, before and after a handler, around every fsync. Each such point has
a name and is passed through `pass_point`, where the seed (or a test that tries them all) lets the process die.

The rule: a process that has died does nothing ever again; the next one has the snapshot and the log, a clock that
begins anew, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from onerack.rpc.core.durable import LOG
from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.runs import Abort, Attached, Committed, Dropped, Executed, Execution, LinkLost, Parcel
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Reply
from onerack.rpc.invariants import ServerWitness, check_server
from onerack.rpc.messages import GoAway, Request, Status
from onerack.runtime.seam import Envelope, Tick
from onerack.sim.rpc.judge import Judge
from onerack.sim.rpc.links import Links, SimLink
from onerack.sim.rpc.log import SimLog
from onerack.sim.rpc.node import Node
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.service import METHODS, State, answer, attachment_of, decode_arguments
from onerack.sim.world import NS, World

DRAIN_S: Final = 0.5
"""A server that is told to stop takes at most so long."""


class Died(BaseException):
    """The process ended here. Not for `except Exception`."""


class Boot(msgspec.Struct, frozen=True):
    """What a server process is born with."""

    number: int
    chance: random.Random
    down_s: float
    """How long nobody served; no production core knows it."""


class Batch(msgspec.Struct, frozen=True):
    """Commands that one fsync has made durable, the first of them at `index`."""

    index: int
    commands: list[bytes]


class Surroundings(Protocol):
    """What a server finds around it."""

    world: World
    options: Options
    links: Links
    judge: Judge
    watches: bool
    """Invariants are checked."""

    def boot_server(self, boot: Boot) -> ServerCore: ...
    def heard(self, who: str, message: Any, sender: str) -> None: ...
    def lets_die(self, point: str) -> bool: ...
    def server_died(self, server: SimServer) -> None: ...


class SimServer(Node):
    core: ServerCore
    witness: ServerWitness

    def __init__(self, around: Surroundings, name: str, stream: Callable[[str], random.Random]) -> None:
        super().__init__(around.world, around.options.turn_s)
        self.name = name
        self.stopping = False
        self.epoch = 0
        self.state = State()
        self.log = SimLog(around.world, stream(f"{name} log"), around.options, self)
        self._around = around
        self._stream = stream
        self._work = stream(f"{name} work")
        self._links: dict[str, SimLink] = {}
        self._died_ns = 0
        self._running: dict[int, Execution] = {}
        self._applied = 0
        """The index of the last command that was applied."""
        self._snapshot_at = 0

    # ------------------------------------------------------------------------------------------------ lives and deaths

    def start(self) -> None:
        """A new process: it recovers, then takes links."""
        before = self.witness if self.life else None
        chance = self._stream(f"{self.name} boot {self.life + 1}")
        self.be_born(chance)
        self.core = self._around.boot_server(Boot(self.life, chance, (self.world.now_ns - self._died_ns) / NS))
        self.epoch = chance.getrandbits(62) + 1
        self.stopping = False
        self._links, self._running = {}, {}
        self._guard(self._recover)
        if self.alive and before is not None and self.core.durable is not None and self._around.watches:
            self.witness.check_succession(before)

    def _recover(self) -> None:
        core = self.core
        self.state = State()
        if core.durable is not None and self.log.snapshot is not None:
            self.state.unpack(core.durable.restore(self.log.snapshot[1]))
        self.witness = ServerWitness(core)
        self._applied = self._snapshot_at = self.log.base
        for command in list(self.log.durable):
            self.pass_point("in_recovery")
            self._apply(command)
        if core.durable is not None:
            self._around.judge.recovered(self.state)
        self._carry_out()

    def die(self) -> None:
        """The process is gone, with everything that it did not write."""
        if not self.alive:
            return
        self.alive = False
        self._died_ns = self.world.now_ns
        self.log.crash()
        if self._around.options.reliable or self._around.options.notices:
            for link in self._links.values():
                self._around.links.close(link, ">")
        self._links = {}
        self._around.server_died(self)

    def stop(self) -> None:
        """Told to stop: refuses new calls, says so, and ends after a while."""
        if not self.alive or self.stopping:
            return
        self.stopping = True
        self.core.stop()
        for link in self._links.values():
            self._around.links.send(link, ">", GoAway("the server is stopping"))
        self.world.after(self._work.uniform(0.0, DRAIN_S), self._end, self.life)

    def fail_log(self) -> None:
        """An fsync fails. The process ends for that, a moment later."""
        if self.alive and not self.log.failed:
            self.log.fail()
            self.world.after(self._work.uniform(0.0, 0.5), self._end, self.life)

    def _end(self, life: int) -> None:
        if life == self.life:
            self.die()

    def pass_point(self, name: str) -> None:
        """A place at which the process may die. Raises: Died."""
        if self._around.lets_die(f"{self.name} {name}"):
            raise Died(name)

    def dies_at(self, name: str) -> bool:
        # What the log does while nobody serves (a replica's doing) kills nobody.
        dies = self.alive and self._around.lets_die(f"{self.name} {name}")
        if dies:
            self.die()
        return dies

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Died:
            self.die()

    # ------------------------------------------------------------------------------------------------ links

    def accept(self, link: SimLink) -> None:
        self._links[link.name] = link

    def receive(self, link: SimLink, message: Any, attachment: bytes | None) -> None:
        if not self.alive:
            return
        self._links.setdefault(link.name, link)  # An unreliable link does not know that this is another process.
        if isinstance(message, Request) and attachment is not None:
            message = Attached(message, attachment)
        self.take(message, link.name)

    def lose(self, link: SimLink) -> None:
        if self.alive and self._links.pop(link.name, None) is not None:
            self.take(LinkLost(), link.name)

    # ------------------------------------------------------------------------------------------------ the host

    def live(self, arrivals: list[tuple[Any, str]], *, is_due: bool) -> None:
        self._guard(self._live, arrivals, is_due)

    def _live(self, arrivals: list[tuple[Any, str]], is_due: bool) -> None:
        for message, sender in arrivals:
            if isinstance(message, Batch):
                self._apply_batch(message)
                continue
            self.pass_point("before_check")
            self._step(message, sender)
            self.pass_point("after_check")
        if is_due:
            self._step(Tick(), self.name)
        self._carry_out()

    def _step(self, message: Any, sender: str) -> None:
        self._around.heard(self.name, message, sender)
        self.core.step(message, sender, self.now)
        if self._around.watches:
            self.witness.check(message, sender, self.now)

    def _carry_out(self) -> None:
        while True:
            if self._around.watches:
                check_server(self.core)
                self.witness.check_runs()
            output = self.core.drain()
            for envelope in output.sends:
                self._send(envelope)
            if not output.applied:
                break
            for order in output.applied:
                if isinstance(order, Execution):
                    self._execute(order)
                else:
                    self._abort(order)
        self.arm(output.wake_at)

    def _send(self, envelope: Envelope) -> None:
        if envelope.to == LOG:
            self.log.propose(envelope.message.command)
            return
        self.pass_point("before_send")
        link = self._links.get(envelope.to)
        if link is not None:
            attachment = envelope.attachment if isinstance(envelope, Parcel) else None
            self._around.links.send(link, ">", envelope.message, attachment)

    # ------------------------------------------------------------------------------------------------ handlers

    def _execute(self, execution: Execution) -> None:
        if execution.from_log:
            self._end_execution(execution, self._run_for_log(execution))
            return
        self.pass_point("before_handler")
        arguments = decode_arguments(execution.request.arguments)
        run = self._around.judge.began(arguments.call)
        attachment = None if execution.attachment is None else attachment_of(arguments.call)
        reply = answer(arguments, run, attachment)
        self.pass_point("after_handler")
        if METHODS[execution.request.method].inline:
            self._end_execution(execution, reply)
        else:
            self._running[execution.ticket] = execution
            duration_s = self._work.expovariate(1.0 / self._around.options.slow_s)
            self.world.after(duration_s, self._finish, self.life, execution.ticket, reply)

    def _run_for_log(self, execution: Execution) -> Reply:
        arguments = decode_arguments(execution.request.arguments)
        times = self.state.run(arguments.call)
        self._around.judge.applied(arguments.call, times)
        return answer(arguments, times, None)

    def _end_execution(self, execution: Execution, reply: Reply) -> None:
        self._step(Executed(execution, reply), self.name)

    def _abort(self, order: Abort) -> None:
        if order.ticket in self._running and self._work.random() >= self._around.options.heedless:
            reply = fault_reply(Status.ABORTED, order.cause, "the handler was called off")
            self.world.after(0.001, self._finish, self.life, order.ticket, reply)

    def _finish(self, life: int, ticket: int, reply: Reply) -> None:
        if life == self.life and self.alive and ticket in self._running:
            self.take(Executed(self._running.pop(ticket), reply), self.name)

    # ------------------------------------------------------------------------------------------------ the log

    def committed(self, index: int, batch: list[bytes]) -> None:
        self.take(Batch(index, batch), LOG)

    def _apply_batch(self, batch: Batch) -> None:
        assert batch.index == self._applied + 1
        for command in batch.commands:
            self._apply(command)
        if self._applied - self._snapshot_at >= self._around.options.snapshot_after:
            assert self.core.durable is not None
            self._snapshot_at = self._applied
            self.log.keep_snapshot(self._applied, self.core.durable.snapshot(self.state.pack()))

    def _apply(self, command: bytes) -> None:
        """The next command of the log: it is executed before the one after it is heard of."""
        self._applied += 1
        self._step(Committed(self._applied, command), LOG)
        self._carry_out()

    def dropped(self, command: bytes, *, definite: bool, cause: str) -> None:
        if self.alive:
            self.take(Dropped(command, definite, cause), LOG)

    def check_rest(self) -> None:
        """Everybody has left, and every lease is over. Raises: InvariantBroken."""
        if self._around.watches:
            self.witness.check_rest()

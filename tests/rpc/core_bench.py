"""Benches to put the cores of RPC on: say messages to one, run what it wants run, and keep what it answers.

The idea: a test reads like a story. Each method is one message; `answers`, `runs` and `proposals` of a server,
`requests` and `outcomes` of a client hold what came of it. Invariants are checked after every message.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from onerack.config import RpcConfig
from onerack.rpc.core.client import Abandon, Answered, ClientCore, Close, Invoke, Linked, Outcome, Unlinked, Unreachable
from onerack.rpc.core.durable import LOG
from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.runs import (
    Abort,
    Attached,
    Committed,
    Dropped,
    Executed,
    Execution,
    LinkLost,
    MethodFacts,
    Propose,
)
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Reply
from onerack.rpc.invariants import ClientWitness, ServerWitness, check_client, check_server
from onerack.rpc.messages import (
    Cancel,
    CloseSession,
    Fault,
    KeepSession,
    Mode,
    OpenSession,
    Request,
    Response,
    SessionOpened,
    SessionState,
    Status,
)
from onerack.runtime.seam import Event, Tick

READ, SET, CHARGE, CHARGE_SLOWLY, TRANSFER, SET_SLOWLY = range(6)
METHODS = (
    MethodFacts("S.read", Mode.READONLY, inline=True),
    MethodFacts("S.set", Mode.AT_LEAST_ONCE, inline=True),
    MethodFacts("S.charge", Mode.AT_MOST_ONCE, inline=True),
    MethodFacts("S.charge_slowly", Mode.AT_MOST_ONCE, inline=False),
    MethodFacts("S.transfer", Mode.EXACTLY_ONCE, inline=True),
    MethodFacts("S.set_slowly", Mode.AT_LEAST_ONCE, inline=False),
)
OK = Reply(Status.OK, b"done")


def fault_of(body: bytes) -> Fault:
    return msgspec.msgpack.decode(body, type=Fault)


class ServerBench:
    """One boot of a server. With `inline=False` nothing runs by itself: `end` says how a run ended."""

    def __init__(
        self, *, seed: int = 1, durable: bool = False, inline: bool = True, now: float = 100.0, **config: Any
    ) -> None:
        self.config = RpcConfig(**config)
        self.core = ServerCore(METHODS, self.config, Random(seed), durable=durable)
        self.now = now
        self.inline = inline
        self.answers: list[tuple[str, int, Status]] = []
        """Link, call, status of everything that was answered since the last message."""
        self.bodies: list[bytes] = []
        self.sent: list[Any] = []
        """Everything else."""
        self.runs: list[Execution] = []
        """What has been begun and not ended."""
        self.begun: list[bytes] = []
        """The arguments of everything that was ever begun."""
        self.aborted: list[str] = []
        self.proposals: list[bytes] = []
        self.events: list[Event] = []
        self.wake_at: float | None = None
        self.log: list[bytes] = []
        """What was committed in this boot."""
        self._first_index = 1
        self._witness = ServerWitness(self.core)

    # ------------------------------------------------------------------------------------------------ speaking

    def say(self, message: Any, link: str = "a") -> None:
        self.answers, self.bodies, self.sent = [], [], []
        self._step(message, link)
        self._turn()

    def _step(self, message: Any, link: str) -> None:
        self.core.step(message, link, self.now)
        self._witness.check(message, link, self.now)

    def _turn(self) -> None:
        while True:
            check_server(self.core)
            self._witness.check_runs()
            output = self.core.drain()
            for envelope in output.sends:
                self._keep(envelope.to, envelope.message)
            self.events += output.events
            self.wake_at = output.wake_at
            for order in output.applied:
                if isinstance(order, Abort):
                    self.aborted.append(order.cause)
                    continue
                self.begun.append(order.request.arguments)
                self.runs.append(order)
                if METHODS[order.request.method].inline and self.inline:
                    self._step(Executed(self.runs.pop(), OK), "")
            if not output.applied:
                return

    def _keep(self, to: str, message: Any) -> None:
        if isinstance(message, Response):
            self.answers.append((to, message.call, Status(message.status)))
            self.bodies.append(message.body)
        elif isinstance(message, Propose):
            assert to == LOG
            self.proposals.append(message.command)
        else:
            self.sent.append(message)

    def open(self, link: str = "a", call: int = 1000, *, durable: bool = False) -> int:
        self.say(OpenSession(call, durable), link)
        if durable:
            self.commit()
        opened = self.sent[-1]
        assert isinstance(opened, SessionOpened)
        return opened.session

    def request(
        self,
        session: int,
        seq: int,
        *,
        call: int | None = None,
        ack: int = 0,
        method: int = CHARGE,
        mode: Mode | None = None,
        arguments: bytes = b"x",
        link: str = "a",
        timeout_ms: int = 0,
        attachment: bytes | None = None,
    ) -> list[Status]:
        """One attempt; what was answered to it at once."""
        request = Request(
            call or seq,
            method,
            METHODS[method].mode if mode is None else mode,
            timeout_ms,
            session,
            seq,
            ack,
            arguments,
        )
        self.say(request if attachment is None else Attached(request, attachment), link)
        return [status for _, _, status in self.answers]

    def end(self, reply: Reply = OK, number: int = 0) -> None:
        """The `number`th of what runs has ended."""
        self.say(Executed(self.runs.pop(number), reply), "")

    def fail(self, message: str = "no") -> None:
        self.end(fault_reply(Status.FAILED, "error", message))

    def commit(self, *commands: bytes) -> None:
        """The log has made durable what was proposed, or these."""
        answers: list[tuple[str, int, Status]] = []
        bodies: list[bytes] = []
        sent: list[Any] = []
        if not commands:
            commands, self.proposals = tuple(self.proposals), []
        for command in commands:
            self.log.append(command)
            self.say(Committed(self._first_index + len(self.log) - 1, command), LOG)
            answers += self.answers
            bodies += self.bodies
            sent += self.sent
        self.answers, self.bodies, self.sent = answers, bodies, sent

    def drop(self, *, definite: bool, cause: str = "storage") -> None:
        """The log does not take what was proposed."""
        commands, self.proposals = self.proposals, []
        for command in commands:
            self.say(Dropped(command, definite, cause), LOG)

    def tick(self, after_s: float = 0.0) -> None:
        self.now += after_s
        self.say(Tick(), "")

    def cancel(self, call: int, link: str = "a") -> None:
        self.say(Cancel(call), link)

    def lose(self, link: str) -> None:
        self.say(LinkLost(), link)

    def keep(self, session: int, ack: int = 0) -> bool:
        self.say(KeepSession(session, ack))
        state = self.sent[-1]
        assert isinstance(state, SessionState)
        return state.alive

    def close(self, session: int) -> None:
        self.say(CloseSession(session))

    # ------------------------------------------------------------------------------------------------ restarts

    def reboot(self, *, seed: int = 2, now: float = 3.0, snapshot: bytes | None = None) -> ServerBench:
        """The next life of this server: what was committed since the snapshot, if there is one, is applied again."""
        durable = self.core.durable is not None
        config = {name: getattr(self.config, name) for name in self.config.__struct_fields__}
        after = ServerBench(seed=seed, durable=durable, inline=self.inline, now=now, **config)
        if snapshot is not None:
            assert after.core.durable is not None
            after.core.durable.restore(snapshot)
            after._witness = ServerWitness(after.core)
            after._first_index = self._first_index + len(self.log)
        elif self.log:
            after._first_index = self._first_index
            after.commit(*self.log)
        after._turn()
        return after

    def snapshot(self) -> bytes:
        assert self.core.durable is not None
        return self.core.durable.snapshot(b"state")


class ClientBench:
    """One client, linked by `a` unless told otherwise."""

    def __init__(self, *, linked: bool = True, reliable: bool = True, now: float = 50.0, **config: Any) -> None:
        self.config = RpcConfig(**config)
        self.now = now
        self.core = ClientCore(self.config, Random(7), now)
        self.sent: list[Any] = []
        """Everything that left since the last message."""
        self.outcomes: list[Outcome] = []
        """Everything that ended since the last message."""
        self.wake_at: float | None = None
        self.opening = 0
        self._witness = ClientWitness(self.core)
        self._calls = 0
        if linked:
            self.link(reliable=reliable)

    # ------------------------------------------------------------------------------------------------ speaking

    def say(self, message: Any, sender: str = "a") -> None:
        self.core.step(message, sender, self.now)
        self._witness.check(message, sender)
        check_client(self.core)
        output = self.core.drain()
        self.sent = [envelope.message for envelope in output.sends]
        self.outcomes = list(output.applied)
        self.wake_at = output.wake_at
        for message in self.sent:
            if isinstance(message, OpenSession):
                self.opening = message.call

    def link(self, name: str = "a", epoch: int = 1, *, reliable: bool = True) -> None:
        self.say(Linked(name, epoch, reliable))

    def unlink(self) -> None:
        self.say(Unlinked("it broke"))

    def miss(self, *, final: bool = False) -> None:
        self.say(Unreachable("nobody answers", final))

    def call(
        self,
        method: int = CHARGE,
        *,
        mode: Mode | None = None,
        deadline_s: float | None = None,
        attempts_max: int = 3,
        arguments: bytes = b"x",
        streaming: bool = False,
    ) -> int:
        self._calls += 1
        self.say(
            Invoke(
                self._calls,
                method,
                METHODS[method].mode if mode is None else mode,
                arguments,
                None,
                None if deadline_s is None else self.now + deadline_s,
                attempts_max,
                streaming,
            ),
            "user",
        )
        return self._calls

    def opened(self, session: int = 77, *, window: int = 4, lease_s: float = 60.0) -> None:
        """The session that was asked for last is there."""
        self.say(SessionOpened(self.opening, session, window, round(lease_s * 1000)))

    def answer(
        self,
        call: int,
        status: Status | int = Status.OK,
        *,
        session: int | None = None,
        body: bytes = b"done",
        cause: str = "",
        retry_after_ms: int = 0,
        attachment: bytes | None = None,
    ) -> None:
        if cause:
            body = msgspec.msgpack.encode(Fault(cause, retry_after_ms=retry_after_ms))
        if session is None:
            session = self.core._open[call].session
        response = Response(call, session, status, body)
        self.say(response if attachment is None else Answered(response, attachment))

    def tick(self, after_s: float = 0.0) -> None:
        self.now += after_s
        self.say(Tick(), "")

    def abandon(self, call: int) -> None:
        self.say(Abandon(call), "user")

    def close(self) -> None:
        self.say(Close(), "user")

    # ------------------------------------------------------------------------------------------------ listening

    @property
    def requests(self) -> list[Request]:
        return [message for message in self.sent if isinstance(message, Request)]

    @property
    def xids(self) -> list[tuple[int, int]]:
        """Session and sequence number of every request that left."""
        return [(request.session, request.seq) for request in self.requests]

    @property
    def endings(self) -> list[tuple[int, Status | None, str]]:
        """Call, status (None: unknown) and cause of every outcome."""
        return [
            (outcome.call, None if outcome.status is None else Status(outcome.status), outcome.cause)
            for outcome in self.outcomes
        ]

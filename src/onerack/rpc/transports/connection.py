"""The connection: a link over a wire. It binds sender, receiver and watch to an owner.

    wire -> space, arrived -> receiver -> owner.received
    owner -> send -> sender -> flush -> wire

The idea: all messages of one read go to the owner in one call, and what the owner sends meanwhile leaves in one write
after it. What is sent at other times leaves at the end of the loop's turn, so that a thousand callers share a write.

The life of a connection: open; closing (what is queued leaves, we say that nothing more comes, and wait for the peer to
say the same, so that the last words are not lost with a reset); lost. The owner hears `lost` once, at the end, and of
no message after it has called `close`.

A server does not listen to a client that does not: while many answers wait for it, its questions wait too. (A client
always listens, else the two could wait for each other.)

The rule: the owner is called from the event loop only, never from inside its own calls of send, flush or close. Ping
and Pong are ours; no owner sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

from onerack.config import KIB, MIB, RpcConfig
from onerack.errors import ProtocolError
from onerack.rpc.link import TOGETHER, Arrival, Buffer, Link, Owner, Peer
from onerack.rpc.messages import Notice, Pong
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.frames import Side, check_limits
from onerack.rpc.transports.receiver import Receiver
from onerack.rpc.transports.sender import LARGE_WAITING_MAX, Sender
from onerack.rpc.transports.watch import Seen, Watch
from onerack.rpc.transports.wire import Wire, words_of

_EAGER_BYTES: Final = 64 * KIB
"""When so much waits, it leaves before the turn ends, so that the peer can begin with it."""
_ANSWERS_BYTES: Final = MIB
_ANSWERS_LARGE_BYTES: Final = 16 * MIB
"""When more than this waits for a client that takes nothing, in messages or in several large attachments, it has to
take some of it before it may ask more."""
_TURN_BYTES: Final = 2 * MIB
"""Of large attachments so much is written in one turn of the loop; then others get theirs."""
LINGER_S: Final = 1.0
"""What `close` grants a peer that takes nothing and says nothing."""


class Connection:
    """One end. `must_introduce`: the peer is a stranger who has to say something soon."""

    def __init__(
        self,
        name: str,
        peer: Peer,
        side: Side,
        *,
        config: RpcConfig,
        budget: Budget,
        must_introduce: bool = True,
    ) -> None:
        check_limits(config)
        self.name = name
        self.peer = peer
        self.is_open = True
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._receiver = Receiver(side, config, budget)
        self.space = self._receiver.space
        self._sender = Sender(config)
        self._budget = budget
        self._wire: Wire | None = None
        self._owner: Owner | None = None
        self._forget: Callable[[Link], None] | None = None
        self._reason = ""
        self._notice: Notice | None = None
        self._is_lost = False
        self._is_blocked = True
        """The wire takes no more for now. Before `start` and after the end: never."""
        self._blocked_small_bytes = 0
        self._will_flush = False
        self._turn_bytes = 0
        """Of large attachments, written in this turn of the loop."""
        self._is_paused = False
        self._is_held = False
        """The budget has no room for what this peer has begun."""
        self._is_deaf = False
        """The peer has to take answers first."""
        self._may_be_deaf = side == "server"
        self._has_heard = False
        self._is_introduced = False
        self._is_finished = False
        self._waiters: list[asyncio.Future[None]] = []
        """Of `drained`."""
        self._linger_until = 0.0
        self._watch = Watch(config, self._loop.time(), must_introduce=must_introduce)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, wire: Wire, owner: Owner, forget: Callable[[Link], None] | None = None) -> None:
        """Begins. Nothing is received before this turn of the loop has ended. `forget` is called with `owner.lost`."""
        wire.start(self)
        self._wire = wire
        self._owner = owner
        self._forget = forget
        self._is_blocked = False
        self._read_or_not()
        if self.is_open:
            self._set_timer(self._watch.period_s, self._tick)
        self.flush()

    # ------------------------------------------------------------------------------------------------ for the owner

    def send(self, message: Any, attachment: Buffer | None = None) -> None:
        if not self.is_open:
            return
        sender = self._sender
        sender.add(message, attachment)
        if sender.small_bytes > _EAGER_BYTES or (attachment is not None and sender.large_waiting):
            self._relieve()
        elif not self._will_flush and not self._is_blocked:
            self._flush_soon()

    def send_now(self, message: Any, attachment: Buffer | None = None) -> None:
        if self.is_open:
            self._sender.add(message, attachment)
            self._relieve()

    def send_all(self, messages: Sequence[Any]) -> None:
        if not self.is_open:
            return
        sender = self._sender
        sender.add_all(messages)
        if sender.small_bytes > _EAGER_BYTES:
            self._relieve()

    def flush(self) -> None:
        wire, sender = self._wire, self._sender
        while not self._is_blocked and self._turn_bytes < _TURN_BYTES:
            small_bytes, large_bytes = sender.small_bytes, sender.large_bytes
            if not small_bytes and not large_bytes:
                if self._waiters or self._is_deaf or not self.is_open:
                    self._has_emptied()
                break
            assert wire is not None
            if not wire.write(sender.batch()):
                self._is_blocked = True
                self._blocked_small_bytes = small_bytes
            self._turn_bytes += large_bytes - sender.large_bytes
        if self._turn_bytes and not self._will_flush and not self._is_lost:
            self._flush_soon()

    async def drained(self) -> None:
        self.flush()
        while (self._is_blocked or self._sender.has_output) and self.is_open:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def pause(self) -> None:
        if self.is_open and not self._is_paused:
            self._is_paused = True
            self._budget.rest(self._receiver, True)
            self._read_or_not()

    def resume(self) -> None:
        if self.is_open and self._is_paused:
            self._is_paused = False
            self._budget.rest(self._receiver, False)
            self._read_or_not()

    def close(self, reason: str = "") -> None:
        if not self.is_open:
            return
        self._stop(reason or "closed at this end")
        self._linger_until = self._loop.time() + self._config.drain_timeout_s
        self._set_timer(LINGER_S, self._linger)
        self._read_or_not()  # To see the peer's end; what else it says is not looked at.
        self._look()
        self.flush()

    # ------------------------------------------------------------------------------------------------ for the wire

    def arrived(self, size: int) -> int:
        if not self.is_open:
            return 1
        self._has_heard = True
        receiver, sender = self._receiver, self._sender
        arrivals: list[Arrival] = []
        refusal: ProtocolError | None = None
        try:
            receiver.take(size, arrivals)
        except ProtocolError as error:
            refusal = error
        if receiver.pings:
            self._answer_pings()
        for start in range(0, len(arrivals), TOGETHER):
            if self.is_open:
                self._deliver(arrivals[start : start + TOGETHER] if start or len(arrivals) > TOGETHER else arrivals)
                self.flush()
        if refusal is not None:
            self._refuse("malformed", refusal)
        if sender.small_bytes or sender.large_bytes:  # Pongs, and a last word.
            self.flush()
        if self._is_blocked and self._may_be_deaf and self._has_many_answers():
            self._is_deaf = True
            self._read_or_not()
        if not receiver.has_large:
            return 1
        if not self._budget.has_room_for(receiver):
            self._is_held = True
            self._budget.wait(receiver, self._release)
            self._read_or_not()
        return receiver.worth

    def writable(self) -> None:
        if self._is_lost:
            return
        self._has_heard = True  # The peer has taken something, so it is there.
        self._is_blocked = False
        self._blocked_small_bytes = 0
        self.flush()

    def ended(self, error: Exception | None) -> None:
        if self.is_open:
            self._stop(self._reason_for(error))
        self._is_lost = True
        self._is_blocked = True
        self._sender.drop()
        self._set_timer(None, self._tick)
        owner, self._owner, self._wire = self._owner, None, None
        if self._forget is not None:
            self._forget(self)
        if owner is not None:
            owner.lost(self, self._reason)

    # ------------------------------------------------------------------------------------------------ inside

    def _flush_soon(self) -> None:
        self._will_flush = True
        self._loop.call_soon(self._flush_in_turn, context=self._context)

    def _flush_in_turn(self) -> None:
        self._will_flush = False
        self._turn_bytes = 0
        self.flush()

    def _has_emptied(self) -> None:
        """All that was queued has left."""
        if self._waiters:
            self._wake_waiters()
        if self._is_deaf:
            self._is_deaf = False
            self._read_or_not()
        if not self.is_open and not self._is_finished:
            assert self._wire is not None
            self._is_finished = True
            self._set_timer(LINGER_S, self._linger)
            self._wire.finish()

    def _has_many_answers(self) -> bool:
        sender = self._sender
        if sender.small_bytes + self._blocked_small_bytes > _ANSWERS_BYTES:
            return True
        # One alone may be long, and small calls go on beside it.
        return sender.large_waiting > 1 and sender.large_bytes > _ANSWERS_LARGE_BYTES

    def _relieve(self) -> None:
        """Much waits: let it go, or, if it cannot, see that it is not too much."""
        self.flush()
        waiting = self._sender.small_bytes + self._blocked_small_bytes
        if waiting > self._config.output_bytes_max:
            limit = self._config.output_bytes_max
            self._abort(f"the peer does not read: {waiting} bytes wait for it, at most {limit} may")
        elif self._sender.large_waiting > LARGE_WAITING_MAX:
            self._abort(f"the peer does not read: more than {LARGE_WAITING_MAX} large attachments wait for it")

    def _deliver(self, arrivals: list[Arrival]) -> None:
        assert self._owner is not None
        self._is_introduced = True
        if type(arrivals[-1][0]) is Notice:
            self._notice = arrivals[-1][0]
        # What the owner sends now leaves right afterwards, without another turn of the loop.
        before, self._will_flush = self._will_flush, True
        try:
            self._owner.received(self, arrivals)
        except Exception:
            self.close("its owner failed")
            raise
        finally:
            self._will_flush = before

    def _answer_pings(self) -> None:
        for number in self._receiver.pings:
            self._sender.add(Pong(number), None)
        self._receiver.pings.clear()
        if self._is_blocked:
            self._relieve()

    def _refuse(self, cause: str, error: ProtocolError) -> None:
        if self.is_open:
            self._sender.add(Notice(cause, str(error)), None)
            self.close(f"the peer broke the protocol: {error}")

    def _abort(self, reason: str) -> None:
        if self.is_open:
            self._stop(reason)
            self._sender.drop()
            self._is_blocked = True
            if self._wire is not None:
                self._wire.abort()

    def _stop(self, reason: str) -> None:
        self.is_open = False
        self._reason = reason
        self._is_paused = self._is_held = self._is_deaf = False
        self._receiver.drop()
        self._wake_waiters()

    def _release(self) -> None:
        """The budget has room again."""
        self._is_held = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._wire is not None:
            if self._is_paused or self._is_held or self._is_deaf:
                self._wire.pause_reading()
            else:
                self._wire.resume_reading()

    def _look(self) -> None:
        if self._wire is not None:
            self._wire.look()

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _tick(self) -> None:
        receiver = self._receiver
        seen = Seen(
            is_reading=not (self._is_paused or self._is_held),
            is_deaf=self._is_deaf,
            has_heard=self._has_heard,
            is_introduced=self._is_introduced,
            half_frame=receiver.half_frame,
            large_bytes=receiver.large_bytes if receiver.has_large else None,
            large_finished=receiver.large_finished,
        )
        self._has_heard = False
        now = self._loop.time()
        self._budget.blocks.give_back_unused(now)
        try:
            message = self._watch.tick(now, seen)
        except ProtocolError as error:
            self._refuse("timeout", error)
        except ConnectionError as error:
            self._abort(str(error))
        else:
            self._set_timer(self._watch.period_s, self._tick)
            self._look()  # The peer may be slow: what it has said since shows that it is there.
            if message is not None and not (self._is_blocked and type(message) is Pong):
                self._sender.add(message, None)
                self.flush()

    def _linger(self) -> None:
        """After a second of closing: goes on only while the peer takes what is left for it."""
        if self._has_heard and not self._is_finished and self._loop.time() < self._linger_until:
            self._has_heard = False
            self._set_timer(LINGER_S, self._linger)
        elif self._wire is not None:
            self._wire.abort()

    def _set_timer(self, delay_s: float | None, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else self._loop.call_later(delay_s, call, context=self._context)

    def _reason_for(self, error: Exception | None) -> str:
        words = words_of(error)
        if self._notice is not None:
            return f"{words}: {self._notice.cause}: {self._notice.message}"
        if self._receiver.is_inside_frame:
            tongue = self._receiver.tongue
            return f"{words} in the middle of a frame" + (f"; it seems to speak {tongue}" if tongue else "")
        if not self._is_introduced and (error is None or isinstance(error, ConnectionError)):
            hint = "" if self._wire is None else self._wire.hint
            return f"{words} before it said anything{hint}"
        return words

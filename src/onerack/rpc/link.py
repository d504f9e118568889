"""Links: what the semantic layer asks of a transport, and all it knows of one.

The idea: calls, sessions and retries do not care what carries them. A link carries whole messages, each with at most
one attachment (raw bytes that are never copied into msgpack); it may be a socket, a queue in this process, or a
simulated network that loses, repeats and reorders. Whoever owns a link is given what arrives in batches: the messages
of one read together, `TOGETHER` at a time, so that one answer to all of them is one write.

The rule: nothing here blocks. `send` queues; what is queued leaves at `flush`, or by itself at the end of the loop's
turn. Messages are not delivered after `lost`, and `lost` comes exactly once for each link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from onerack.rpc.messages import Buffer as Buffer
from onerack.runtime.seam import Envelope

TOGETHER: Final = 32
"""So many messages are a batch. Fewer cost more each; if many more went at once, one end would wait while the other
works: with 64 callers in two batches, client and server work at the same time, on a processor each."""

Arrival = tuple[Any, Buffer | None]
"""A message and its attachment."""


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end."""

    address: str
    """For people: `127.0.0.1:40112`, `unix:/run/x`, `memory`."""
    identity: str = ""
    """From the peer's certificate: its first SAN URI, else DNS name, else common name; empty without mutual TLS."""
    names: tuple[str, ...] = ()
    """Every SAN URI and DNS name of the certificate."""


class Link(Protocol):
    """One connection, seen from one end."""

    peer: Peer

    @property
    def name(self) -> str:
        """Unique in this process (in a simulation: in the world); the `sender` of what arrives by it."""

    @property
    def is_open(self) -> bool: ...

    def send(self, message: Any, attachment: Buffer | None = None) -> None:
        """Queues one message. `attachment` must not be changed by the caller before it has left (see `drained`).

        On a link that is closed it does nothing: its owner is told by `lost`.
        Raises: UsageError: the message or the attachment is larger than this link's limits allow.
        """

    def send_now(self, message: Any, attachment: Buffer | None = None) -> None:
        """As `send` and `flush`."""

    def send_all(self, messages: Sequence[Any]) -> None:
        """As `send` for each of them, without attachments; cheaper when there are many. `flush` must follow."""

    def flush(self) -> None:
        """Hands everything that is queued to the operating system now."""

    async def drained(self) -> None:
        """Returns when the queue is short (below the low-water mark): the brake for those who send much."""

    def pause(self) -> None:
        """Reads no more from the peer until `resume`: the kernel's buffers fill, and the peer's writes wait."""

    def resume(self) -> None: ...

    def close(self, reason: str = "") -> None:
        """Ends it after what is queued has left, or after a moment. May be called again."""


class Owner(Protocol):
    """Who is told what happens on a link."""

    def received(self, link: Link, arrivals: Sequence[Arrival]) -> None:
        """The next messages, in order; of one read, as many as make a batch."""

    def lost(self, link: Link, reason: str) -> None:
        """The link has ended, from whichever side; `reason` is for people."""


class Listener(Protocol):
    """Takes links until it is closed."""

    address: str
    """Where it listens, with the scheme; a port that was asked for as 0 is filled in."""

    async def close(self) -> None:
        """Takes no more links, and ends those that it took."""


Accept = Callable[[Link], Owner]
"""Called for each new link; says who owns it."""


def send_by(link: Link, envelopes: Iterable[Envelope]) -> None:
    """Sends what a core wants sent to the peer of this link, in order."""
    plain: list[Any] = []
    for envelope in envelopes:
        if type(envelope) is Envelope:
            plain.append(envelope.message)
            continue
        link.send_all(plain)
        plain.clear()
        link.send(envelope.message, getattr(envelope, "attachment", None))
    if plain:
        link.send_all(plain)

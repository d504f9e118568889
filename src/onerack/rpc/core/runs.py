"""Runs: what a server core asks its shell to do with handlers, and what the shell says back.

The idea: an `Execution` is an order and names everything about it; the shell gives it back in `Executed`, so that the
core has to remember only what may still be called off. The rule: every Execution is answered by exactly one Executed.
"""

from __future__ import annotations

import msgspec

from onerack.rpc.core.sessions import Reply
from onerack.rpc.messages import Buffer, Mode, Request
from onerack.runtime.seam import Envelope, NodeId


class MethodFacts(msgspec.Struct, frozen=True):
    """What the core knows of a method."""

    name: str
    mode: Mode
    inline: bool
    """A plain `def`: run at once, in the loop; it cannot be called off."""
    streaming: bool = False


class Parcel(Envelope, frozen=True):
    """A message with an attachment."""

    attachment: Buffer | None = None


class Attached(msgspec.Struct, frozen=True):
    """A Request that came with an attachment."""

    request: Request
    attachment: Buffer


class Execution(msgspec.Struct, frozen=True, gc=False):
    """Run the handler."""

    ticket: int
    """Unique in the life of the core."""
    link: NodeId
    request: Request
    method: str
    attachment: Buffer | None = None
    deadline_at: float | None = None
    """On the clock of `now`."""
    from_log: bool = False


class Abort(msgspec.Struct, frozen=True):
    """Call the run off: its result is wanted no more. It still ends with Executed, whatever it did."""

    ticket: int
    cause: str


class Executed(msgspec.Struct, frozen=True, gc=False):
    """The handler has ended, or did not begin."""

    execution: Execution
    reply: Reply


class LinkLost(msgspec.Struct, frozen=True):
    """The sender of this message is gone."""


class Propose(msgspec.Struct, frozen=True):
    """To the log: make it durable, then say Committed."""

    command: bytes


class Committed(msgspec.Struct, frozen=True):
    """From the log: this command is durable, and all before it have been applied."""

    index: int
    command: bytes


class Dropped(msgspec.Struct, frozen=True):
    """From the log: this command will not be applied."""

    command: bytes
    definite: bool
    """False: it may be, in a later life of the log."""
    cause: str = "storage"
    """overloaded, stopping: the same command may be proposed again; storage: nobody knows when."""

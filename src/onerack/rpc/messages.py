"""The wire nouns of RPC: what a client and a server say to each other, in the order in which they say it.

    Hello -> Welcome | Refused                       who are you, what do you speak
    OpenSession -> SessionOpened                     only for deduplicated calls
    Request -> Response                              one call; the same Request again is an attempt, not a new call
    Request, StreamItem*, StreamEnd, Credit*         a call whose arguments or results are streams
    Cancel, KeepSession, CloseSession, Ping, Pong, GoAway, Notice

The idea: a call is known by its *xid* (session, sequence number), which never changes however often it is sent, and a
reply is matched by the number of its call *and* its session, never by the sequence number alone. Arguments and results
are opaque bytes here: encoded once by whoever knows their types, sent again as the same bytes.

(`gc=False`: what holds only text, numbers and bytes can be in no cycle, and the collector need not look at it.)

The rule: every field has a bound that the decoder or the core checks before it acts on it. New fields go to the end and
have defaults, so that older peers understand newer ones (msgspec ignores what is beyond, and fills in what is missing).

Source: Birrell & Nelson 1984, section 3 (call identifiers, implicit acknowledgement); Lee et al., RIFL, SOSP 2015.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 1
NO_SESSION: Final = 0
UNANSWERED: Final = 0
"""The `call` of a Request that nobody waits for: whatever becomes of it, nothing is sent back."""

Buffer = bytes | bytearray | memoryview
"""An attachment: raw bytes that travel beside a message."""


class Mode(IntEnum):
    """Delivery semantics, the weaker first."""

    READONLY = 0
    """No effect: tried again freely, never remembered."""
    AT_LEAST_ONCE = 1
    """Idempotent: tried again until it is answered; may run many times."""
    AT_MOST_ONCE = 2
    """Runs once or not at all; a server that was restarted never runs it again."""
    EXACTLY_ONCE = 3
    """Runs once, whatever crashes: the completion record is durable and atomic with the effect."""


class Status(IntEnum):
    """What a Response says of its call."""

    OK = 0
    FAILED = 1
    """Executed, and the handler raised: `body` is a Fault."""
    REFUSED = 2
    """Not executed, and never will be: `body` is a Fault."""
    OVERLOADED = 3
    """This attempt was not taken; the call may be tried again: `body` is a Fault with `retry_after_ms`."""
    REBOOTED = 4
    """The session is of another boot of the server; not executed by this one."""
    EXPIRED = 5
    """The session is not, or no longer, known; not executed by this attempt."""
    FALSE_RETRY = 6
    """The xid was used before, for other arguments."""
    ABORTED = 7
    """The handler was called off (cancelled, or past the deadline); how far it came nobody knows: `body` is a Fault."""


class Fault(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a call was not answered with a result."""

    cause: str
    """One word for programs: deadline, overloaded, cancelled, bad_arguments, no_method, forbidden, error, ..."""
    message: str = ""
    type: str = ""
    """The class name of the exception that a handler raised."""
    retry_after_ms: int = 0
    traceback: str = ""
    """The handler's own frames, when the server is told to show them."""


# ------------------------------------------------------------------------------------------------ the greeting


class Hello(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=0):
    """The client's first message."""

    protocol: int
    cluster: str
    """Empty: any."""
    service: str
    """Whose interface is to be compared; empty: none. (Which methods may be called is a policy's business.)"""
    schema_hash: str = ""
    schema: bytes = b""
    """A msgpack `schema.Schema`, so that a server with another one can say what differs."""
    stream_window: int = 65536
    """How many bytes of a stream the sender of this message takes before it has read them."""


class Welcome(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The server speaks with this client."""

    protocol: int
    cluster: str
    epoch: int
    """Drawn at random at each boot of the server."""
    methods: tuple[str, ...]
    """`Service.method` by number: Request.method is an index into this."""
    durable: bool = False
    """Whether exactly-once calls can be served."""
    attachment_bytes_max: int = 0
    """Attachments up to so many bytes are taken."""
    stream_window: int = 65536
    """As in Hello."""


class Refused(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """The server does not speak with this client, and closes."""

    cause: str
    """protocol, cluster, schema, service, forbidden, malformed, overloaded, stopping"""
    message: str


# ------------------------------------------------------------------------------------------------ calls


class Request(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """One attempt of a call. Every attempt of a deduplicated call has the same session, seq and arguments."""

    call: int
    """The client's own number for the call, never used again; or UNANSWERED."""
    method: int
    mode: int
    timeout_ms: int
    """What is left of the call's deadline when this attempt leaves, so that clocks need not agree; 0: none."""
    session: int
    seq: int
    """1, 2, 3 ... within the session; 0 without one."""
    ack: int
    """The client is done with every seq up to this one: their replies may be forgotten, late copies discarded."""
    arguments: bytes
    metadata: dict[str, str] | None = None
    json: bool = False
    """Arguments are a JSON object by name, and so is the result wanted: for people and scripts."""


class Response(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """The answer to a Request, or the end of a call whose result is a stream."""

    call: int
    session: int
    status: int
    body: bytes
    """The encoded result for OK; else a msgpack Fault, or empty."""


class Cancel(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """The caller has lost interest in this call."""

    call: int


# ------------------------------------------------------------------------------------------------ sessions


class OpenSession(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """Asks for a session. Asking again with the same `call` on the same link gets the same one."""

    call: int
    durable: bool
    """True: for exactly-once calls; it outlives the server's process."""


class SessionOpened(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    call: int
    session: int
    window: int
    """So many calls may be unacknowledged: seq <= ack + window."""
    lease_ms: int
    """A session that is silent for longer expires."""


class KeepSession(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """The client of this session lives; tells the acknowledgement mark too. Answered by SessionState."""

    session: int
    ack: int


class SessionState(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    session: int
    alive: bool


class CloseSession(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=10):
    """The client will not use this session again. Not answered."""

    session: int


# ------------------------------------------------------------------------------------------------ streams


class StreamItem(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """One item of the stream of `call`, in the direction in which it travels."""

    call: int
    item: bytes


class StreamEnd(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """The client's stream of arguments is complete. (The server's stream of results ends with a Response.)"""

    call: int


class Credit(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=13):
    """The reader of the stream of `call` has room for so many more bytes."""

    call: int
    bytes: int


# ------------------------------------------------------------------------------------------------ the connection


class Ping(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=14):
    number: int


class Pong(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=15):
    number: int


class GoAway(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=16):
    """The server stops: open calls are finished, new ones belong elsewhere."""

    reason: str


class Notice(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=17):
    """Why the sender closes this connection now: the peer broke the contract."""

    cause: str
    message: str


FromClient = (
    Hello | Request | Cancel | OpenSession | KeepSession | CloseSession | StreamItem | StreamEnd | Credit | Ping | Pong
    | Notice
)  # fmt: skip
FromServer = (
    Welcome | Refused | Response | SessionOpened | SessionState | StreamItem | Credit | Ping | Pong | GoAway | Notice
)  # fmt: skip

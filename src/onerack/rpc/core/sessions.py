"""Sessions and the reply cache: what makes a repeated attempt the same call.

The idea: a session remembers, for each sequence number above its acknowledgement mark, whether the call is running and
how it ended. A new number is executed; a number that runs gets its attempt attached; a number that has ended is
answered again with the same reply; a number at or below the mark is discarded, because its client is done with it.

The rule: nothing is ever forgotten but by acknowledgement, close or expiry. The mark outlives the replies it covers:
a session that forgot it would run a late copy again. A session that has expired is never made anew.

Source: Birrell & Nelson 1984, section 3.2; Lee et al., RIFL, SOSP 2015, section 4; Ongaro's dissertation, section 6.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from math import inf
from typing import Final

import msgspec

from onerack.rpc.messages import Buffer, Request
from onerack.runtime.seam import NodeId

SMALL_BYTES: Final = 64
"""Arguments up to this size are their own fingerprint."""
ENDS_BYTES: Final = 64 * 1024
"""Of an attachment, its length and so many bytes at either end count: to read all would cost more than to send it."""
ENTRY_BYTES: Final = 256
"""What an entry costs besides its reply."""


class Verdict(IntEnum):
    """What a sequence number means to its session."""

    FRESH = 0
    """Never seen: it is running from now on."""
    RUNNING = 1
    ENDED = 2
    """The reply is there."""
    FORGOTTEN = 3
    """The client has acknowledged it."""
    FALSE_RETRY = 4
    """Seen before with other arguments."""
    BEYOND = 5
    """Outside the window: no correct client sends it."""


_FRESH: Final = Verdict.FRESH


class Reply(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How a call ended, as it is told to every attempt."""

    status: int
    body: bytes
    attachment: Buffer | None = None
    """Told once; too large to be remembered, it is lost to later attempts (see `remembered`)."""


Attempt = tuple[NodeId, int]
"""The link by which an attempt came, and the number under which its client waits for an answer."""


class Ledger:
    """What all remembered replies of a server take."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Entry(msgspec.Struct, eq=False):
    """One call of a session, running until it has a reply."""

    method: str
    fingerprint: bytes
    attached: list[Attempt] = []
    """Who waits for the reply; nobody any more when it is there."""
    reply: Reply | None = None
    size: int = 0
    """What the reply takes, as the ledger counts it; 0 while there is none."""

    def end(self, reply: Reply, ledger: Ledger) -> None:
        self.reply = reply
        self.size = ENTRY_BYTES + len(reply.body)
        if reply.attachment is not None:
            self.size += memoryview(reply.attachment).nbytes
        ledger.bytes += self.size


class Session:
    """One client's calls, by sequence number."""

    __slots__ = ("ack", "entries", "heard_at", "ledger", "number", "running", "window")

    def __init__(self, number: int, window: int, now: float, ledger: Ledger) -> None:
        self.number = number
        self.window = window
        self.ledger = ledger
        self.ack = 0
        self.entries: dict[int, Entry] = {}
        self.heard_at = now
        self.running = 0

    def acknowledge(self, ack: int) -> None:
        """Forgets the replies up to `ack`. A mark that goes back is an old message, and changes nothing."""
        if ack <= self.ack:
            return
        # A mark may jump far ahead: then the entries are fewer than the numbers between.
        passed = range(self.ack + 1, ack + 1) if ack - self.ack <= len(self.entries) else self._up_to(ack)
        for seq in passed:
            entry = self.entries.pop(seq, None)
            if entry is not None:
                self.ledger.bytes -= entry.size
        self.ack = ack

    def frees(self, request: Request) -> bool:
        """Whether the mark waits for this very call, so that replies beyond it are kept until it has ended.

        Then it must not be refused because of the memory that they take: nothing else would ever free it.
        """
        return bool(self.entries) and request.seq == max(self.ack, request.ack) + 1

    def forget(self) -> None:
        """The session is over."""
        for entry in self.entries.values():
            self.ledger.bytes -= entry.size
        self.entries.clear()

    def admit(self, seq: int, ack: int, method: str, fingerprint: bytes, attempt: Attempt | None = None) -> Verdict:
        """What to do with an attempt. FRESH makes the entry, for which `attempt` waits; `finish` must follow."""
        if not ack < seq <= ack + self.window:
            return Verdict.BEYOND
        if ack > self.ack:
            self.acknowledge(ack)
        if seq <= self.ack:
            return Verdict.FORGOTTEN
        entry = self.entries.get(seq)
        if entry is None:
            self.entries[seq] = Entry(method, fingerprint, [] if attempt is None else [attempt])
            self.running += 1
            return _FRESH
        if entry.fingerprint != fingerprint or entry.method != method:
            return Verdict.FALSE_RETRY
        return Verdict.RUNNING if entry.reply is None else Verdict.ENDED

    def finish(self, seq: int, reply: Reply) -> Sequence[Attempt]:
        """The call has ended: remembers the reply and gives the attempts that wait for it.

        A call that its client has given up meanwhile is not remembered: its number is behind the mark.
        """
        self.running -= 1
        entry = self.entries.get(seq)
        if entry is None:
            return ()
        assert entry.reply is None, f"session {self.number}: call {seq} ended twice"
        attached = entry.attached
        entry.attached = []
        entry.end(reply, self.ledger)
        return attached

    def _up_to(self, ack: int) -> list[int]:
        return [seq for seq in self.entries if seq <= ack]


PackedSession = tuple[int, int, float, list[tuple[int, str, bytes, int, bytes]]]
"""number, ack, heard at, and for each ended call its seq, method, fingerprint, status and body."""


class Sessions:
    """All sessions of one kind (volatile or durable) of a server."""

    def __init__(self, window: int, lease_s: float) -> None:
        self.window = window
        self.lease_s = lease_s
        self.ledger = Ledger()
        self._sessions: dict[int, Session] = {}
        self._nobody_before = -inf
        """No lease ends before that."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, number: int) -> Session | None:
        return self._sessions.get(number)

    def open(self, number: int, now: float) -> Session:
        """Requires: no session has or had this number."""
        session = self._sessions[number] = Session(number, self.window, now, self.ledger)
        return session

    def close(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is not None:
            session.forget()

    def expire(self, now: float) -> list[int]:
        """Ends the sessions that were silent for longer than the lease; one with a running call is not silent."""
        if now <= self._nobody_before:
            return []  # Asked with each command of the log, so it must cost nothing.
        silent = [s.number for s in self if s.heard_at + self.lease_s < now and not s.running]
        for number in silent:
            self.close(number)
        # Who is heard later, or comes later, expires later.
        self._nobody_before = min((s.heard_at for s in self), default=now) + self.lease_s
        return silent

    def renew(self, now: float) -> None:
        """Every lease begins anew: for the time during which nobody could have been heard."""
        for session in self:
            session.heard_at = max(session.heard_at, now)

    def pack(self) -> list[PackedSession]:
        """For a snapshot, which is taken between calls: no call may be running."""
        packed = []
        for session in self:
            assert not session.running, f"session {session.number} has a running call and cannot be part of a snapshot"
            calls = [
                (seq, entry.method, entry.fingerprint, entry.reply.status, entry.reply.body)
                for seq, entry in session.entries.items()
                if entry.reply is not None
            ]
            packed.append((session.number, session.ack, session.heard_at, calls))
        return packed

    def unpack(self, packed: list[PackedSession]) -> None:
        """The reverse of `pack`."""
        self._sessions.clear()
        self._nobody_before = -inf
        self.ledger.bytes = 0
        for number, ack, heard_at, calls in packed:
            session = self.open(number, heard_at)
            session.ack = ack
            for seq, method, fingerprint, status, body in calls:
                entry = session.entries[seq] = Entry(method, fingerprint)
                entry.end(Reply(status, body), self.ledger)


def fingerprint_of(arguments: bytes, attachment: Buffer | None) -> bytes:
    """By which a false retry is told from a true one. Not a defence against malice: a client only harms itself."""
    if attachment is None:
        if len(arguments) <= SMALL_BYTES:
            return arguments
        return hashlib.blake2b(arguments, digest_size=16).digest()
    content = memoryview(attachment)
    digest = hashlib.blake2b(arguments, digest_size=16)
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content[:ENDS_BYTES])
    digest.update(content[-ENDS_BYTES:])
    return digest.digest()

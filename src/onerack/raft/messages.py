"""What raft's nodes say to each other, what they keep on the disk, and what their host tells the core.

    between nodes       RequestVote Vote  Append Appended  Heartbeat HeartbeatReply  TimeoutNow
                        FindReadIndex FoundReadIndex
    on the disk         HardState  Entry  SnapshotMark
    from the host       Propose Read Change Transfer  Synced  SnapshotTaken SnapshotSent SnapshotArrived  (and Tick)
    to the host         Proposed Refused  ReadReady  Committed  SendSnapshot Restore  (in `Output.applied`)

The idea: an entry is opaque. What clients propose in one turn becomes one entry, so the protocol works per batch, and
the bytes that came from a client's socket are the bytes in every log. Snapshots do not pass through here either: the
core says who needs one, the host moves it, and tells the core what became of that.

The rule: all is frozen, and holds nothing that another node's memory could change.

Source: Ongaro & Ousterhout, In Search of an Understandable Consensus Algorithm (extended version), 2014, Figure 2;
Ongaro's dissertation, 2014, chapters 3, 4 and 6.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from onerack.runtime.seam import NodeId

NOBODY: NodeId = ""
"""No vote, no leader."""
NUMBER_MAX: Final = 1 << 62
"""No term or index is near it in the life of a group; the log keeps them in 64 bits."""
Number = Annotated[int, msgspec.Meta(ge=0, lt=NUMBER_MAX)]
"""A term, an index or a counter, as another node says it: whatever is decoded has been held against the bounds."""


class Kind(IntEnum):
    """What an entry is for."""

    COMMANDS = 0
    """A batch of commands for the state machines; the core never looks into it."""
    EMPTY = 1
    """A new leader's first entry: by it everything before it is committed."""
    CONFIGURATION = 2
    """A `Configuration`, encoded."""


# ------------------------------------------------------------------------------------------------ on the disk


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One place of the log."""

    term: int
    index: int
    kind: int
    payload: bytes
    """Of a large one that was read from the disk: a view of its file."""


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """Durable before anything that follows from it is said."""

    term: int = 0
    vote: NodeId = NOBODY
    """Whom this node has voted for in `term`."""


class Configuration(msgspec.Struct, frozen=True):
    """Who takes part. All tuples are sorted; nobody is in two of them, except that `outgoing` may share with all."""

    voters: tuple[NodeId, ...] = ()
    """Witnesses among them."""
    outgoing: tuple[NodeId, ...] = ()
    """In the joint phase: the voters of the old configuration, whose majority is needed, too. Else empty."""
    learners: tuple[NodeId, ...] = ()
    """They get the log, and neither vote nor count."""
    learners_next: tuple[NodeId, ...] = ()
    """Voters of `outgoing` that become learners when the joint phase ends."""
    witnesses: tuple[NodeId, ...] = ()
    """Voters that keep terms and indexes but no payloads, and never lead."""

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everybody who gets the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next}))


class SnapshotMark(msgspec.Struct, frozen=True):
    """What a snapshot stands for: the log up to `index`."""

    index: int = 0
    term: int = 0
    configuration: Configuration = Configuration()


class LogReset(msgspec.Struct, frozen=True):
    """A record for the disk: the log now begins behind this snapshot, which is durable, and is empty."""

    mark: SnapshotMark


class Recovered(msgspec.Struct, frozen=True):
    """What a node finds on its disk when it starts."""

    hard_state: HardState = HardState()
    mark: SnapshotMark = SnapshotMark()
    """Of the newest durable snapshot; for a fresh node: index 0 with the first configuration."""
    entries: tuple[Entry, ...] = ()
    """Contiguous. May begin at or before `mark.index`, because a tail is kept for slow followers; never behind it by
    more than one."""


# ------------------------------------------------------------------------------------------------ between nodes


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """`pre`: would you vote for me in this term? Nobody's term changes. `transfer`: the leader wants it so."""

    term: Number
    last_index: Number
    last_term: Number
    pre: bool = False
    transfer: bool = False


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`term` of a granted pre-vote is the term asked for; else the voter's own."""

    term: Number
    granted: bool
    pre: bool = False


class Append(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """AppendEntries."""

    term: Number
    prev_index: Number
    prev_term: Number
    commit: Number
    entries: tuple[Entry, ...] = ()
    quiet: bool = False
    """Nothing but the commit index is news: unless it does not fit, no answer is needed."""


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer. Accepted: `index` is the last one that surely equals the leader's. Rejected: `index` is the
    `prev_index` that did not fit, and (`hint_index`, `hint_term`) the last place where the follower may agree."""

    term: Number
    index: Number
    accepted: bool
    hint_index: Number = 0
    hint_term: Number = 0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """`commit` is at most what this follower is known to have. `round`: the reads that it confirms; 0: none."""

    term: Number
    commit: Number
    round: Number = 0


class HeartbeatReply(msgspec.Struct, frozen=True, array_like=True, tag=6):
    term: Number
    round: Number = 0


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The leader wants this node to be elected, now."""

    term: Number


class FindReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A follower's read: which index must be applied before it may be answered? `number` is the follower's own."""

    term: Number
    number: Number


class FoundReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """`index` 0: not now (there is no leader here, or it has not committed an entry of its term)."""

    term: Number
    number: Number
    index: Number


PeerMessage = (
    RequestVote | Vote | Append | Appended | Heartbeat | HeartbeatReply | TimeoutNow | FindReadIndex | FoundReadIndex
)


# ------------------------------------------------------------------------------------------------ from the host


class Propose(msgspec.Struct, frozen=True, gc=False):
    """Appends an entry of commands, if this node leads. Answered by Proposed or Refused in the same drain."""

    number: int
    payload: bytes
    hurry: bool = False
    """Somebody waits for its commitment on another node: let it be known at once."""


class Read(msgspec.Struct, frozen=True, gc=False):
    """A linearizable read. Answered by ReadReady or Refused, at some time; by neither if a message was lost."""

    number: int


class Change(msgspec.Struct, frozen=True):
    """Another configuration, by joint consensus; `wanted` is never joint. Answered by Proposed or Refused."""

    number: int
    wanted: Configuration


class Transfer(msgspec.Struct, frozen=True):
    """Makes `to` the leader. Answered by Proposed (it has begun) or Refused."""

    number: int
    to: NodeId


class Synced(msgspec.Struct, frozen=True):
    """The writes of the last Output are durable."""


class SnapshotTaken(msgspec.Struct, frozen=True):
    """A snapshot of the applied state at `index` is durable; `keep` entries before it stay for slow followers."""

    index: int
    keep: int = 0


class SnapshotSent(msgspec.Struct, frozen=True):
    """What became of a SendSnapshot: `to` has it, durable and restored, or it failed."""

    to: NodeId
    index: int
    done: bool


class SnapshotArrived(msgspec.Struct, frozen=True):
    """A whole snapshot from the leader of `term` is durable here, and not yet in use."""

    term: int
    mark: SnapshotMark


# ------------------------------------------------------------------------------------------------ to the host


class Proposed(msgspec.Struct, frozen=True, gc=False):
    """The proposal has this place. Whether it stays there, its commitment will tell."""

    number: int
    term: int
    index: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Nothing was done, and nothing will be. `cause`: not_leader, transferring, overloaded, invalid; of a change also
    pending (another one is under way), not_ready (no entry of this term is committed yet), not_caught_up."""

    number: int
    cause: str
    leader: NodeId = NOBODY


class ReadReady(msgspec.Struct, frozen=True, gc=False):
    """May be answered as soon as `index` is applied."""

    number: int
    index: int


class Committed(msgspec.Struct, frozen=True):
    """To be applied, in this order. Indexes follow each other without a gap, over the whole life of a node."""

    entries: tuple[Entry, ...]


class SendSnapshot(msgspec.Struct, frozen=True):
    """`to` needs the newest snapshot. Answered, at some time, by SnapshotSent."""

    to: NodeId
    term: int


class Restore(msgspec.Struct, frozen=True):
    """The state machines become what the snapshot of this mark says. What is committed next follows it."""

    mark: SnapshotMark

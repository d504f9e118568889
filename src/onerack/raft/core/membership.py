"""Membership: which configuration holds, and how one becomes another.

The idea: a configuration is an entry of the log, and the newest one in the log holds, committed or not. So this file
keeps, beside the log, the places at which the configuration changed: appending adds one, truncating takes it back.
A change of voters goes by a joint phase, in which the old and the new majority are both needed; as soon as that entry
is committed, the leader appends the one that ends it.

The rules: one change at a time; whoever was a witness stays one, and nobody becomes one who has taken part, because a
witness's log lacks the payloads that any other member is trusted to have.

Source: Ongaro's dissertation 2014, chapter 4; Ongaro & Ousterhout 2014, section 6.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onerack.raft.messages import Configuration, Entry, Kind
from onerack.runtime.seam import NodeId

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Configuration)


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of a CONFIGURATION entry."""
    return _ENCODER.encode(configuration)


def decode_configuration(payload: bytes) -> Configuration:
    """Raises `msgspec.DecodeError` (or its child ValidationError) for bytes that are none."""
    return _DECODER.decode(payload)


class Memberships:
    """The configurations of the log that may still matter, oldest first."""

    def __init__(self, index: int, configuration: Configuration, entries: Iterable[Entry]) -> None:
        self._places: list[tuple[int, Configuration]] = []
        self._once_witnesses: set[NodeId] = set()
        self.reset(index, configuration)
        for entry in entries:
            if entry.index > index:
                self.note(entry)

    def at(self, index: int) -> Configuration:
        """The one that held when the log ended at `index`."""
        for place, configuration in reversed(self._places):
            if place <= index:
                return configuration
        return self._places[0][1]

    def taking_part(self, commit: int) -> tuple[NodeId, ...]:
        """Everybody who gets the log, sorted: who is being removed gets it until that is committed."""
        members = set(self.configuration.members)
        if self.index > commit and len(self._places) > 1:
            members |= set(self._places[-2][1].members)
        return tuple(sorted(members))

    def may_lead(self, node: NodeId, commit: int) -> bool:
        """A voter that has the payloads; also one whose removal is not committed: it may yet be needed to commit it."""
        newest = self.configuration
        if self.index <= commit or len(self._places) == 1:
            return _votes(node, newest) and node not in newest.witnesses
        before = self._places[-2][1]
        votes = _votes(node, newest) or _votes(node, before)
        return votes and node not in newest.witnesses and node not in before.witnesses

    def was_witness(self, node: NodeId) -> bool:
        """Is it, or was it in any configuration that this log has told of? Then payloads are missing here for ever."""
        return node in self._once_witnesses

    def note(self, entry: Entry) -> bool:
        """An entry was appended. True when it changes the configuration."""
        if entry.kind != Kind.CONFIGURATION:
            return False
        self._places.append((entry.index, decode_configuration(entry.payload)))
        self._note_newest()
        return True

    def truncate_from(self, index: int) -> None:
        while len(self._places) > 1 and self._places[-1][0] >= index:
            self._places.pop()
        self._note_newest()

    def cut(self, index: int) -> None:
        """What came before the one that holds at `index` does not matter any more."""
        while len(self._places) > 1 and self._places[1][0] <= index:
            del self._places[0]

    def reset(self, index: int, configuration: Configuration) -> None:
        self._places = [(index, configuration)]
        self._note_newest()

    def _note_newest(self) -> None:
        self.index, self.configuration = self._places[-1]
        """The configuration that holds, and where it lies in the log; for the first: at or before there."""
        self._once_witnesses.update(self.configuration.witnesses)


def _votes(node: NodeId, configuration: Configuration) -> bool:
    return node in configuration.voters or node in configuration.outgoing


# ---------------------------------------------------------------------------------------------------------- changes


def fault_of(current: Configuration, wanted: Configuration) -> str:
    """Why `wanted` can never follow `current`; empty if it can."""
    for name in ("voters", "learners", "witnesses"):
        nodes = getattr(wanted, name)
        if "" in nodes or list(nodes) != sorted(set(nodes)):
            return f"{name} must be sorted, and name each node once"
    if wanted.outgoing or wanted.learners_next:
        return "the joint phase is the leader's own business"
    if set(wanted.voters) & set(wanted.learners):
        return "nobody is a voter and a learner"
    if not set(wanted.witnesses) <= set(wanted.voters):
        return "a witness is a voter"
    if not set(wanted.voters) - set(wanted.witnesses):
        return "somebody must be able to lead"
    return _witness_fault(current, wanted)


def _witness_fault(current: Configuration, wanted: Configuration) -> str:
    before, after = set(current.witnesses), set(wanted.witnesses)
    staying = set(current.members) & set(wanted.members)
    if before & staying - after:
        return "a witness has no payloads: remove it, and add an empty node under another name"
    if after & staying - before:
        return "only a node that is no member can become a witness"
    return ""


def promoted(current: Configuration, wanted: Configuration) -> tuple[NodeId, ...]:
    """The learners that become voters."""
    return tuple(sorted(set(current.learners) & set(wanted.voters)))


def first_step(current: Configuration, wanted: Configuration) -> Configuration:
    """What the leader appends: the joint configuration, or at once the wanted one if the voters stay.

    Requires: `current` is not joint, and `fault_of(current, wanted)` is empty.
    """
    if current.voters == wanted.voters:
        return wanted
    demoted = set(wanted.learners) & set(current.voters)
    return Configuration(
        voters=wanted.voters,
        outgoing=current.voters,
        learners=tuple(sorted(set(wanted.learners) - demoted)),
        learners_next=tuple(sorted(demoted)),
        witnesses=tuple(sorted({*current.witnesses, *wanted.witnesses})),
    )


def last_step(joint: Configuration) -> Configuration:
    """What ends the joint phase."""
    return Configuration(
        voters=joint.voters,
        learners=tuple(sorted({*joint.learners, *joint.learners_next})),
        witnesses=tuple(sorted(set(joint.witnesses) & set(joint.voters))),
    )

"""What must always be true of raft, by name; run after every simulated step.

    watch = Watch()
    watch.look(core)                    after each step (and once before the first)
    watch.sent(node, envelopes)         when messages leave a node (those of `sends`: after Synced)
    watch.handed_out(node, decisions)   when its host is given them
    watch.restarted(core)               when a node runs again, with its new core

The idea: properties over nodes are functions (properties.py) of one node and the history (history.py); a property over
what leaves a node is checked here, where it leaves. The first that does not hold is raised by its name.

The rule: a look costs what has changed since the last one.

Source: Ongaro & Ousterhout 2014, Figure 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onerack.errors import InvariantBroken
from onerack.raft.invariants.history import Glimpse, History, Observable, equal
from onerack.raft.invariants.properties import PROPERTIES
from onerack.raft.messages import Appended, Committed, Entry, Restore, SnapshotMark, Vote
from onerack.runtime.seam import Envelope, NodeId

__all__ = ["History", "Watch"]


class Watch:
    """Over one cluster, from its start."""

    def __init__(self) -> None:
        self.history = History()

    def look(self, core: Observable) -> None:
        """After a step: every property, then the portrait."""
        seen, history = Glimpse(core), self.history
        history.meet(seen)
        changed_from = history.changed_from(seen)
        for holds in PROPERTIES:
            complaint = holds(seen, history, changed_from)
            if complaint:
                raise InvariantBroken(holds.__name__, complaint)
        history.take(seen, changed_from)

    def restarted(self, core: Observable) -> None:
        """What a node has said before it crashed still binds it; what was in its memory only is gone."""
        before = self.history.portraits[core.node]
        promised, term = before.acknowledged, before.acknowledged_term
        if core.first_index - 1 <= promised and core.term_at(promised) != term:
            detail = f"{core.node} had acknowledged entry {promised} of term {term}; after the crash its log has " + (
                f"{core.term_at(promised)} there, and ends at {core.last_index}"
            )
            raise InvariantBroken("acknowledged_entries_are_durable", detail)
        self.history.forget_terms_behind(core)
        before.is_fresh = True
        before.handed_out = core.applied
        self.look(core)

    # ---------------------------------------------------------------------------------------- what leaves a node

    def sent(self, node: NodeId, envelopes: Iterable[Envelope]) -> None:
        """Votes and acknowledgements, which bind a node for ever."""
        for envelope in envelopes:
            message = envelope.message
            if isinstance(message, Appended):
                if message.accepted:
                    self._note_acknowledged(node, message)
            elif isinstance(message, Vote) and message.granted and not message.pre:
                self._note_vote(node, message.term, envelope.to)

    def _note_vote(self, node: NodeId, term: int, candidate: NodeId) -> None:
        said = self.history.votes.setdefault((node, term), candidate)
        if said != candidate:
            raise InvariantBroken("votes_never_change", f"{node} tells {candidate} what it told {said} in term {term}")

    def _note_acknowledged(self, node: NodeId, message: Appended) -> None:
        before = self.history.portraits[node]
        if before.term != message.term or message.index <= before.acknowledged:
            return  # said in a term that is over since: whatever it spoke of may be gone by now
        if message.index > before.durable:
            detail = f"{node} acknowledges {message.index}, but has only {before.durable} on its disk"
            raise InvariantBroken("acknowledged_entries_are_durable", detail)
        entry = before.entries.get(message.index)
        if entry is not None:
            before.acknowledged, before.acknowledged_term = message.index, entry.term

    def handed_out(self, node: NodeId, decisions: Iterable[Any]) -> None:
        """What the state machine is given: committed, without a gap, and each index once."""
        for decision in decisions:
            if isinstance(decision, Committed):
                for entry in decision.entries:
                    self._note_applied(node, entry)
            elif isinstance(decision, Restore):
                self._note_restored(node, decision.mark)

    def _note_applied(self, node: NodeId, entry: Entry) -> None:
        before = self.history.portraits[node]
        if entry.index != before.handed_out + 1:
            detail = f"{node} is given entry {entry.index} after {before.handed_out}"
            raise InvariantBroken("entries_are_applied_in_order", detail)
        before.handed_out = entry.index
        known = self.history.committed.get(entry.index)
        if known is None:
            detail = f"{node} is given entry {entry.index}, which nobody has committed"
            raise InvariantBroken("only_committed_entries_are_applied", detail)
        if not equal(entry, known.entry):
            raise InvariantBroken("state_machine_safety", f"{node} is given {entry}; committed is {known.entry}")

    def _note_restored(self, node: NodeId, mark: SnapshotMark) -> None:
        before = self.history.portraits[node]
        if mark.index <= before.handed_out:
            detail = f"{node} goes back from {before.handed_out} to the snapshot of {mark.index}"
            raise InvariantBroken("entries_are_applied_in_order", detail)
        if self.history.committed_term(mark.index) != mark.term:
            detail = f"{node} is given the snapshot of ({mark.index}, {mark.term}), which is not what was committed"
            raise InvariantBroken("state_machine_safety", detail)
        before.handed_out = mark.index

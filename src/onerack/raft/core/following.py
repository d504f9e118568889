"""Following: a follower makes its log the leader's.

The idea: an Append names the place before its first entry. If this log has that place with the same term, the logs
are equal up to there (the log matching property), and the entries go behind it; if not, the answer names the last
place where they may agree, so that the leader goes back by a whole term at a time.

The rules: only from the first entry whose *term* differs is anything removed, so an old or repeated message never
shortens the log; nothing committed is removed; the commit index moves at most to the last entry that this very message
covers, because behind it the log may still be another leader's.

Source: Ongaro & Ousterhout 2014, section 5.3, Figure 2 "AppendEntries RPC", and Figure 13 for snapshots.
"""

from __future__ import annotations

import msgspec

from onerack.errors import check
from onerack.raft.core.membership import decode_configuration
from onerack.raft.core.state import PeerState
from onerack.raft.messages import Append, Appended, Entry, Heartbeat, HeartbeatReply, Kind, SnapshotMark
from onerack.runtime.seam import NodeId


class Following:
    """Requires, for every method: the message's term is this node's, and its sender leads it."""

    def __init__(self, state: PeerState) -> None:
        self._state = state

    # -------------------------------------------------------------------------------------------------- entries

    def append(self, message: Append, leader: NodeId) -> None:
        state = self._state
        if not _is_well_formed(message):
            state.event("malformed_append", sender=leader, prev_index=message.prev_index)
            return
        agreed, entries = message.prev_index, message.entries
        if agreed < state.commit:
            # What is committed here is in every later leader's log, so only what lies behind it can be news.
            entries = self._behind_commit(message)
            agreed = state.commit
        elif state.log.term_at(agreed) != message.prev_term:
            index, term = state.log.last_agreeable(agreed, message.prev_term)
            state.send(leader, Appended(state.term, agreed, False, index, term))
            return
        self._take(entries)
        last = agreed + len(entries)
        state.commit_to(max(state.commit, min(message.commit, last)))
        if not message.quiet:
            state.send(leader, Appended(state.term, last, True))

    def _behind_commit(self, message: Append) -> tuple[Entry, ...]:
        commit = self._state.commit
        known = commit - message.prev_index
        if known <= len(message.entries):
            check(
                message.entries[known - 1].term == self._state.log.term_at(commit),
                f"the leader of term {message.term} has another entry {commit} than the one that is committed",
            )
        return message.entries[known:]

    def _take(self, entries: tuple[Entry, ...]) -> None:
        state = self._state
        new = entries[state.log.first_difference(entries) :]
        if not new:
            return
        if new[0].index <= state.log.last_index:
            state.event("truncates", index=new[0].index, last_index=state.log.last_index)
            state.truncate_from(new[0].index)
        state.append(new)

    # ----------------------------------------------------------------------------------------------- heartbeats

    def heartbeat(self, message: Heartbeat, leader: NodeId) -> None:
        """The leader sends no commit index that this node has not acknowledged: it may be believed."""
        state = self._state
        if message.commit > state.log.last_index:
            check(
                False,
                f"{leader} knows that entry {message.commit} was durable here, but the log ends at "
                f"{state.log.last_index}: {state.node} has lost its disk, and must be removed and added anew",
            )
        state.commit_to(message.commit)
        state.send_early(leader, HeartbeatReply(state.term, message.round))

    # ------------------------------------------------------------------------------------------------ snapshots

    def snapshot(self, mark: SnapshotMark) -> None:
        """A whole one is durable here; it replaces what this node has, unless the log has it all."""
        state = self._state
        if mark.index <= state.commit:
            state.event("snapshot_is_old", index=mark.index, commit=state.commit)
        elif state.log.term_at(mark.index) == mark.term:
            state.commit_to(mark.index)
        else:
            state.restore(mark)
            state.event("restores", index=mark.index, term=mark.term)
        if state.leader not in ("", state.node):
            state.send(state.leader, Appended(state.term, max(mark.index, state.commit), True))


def _is_well_formed(message: Append) -> bool:
    """What any other node may be trusted with, as long as it speaks the protocol; a bug there must not stop us here."""
    term = message.prev_term
    if message.prev_index < 0 or term < 0 or term > message.term:
        return False
    for place, entry in enumerate(message.entries, message.prev_index + 1):
        if entry.index != place or not term <= entry.term <= message.term or not _is_readable(entry):
            return False
        term = entry.term
    return True


def _is_readable(entry: Entry) -> bool:
    if entry.kind == Kind.CONFIGURATION:
        try:
            decode_configuration(entry.payload)
        except msgspec.DecodeError:
            return False
    return True

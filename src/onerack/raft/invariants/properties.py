"""The properties: what is true of raft at all times, each by the paper's name.

The idea: a property is a function of one node, as it is after a step, and of the history until then. It answers with
what is wrong, or nothing. The five of Figure 3 come first, then what the paper says in passing, and then those of a
node by itself.

The rule: none of them trusts a core's word where the history can tell: what is committed is what was first seen to be,
and whether a quorum has it is looked up in the portraits of the others.

Source: Ongaro & Ousterhout 2014, Figure 3 and section 5.4; Ongaro's dissertation 2014, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable

from onerack.raft.invariants.history import History, Observable, equal
from onerack.raft.messages import NOBODY, Kind
from onerack.runtime.seam import NodeId

Property = Callable[[Observable, History, int], str]
"""The last argument: the first index at which the node's log has changed since the last look."""


# ---------------------------------------------------------------------------------------------------------- Figure 3


def election_safety(core: Observable, history: History, changed_from: int) -> str:
    """At most one leader can be elected in a given term."""
    if core.role != "leader":
        return ""
    first = history.leaders.get(core.term, core.node)
    return "" if first == core.node else f"{first} and {core.node} both lead term {core.term}"


def leader_append_only(core: Observable, history: History, changed_from: int) -> str:
    """A leader never overwrites or deletes entries in its log; it only appends new entries."""
    before = history.portraits[core.node]
    leads_still = before.role == core.role == "leader" and before.term == core.term and not before.is_fresh
    if not leads_still or (core.last_index >= before.last_index and changed_from > before.last_index):
        return ""
    return f"the leader {core.node} of term {core.term} changed entry {min(changed_from, core.last_index + 1)}"


def log_matching(core: Observable, history: History, changed_from: int) -> str:
    """If two logs contain an entry with the same index and term, they are identical up to it.

    By induction: the same entry, behind an entry of the same term.
    """
    for index in range(max(changed_from, core.first_index), core.last_index + 1):
        entry = core.entry_at(index)
        if entry is None or entry.index != index:
            return f"{core.node} has {entry} where entry {index} belongs"
        place = history.places.get((index, entry.term))
        if place is None:
            continue
        if not equal(entry, place.entry):
            return f"{core.node} has another entry {index} of term {entry.term} than others: {entry}, {place.entry}"
        term_before = core.term_at(index - 1)
        if None not in (term_before, place.term_before) and term_before != place.term_before:
            return f"{core.node} has term {term_before} before ({index}, {entry.term}), others {place.term_before}"
    return ""


def leader_completeness(core: Observable, history: History, changed_from: int) -> str:
    """If an entry is committed in a given term, it is in the logs of the leaders of all higher terms."""
    before = history.portraits[core.node]
    if core.role != "leader" or (before.role == "leader" and before.term == core.term and not before.is_fresh):
        return ""
    index = history.last_committed
    while index in history.committed and history.committed[index].term >= core.term:
        index -= 1
    term = history.committed_term(index)
    if index < core.first_index or term is None or core.term_at(index) == term:
        return ""
    return f"{core.node} leads term {core.term} without the committed entry {index} of term {term}"


def state_machine_safety(core: Observable, history: History, changed_from: int) -> str:
    """No two nodes commit different entries at the same index."""
    before = history.portraits[core.node]
    start = max(1 if before.is_fresh else before.commit + 1, core.first_index)
    for index in range(start, core.commit + 1):
        entry = core.entry_at(index)
        known = history.committed.get(index)
        if entry is None:
            return f"{core.node} has committed {index}, and does not have it"
        if known is not None and not equal(entry, known.entry):
            return f"{core.node} has committed {entry}, others {known.entry}"
    return ""


# --------------------------------------------------------------------------------------------------- in passing


def committed_entries_stay(core: Observable, history: History, changed_from: int) -> str:
    """What a node knows to be committed is never removed from its log, nor replaced."""
    before = history.portraits[core.node]
    lost = min(changed_from, core.last_index + 1)
    if before.is_fresh or lost > before.commit or core.first_index > before.commit:
        return ""
    return f"{core.node} has changed entry {lost}, but everything up to {before.commit} is committed"


def commits_are_on_a_quorum(core: Observable, history: History, changed_from: int) -> str:
    """An entry is committed once its leader has replicated it on a majority: on their disks; in the joint phase, on
    both majorities'."""
    if not history.leads(core) or core.commit <= history.last_committed:
        return ""
    term = core.term_at(core.commit)
    if term != core.term:
        return f"the leader {core.node} of term {core.term} counted entry {core.commit} of term {term}"

    def has_it(node: NodeId) -> bool:
        return core.durable >= core.commit if node == core.node else history.portraits[node].has(core.commit, term)

    # A step that commits may append another configuration; the quorum is that of the one which held before.
    configuration = history.portraits[core.node].configuration
    for voters in (configuration.voters, configuration.outgoing):
        if voters and 2 * sum(has_it(voter) for voter in voters) <= len(voters):
            return f"{core.node} committed entry {core.commit}, which no majority of {', '.join(voters)} has"
    return ""


def leaders_commit_first(core: Observable, history: History, changed_from: int) -> str:
    """A follower learns what is committed from its leader."""
    if history.leads(core) or core.commit <= history.last_committed:
        return ""
    return f"{core.node} follows, and has committed {core.commit}; the leaders have {history.last_committed}"


def one_change_at_a_time(core: Observable, history: History, changed_from: int) -> str:
    """A leader does not begin a change of the configuration while another one is not committed."""
    if core.role != "leader":
        return ""
    for index in range(max(changed_from, core.first_index), core.last_index + 1):
        entry = core.entry_at(index)
        if entry is None or entry.kind != Kind.CONFIGURATION or entry.term != core.term:
            continue
        for earlier in range(max(core.commit + 1, core.first_index), index):
            other = core.entry_at(earlier)
            if other is not None and other.kind == Kind.CONFIGURATION:
                return f"{core.node} began the change at {index} while the one at {earlier} is not committed"
    return ""


def witnesses_never_lead(core: Observable, history: History, changed_from: int) -> str:
    """A witness has no payloads, so nobody may learn from it."""
    if core.is_witness and core.role != "follower":
        return f"the witness {core.node} is {core.role} of term {core.term}"
    return ""


# ------------------------------------------------------------------------------------------------ a node by itself


def terms_never_fall(core: Observable, history: History, changed_from: int) -> str:
    """A node's term increases monotonically, over time and along its log."""
    before = history.portraits[core.node]
    if not before.is_fresh and core.term < before.term:
        return f"the term of {core.node} fell from {before.term} to {core.term}"
    for index in range(max(changed_from, core.first_index), core.last_index + 1):
        here, there = core.term_at(index), core.term_at(index - 1)
        if here is not None and there is not None and here < there:
            return f"in the log of {core.node} the term falls from {there} to {here} at {index}"
    if (core.term_at(core.last_index) or 0) > core.term:
        return f"the log of {core.node} ends in a later term than its own, {core.term}"
    return ""


def votes_never_change(core: Observable, history: History, changed_from: int) -> str:
    """A node votes for at most one candidate in a term; what it has said binds it over a crash, too."""
    before, vote = history.portraits[core.node], core.hard_state.vote
    if not before.is_fresh and before.term == core.term and before.vote not in (NOBODY, vote):
        return f"{core.node} voted for {before.vote} in term {core.term}, then for {vote or 'nobody'}"
    said = history.votes.get((core.node, core.term), NOBODY)
    if said not in (NOBODY, vote):
        return f"{core.node} has told {said} that it votes for it in term {core.term}, and has voted for {vote!r}"
    return ""


def commit_never_falls(core: Observable, history: History, changed_from: int) -> str:
    """Commit index and last applied increase monotonically, within a run."""
    before = history.portraits[core.node]
    if before.is_fresh:
        return ""
    if core.commit < before.commit:
        return f"the commit index of {core.node} fell from {before.commit} to {core.commit}"
    if core.applied < before.applied:
        return f"what {core.node} has applied fell from {before.applied} to {core.applied}"
    return ""


def bounds_hold(core: Observable, history: History, changed_from: int) -> str:
    """snapshot <= applied <= commit <= last; nothing is cut that is not applied; the disk has no more than the log."""
    if not core.mark.index <= core.applied <= core.commit <= core.last_index:
        return f"{core.node}: snapshot {core.mark.index}, applied {core.applied}, commit {core.commit}, " + (
            f"last {core.last_index}"
        )
    if core.first_index > core.applied + 1:
        return f"{core.node} has cut its log to {core.first_index}, but has applied only {core.applied}"
    if core.durable > core.last_index:
        return f"{core.node} counts {core.durable} as durable, but its log ends at {core.last_index}"
    return ""


PROPERTIES: tuple[Property, ...] = (
    bounds_hold,
    election_safety,
    leader_append_only,
    log_matching,
    leader_completeness,
    state_machine_safety,
    committed_entries_stay,
    commits_are_on_a_quorum,
    leaders_commit_first,
    one_change_at_a_time,
    witnesses_never_lead,
    terms_never_fall,
    votes_never_change,
    commit_never_falls,
)

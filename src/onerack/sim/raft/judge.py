"""The judge: what must be true of a raft cluster, watched from outside, step by step and at the end.

The idea: it sees all nodes at once, which no node can, and their disks, which no protocol may. So it need not believe
what cores say: who is a leader is known from their words, what is committed is what somebody has applied, what is
durable is what the disk would give back now.

    election_safety            one leader in a term
    one_vote_per_term          a node's votes that have left it never name two candidates in one term
    said_after_durable         whatever word follows from a write leaves after the write is durable
    leader_append_only         a leader never replaces what is in its log
    log_matching               two entries of one index and term are equal, and so is what lies before them
    leader_completeness        a leader's log has everything that was ever committed
    state_machine_safety       at one index, all nodes apply the same
    committed_is_durable       what a leader takes for committed is on the disks of a majority
    committed_is_never_removed nobody writes over what it knows to be committed

The rule: each is checked on what has changed, so that it costs next to nothing; and each has the paper's name, if the
paper names it.

Source: Ongaro & Ousterhout 2014, Figure 3, and sections 5.2 to 5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from onerack.raft.core import decode_configuration
from onerack.raft.messages import Appended, Configuration, Entry, HardState, Kind, LogReset, SnapshotMark, Vote
from onerack.sim.checker import APPENDS, REGISTER, Operation, check_linearizable, check_zones
from onerack.sim.checker.history import by_key

if TYPE_CHECKING:
    from onerack.sim.raft.node import SimNode


class Broken(AssertionError):
    """A property does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise Broken(name, detail)


class Judge:
    def __init__(self, nodes: dict[str, SimNode]) -> None:
        self._nodes = nodes
        self.leaders: dict[int, str] = {}
        """Term -> its leader."""
        self.committed: list[tuple[int, bytes, str]] = [(0, b"", "")]
        """Index -> term and payload of what was applied there first, and by whom."""
        self._known_in: list[int] = [0]
        """Index -> the term of whoever applied it first: it was committed then or before."""
        self._configurations: list[tuple[int, Configuration]] = []
        """Index -> the configuration that was committed there."""
        self._votes: dict[tuple[str, int], str] = {}
        self._places: dict[tuple[int, int], tuple[int, bytes, int]] = {}
        """(index, term) -> kind and payload, and the term before it, of every entry that was ever written."""
        self._seen: dict[str, tuple[int, int, int, str]] = {}
        """Node -> life, term, commit index, role, at the last look."""

    def booted(self, node: SimNode) -> None:
        """What a node led alone and lost before it was durable, nobody has heard of: it may lead that term again, or
        somebody else with its vote."""
        led = [term for term, leader in self.leaders.items() if leader == node.name and term > node.core.term]
        for place in [place for place in self._places if place[1] in led]:
            del self._places[place]
        if node.core.configuration.voters == (node.name,):
            for term in led:
                del self.leaders[term]

    # ------------------------------------------------------------------------------------------------ after each step

    def look(self, node: SimNode) -> None:
        core = node.core
        now = (node.life, core.term, core.commit, core.role)
        before = self._seen.get(node.name)
        if now == before:
            return
        self._seen[node.name] = now
        life, term, commit, role = before or (0, 0, 0, "follower")
        require(core.term >= term or life != node.life, "terms_never_fall", f"{node.name}: {term}, then {core.term}")
        if life == node.life:
            require(core.commit >= commit, "commit_never_falls", f"{node.name}: {commit}, then {core.commit}")
        else:
            commit = 0
        if core.role == "leader":
            if role != "leader" or term != core.term or life != node.life:
                self._crowned(node)
            if core.commit > commit:
                self._check_durable(node)

    def _crowned(self, node: SimNode) -> None:
        core = node.core
        other = self.leaders.setdefault(core.term, node.name)
        require(other == node.name, "election_safety", f"{other} and {node.name} lead in term {core.term}")
        for index in range(max(1, core.first_index), len(self.committed)):
            # One who hears only now that it was elected long ago need not have what was committed since.
            if self._known_in[index] < core.term:
                term, found = self.committed[index][0], core.term_at(index)
                require(found == term, "leader_completeness", f"{node.name} has {index} of term {found}, not of {term}")

    def _check_durable(self, node: SimNode) -> None:
        """Requires of the leader's commit index that majorities of its newest configuration hold the entry."""
        core = node.core
        index, term = core.commit, core.term_at(core.commit)
        if term is None or index > core.last_index:
            return
        configuration = core.configuration
        for voters in (configuration.voters, configuration.outgoing):
            holders = [name for name in voters if self._holds(name, index, term)]
            enough = not voters or len(holders) > len(voters) // 2
            detail = f"{node.name} takes {index} of term {term} for committed; of {voters} only {holders} hold it"
            require(enough, "committed_is_durable", detail)

    def _holds(self, name: str, index: int, term: int) -> bool:
        node = self._nodes.get(name)
        return node is not None and node.storage.durable.holds(index, term)

    # ------------------------------------------------------------------------------------------------ what is written

    def written(self, node: SimNode, writes: Sequence[Any]) -> None:
        if not writes:
            return
        core = node.core
        order = [type(record) for record in writes]
        hard_states, resets = order.count(HardState), order.count(LogReset)
        in_order = order == [HardState] * hard_states + [LogReset] * resets + [Entry] * (
            len(order) - hard_states - resets
        )
        require(hard_states <= 1 and resets <= 1 and in_order, "writes_are_in_order", f"{node.name}: {order}")
        for record in writes:
            if isinstance(record, Entry):
                self._written(node, record, is_witness=node.name in core.configuration.witnesses)

    def _written(self, node: SimNode, entry: Entry, *, is_witness: bool) -> None:
        index = entry.index
        if index < len(self.committed) and index <= node.applied:
            term = self.committed[index][0]
            require(entry.term == term, "committed_is_never_removed", f"{node.name} writes {entry} over term {term}")
        previous = node.core.term_at(index - 1)
        if previous is None or is_witness:
            return
        place = (entry.kind, entry.payload, previous)
        known = self._places.setdefault((index, entry.term), place)
        require(known == place, "log_matching", f"{node.name} writes {entry} behind term {previous}, {known} elsewhere")

    # ------------------------------------------------------------------------------------------------ what is said

    def leaving(self, node: SimNode, to: str, message: Any) -> None:
        if isinstance(message, Vote):
            if message.granted and not message.pre:
                self._voted(node, to, message)
        elif isinstance(message, Appended) and message.accepted:
            durable = node.storage.durable
            last = max(durable.last_index, durable.mark.index)
            said = f"{node.name} tells {to} that it has {message.index}, and the disk ends at {last}"
            require(message.index <= last, "said_after_durable", said)
            require(durable.hard_state.term >= message.term, "said_after_durable", f"{node.name}: term {message.term}")

    def _voted(self, node: SimNode, to: str, vote: Vote) -> None:
        hard_state = node.storage.durable.hard_state
        kept = hard_state.term > vote.term or (hard_state.term == vote.term and hard_state.vote == to)
        require(kept, "said_after_durable", f"{node.name} gives {to} its vote of {vote.term}, and has {hard_state}")
        before = self._votes.setdefault((node.name, vote.term), to)
        require(before == to, "one_vote_per_term", f"{node.name} votes for {before} and {to} in term {vote.term}")

    # ------------------------------------------------------------------------------------------------ what is applied

    def applying(self, node: SimNode, entry: Entry) -> None:
        index = entry.index
        require(index == node.applied + 1, "applied_in_order", f"{node.name} applies {index} after {node.applied}")
        require(index <= len(self.committed), "applied_in_order", f"{node.name} applies {index} before anything else")
        if index == len(self.committed):
            self.committed.append((entry.term, entry.payload, node.name))
            self._known_in.append(node.core.term)
            if entry.kind == Kind.CONFIGURATION:
                self._configurations.append((index, decode_configuration(entry.payload)))
            return
        term, payload, first = self.committed[index]
        same = entry.term == term and (entry.payload == payload or not entry.payload or not payload)
        detail = f"{node.name} applies {entry}, {first} had term {term} there: {payload!r}"
        require(same, "state_machine_safety", detail)
        if entry.payload and not payload:
            self.committed[index] = (term, entry.payload, node.name)

    def snapshotted(self, node: SimNode, mark: SnapshotMark) -> None:
        """A snapshot of its own is durable."""
        known = [configuration for index, configuration in self._configurations if index <= mark.index]
        right = not known or mark.configuration == known[-1]
        require(right, "snapshots_hold_their_configuration", f"{node.name}: {mark}, committed was {known[-1:]}")

    def restored(self, node: SimNode, mark: SnapshotMark) -> None:
        known = mark.index < len(self.committed) and self.committed[mark.index][0] == mark.term
        require(known, "state_machine_safety", f"{node.name} becomes {mark}, which was never committed")

    # ------------------------------------------------------------------------------------------------ the end

    def check_replicas(self, configuration: Configuration) -> None:
        """All members that have the payloads are in the same state."""
        members = [name for name in configuration.members if name not in configuration.witnesses]
        images = {name: self._nodes[name].machine.image() for name in members}
        first = members[0]
        for name in members[1:]:
            require(images[name] == images[first], "replicas_are_equal", f"{first} and {name} differ")


SEARCH_STEPS_MAX: Final = 100_000
"""For each key. Of a thousand keys one needs more, and then mostly far more."""


def check_history(operations: list[Operation]) -> int:
    """Both checkers, each on what it understands; returns how many keys the search gave up."""
    unknown = 0
    for key, mine in by_key(operations).items():
        verdict = check_linearizable(mine, APPENDS if key.startswith("l") else REGISTER, SEARCH_STEPS_MAX)
        require(not verdict.anomalies, "linearizability", "\n".join(map(str, verdict.anomalies)))
        unknown += len(verdict.unknown)
    verdict = check_zones(each for each in operations if each.key.startswith("r"))
    require(not verdict.anomalies, "linearizability", "\n".join(map(str, verdict.anomalies)))
    return unknown

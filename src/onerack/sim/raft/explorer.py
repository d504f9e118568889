"""The explorer: every run of a small cluster, up to a bound, instead of some runs of a large one.

The idea: from each state try every move, and go on from each state that was not seen before. Random schedules rarely
take the one path in millions that leads into Figure 8; here none is left out. To keep the number of states small, some
things are one move: an election (a candidate and one voter, of three nodes, until it is decided), and a message with
the answer to it. What was on its way when an election begins is lost.

    elect(n, v)     n's timer rings, v hears it; the third node hears nothing
    propose(n)      a leader takes a command
    pass(a, b)      the oldest message from a to b arrives, and so do the answers to it
    drop(a, b)      it arrives, and the answers are lost
    crash(n)        n loses what is not durable, and comes back

The rules: disks are instant, so a crash takes only what is in memory; times are no part of a state, because every move
lets enough of it pass. After each move: one leader in a term, and at each index all apply the same.

Source: Ongaro & Ousterhout 2014, Figure 8.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from types import MethodType
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from onerack.raft.core import RaftCore
from onerack.raft.messages import Committed, Configuration, Propose, RequestVote, Synced, Vote
from onerack.runtime.seam import Output, Tick
from onerack.sim.raft.disk import Durable
from onerack.sim.raft.judge import Broken, require
from onerack.sim.raft.kit import Boot, Kit
from onerack.sim.raft.options import small_world
from onerack.sim.seeds import stream

NAMES: Final = ("n1", "n2", "n3")
FIRST: Final = Configuration(voters=NAMES)
CONFIG: Final = replace(small_world().config, append_bytes_max=1, in_flight_max=1)
"""Entries travel alone; a batch would hide what happens between them."""

Move = tuple[str, ...]


class Bounds(msgspec.Struct, frozen=True):
    elections: int = 4
    proposals: int = 1
    crashes: int = 0
    drops: int = 0
    moves: int = 9
    states: int = 100_000


class Explored(msgspec.Struct, frozen=True):
    states: int
    moves: int
    complete: bool
    """False: the bound of states was met first."""


class Found(Broken):
    """Something is wrong; `path` are the moves that lead there."""

    def __init__(self, broken: Exception, path: tuple[Move, ...]) -> None:
        super().__init__(getattr(broken, "name", type(broken).__name__), f"{broken}, after {path}")
        self.path = path


class _Node:
    """A core with an instant disk."""

    def __init__(self, core: RaftCore, durable: Durable, life: int = 1) -> None:
        self.core = core
        self.durable = durable
        self.life = life
        self.now = 0.0

    def copy(self) -> _Node:
        durable = copy.copy(self.durable)
        durable.entries = list(durable.entries)
        node = _Node(_clone(self.core, {}), durable, self.life)
        node.now = self.now
        return node


_PARTS: Final = ("onerack.raft.core", "onerack.sim.raft.planted")


def _clone(thing: Any, memo: dict[int, Any]) -> Any:
    """A copy of a core, as far as it changes: its own parts, lists, tables; all else is frozen, or may be shared.

    `copy.deepcopy` does the same, and takes twenty times as long.
    """
    kind = type(thing)
    if kind is list or kind is deque:
        return kind(_clone(each, memo) for each in thing)
    if kind is dict:
        return {key: _clone(each, memo) for key, each in thing.items()}
    if kind is Output:
        return Output([*thing.writes], [*thing.sends], [*thing.applied], [*thing.events], [*thing.early])
    if kind is MethodType:
        return MethodType(thing.__func__, _clone(thing.__self__, memo))
    if not kind.__module__.startswith(_PARTS) or (not hasattr(thing, "__dict__") and not hasattr(thing, "__slots__")):
        return thing
    if isinstance(thing, tuple):
        return kind(*(_clone(each, memo) for each in thing))  # a Round, with its list of readers
    if (copied := memo.get(id(thing))) is not None:
        return copied
    memo[id(thing)] = copied = object.__new__(kind)
    for name in getattr(kind, "__slots__", ()) or thing.__dict__:
        setattr(copied, name, _clone(getattr(thing, name), memo))
    return copied


class _State:
    """Of the whole cluster. What a move changes is copied first, the rest is shared."""

    def __init__(self) -> None:
        self.nodes: dict[str, _Node] = {}
        self.mail: dict[tuple[str, str], tuple[Any, ...]] = {}
        self.committed: tuple[tuple[int, bytes], ...] = ()
        self.leaders: dict[int, str] = {}
        self.elections = self.proposals = self.crashes = self.drops = 0

    def copy(self, *changing: str) -> _State:
        state = _State()
        state.nodes = dict(self.nodes)
        for name in changing:
            state.nodes[name] = self.nodes[name].copy()
        state.mail, state.leaders, state.committed = dict(self.mail), dict(self.leaders), self.committed
        state.elections, state.proposals = self.elections, self.proposals
        state.crashes, state.drops = self.crashes, self.drops
        return state

    def key(self) -> tuple[Any, ...]:
        """Equal for states that only differ in time."""
        nodes = tuple(_portrait(self.nodes[name]) for name in NAMES)
        mail = tuple(sorted((pair, letters) for pair, letters in self.mail.items() if letters))
        return nodes, repr(mail), self.committed, self.elections, self.proposals, self.crashes, self.drops


def _portrait(node: _Node) -> tuple[Any, ...]:
    core = node.core
    log = tuple((entry.term, entry.kind, entry.payload) for entry in node.durable.entries)
    progress = tuple((peer, each.state, each.match, each.next, each.waits) for peer, each in core.progress.items())
    return core.hard_state, core.role, core.leader, core.commit, log, progress if core.role == "leader" else ()


def explore(kit: Kit, bounds: Bounds | None = None, start: tuple[Move, ...] = ()) -> Explored:
    """Everything that can follow on the moves `start`, which count. Raises: Found."""
    bounds = bounds or Bounds()
    explorer = _Explorer(kit, bounds)
    first = explorer.begin()
    for move in start:
        reached = explorer.make(first, move)
        assert reached is not None, f"{move} leads nowhere"
        first = reached
    seen = {first.key()}
    waiting: deque[tuple[_State, tuple[Move, ...]]] = deque([(first, start)])
    tried = 0
    while waiting:
        state, path = waiting.popleft()
        for move in explorer.moves(state):
            tried += 1
            try:
                reached = explorer.make(state, move)
            except Exception as broken:
                raise Found(broken, (*path, move)) from broken
            if reached is None or (key := reached.key()) in seen:
                continue
            seen.add(key)
            if len(seen) >= bounds.states:
                return Explored(len(seen), tried, False)
            if len(path) + 1 < bounds.moves:
                waiting.append((reached, (*path, move)))
    return Explored(len(seen), tried, True)


class _Explorer:
    def __init__(self, kit: Kit, bounds: Bounds) -> None:
        kit.chance = lambda name: stream(0, name)
        self._kit = kit
        self._bounds = bounds

    def begin(self) -> _State:
        state = _State()
        for name in NAMES:
            durable = Durable(FIRST)
            state.nodes[name] = _Node(self._boot(name, durable, 1), durable)
        return state

    def _boot(self, name: str, durable: Durable, life: int, now: float = 0.0) -> RaftCore:
        return self._kit.boot(Boot(name, life, durable.recover(), CONFIG, now))

    # ------------------------------------------------------------------------------------------------ the moves

    def moves(self, state: _State) -> Iterator[Move]:
        if not state.elections:
            yield "elect", "n1", "n2"  # all others are the same with other names
            return
        for pair, letters in sorted(state.mail.items()):
            if letters:
                yield "pass", *pair
                if state.drops < self._bounds.drops:
                    yield "drop", *pair
        for name in NAMES:
            if state.nodes[name].core.role == "leader" and state.proposals < self._bounds.proposals:
                yield "propose", name
            if state.crashes < self._bounds.crashes:
                yield "crash", name
        if state.elections < self._bounds.elections:
            newest = state.leaders[max(state.leaders)]
            for candidate in NAMES:
                if candidate == newest:
                    continue  # it would only lead another term
                for voter in NAMES:
                    if voter != candidate:
                        yield "elect", candidate, voter

    def make(self, before: _State, move: Move) -> _State | None:
        """The state after the move; None if it leads nowhere."""
        kind, *names = move
        state = before.copy(*names)
        if kind == "elect":
            return state if self._elect(state, *names) else None
        if kind == "propose":
            state.proposals += 1
            self._step(state, names[0], Propose(state.proposals, b"x%d" % state.proposals), names[0])
        elif kind == "crash":
            state.crashes += 1
            self._crash(state, names[0])
        else:
            state.drops += kind == "drop"
            self._pass(state, names[0], names[1], answers=kind == "pass")
        return state

    def _elect(self, state: _State, candidate: str, voter: str) -> bool:
        state.elections += 1
        state.mail.clear()
        for _ in range(3):
            # A leader first notices that nobody answers; a candidate may have to hear of a newer term first.
            for name in (candidate, voter):
                state.nodes[name].now += 1.0
            self._step(state, candidate, Tick(), candidate)
            self._exchange(state, candidate, voter, RequestVote | Vote)
            if state.nodes[candidate].core.role == "leader":
                break
        state.mail = {
            pair: tuple(letter for letter in letters if not isinstance(letter, RequestVote | Vote))
            for pair, letters in state.mail.items()
        }
        return state.nodes[candidate].core.role == "leader"

    def _exchange(self, state: _State, one: str, other: str, kinds: Any) -> None:
        for _ in range(6):
            for sender, to in ((one, other), (other, one)):
                letters = state.mail.get((sender, to), ())
                state.mail[sender, to] = tuple(letter for letter in letters if not isinstance(letter, kinds))
                for letter in letters:
                    if isinstance(letter, kinds):
                        self._step(state, to, letter, sender)

    def _pass(self, state: _State, sender: str, to: str, *, answers: bool) -> None:
        letter, *rest = state.mail[sender, to]
        state.mail[sender, to] = tuple(rest)
        back = len(state.mail.get((to, sender), ()))
        self._step(state, to, letter, sender)
        answered = state.mail.get((to, sender), ())
        state.mail[to, sender] = answered[:back]
        for answer in answered[back:] if answers else ():
            self._step(state, sender, answer, to)

    def _crash(self, state: _State, name: str) -> None:
        node = state.nodes[name]
        node.life += 1
        node.core = self._boot(name, node.durable, node.life, node.now)
        state.mail = {pair: letters for pair, letters in state.mail.items() if name not in pair}

    # ------------------------------------------------------------------------------------------------ the host

    def _step(self, state: _State, name: str, message: Any, sender: str) -> None:
        node = state.nodes[name]
        node.core.step(message, sender, node.now)
        while True:
            output = node.core.drain()
            for record in output.writes:
                node.durable.write(record)
            if output.writes:
                node.core.step(Synced(), name, node.now)
            for envelope in (*output.early, *output.sends):
                pair = (name, envelope.to)
                state.mail[pair] = (*state.mail.get(pair, ()), envelope.message)
            for decision in output.applied:
                if isinstance(decision, Committed):
                    self._apply(state, name, decision)
            if not output.writes and not output.early:
                break
        if node.core.role == "leader":
            first = state.leaders.setdefault(node.core.term, name)
            require(first == name, "election_safety", f"{first} and {name} lead in term {node.core.term}")

    def _apply(self, state: _State, name: str, decision: Committed) -> None:
        for entry in decision.entries:
            found = (entry.term, entry.payload)
            if entry.index > len(state.committed):
                state.committed = (*state.committed, found)
            known = state.committed[entry.index - 1]
            require(known == found, "state_machine_safety", f"{name} applies {found} at {entry.index}, not {known}")

"""One core, driven message by message: n1 of a cluster whose other nodes are the test itself."""

from __future__ import annotations

from random import Random
from typing import Any

from onerack.config import RaftConfig
from onerack.raft.core import RaftCore
from onerack.raft.messages import (
    NOBODY,
    Appended,
    Configuration,
    Entry,
    HardState,
    Kind,
    Propose,
    Recovered,
    SnapshotMark,
    Synced,
    Vote,
)
from onerack.runtime.seam import Output, Tick
from tests.raft.network import CONFIG, drained

T = CONFIG.election_timeout_s


def log_of(*terms: int) -> tuple[Entry, ...]:
    """A log with these terms, from index 1 on."""
    return tuple(Entry(term, index, Kind.COMMANDS, b"x") for index, term in enumerate(terms, 1))


def peer(
    *terms: int,
    term: int | None = None,
    vote: str = NOBODY,
    size: int = 3,
    seed: int = 1,
    config: RaftConfig = CONFIG,
    configuration: Configuration | None = None,
) -> RaftCore:
    """n1 of a cluster, as it starts with this log."""
    voters = tuple(f"n{number}" for number in range(1, size + 1))
    mark = SnapshotMark(configuration=configuration or Configuration(voters=voters))
    hard_state = HardState(max((0, *terms)) if term is None else term, vote)
    return RaftCore("n1", Recovered(hard_state, mark, log_of(*terms)), config, Random(seed), 0.0)


def flush(core: RaftCore, now: float = 0.0) -> Output:
    """Everything that leaves, with the disk done."""
    output = drained(core)
    if output.writes:
        core.step(Synced(), core.node, now)
    return output


def campaign(core: RaftCore, now: float = 2 * T) -> None:
    """A candidate: its pre-vote has been granted."""
    core.step(Tick(), core.node, now)
    for voter in core.configuration.voters[1:]:
        core.step(Vote(core.term + 1, True, pre=True), voter, now)
        if core.role != "precandidate":
            break


def lead(core: RaftCore, now: float = 2 * T) -> RaftCore:
    campaign(core, now)
    for voter in core.configuration.voters[1:]:
        core.step(Vote(core.term, True), voter, now)
    assert core.role == "leader"
    return core


def messages_of(output: Output, kind: type) -> list[tuple[str, Any]]:
    return [
        (envelope.to, envelope.message)
        for envelope in (*output.early, *output.sends)
        if isinstance(envelope.message, kind)
    ]


def accept(core: RaftCore, *followers: str, index: int | None = None, now: float = 2 * T) -> None:
    """These have everything up to `index`, or all of the log."""
    for follower in followers:
        core.step(Appended(core.term, core.last_index if index is None else index, True), follower, now)


def propose(core: RaftCore, *payloads: bytes, now: float = 2 * T) -> None:
    for number, payload in enumerate(payloads, 1):
        core.step(Propose(number, payload), core.node, now)


def answers(output: Output, kind: type) -> list[Any]:
    """What the host is told of this kind."""
    return [decision for decision in output.applied if isinstance(decision, kind)]

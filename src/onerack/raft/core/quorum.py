"""Quorums: what a majority of the voters has, says or wants; in the joint phase, both majorities.

The idea: everything that raft asks a quorum is one of two questions. *How far?*: the largest value that a majority has
reached, be it a match index, a round of heartbeats, or a moment at which a node was heard. *Yes or no?*: whether an
election is won, lost, or open.

The rule: with `outgoing` not empty, both sets must agree; an empty set of voters agrees to nothing.

Source: Ongaro's dissertation 2014, section 4.3 (joint consensus); Ongaro & Ousterhout 2014, sections 5.2 and 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from onerack.raft.messages import Configuration
from onerack.runtime.seam import NodeId

Number = TypeVar("Number", int, float)


def reached(configuration: Configuration, value_of: Callable[[NodeId], Number], nothing: Number) -> Number:
    """The largest value that a quorum has reached; `nothing` where there is nobody to ask."""
    value = _majority_reached(configuration.voters, value_of, nothing)
    if configuration.outgoing:
        value = min(value, _majority_reached(configuration.outgoing, value_of, nothing))
    return value


def _majority_reached(voters: tuple[NodeId, ...], value_of: Callable[[NodeId], Number], nothing: Number) -> Number:
    if not voters:
        return nothing
    return sorted(map(value_of, voters))[(len(voters) - 1) // 2]


def verdict(configuration: Configuration, votes: Mapping[NodeId, bool]) -> bool | None:
    """True: a quorum has granted; False: that cannot happen any more; None: it is open."""
    verdicts = [_majority_verdict(configuration.voters, votes)]
    if configuration.outgoing:
        verdicts.append(_majority_verdict(configuration.outgoing, votes))
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _majority_verdict(voters: tuple[NodeId, ...], votes: Mapping[NodeId, bool]) -> bool | None:
    needed = len(voters) // 2 + 1
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted >= needed:
        return True
    return False if len(voters) - refused < needed else None


def all_voters(configuration: Configuration) -> tuple[NodeId, ...]:
    """Voters of both sets, sorted."""
    return tuple(sorted({*configuration.voters, *configuration.outgoing}))

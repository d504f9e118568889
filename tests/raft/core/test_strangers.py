"""Strangers: what somebody says of whom a node knows nothing. test_door.py has the same over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from onerack.raft.messages import (
    NOBODY,
    Append,
    Appended,
    Configuration,
    FindReadIndex,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    TimeoutNow,
    Vote,
)
from onerack.runtime.seam import Tick
from tests.raft.single import T, flush, lead, peer

CLAIMS = (Append(1, 0, 0, 0), Append(2, 0, 0, 0), Heartbeat(1, 0), Heartbeat(2, 0))
OTHERS = (
    RequestVote(9, 9, 9), RequestVote(9, 9, 9, transfer=True), Vote(9, False), Vote(9, True), Vote(9, False, pre=True),
    Appended(9, 0, False), HeartbeatReply(9), FindReadIndex(9, 1), TimeoutNow(9),
)  # fmt: skip


@pytest.mark.parametrize("message", [*CLAIMS, *OTHERS], ids=str)
def test_a_leader_is_not_deposed_nor_halted_by_a_stranger(message: Any) -> None:
    core = peer()
    lead(core)
    core.step(message, "x1", 2 * T)
    assert (core.role, core.term) == ("leader", 1)


@pytest.mark.parametrize("message", [*CLAIMS, *OTHERS], ids=str)
def test_a_follower_that_hears_its_leader_is_not_led_astray_by_a_stranger(message: Any) -> None:
    core = peer()
    core.step(Heartbeat(1, 0), "n2", 0.0)
    core.step(message, "x1", 0.5 * T)
    assert (core.leader, core.term) == ("n2", 1)


@pytest.mark.parametrize("message", [Append(5, 0, 0, 0), Heartbeat(5, 0)], ids=str)
def test_whom_it_does_not_know_may_lead_a_group_to_come_and_is_heard_when_nobody_leads(message: Any) -> None:
    core = peer()
    core.step(Heartbeat(1, 0), "n2", 0.0)
    core.step(message, "n9", 2 * T)
    assert (core.leader, core.term) == ("n9", 5)


def test_a_member_that_leads_is_followed_though_a_stranger_has_claimed_the_term() -> None:
    core = peer()
    core.step(Heartbeat(1, 0), "x1", 0.0)
    assert core.leader == "x1"
    core.step(Heartbeat(1, 0), "n2", 0.1 * T)
    assert core.leader == "n2"


def test_two_members_that_lead_one_term_still_halt_whoever_hears_of_it() -> None:
    core = peer()
    core.step(Heartbeat(1, 0), "n2", 0.0)
    with pytest.raises(AssertionError, match="n3 and n2 lead term 1"):
        core.step(Heartbeat(1, 0), "n3", 0.0)


def test_a_learner_that_knows_nobody_follows_the_next_leader_when_the_first_has_fallen_silent() -> None:
    """It has no timer of its own, so its leader stays named; but it is not near any more."""
    core = peer(configuration=Configuration())
    core.step(Heartbeat(1, 0), "n2", 0.0)
    core.step(Tick(), "n1", 2 * T)
    core.step(Heartbeat(2, 0), "n3", 2 * T)
    assert core.leader == "n3"
    flush(core)
    assert core.leader != NOBODY

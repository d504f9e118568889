"""Tests of the budget: who may read on when half-arrived attachments fill the memory."""

from __future__ import annotations

from onerack.config import MIB, RpcConfig
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.frames import TOGETHER_BYTES_MAX

CONFIG = RpcConfig(attachment_bytes_max=TOGETHER_BYTES_MAX, unfinished_bytes_max=TOGETHER_BYTES_MAX + 10 * MIB)
"""So all may hold 10 MiB together; beyond, one goes on."""


def test_all_may_read_while_there_is_room() -> None:
    budget = Budget(CONFIG)
    for holder in "abc":
        budget.take(holder, 3 * MIB)
    assert all(budget.has_room_for(holder) for holder in "abcd")


def test_beyond_it_the_first_goes_on_and_the_others_wait() -> None:
    budget = Budget(CONFIG)
    for holder in "abc":
        budget.take(holder, 4 * MIB)
    assert [holder for holder in "abc" if budget.has_room_for(holder)] == ["a"]
    assert budget.has_room_for("d"), "one that has nothing unfinished takes no room"


def test_who_finishes_something_and_has_more_goes_to_the_end_of_the_line() -> None:
    budget = Budget(CONFIG)
    for holder in "abc":
        budget.take(holder, 5 * MIB)
    budget.give_back("a", MIB)
    assert [holder for holder in "abc" if budget.has_room_for(holder)] == ["b"]


def test_those_who_wait_are_called_when_there_is_room() -> None:
    budget, called = Budget(CONFIG), list[str]()
    for holder in "abc":
        budget.take(holder, 5 * MIB)
        budget.wait(holder, lambda holder=holder: called.append(holder))  # type: ignore[misc]
    budget.leave("a")
    assert called == ["b", "c"], "10 MiB are left, which is room for all"
    assert budget.used_bytes == 10 * MIB
    budget.leave("b")
    assert called == ["b", "c"], "each is called once"


def test_only_the_one_whose_turn_it_is_is_called_when_there_is_still_no_room() -> None:
    budget, called = Budget(CONFIG), list[str]()
    for holder in "abcd":
        budget.take(holder, 5 * MIB)
        budget.wait(holder, lambda holder=holder: called.append(holder))  # type: ignore[misc]
    budget.leave("a")
    assert called == ["b"]


def test_one_that_rests_does_not_hold_up_the_others() -> None:
    budget, called = Budget(CONFIG), list[str]()
    for holder in "abc":
        budget.take(holder, 5 * MIB)
    budget.wait("b", lambda: called.append("b"))
    budget.rest("a", True)
    assert called == ["b"]
    assert [holder for holder in "abc" if budget.has_room_for(holder)] == ["b"]
    budget.rest("a", False)
    assert [holder for holder in "abc" if budget.has_room_for(holder)] == ["a"]


def test_everything_is_given_back() -> None:
    budget = Budget(CONFIG)
    budget.take("a", 5)
    budget.take("a", 7)
    budget.give_back("a", 12)
    budget.take("b", 1)
    budget.leave("b")
    budget.leave("stranger")
    assert budget.used_bytes == 0

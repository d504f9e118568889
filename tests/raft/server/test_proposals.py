"""Proposals: everybody who waits is told once, in time, and nothing that is not proved."""

from __future__ import annotations

import random
from typing import Any

import pytest

from onerack.errors import CallError, NotExecuted, Unknown
from onerack.raft.commands import commands_of, tags_of
from onerack.raft.server.proposals import Proposals

TIMEOUT_S = 7.0
MANY = 1 << 20


class Desk:
    """Proposals, and what those who wait were told."""

    def __init__(self) -> None:
        self.proposals = Proposals(random.Random(1), TIMEOUT_S)
        self.told: list[tuple[bytes, Any]] = []

    def add(self, body: bytes, now: float = 0.0) -> None:
        self.proposals.add(32, body, lambda result: self.told.append((body, result)), now)

    def bodies(self) -> list[bytes]:
        return [body for command in self.proposals.gathered for _, _, body in commands_of(command)]

    def outcomes(self) -> list[tuple[bytes, type[CallError], str]]:
        return [(body, type(error), error.cause) for body, error in self.told]


def taken(desk: Desk, *bodies: bytes) -> tuple[bytes, list[int]]:
    for body in bodies:
        desk.add(body)
    return desk.proposals.take(MANY)


def test_what_was_gathered_leaves_as_one_payload_with_its_tags() -> None:
    desk = Desk()
    payload, tags = taken(desk, b"a", b"b")
    assert [body for _, _, body in commands_of(payload)] == [b"a", b"b"]
    assert tags == tags_of(payload) == list(desk.proposals.waiting)
    assert not desk.proposals.gathered
    assert desk.proposals.gathered_bytes == 0


def test_a_payload_is_as_long_as_it_may_be_and_a_longer_command_goes_alone() -> None:
    desk = Desk()
    for body in (bytes(10), bytes(10), bytes(100), b"last"):
        desk.add(body)
    lengths = []
    while desk.proposals.gathered:
        payload, _ = desk.proposals.take(50)
        lengths.append([len(body) for _, _, body in commands_of(payload)])
    assert lengths == [[10, 10], [100], [4]]


def test_what_was_surely_not_taken_goes_first_into_the_next_entry_under_its_tags() -> None:
    desk = Desk()
    payload, tags = taken(desk, b"a", b"b")
    desk.add(b"c")
    desk.proposals.put_back(payload)
    assert desk.bodies() == [b"a", b"b", b"c"]
    assert desk.proposals.take(MANY)[1][:2] == tags
    assert desk.told == []


def test_what_nobody_waits_for_any_more_is_not_put_back() -> None:
    desk = Desk()
    payload, tags = taken(desk, b"a", b"b")
    desk.proposals.fail(tags[:1], Unknown("late", cause="timeout"))
    desk.proposals.put_back(payload)
    assert desk.bodies() == [b"b"]
    assert desk.proposals.gathered_bytes == len(desk.proposals.gathered[0])


def test_what_was_never_sent_in_time_was_not_executed_and_leaves_nothing_behind() -> None:
    desk = Desk()
    desk.add(b"a")
    desk.proposals.expire(TIMEOUT_S - 0.1)
    assert desk.told == []
    desk.proposals.expire(TIMEOUT_S + 0.1)
    assert desk.outcomes() == [(b"a", NotExecuted, "no_leader")]
    assert desk.proposals.take(MANY) == (b"", [])
    assert not desk.proposals.waiting


def test_of_what_was_sent_and_not_heard_of_nobody_knows() -> None:
    desk = Desk()
    taken(desk, b"sent")
    desk.add(b"unsent")
    desk.proposals.expire(TIMEOUT_S + 0.1)
    assert desk.outcomes() == [(b"sent", Unknown, "timeout"), (b"unsent", NotExecuted, "no_leader")]


def test_a_command_that_came_right_after_another_one_has_a_deadline_too() -> None:
    desk = Desk()
    desk.add(b"first", now=0.0)
    desk.add(b"second", now=0.01)
    desk.proposals.expire(TIMEOUT_S + 1)
    assert [body for body, _ in desk.told] == [b"first", b"second"]


def test_nobody_is_given_up_early_and_nobody_later_than_a_moment() -> None:
    desk = Desk()
    chance, now, added = random.Random(3), 0.0, {}
    for number in range(500):
        now += chance.choice([0, 0.001, 0.02, 0.3])
        added[b"%d" % number] = now
        desk.add(b"%d" % number, now)
    at = 0.0
    while desk.proposals.waiting:
        at += 0.01
        before = len(desk.told)
        desk.proposals.expire(at)
        for body, _ in desk.told[before:]:
            assert TIMEOUT_S <= at - added[body] <= TIMEOUT_S + 0.1
    assert [body for body, _ in desk.told] == list(added)


def test_deadlines_hold_when_the_counter_begins_anew() -> None:
    desk = Desk()
    desk.proposals._count = 2**32 - 3
    for number in range(6):
        desk.add(b"%d" % number, now=number)
    desk.proposals.expire(TIMEOUT_S + 3.5)
    assert [body for body, _ in desk.told] == [b"0", b"1", b"2", b"3"]
    desk.proposals.expire(TIMEOUT_S + 9)
    assert len(desk.told) == 6
    assert len({*desk.proposals.waiting}) == 0


def test_a_place_that_another_leader_took_is_lost_for_ever() -> None:
    desk = Desk()
    _, tags = taken(desk, b"a")
    desk.proposals.placed(1, 5, tags)
    desk.proposals.committed(2, 4)
    assert desk.told == []
    desk.proposals.committed(2, 5)
    assert desk.outcomes() == [(b"a", NotExecuted, "leader_changed")]


def test_a_place_that_was_kept_says_nothing_of_its_own() -> None:
    desk = Desk()
    _, tags = taken(desk, b"a")
    desk.proposals.placed(1, 5, tags)
    desk.proposals.waiting.pop(tags[0])("applied")  # As a node does while it applies.
    desk.proposals.committed(1, 5)
    assert desk.told == [(b"a", "applied")]


def test_a_later_leader_may_give_a_lower_place() -> None:
    desk = Desk()
    _, first = taken(desk, b"first")
    desk.proposals.placed(1, 9, first)
    _, second = taken(desk, b"second")
    desk.proposals.placed(2, 5, second)
    desk.proposals.committed(3, 5)
    assert desk.outcomes() == [(b"second", NotExecuted, "leader_changed")]
    for index in range(6, 10):
        desk.proposals.committed(3, index)
    assert desk.outcomes()[1] == (b"first", NotExecuted, "leader_changed")


def test_a_place_of_which_one_hears_when_it_is_past_proves_nothing() -> None:
    desk = Desk()
    _, tags = taken(desk, b"a")
    desk.proposals.committed(2, 5)
    desk.proposals.placed(1, 5, tags)
    desk.proposals.committed(2, 6)
    assert desk.told == []
    desk.proposals.expire(TIMEOUT_S + 1)
    assert desk.outcomes() == [(b"a", Unknown, "timeout")]


def test_what_lies_in_a_snapshot_may_have_been_executed() -> None:
    desk = Desk()
    _, inside = taken(desk, b"inside")
    desk.proposals.placed(1, 5, inside)
    _, behind = taken(desk, b"behind")
    desk.proposals.placed(1, 6, behind)
    desk.proposals.skipped(5)
    assert desk.outcomes() == [(b"inside", Unknown, "snapshot")]


def test_at_the_end_what_never_left_was_not_executed() -> None:
    desk = Desk()
    taken(desk, b"sent")
    desk.add(b"unsent")
    desk.proposals.fail_gathered(NotExecuted("over", cause="stopping"))
    desk.proposals.fail(list(desk.proposals.waiting), Unknown("over", cause="stopping"))
    assert desk.outcomes() == [(b"unsent", NotExecuted, "stopping"), (b"sent", Unknown, "stopping")]


def test_whoever_is_told_may_propose_again_at_once() -> None:
    desk = Desk()
    desk.proposals.add(32, b"a", lambda error: desk.add(b"again"), 0.0)
    desk.proposals.expire(TIMEOUT_S + 1)
    assert desk.bodies() == [b"again"]
    desk.proposals.add(32, b"b", lambda error: desk.add(b"once more"), 0.0)
    desk.proposals.fail_gathered(NotExecuted("over", cause="stopping"))
    assert desk.bodies() == [b"once more"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_everybody_is_told_exactly_once(seed: int) -> None:
    chance, desk, now, count = random.Random(seed), Desk(), 0.0, 0
    sent: list[tuple[bytes, list[int]]] = []
    for _ in range(300):
        now += chance.choice([0, 0.001, 0.5])
        match chance.randrange(7):
            case 0 | 1 | 2:
                desk.add(b"%d" % count, now)
                count += 1
            case 3:
                sent.append(desk.proposals.take(chance.choice([20, MANY])))
            case 4 if sent:
                desk.proposals.put_back(sent.pop(chance.randrange(len(sent)))[0])
            case 5 if sent:
                desk.proposals.placed(chance.randrange(3), chance.randrange(50), sent.pop()[1])
            case _:
                desk.proposals.committed(chance.randrange(3), chance.randrange(50))
                desk.proposals.expire(now)
    desk.proposals.expire(now + TIMEOUT_S + 1)
    assert sorted(int(body) for body, _ in desk.told) == list(range(count))
    assert desk.proposals.gathered_bytes == 0

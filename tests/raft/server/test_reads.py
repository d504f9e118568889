"""Reads: each is answered once: when its index is applied, or with the proof that it never was."""

from __future__ import annotations

import random

import pytest

from onerack.errors import NotExecuted
from onerack.raft.server.reads import ASK_AGAIN_S, Reads

TIMEOUT_S = 7.0


class Desk:
    def __init__(self) -> None:
        self.reads = Reads(TIMEOUT_S)
        self.told: list[tuple[str, str]] = []
        """Who, and the cause of the error, or empty."""

    def add(self, name: str, now: float = 0.0) -> None:
        self.reads.add(lambda error: self.told.append((name, "" if error is None else error.cause)), now)


def test_all_reads_of_one_turn_share_a_question() -> None:
    desk = Desk()
    desk.add("a")
    desk.add("b")
    [number] = desk.reads.ask(0.0)
    desk.reads.ready(number, 5, applied=5)
    assert desk.told == [("a", ""), ("b", "")]
    assert desk.reads.is_empty


def test_a_read_waits_until_its_index_is_applied() -> None:
    desk = Desk()
    desk.add("late")
    [late] = desk.reads.ask(0.0)
    desk.add("early")
    [early] = desk.reads.ask(0.0)
    desk.reads.ready(late, 9, applied=3)
    desk.reads.ready(early, 4, applied=3)
    desk.reads.applied(4)
    assert desk.told == [("early", "")]
    desk.reads.applied(10)
    assert desk.told == [("early", ""), ("late", "")]


def test_a_refused_question_is_asked_again_before_those_that_came_later() -> None:
    desk = Desk()
    desk.add("a")
    [first] = desk.reads.ask(0.0)
    desk.add("b")
    desk.reads.refused(first)
    again, other = desk.reads.ask(1.0)
    desk.reads.ready(again, 0, applied=0)
    desk.reads.ready(other, 0, applied=0)
    assert desk.told == [("a", ""), ("b", "")]


def test_a_late_answer_to_a_question_that_was_asked_again_is_nobody_s() -> None:
    desk = Desk()
    desk.add("a")
    [first] = desk.reads.ask(0.0)
    desk.reads.expire(ASK_AGAIN_S)
    [second] = desk.reads.ask(ASK_AGAIN_S)
    desk.reads.ready(first, 0, applied=0)
    assert desk.told == []
    desk.reads.ready(second, 0, applied=0)
    assert desk.told == [("a", "")]


def test_a_reader_has_its_own_time_even_if_it_finds_an_old_question() -> None:
    desk = Desk()
    desk.add("old")
    [number] = desk.reads.ask(0.0)
    desk.reads.refused(number)
    desk.add("new", now=3.0)
    desk.reads.expire(TIMEOUT_S + 1)
    assert desk.told == [("old", "no_leader")]
    desk.reads.expire(TIMEOUT_S + 3.1)
    assert desk.told == [("old", "no_leader"), ("new", "no_leader")]


@pytest.mark.parametrize("where", ["gathered", "refused", "asked", "ready"])
def test_a_read_that_is_not_answered_in_time_was_not_executed_wherever_it_waits(where: str) -> None:
    desk = Desk()
    desk.add("a")
    if where != "gathered":
        [number] = desk.reads.ask(0.0)
        if where == "refused":
            desk.reads.refused(number)
        elif where == "ready":
            desk.reads.ready(number, 9, applied=1)
    desk.reads.expire(TIMEOUT_S - 0.1)
    assert desk.told == []
    desk.reads.expire(TIMEOUT_S + 0.1)
    assert desk.told == [("a", "no_leader")]
    desk.reads.applied(100)
    assert desk.reads.is_empty
    assert len(desk.told) == 1


def test_what_can_never_be_answered_is_refused_at_once() -> None:
    desk = Desk()
    desk.add("a")
    [number] = desk.reads.ask(0.0)
    desk.reads.refused_for_good(number, NotExecuted("a witness", cause="invalid"))
    assert desk.told == [("a", "invalid")]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_read_is_answered_exactly_once(seed: int) -> None:
    chance, desk, now, count, applied = random.Random(seed), Desk(), 0.0, 0, 0
    asked: list[int] = []
    for _ in range(300):
        now += chance.choice([0, 0.001, 0.3])
        match chance.randrange(6):
            case 0 | 1:
                desk.add(str(count), now)
                count += 1
            case 2:
                asked += desk.reads.ask(now)
            case 3 if asked:
                desk.reads.ready(chance.choice(asked), applied + chance.randrange(3), applied)
            case 4 if asked:
                desk.reads.refused(chance.choice(asked))
            case _:
                applied += chance.randrange(2)
                desk.reads.applied(applied)
                desk.reads.expire(now)
    if seed % 2:
        desk.reads.fail(NotExecuted("over", cause="stopping"))
    else:
        desk.reads.expire(now + TIMEOUT_S + 1)
    assert sorted(int(name) for name, _ in desk.told) == list(range(count))
    assert desk.reads.is_empty

"""Admission: which handlers run, which wait, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onerack.rpc.core.admission import Admission
from onerack.rpc.core.runs import Execution
from onerack.rpc.messages import Request


def execution(ticket: int, link: str = "a", call: int | None = None, deadline_at: float | None = None) -> Execution:
    request = Request(ticket if call is None else call, 0, 1, 0, 0, 0, 0, b"")
    return Execution(ticket, link, request, "S.set_slowly", None, deadline_at)


def take(admission: Admission, *tickets: int) -> list[bool]:
    return [admission.take(execution(ticket), streaming=False) for ticket in tickets]


def test_so_many_run_and_the_rest_wait() -> None:
    admission = Admission(running_max=2, waiting_max=3, streams_max=2)
    assert take(admission, 1, 2, 3, 4) == [True, True, False, False]
    assert (sorted(admission.running), admission.waiting) == ([1, 2], 2)


def test_it_is_full_when_nobody_more_may_wait() -> None:
    admission = Admission(running_max=1, waiting_max=1, streams_max=2)
    assert not admission.is_full(streaming=False)
    take(admission, 1)
    assert not admission.is_full(streaming=False)
    take(admission, 2)
    assert admission.is_full(streaming=False)


def test_whoever_came_first_runs_first() -> None:
    admission = Admission(running_max=1, waiting_max=9, streams_max=2)
    take(admission, 1, 2, 3)
    assert admission.next() is None, "nothing has ended"
    admission.end(admission.running[1])
    following = admission.next()
    assert following is not None
    assert following.ticket == 2
    assert admission.next() is None


def test_what_waits_can_be_withdrawn_and_what_runs_cannot() -> None:
    admission = Admission(running_max=1, waiting_max=9, streams_max=2)
    running, waiting = execution(1), execution(2)
    admission.take(running, streaming=False)
    admission.take(waiting, streaming=False)
    assert not admission.withdraw(running)
    assert admission.withdraw(waiting)
    assert (sorted(admission.running), admission.waiting) == ([1], 0)


def test_an_execution_is_found_by_its_link_and_its_call() -> None:
    admission = Admission(running_max=1, waiting_max=9, streams_max=2)
    first, second, third = execution(1, "a", 7), execution(2, "b", 7), execution(3, "b", 8)
    for each in (first, second, third):
        admission.take(each, streaming=False)
    assert admission.find("b", 7) is second
    assert admission.find("c", 7) is None
    assert admission.of_link("b") == [second, third]
    admission.withdraw(second)
    assert admission.find("b", 7) is None


def test_a_later_execution_of_the_same_call_is_not_lost_when_the_earlier_ends() -> None:
    admission = Admission(running_max=2, waiting_max=9, streams_max=2)
    first, second = execution(1, "a", 7), execution(2, "a", 7)
    admission.take(first, streaming=False)
    admission.take(second, streaming=False)
    admission.end(first)
    assert admission.find("a", 7) is second


def test_whose_deadline_has_passed_running_or_waiting() -> None:
    admission = Admission(running_max=1, waiting_max=9, streams_max=2)
    for ticket, deadline_at in ((1, 5.0), (2, None), (3, 4.0), (4, 9.0)):
        admission.take(execution(ticket, deadline_at=deadline_at), streaming=False)
    assert admission.next_deadline() == 4.0
    assert [each.ticket for each in admission.overdue(5.0)] == [1, 3]
    assert admission.overdue(3.9) == []


def test_without_deadlines_there_is_nothing_to_wait_for() -> None:
    admission = Admission(running_max=1, waiting_max=9, streams_max=2)
    take(admission, 1, 2)
    assert admission.next_deadline() is None


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.sampled_from(["take", "end", "withdraw"]), max_size=60))
def test_everybody_who_is_taken_runs_once_in_order_or_is_withdrawn(
    running_max: int, waiting_max: int, steps: list[str]
) -> None:
    admission = Admission(running_max, waiting_max, streams_max=2)
    waiting: list[int] = []
    running: list[Execution] = []
    for ticket, step in enumerate(steps):
        if step == "take" and not admission.is_full(streaming=False):
            each = execution(ticket)
            if admission.take(each, streaming=False):
                assert waiting == [], "nobody overtakes"
                running.append(each)
            else:
                waiting.append(ticket)
        elif step == "end" and running:
            admission.end(running.pop(0))
            while (following := admission.next()) is not None:
                assert following.ticket == waiting.pop(0)
                running.append(following)
        elif step == "withdraw" and waiting:
            found = admission.find("a", waiting.pop())
            assert found is not None
            assert admission.withdraw(found)
        assert len(admission.running) == len(running) <= running_max
        assert admission.waiting == len(waiting) <= waiting_max
        assert bool(waiting) <= (len(running) == running_max), "nobody waits before a free place"
    for each in running:
        admission.end(each)
        admission.next()


def test_streams_keep_no_ordinary_call_waiting() -> None:
    admission = Admission(running_max=1, waiting_max=1, streams_max=2)
    streams = [execution(ticket) for ticket in (1, 2)]
    assert [admission.take(each, streaming=True) for each in streams] == [True, True]
    assert admission.is_full(streaming=True)
    assert admission.take(execution(3), streaming=False)
    admission.end(streams[0])
    assert not admission.is_full(streaming=True)
    assert not admission.take(execution(4), streaming=False)

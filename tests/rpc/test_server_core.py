"""The server core: one test for each rule of at-least-once and at-most-once calls. (More: test_durable_core.py.)"""

from __future__ import annotations

import pytest

from onerack.rpc.core.sessions import Reply
from onerack.rpc.messages import CloseSession, Mode, OpenSession, Request, SessionOpened, SessionState, Status
from tests.rpc.core_bench import (
    CHARGE,
    CHARGE_SLOWLY,
    OK,
    READ,
    SET,
    SET_SLOWLY,
    TRANSFER,
    ServerBench,
    fault_of,
)

# ------------------------------------------------------------------------------------------------ sessions


def test_a_session_is_granted_by_the_server_with_window_and_lease() -> None:
    bench = ServerBench(window=16, session_lease_s=30.0)
    bench.say(OpenSession(5, False))
    (opened,) = bench.sent
    assert isinstance(opened, SessionOpened)
    assert (opened.call, opened.window, opened.lease_ms) == (5, 16, 30_000)


def test_asking_again_on_the_same_link_gets_the_same_session() -> None:
    bench = ServerBench()
    assert bench.open(call=5) == bench.open(call=5)
    assert bench.open(call=5) != bench.open(call=6)
    assert bench.open("a", call=5) != bench.open("b", call=5)


def test_no_number_of_a_session_comes_again_in_another_boot() -> None:
    first = {ServerBench(seed=1).open(call=call) for call in range(5)}
    second = {ServerBench(seed=2).open(call=call) for call in range(5)}
    assert not first & second


def test_one_session_more_than_there_is_room_for_is_refused_for_now() -> None:
    bench = ServerBench(sessions_max=1)
    bench.open(call=1)
    bench.say(OpenSession(2, False))
    assert bench.answers == [("a", 2, Status.OVERLOADED)]


def test_a_server_without_a_log_opens_no_durable_session() -> None:
    bench = ServerBench()
    bench.say(OpenSession(2, True))
    assert bench.answers == [("a", 2, Status.REFUSED)]
    assert fault_of(bench.bodies[0]).cause == "not_durable"


def test_a_session_of_another_boot_is_never_served() -> None:
    session = ServerBench(seed=1).open()
    bench = ServerBench(seed=2)
    bench.open()
    assert bench.request(session, 1) == [Status.REBOOTED]
    assert bench.begun == []


def test_an_expired_session_is_answered_so_and_never_made_again() -> None:
    bench = ServerBench(session_lease_s=60.0)
    session = bench.open()
    bench.request(session, 1)
    bench.tick(after_s=61.0)
    assert bench.request(session, 2) == [Status.EXPIRED]
    assert bench.request(session, 1) == [Status.EXPIRED], "not even for a reply that it remembered"
    assert bench.begun == [b"x"]


def test_a_session_that_is_heard_of_lives() -> None:
    bench = ServerBench(session_lease_s=60.0)
    session = bench.open()
    for seq in range(1, 5):
        bench.tick(after_s=40.0)
        assert bench.request(session, seq) == [Status.OK]
        bench.tick(after_s=40.0)
        assert bench.keep(session)


def test_keeping_a_session_acknowledges_too() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    bench.keep(session, ack=1)
    assert bench.core.reply_cache_bytes == 0
    assert bench.request(session, 1) == []


def test_whoever_asks_about_a_session_that_is_gone_is_told() -> None:
    bench = ServerBench()
    assert not bench.keep(123)
    assert bench.sent == [SessionState(123, False)]


def test_a_closed_session_takes_its_replies_along() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    bench.close(session)
    assert bench.core.reply_cache_bytes == 0
    assert bench.request(session, 2) == [Status.EXPIRED]


def test_a_call_that_ends_after_its_session_was_closed_answers_nobody() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.say(CloseSession(session))
    bench.end()
    assert bench.answers == []


def test_a_server_wakes_by_itself_to_end_leases() -> None:
    bench = ServerBench(session_lease_s=60.0)
    bench.open()
    while bench.wake_at is not None:
        bench.tick(after_s=bench.wake_at - bench.now)
    assert bench.now <= 100.0 + 60.0 * 1.25 + 1e-6
    assert bench.core.open_sessions == 0
    assert [event.name for event in bench.events] == ["session_expired"]


# ------------------------------------------------------------------------------------------------ at most once


def test_a_duplicate_of_a_call_that_has_ended_gets_the_same_reply() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    first = bench.bodies
    assert bench.request(session, 1, call=9, link="b") == [Status.OK]
    assert bench.answers == [("b", 9, Status.OK)]
    assert bench.bodies == first
    assert bench.begun == [b"x"]


def test_a_duplicate_of_a_running_call_waits_with_it_and_both_are_answered() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, call=1, method=CHARGE_SLOWLY)
    assert bench.request(session, 1, call=1, method=CHARGE_SLOWLY, link="b") == []
    bench.end()
    assert bench.answers == [("a", 1, Status.OK), ("b", 1, Status.OK)]
    assert len(bench.begun) == 1


def test_the_same_attempt_twice_by_one_link_is_answered_once() -> None:
    bench = ServerBench()
    session = bench.open()
    for _ in range(3):
        bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.end()
    assert bench.answers == [("a", 1, Status.OK)]


def test_an_exception_is_replayed_and_not_raised_again() -> None:
    bench = ServerBench(inline=False)
    session = bench.open()
    bench.request(session, 1)
    bench.fail("not enough money")
    for _ in range(2):
        assert bench.request(session, 1) == [Status.FAILED]
        assert fault_of(bench.bodies[0]).message == "not enough money"
    assert len(bench.begun) == 1


def test_a_late_copy_of_an_acknowledged_call_is_not_run_and_not_answered() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    bench.request(session, 2, ack=1)
    assert bench.request(session, 1) == []
    assert len(bench.begun) == 2


def test_an_acknowledgement_fences_a_call_that_has_not_come_yet() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 2, ack=1)
    assert bench.request(session, 1, arguments=b"given up") == []
    assert bench.begun == [b"x"]


def test_a_call_that_was_given_up_while_it_ran_leaves_nothing() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.keep(session, ack=1)
    bench.end()
    assert (bench.answers, bench.core.reply_cache_bytes) == ([], 0)


def test_the_same_number_for_other_arguments_is_a_false_retry() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    assert bench.request(session, 1, arguments=b"other") == [Status.FALSE_RETRY]
    assert bench.request(session, 1, attachment=b"other") == [Status.FALSE_RETRY]
    assert bench.begun == [b"x"]


@pytest.mark.parametrize(("seq", "ack"), [(5, 0), (1 << 62, 0), (1, 1), (1, 1 << 62)])
def test_a_number_outside_the_window_is_refused(seq: int, ack: int) -> None:
    bench = ServerBench(window=4)
    session = bench.open()
    assert bench.request(session, seq, call=1, ack=ack) == [Status.REFUSED]
    assert fault_of(bench.bodies[0]).cause == "malformed"
    assert bench.begun == []


def test_a_result_too_long_to_remember_is_told_once_and_then_said_to_be_lost() -> None:
    bench = ServerBench(inline=False, reply_bytes_max=100)
    session = bench.open()
    bench.request(session, 1)
    bench.end(Reply(Status.OK, bytes(101)))
    assert bench.answers == [("a", 1, Status.OK)]
    assert bench.request(session, 1, link="b") == [Status.FAILED]
    assert fault_of(bench.bodies[0]).cause == "result_lost"
    assert bench.core.reply_cache_bytes < 500


def test_a_method_may_be_called_more_strongly_than_it_was_declared() -> None:
    bench = ServerBench()
    session = bench.open()
    for method in (READ, SET):
        bench.request(session, 1 + method, method=method, mode=Mode.AT_MOST_ONCE)
        bench.request(session, 1 + method, method=method, mode=Mode.AT_MOST_ONCE)
    assert len(bench.begun) == 2


def test_a_method_that_does_not_exist_is_refused() -> None:
    bench = ServerBench()
    session = bench.open()
    for number in (-1, 6, 1 << 40):
        bench.say(Request(1, number, Mode.AT_MOST_ONCE, 0, session, 1, 0, b""))
        assert bench.answers == [("a", 1, Status.REFUSED)]


# ------------------------------------------------------------------------------------------------ at least once


@pytest.mark.parametrize("method", [READ, SET])
def test_calls_without_a_session_run_as_often_as_they_come(method: int) -> None:
    bench = ServerBench()
    for _ in range(3):
        assert bench.request(0, 0, call=1, method=method) == [Status.OK]
    assert len(bench.begun) == 3
    assert bench.core.reply_cache_bytes == 0


def test_calls_without_a_session_end_with_their_link() -> None:
    bench = ServerBench(running_max=1)
    bench.request(0, 0, call=1, method=SET_SLOWLY)
    bench.request(0, 0, call=2, method=SET_SLOWLY)
    bench.lose("a")
    assert bench.aborted == ["disconnected"]
    bench.end()
    assert bench.core.open_calls == 0
    assert len(bench.begun) == 1, "what waited is not begun for a caller who is gone"


def test_calls_of_a_session_go_on_without_their_link() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.lose("a")
    assert bench.aborted == []
    bench.request(session, 1, method=CHARGE_SLOWLY, link="b")
    bench.end()
    assert ("b", 1, Status.OK) in bench.answers


def test_a_link_that_is_lost_leaves_nothing_behind() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    bench.request(0, 0, call=9, method=SET_SLOWLY)
    bench.close(session)
    bench.lose("a")
    bench.end()
    bench._witness.check_rest()


# ------------------------------------------------------------------------------------------------ overload


def test_a_full_queue_refuses_for_now_and_records_nothing() -> None:
    bench = ServerBench(running_max=1, waiting_max=1)
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.request(session, 2, method=CHARGE_SLOWLY)
    assert bench.request(session, 3, method=CHARGE_SLOWLY) == [Status.OVERLOADED]
    assert fault_of(bench.bodies[0]).retry_after_ms > 0
    bench.end()
    assert bench.request(session, 3, method=CHARGE_SLOWLY) == []
    bench.end()
    bench.end()
    assert bench.answers == [("a", 3, Status.OK)]


def test_a_duplicate_of_a_known_call_is_welcome_in_a_full_queue() -> None:
    bench = ServerBench(running_max=1, waiting_max=1)
    session = bench.open()
    bench.request(session, 1)
    bench.request(session, 2, method=CHARGE_SLOWLY)
    bench.request(session, 3, method=CHARGE_SLOWLY)
    assert bench.request(session, 1) == [Status.OK], "its reply is there"
    assert bench.request(session, 3, method=CHARGE_SLOWLY, link="b") == [], "it waits already"


def test_plain_handlers_need_no_place() -> None:
    bench = ServerBench(running_max=1, waiting_max=1)
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.request(session, 2, method=CHARGE_SLOWLY)
    assert bench.request(session, 3, method=CHARGE) == [Status.OK]


def test_replies_that_fill_their_memory_keep_new_calls_out_and_nothing_is_evicted() -> None:
    bench = ServerBench(replies_bytes_max=600)
    session = bench.open()
    for seq in (1, 2, 3):
        bench.request(session, seq)
    assert bench.request(session, 4) == [Status.OVERLOADED]
    assert bench.request(session, 1) == [Status.OK]
    assert len(bench.begun) == 3


def test_an_attempt_that_finds_no_room_still_acknowledges() -> None:
    bench = ServerBench(replies_bytes_max=600)
    session = bench.open()
    for seq in (1, 2, 3):
        bench.request(session, seq)
    assert bench.request(session, 5) == [Status.OVERLOADED]
    assert bench.request(session, 5, ack=3) == [Status.OK], "what it acknowledges makes the room that it needs"


def test_a_full_memory_is_full_for_everybody() -> None:
    bench = ServerBench(replies_bytes_max=600)
    session = bench.open()
    for seq in (1, 2, 3):
        bench.request(session, seq)
    other = bench.open("b")
    assert bench.request(other, 1, link="b") == [Status.OVERLOADED]
    bench.keep(session, ack=3)
    assert bench.request(other, 1, link="b") == [Status.OK]


def test_the_call_that_the_mark_waits_for_is_never_kept_out_by_replies() -> None:
    bench = ServerBench(replies_bytes_max=600)
    session = bench.open()
    for seq in (2, 3, 4):
        bench.request(session, seq)
    assert bench.request(session, 5) == [Status.OVERLOADED]
    assert bench.request(session, 1) == [Status.OK]
    assert bench.request(session, 5, ack=4) == [Status.OK]


def test_the_call_that_the_mark_waits_for_still_needs_a_place_to_run() -> None:
    bench = ServerBench(replies_bytes_max=600, running_max=1, waiting_max=1)
    session = bench.open()
    for call in (50, 51):
        bench.request(0, 0, call=call, method=SET_SLOWLY)
    for seq in (2, 3, 4):
        bench.request(session, seq)
    assert bench.request(session, 1, method=CHARGE_SLOWLY) == [Status.OVERLOADED]
    assert fault_of(bench.bodies[0]).message == "too many calls are waiting"


def test_a_server_that_stops_refuses_new_calls_and_ends_old_ones() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    bench.request(session, 2, method=CHARGE_SLOWLY)
    bench.core.stop()
    assert bench.request(session, 3) == [Status.OVERLOADED]
    assert fault_of(bench.bodies[0]).cause == "stopping"
    assert bench.request(0, 0, call=9, method=SET) == [Status.OVERLOADED]
    assert bench.request(session, 1) == [Status.OK], "a known reply is still given"
    bench.end()
    assert bench.answers == [("a", 2, Status.OK)]


# ------------------------------------------------------------------------------------------------ deadlines, cancels


def test_a_call_whose_deadline_passed_in_the_queue_is_not_run_not_even_for_a_late_copy() -> None:
    bench = ServerBench(running_max=1)
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.request(session, 2, method=CHARGE_SLOWLY, timeout_ms=500)
    bench.tick(after_s=0.6)
    assert bench.answers == [("a", 2, Status.REFUSED)]
    assert fault_of(bench.bodies[0]).cause == "deadline"
    bench.end()
    assert bench.request(session, 2, method=CHARGE_SLOWLY, link="b") == [Status.REFUSED]
    assert len(bench.begun) == 1


def test_a_call_whose_turn_comes_after_its_deadline_is_not_run() -> None:
    bench = ServerBench(running_max=1)
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.request(session, 2, method=CHARGE_SLOWLY, timeout_ms=500)
    bench.request(session, 3, method=CHARGE_SLOWLY)
    bench.now += 0.6
    bench.end()
    assert ("a", 2, Status.REFUSED) in bench.answers
    assert [run.request.seq for run in bench.runs] == [3], "and the next one is"


def test_a_running_call_is_called_off_once_when_its_deadline_passes() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY, timeout_ms=500)
    assert bench.wake_at == pytest.approx(bench.now + 0.5)
    bench.tick(after_s=0.6)
    bench.tick(after_s=0.1)
    assert bench.aborted == ["deadline"]
    bench.end()
    assert bench.answers == [("a", 1, Status.OK)], "it still ends as its handler says"


def test_a_call_that_is_cancelled_in_the_queue_is_not_run_not_even_for_a_late_copy() -> None:
    bench = ServerBench(running_max=1)
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.request(session, 2, method=CHARGE_SLOWLY)
    bench.cancel(2)
    assert bench.answers == [("a", 2, Status.REFUSED)]
    bench.end()
    assert bench.request(session, 2, method=CHARGE_SLOWLY, link="b") == [Status.REFUSED]
    assert len(bench.begun) == 1


def test_a_cancel_reaches_a_running_handler() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.cancel(1)
    assert bench.aborted == ["cancelled"]


def test_a_cancel_of_a_call_that_has_ended_or_never_came_does_nothing() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1)
    for call in (1, 99):
        bench.cancel(call)
        assert (bench.answers, bench.aborted) == ([], [])
    bench.cancel(1, link="b")
    assert bench.aborted == []


def test_nobody_can_cancel_the_call_of_another_link() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.cancel(1, link="b")
    assert bench.aborted == []


# ------------------------------------------------------------------------------------------------ exactly once


def test_a_server_without_a_log_refuses_exactly_once_calls() -> None:
    bench = ServerBench()
    session = bench.open()
    for method, mode in ((TRANSFER, Mode.EXACTLY_ONCE), (CHARGE, Mode.EXACTLY_ONCE), (TRANSFER, Mode.AT_LEAST_ONCE)):
        assert bench.request(session, 1, method=method, mode=mode) == [Status.REFUSED]
        assert fault_of(bench.bodies[0]).cause == "not_durable"


def test_a_tick_too_early_or_an_hour_late_is_harmless() -> None:
    bench = ServerBench()
    session = bench.open()
    bench.tick()
    bench.request(session, 1, method=CHARGE_SLOWLY)
    bench.tick(after_s=3600.0)
    bench.end(OK)
    assert bench.answers == [("a", 1, Status.OK)]

"""The client core: one test for each rule about attempts, outcomes, sessions and links."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from onerack.rpc.core.client import GoingAway, Linked
from onerack.rpc.messages import (
    Cancel,
    CloseSession,
    KeepSession,
    Mode,
    OpenSession,
    SessionOpened,
    SessionState,
    Status,
)
from tests.rpc.core_bench import CHARGE, READ, SET, TRANSFER, ClientBench

MODES = {READ: "readonly", SET: "at least once", CHARGE: "at most once", TRANSFER: "exactly once"}


def with_session(*, durable: bool = False, **fields: Any) -> ClientBench:
    """A client that has a session (77) with nothing open in it: its first call was answered."""
    bench = ClientBench(**fields)
    call = bench.call(TRANSFER if durable else CHARGE)
    bench.opened()
    bench.answer(call)
    return bench


# ------------------------------------------------------------------------------------------------ attempts


def test_calls_without_a_session_leave_at_once() -> None:
    bench = ClientBench()
    for method in (READ, SET):
        bench.call(method)
        assert bench.xids == [(0, 0)]


def test_the_first_deduplicated_call_asks_for_a_session_and_waits_for_it() -> None:
    bench = ClientBench()
    bench.call(CHARGE)
    (asked,) = bench.sent
    assert isinstance(asked, OpenSession)
    assert not asked.durable
    bench.call(CHARGE)
    assert bench.sent == [], "one session serves all"
    bench.opened(77)
    assert bench.xids == [(77, 1), (77, 2)]


def test_exactly_once_calls_have_a_session_of_their_own_kind() -> None:
    bench = with_session()
    bench.call(TRANSFER)
    (asked,) = bench.sent
    assert isinstance(asked, OpenSession)
    assert asked.durable


def test_every_attempt_is_the_same_bytes_under_the_same_xid() -> None:
    bench = with_session()
    bench.call(CHARGE, arguments=b"once encoded")
    first = bench.requests
    bench.unlink()
    bench.link("b")
    assert bench.requests == first


def test_what_is_left_of_the_deadline_travels_not_the_deadline() -> None:
    bench = with_session()
    bench.call(CHARGE, deadline_s=2.0)
    assert bench.requests[0].timeout_ms == 2000
    bench.unlink()
    bench.now += 1.5
    bench.link("b")
    assert bench.requests[0].timeout_ms == 500


def test_a_deadline_of_less_than_a_millisecond_is_not_none() -> None:
    bench = ClientBench()
    bench.call(SET, deadline_s=0.0001)
    assert bench.requests[0].timeout_ms == 1


def test_the_mark_rides_on_every_request() -> None:
    bench = with_session()
    first = bench.call()
    second = bench.call()
    bench.answer(second)
    bench.call()
    assert bench.requests[0].ack == 1, "the second call is open yet"
    bench.answer(first)
    bench.call()
    assert bench.requests[0].ack == 3


def test_calls_beyond_the_window_wait_at_the_client() -> None:
    bench = ClientBench()
    calls = [bench.call() for _ in range(5)]
    bench.opened(window=2)
    assert [seq for _, seq in bench.xids] == [1, 2]
    bench.answer(calls[1])
    assert bench.xids == [], "the mark has not moved"
    bench.answer(calls[0])
    assert [seq for _, seq in bench.xids] == [3, 4]


def test_nothing_is_repeated_on_a_reliable_link_while_it_lives() -> None:
    bench = with_session()
    bench.call()
    for _ in range(100):
        bench.tick(after_s=1.0)
        assert bench.requests == []


@pytest.mark.parametrize("method", MODES)
def test_an_attempt_on_an_unreliable_link_that_is_not_answered_is_made_again(method: int) -> None:
    bench = ClientBench(reliable=False, attempt_timeout_s=1.0)
    bench.call(method)
    if method in (CHARGE, TRANSFER):
        bench.opened()
    first = bench.requests
    bench.tick(after_s=0.7)
    assert bench.requests == []
    bench.tick(after_s=0.6)
    assert bench.requests == first


def test_the_pause_before_an_unanswered_attempt_is_made_again_doubles() -> None:
    bench = ClientBench(reliable=False, attempt_timeout_s=1.0, retry_per_s=1000.0)
    bench.call(READ, attempts_max=100)
    left_at = [bench.now]
    while len(left_at) < 6:
        assert bench.wake_at is not None
        bench.tick(after_s=max(0.0, bench.wake_at - bench.now))
        left_at += [bench.now] * len(bench.requests)
    pauses = [after - before for before, after in pairwise(left_at)]
    for number, pause in enumerate(pauses):
        assert 0.75 * 2**number <= pause <= 1.25 * 2**number + 0.01


def test_a_new_link_does_not_pay_for_the_silence_of_the_old_one() -> None:
    bench = ClientBench(reliable=False, attempt_timeout_s=1.0)
    bench.call(TRANSFER)
    bench.opened()
    for _ in range(5):
        assert bench.wake_at is not None
        bench.tick(after_s=max(0.0, bench.wake_at - bench.now))
    bench.unlink()
    for _ in range(10):
        bench.miss()
    bench.link("b", reliable=False)
    bench.tick(after_s=1.3)
    assert len(bench.requests) == 1


def test_on_a_new_link_open_calls_are_sent_again_and_waiting_ones_once() -> None:
    bench = ClientBench()
    calls = [bench.call(attempts_max=2) for _ in range(3)]
    bench.opened(window=2)
    bench.unlink()
    bench.link("b")
    assert [seq for _, seq in bench.xids] == [1, 2]
    bench.unlink()
    bench.link("c")
    assert [outcome.call for outcome in bench.outcomes] == calls[:2], "two attempts were enough"
    assert [seq for _, seq in bench.xids] == [3], "and who had waited for their place leaves once"


# ------------------------------------------------------------------------------------------------ replies


def test_a_reply_ends_its_call() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, body=b"done", attachment=b"bytes")
    (outcome,) = bench.outcomes
    assert (outcome.status, outcome.body, outcome.attachment) == (Status.OK, b"done", b"bytes")
    assert bench.core.open_calls == 0


def test_a_reply_counts_only_for_the_session_that_it_names() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, session=78)
    bench.answer(call, session=0)
    assert bench.core.open_calls == 1
    bench.answer(call, session=77)
    assert bench.core.open_calls == 0


def test_a_second_reply_to_the_same_call_is_not_heard() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call)
    bench.answer(call, Status.FAILED, session=77)
    assert bench.outcomes == []


def test_a_reply_that_fits_no_call_is_not_heard() -> None:
    bench = with_session()
    bench.answer(999, session=77)
    assert (bench.outcomes, bench.sent) == ([], [])


def test_an_exception_is_an_executed_call() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, Status.FAILED, cause="error")
    assert bench.endings == [(call, Status.FAILED, "")]


@pytest.mark.parametrize("status", [99, -1, 1 << 40])
def test_an_answer_that_makes_no_sense_ends_its_call_only(status: int) -> None:
    bench = with_session()
    call, other = bench.call(), bench.call()
    bench.answer(call, status)
    assert bench.endings == [(call, None, "malformed")]
    bench.answer(other)
    assert bench.endings == [(other, Status.OK, "")]


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.REBOOTED])
def test_news_of_a_session_for_a_call_that_has_none_makes_no_sense(status: Status) -> None:
    bench = ClientBench()
    call = bench.call(SET)
    bench.answer(call, status)
    assert bench.endings == [(call, None, "malformed")]


def test_a_false_retry_is_told_as_unknown() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, Status.FALSE_RETRY, cause="false_retry")
    assert bench.endings == [(call, None, "false_retry")]


# ------------------------------------------------------------------------------------------------ definite or unknown


def test_a_refusal_of_the_only_attempt_is_definite() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, Status.REFUSED, cause="forbidden")
    assert bench.endings == [(call, Status.REFUSED, "forbidden")]


def test_a_refusal_proves_nothing_while_an_earlier_attempt_is_unanswered() -> None:
    bench = with_session()
    call = bench.call()
    bench.unlink()
    bench.link("b")
    bench.answer(call, Status.REFUSED, cause="deadline")
    assert bench.endings == [(call, None, "deadline")]


def test_a_refusal_proves_nothing_on_a_link_that_may_repeat_messages() -> None:
    bench = ClientBench(reliable=False)
    call = bench.call(SET)
    bench.answer(call, Status.REFUSED, cause="deadline")
    assert bench.endings == [(call, None, "deadline")]


def test_a_deadline_before_the_first_attempt_is_definite() -> None:
    bench = ClientBench(linked=False)
    call = bench.call(SET, deadline_s=1.0)
    bench.tick(after_s=1.1)
    assert bench.endings == [(call, Status.REFUSED, "deadline")]


def test_a_deadline_while_waiting_for_a_session_is_definite() -> None:
    bench = ClientBench()
    call = bench.call(CHARGE, deadline_s=1.0)
    bench.tick(after_s=1.1)
    assert bench.endings == [(call, Status.REFUSED, "deadline")]
    bench.opened()
    assert bench.requests == [], "and it never leaves"


def test_a_deadline_after_the_first_attempt_is_unknown_and_the_server_is_told() -> None:
    bench = with_session()
    call = bench.call(deadline_s=1.0)
    bench.tick(after_s=1.1)
    assert bench.endings == [(call, None, "deadline")]
    assert bench.sent == [Cancel(call)]


def test_a_call_that_ends_unknown_is_acknowledged_so_that_late_copies_are_discarded() -> None:
    bench = with_session()
    bench.call(deadline_s=1.0)
    bench.tick(after_s=1.1)
    bench.call()
    assert bench.requests[0].ack == 2


def test_a_lost_link_with_no_attempt_left_is_unknown_when_there_is_another() -> None:
    bench = with_session()
    call = bench.call(attempts_max=1)
    bench.unlink()
    assert bench.outcomes == []
    bench.link("b")
    assert bench.endings == [(call, None, "disconnected")]
    assert bench.requests == []


def test_a_server_that_cannot_be_reached_is_definite_for_what_never_left() -> None:
    bench = ClientBench(linked=False)
    call = bench.call(SET, attempts_max=3)
    for _ in range(3):
        assert bench.outcomes == []
        bench.miss()
    assert bench.endings == [(call, Status.REFUSED, "unreachable")]


def test_a_server_that_cannot_be_reached_again_is_unknown_for_what_left() -> None:
    bench = with_session()
    call = bench.call(attempts_max=2)
    bench.unlink()
    bench.miss()
    bench.miss()
    assert bench.endings == [(call, None, "unreachable")]


def test_a_binding_that_is_refused_ends_every_call_and_those_to_come() -> None:
    bench = ClientBench(linked=False)
    calls = [bench.call(SET), bench.call(TRANSFER)]
    bench.miss(final=True)
    assert [call for call, status, _ in bench.endings if status is Status.REFUSED] == calls
    late = bench.call(SET)
    assert bench.endings == [(late, Status.REFUSED, "unreachable")]


def test_too_many_open_calls_are_refused_at_once() -> None:
    bench = ClientBench(linked=False, in_flight_max=2)
    bench.call(SET)
    bench.call(SET)
    third = bench.call(SET)
    assert bench.endings == [(third, Status.OVERLOADED, "overloaded")]


# ------------------------------------------------------------------------------------------------ overload


def test_a_call_that_found_no_room_is_tried_again_under_the_same_xid_after_a_pause() -> None:
    bench = with_session()
    call = bench.call()
    first = bench.requests
    bench.answer(call, Status.OVERLOADED, cause="overloaded", retry_after_ms=400)
    bench.tick(after_s=0.3)
    assert bench.requests == []
    bench.tick(after_s=0.2)
    assert bench.requests == first


def test_a_call_whose_every_attempt_found_no_room_was_definitely_not_executed() -> None:
    bench = with_session()
    call = bench.call(attempts_max=2)
    bench.answer(call, Status.OVERLOADED, cause="overloaded")
    bench.tick(after_s=3.0)
    bench.answer(call, Status.OVERLOADED, cause="overloaded")
    assert bench.endings == [(call, Status.OVERLOADED, "overloaded")]


def test_a_call_of_which_one_attempt_is_unanswered_is_unknown_when_there_is_no_room() -> None:
    bench = with_session()
    call = bench.call(attempts_max=2)
    bench.unlink()
    bench.link("b")
    bench.answer(call, Status.OVERLOADED, cause="overloaded")
    assert bench.endings == [(call, None, "overloaded")]


def test_without_budget_nothing_is_retried() -> None:
    bench = ClientBench(retry_per_s=1.0, retry_memory_s=1.0, retry_fraction=0.2)
    calls = [bench.call(SET, attempts_max=10) for _ in range(5)]
    ended = []
    for call in calls:
        bench.answer(call, Status.OVERLOADED, cause="overloaded")
        ended += [outcome.call for outcome in bench.outcomes]
    assert ended == calls[2:], "one token was there, and five calls gave one more"


def test_an_exactly_once_call_waits_as_long_as_it_must() -> None:
    bench = with_session(durable=True, retry_per_s=0.001, retry_memory_s=1.0, retry_fraction=0.0001)
    call = bench.call(TRANSFER, attempts_max=1)
    for _ in range(50):
        bench.answer(call, Status.OVERLOADED, cause="overloaded")
        assert bench.outcomes == []
        bench.tick(after_s=3.0)
        assert len(bench.requests) == 1
        bench.unlink()
        bench.miss()
        bench.link("b")
    bench.answer(call)
    assert bench.endings == [(call, Status.OK, "")]


# ------------------------------------------------------------------------------------------------ sessions


def test_a_reboot_makes_what_had_left_unknown_and_what_had_not_goes_on() -> None:
    bench = ClientBench()
    calls = [bench.call() for _ in range(3)]
    bench.opened(77, window=2)
    bench.unlink()
    bench.link("b", epoch=2)
    assert bench.endings == [(calls[0], None, "rebooted"), (calls[1], None, "rebooted")]
    bench.opened(88)
    assert bench.xids == [(88, 1)]


def test_a_reboot_is_no_matter_for_durable_sessions() -> None:
    bench = with_session(durable=True)
    bench.call(TRANSFER)
    bench.unlink()
    bench.link("b", epoch=2)
    assert bench.outcomes == []
    assert bench.xids == [(77, 2)]


@pytest.mark.parametrize("status", [Status.REBOOTED, Status.EXPIRED])
def test_a_call_whose_only_attempt_met_a_dead_session_goes_on_in_a_new_one(status: Status) -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, status)
    assert bench.outcomes == []
    bench.opened(88)
    assert bench.xids == [(88, 1)]
    bench.answer(call)
    assert bench.endings == [(call, Status.OK, "")]


def test_other_calls_of_a_dead_session_are_unknown() -> None:
    bench = with_session()
    call, other = bench.call(), bench.call()
    bench.answer(call, Status.EXPIRED)
    assert bench.endings == [(other, None, "expired")]


def test_a_late_answer_of_the_old_session_does_not_end_the_call_in_the_new_one() -> None:
    bench = with_session()
    call = bench.call()
    bench.answer(call, Status.EXPIRED)
    bench.opened(88)
    bench.answer(call, Status.OK, session=77)
    assert bench.outcomes == []


def test_session_after_session_is_not_tried_for_ever() -> None:
    bench = with_session()
    call = bench.call(attempts_max=3)
    for session in range(100, 110):
        bench.answer(call, Status.EXPIRED)
        if bench.outcomes:
            break
        bench.opened(session)
    assert bench.endings == [(call, Status.REFUSED, "expired")], "and it was never executed"


def test_a_session_is_kept_alive_each_third_of_its_lease() -> None:
    bench = ClientBench()
    call = bench.call()
    bench.opened(lease_s=30.0)
    bench.answer(call)
    kept_at = []
    while bench.now < 50.0 + 100.0:
        assert bench.wake_at is not None
        bench.tick(after_s=bench.wake_at - bench.now)
        kept_at += [bench.now for message in bench.sent if message == KeepSession(77, 1)]
    assert kept_at == pytest.approx([60.0, 70.0, 80.0, 90.0, 100.0, 110.0, 120.0, 130.0, 140.0, 150.0])


def test_whoever_says_something_need_not_say_that_he_lives() -> None:
    bench = ClientBench()
    call = bench.call()
    bench.opened(lease_s=30.0)
    bench.answer(call)
    for _ in range(20):
        bench.tick(after_s=5.0)
        assert bench.sent == []
        call = bench.call()
        bench.answer(call)


def test_a_session_that_the_server_no_longer_knows_is_given_up() -> None:
    bench = with_session()
    bench.say(SessionState(77, False))
    bench.call()
    assert isinstance(bench.sent[0], OpenSession)
    bench.say(SessionState(77, False))
    bench.opened(88)
    assert bench.xids == [(88, 1)]


def test_an_opening_that_is_not_answered_is_asked_for_again_under_the_same_number() -> None:
    bench = ClientBench(reliable=False, attempt_timeout_s=1.0)
    bench.call()
    (first,) = bench.sent
    bench.tick(after_s=1.1)
    assert bench.sent == [first]


def test_a_second_session_for_the_same_opening_is_not_used() -> None:
    bench = ClientBench(reliable=False)
    bench.call()
    number = bench.opening
    bench.opened(77)
    bench.say(SessionOpened(number, 78, 4, 60_000))
    bench.call()
    assert bench.xids == [(77, 2)]


def test_a_refused_session_ends_the_calls_that_wait_for_it() -> None:
    bench = ClientBench()
    call = bench.call(TRANSFER)
    bench.answer(bench.opening, Status.REFUSED, session=0, cause="not_durable")
    assert bench.endings == [(call, Status.REFUSED, "not_durable")]


def test_a_session_for_which_there_is_no_room_is_asked_for_again() -> None:
    bench = ClientBench()
    call = bench.call(TRANSFER)
    first = bench.opening
    bench.answer(first, Status.OVERLOADED, session=0, cause="overloaded", retry_after_ms=500)
    bench.tick(after_s=3.0)
    assert isinstance(bench.sent[0], OpenSession)
    assert bench.opening != first
    bench.opened()
    bench.answer(call)
    assert bench.endings == [(call, Status.OK, "")]


# ------------------------------------------------------------------------------------------------ giving up


def test_an_abandoned_call_is_cancelled_and_acknowledged_and_has_no_outcome() -> None:
    bench = with_session()
    call = bench.call()
    bench.abandon(call)
    assert bench.sent == [Cancel(call)]
    assert bench.outcomes == []
    bench.call()
    assert (bench.requests[0].ack, bench.requests[0].seq) == (2, 3), "its number is not given again"
    bench.answer(call, session=77)
    assert bench.outcomes == []


def test_an_abandoned_call_that_waits_is_never_sent() -> None:
    bench = ClientBench()
    call = bench.call()
    bench.abandon(call)
    assert bench.sent == []
    bench.opened()
    assert bench.requests == []


def test_an_abandoned_call_makes_room_for_one_that_waits() -> None:
    bench = ClientBench()
    first, _ = bench.call(), bench.call()
    bench.opened(window=1)
    bench.abandon(first)
    assert bench.xids == [(77, 2)]


def test_closing_calls_off_what_is_open_ends_sessions_and_begins_nothing() -> None:
    bench = ClientBench()
    calls = [bench.call() for _ in range(3)]
    bench.opened(window=2)
    bench.close()
    assert bench.endings == [
        (calls[0], None, "closed"), (calls[1], None, "closed"), (calls[2], Status.REFUSED, "closed")
    ]  # fmt: skip
    assert bench.sent == [Cancel(calls[0]), Cancel(calls[1]), CloseSession(77)]
    assert bench.wake_at is None


def test_a_stream_ends_with_its_link() -> None:
    bench = ClientBench()
    call = bench.call(SET, streaming=True)
    bench.unlink()
    assert bench.endings == [(call, None, "disconnected")]


def test_a_stream_that_has_not_begun_waits_for_a_link() -> None:
    bench = ClientBench(linked=False)
    bench.call(SET, streaming=True)
    bench.miss()
    bench.link()
    assert len(bench.requests) == 1


# ------------------------------------------------------------------------------------------------ links and time


def test_a_server_that_goes_away_still_answers_and_gets_nothing_new() -> None:
    bench = with_session()
    call = bench.call()
    bench.say(GoingAway())
    bench.call()
    assert bench.sent == []
    bench.answer(call)
    assert bench.endings == [(call, Status.OK, "")]


def test_calls_made_without_a_link_leave_when_there_is_one() -> None:
    bench = ClientBench(linked=False)
    for method in MODES:
        bench.call(method)
        assert bench.sent == []
    bench.link()
    assert len(bench.requests) == 2
    assert sum(isinstance(message, OpenSession) for message in bench.sent) == 2


def test_a_call_that_gets_its_place_while_another_is_called_off_has_its_alarm() -> None:
    bench = ClientBench(reliable=False, attempt_timeout_s=1.0)
    bench.call(TRANSFER, deadline_s=5.0)
    waiting = bench.call(TRANSFER)
    bench.opened(window=1)
    bench.tick(after_s=5.1)
    assert bench.xids == [(77, 2)]
    bench.tick(after_s=1.3)
    assert [request.call for request in bench.requests] == [waiting], "unanswered, it is sent again in time"


@pytest.mark.parametrize("method", MODES)
def test_a_tick_too_early_or_an_hour_late_is_harmless(method: int) -> None:
    bench = ClientBench()
    call = bench.call(method)
    if method in (CHARGE, TRANSFER):
        bench.opened()
    bench.tick()
    bench.tick(after_s=3600.0)
    bench.answer(call)
    assert bench.endings == [(call, Status.OK, "")]


def test_a_caller_may_ask_for_more_than_the_method_was_declared_to_give() -> None:
    bench = with_session()
    bench.call(SET, mode=Mode.AT_MOST_ONCE)
    assert bench.xids == [(77, 2)]
    assert bench.requests[0].mode == Mode.AT_MOST_ONCE


def test_the_servers_own_numbers_of_methods_are_used() -> None:
    bench = ClientBench(linked=False)
    bench.call(SET)
    bench.say(Linked("a", 1, True, (7, 5, 3, 1)))
    assert [request.method for request in bench.requests] == [5]

"""Sessions and the reply cache: one test for each rule, and a machine that compares them with a simple model."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.rpc.core.replies import remembered
from onerack.rpc.core.sessions import ENDS_BYTES, ENTRY_BYTES, SMALL_BYTES, Reply, Sessions, Verdict, fingerprint_of
from onerack.rpc.messages import Request, Status

WINDOW = 4
OK = Reply(Status.OK, b"result")


def make_sessions(window: int = WINDOW, lease_s: float = 10.0) -> Sessions:
    sessions = Sessions(window, lease_s)
    sessions.open(1, now=0.0)
    return sessions


def admit(sessions: Sessions, seq: int, ack: int = 0, method: str = "S.charge", mark: bytes = b"x") -> Verdict:
    session = sessions.get(1)
    assert session is not None
    return session.admit(seq, ack, method, mark)


def run(sessions: Sessions, seq: int, ack: int = 0, reply: Reply = OK) -> None:
    assert admit(sessions, seq, ack) is Verdict.FRESH
    session = sessions.get(1)
    assert session is not None
    session.finish(seq, reply)


# ------------------------------------------------------------------------------------------------ what a number means


def test_a_new_number_is_executed_in_any_order_within_the_window() -> None:
    sessions = make_sessions()
    assert [admit(sessions, seq) for seq in (4, 1, 3, 2)] == [Verdict.FRESH] * 4


def test_a_number_that_runs_is_not_executed_again() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    assert admit(sessions, 1) is Verdict.RUNNING


def test_a_number_that_has_ended_is_answered_with_the_same_reply() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    assert admit(sessions, 1) is Verdict.ENDED
    session = sessions.get(1)
    assert session is not None
    assert session.entries[1].reply is OK


def test_a_number_at_or_below_the_mark_is_discarded() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    run(sessions, 2)
    run(sessions, 3, ack=2)
    assert [admit(sessions, seq) for seq in (1, 2)] == [Verdict.FORGOTTEN] * 2


def test_with_several_outstanding_a_lower_number_is_not_old() -> None:
    sessions = make_sessions()
    run(sessions, 4)
    assert admit(sessions, 2) is Verdict.FRESH, "the lecture's rule, discard what is below the highest, is for one call"


def test_the_mark_outlives_the_replies_that_it_covers() -> None:
    sessions = make_sessions()
    for seq in range(1, 40):
        run(sessions, seq, ack=seq - 1)
    session = sessions.get(1)
    assert session is not None
    assert list(session.entries) == [39]
    assert admit(sessions, 7, ack=6) is Verdict.FORGOTTEN


def test_a_mark_that_goes_back_changes_nothing() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    session = sessions.get(1)
    assert session is not None
    session.acknowledge(1)
    session.acknowledge(0)
    session.acknowledge(-5)
    assert session.ack == 1
    assert admit(sessions, 1, ack=0) is Verdict.FORGOTTEN


@pytest.mark.parametrize(("seq", "ack"), [(5, 0), (9, 4), (1 << 63, 0), (0, 0), (3, 3), (2, 5), (-1, -1), (-1, 0)])
def test_a_number_outside_the_window_of_its_own_request_is_refused(seq: int, ack: int) -> None:
    sessions = make_sessions()
    assert admit(sessions, seq, ack) is Verdict.BEYOND
    session = sessions.get(1)
    assert session is not None
    assert (session.ack, session.entries) == (0, {}), "and leaves no trace"


def test_a_number_that_no_client_gives_is_discarded() -> None:
    sessions = make_sessions()
    assert [admit(sessions, 0, ack=-1), admit(sessions, -3, ack=-4)] == [Verdict.FORGOTTEN] * 2


def test_a_mark_far_ahead_costs_no_more_than_what_it_covers() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    session = sessions.get(1)
    assert session is not None
    began = time.perf_counter()
    session.acknowledge(1 << 62)
    assert time.perf_counter() - began < 1.0, "the prototype of this walked through all numbers between"
    assert (session.entries, sessions.ledger.bytes) == ({}, 0)


# ------------------------------------------------------------------------------------------------ false retries


def test_the_same_number_for_other_arguments_is_a_false_retry() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    assert admit(sessions, 1, mark=b"y") is Verdict.FALSE_RETRY
    run(sessions, 2)
    assert admit(sessions, 2, mark=b"y") is Verdict.FALSE_RETRY, "also after it has ended"


def test_the_same_number_for_another_method_is_a_false_retry() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    assert admit(sessions, 1, method="S.pay") is Verdict.FALSE_RETRY


def test_a_false_retry_leaves_the_true_call_as_it_was() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    admit(sessions, 1, mark=b"y")
    assert admit(sessions, 1) is Verdict.RUNNING


def test_small_arguments_are_their_own_fingerprint() -> None:
    assert fingerprint_of(bytes(SMALL_BYTES), None) == bytes(SMALL_BYTES)
    assert len(fingerprint_of(bytes(SMALL_BYTES + 1), None)) == 16


@pytest.mark.parametrize("size", [1, ENDS_BYTES, 3 * ENDS_BYTES])
def test_an_attachment_is_known_by_its_length_and_its_ends(size: int) -> None:
    content = bytearray(size)
    mark = fingerprint_of(b"x", content)
    assert fingerprint_of(b"x", bytes(content)) == mark
    assert fingerprint_of(b"y", content) != mark
    assert fingerprint_of(b"x", bytes(size + 1)) != mark
    for place in (0, size - 1):
        changed = bytearray(content)
        changed[place] = 1
        assert fingerprint_of(b"x", changed) != mark


# ------------------------------------------------------------------------------------------------ what is kept


def test_replies_leave_by_acknowledgement_close_or_expiry_only() -> None:
    sessions = make_sessions(window=1000)
    for seq in range(1, 500):
        run(sessions, seq)
    session = sessions.get(1)
    assert session is not None
    assert len(session.entries) == 499, "nothing is evicted to make room"
    session.acknowledge(100)
    assert sorted(session.entries) == list(range(101, 500))
    sessions.close(1)
    assert sessions.ledger.bytes == 0


def test_the_ledger_counts_bodies_and_attachments() -> None:
    sessions = make_sessions()
    run(sessions, 1, reply=Reply(Status.OK, bytes(10)))
    run(sessions, 2, reply=Reply(Status.OK, bytes(20), memoryview(bytes(8)).cast("I")))
    assert sessions.ledger.bytes == 2 * ENTRY_BYTES + 10 + 20 + 8
    run(sessions, 3, ack=1)
    assert sessions.ledger.bytes == 2 * ENTRY_BYTES + 20 + 8 + len(OK.body)


def test_the_reply_of_a_call_that_its_client_gave_up_is_not_kept() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    session = sessions.get(1)
    assert session is not None
    session.acknowledge(1)
    assert list(session.finish(1, OK)) == []
    assert (session.entries, session.running, sessions.ledger.bytes) == ({}, 0, 0)


def test_the_end_of_a_call_gives_everybody_who_waits_once() -> None:
    sessions = make_sessions()
    session = sessions.get(1)
    assert session is not None
    session.admit(1, 0, "S.charge", b"x", ("a", 10))
    session.entries[1].attached.append(("b", 11))
    assert list(session.finish(1, OK)) == [("a", 10), ("b", 11)]
    assert list(session.entries[1].attached) == []


def test_a_call_does_not_end_twice() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    session = sessions.get(1)
    assert session is not None
    with pytest.raises(AssertionError, match="ended twice"):
        session.finish(1, OK)


def test_a_result_too_long_to_be_remembered_is_told_apart_from_one_that_never_was() -> None:
    long = Reply(Status.OK, bytes(60), bytes(50))
    assert remembered(long, 110) is long
    kept = remembered(long, 109)
    assert (kept.status, b"result_lost" in kept.body, kept.attachment) == (Status.FAILED, True, None)


def request(seq: int, ack: int) -> Request:
    return Request(1, 0, 2, 0, 1, seq, ack, b"")


def test_the_call_that_a_full_memory_waits_for_is_the_one_right_after_the_mark() -> None:
    sessions = make_sessions()
    session = sessions.get(1)
    assert session is not None
    assert not session.frees(request(1, 0)), "nothing of this session is kept, so nothing is freed"
    run(sessions, 2)
    assert session.frees(request(1, 0))
    assert not session.frees(request(3, 0))
    run(sessions, 3)
    assert session.frees(request(4, 3)), "by what the request itself acknowledges"


# ------------------------------------------------------------------------------------------------ leases


def test_a_session_that_is_silent_for_longer_than_its_lease_expires() -> None:
    sessions = make_sessions(lease_s=10.0)
    run(sessions, 1)
    assert sessions.expire(10.0) == []
    assert sessions.expire(10.1) == [1]
    assert (sessions.get(1), sessions.ledger.bytes) == (None, 0)


def test_a_session_with_a_running_call_is_not_silent() -> None:
    sessions = make_sessions(lease_s=10.0)
    admit(sessions, 1)
    assert sessions.expire(100.0) == []
    session = sessions.get(1)
    assert session is not None
    session.finish(1, OK)
    assert sessions.expire(100.0) == [1]


@given(st.lists(st.tuples(st.sampled_from(["hear", "open", "expire"]), st.integers(0, 5), st.integers(0, 7))))
def test_sessions_expire_exactly_when_their_leases_end(steps: list[tuple[str, int, int]]) -> None:
    """That most of the time nobody is looked at must not change who is found."""
    sessions = Sessions(4, 5.0)
    heard: dict[int, int] = {}
    now = 0
    for number, (what, who, elapsed) in enumerate(steps):
        now += elapsed
        if what == "open":
            sessions.open(number, now)
            heard[number] = now
        elif what == "hear" and heard:
            chosen = sorted(heard)[who % len(heard)]
            session = sessions.get(chosen)
            assert session is not None
            session.heard_at = now
            heard[chosen] = now
        elif what == "expire":
            silent = sorted(each for each, at in heard.items() if at + 5.0 < now)
            assert sorted(sessions.expire(now)) == silent
            for each in silent:
                del heard[each]


# ------------------------------------------------------------------------------------------------ snapshots


def test_a_snapshot_keeps_marks_replies_and_what_they_take() -> None:
    sessions = make_sessions()
    run(sessions, 1)
    run(sessions, 2, ack=1, reply=Reply(Status.FAILED, b"no"))
    run(sessions, 4, ack=1)
    again = Sessions(WINDOW, 10.0)
    again.unpack(sessions.pack())
    assert again.pack() == sessions.pack()
    assert again.ledger.bytes == sessions.ledger.bytes
    assert [admit(again, seq, 1) for seq in (2, 3, 4, 5)] == [
        Verdict.ENDED, Verdict.FRESH, Verdict.ENDED, Verdict.FRESH
    ]  # fmt: skip
    assert admit(again, 1) is Verdict.FORGOTTEN


def test_a_running_call_cannot_be_part_of_a_snapshot() -> None:
    sessions = make_sessions()
    admit(sessions, 1)
    with pytest.raises(AssertionError, match="running call"):
        sessions.pack()


# ------------------------------------------------------------------------------------------------ the model


@settings(max_examples=300)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(["attempt", "end"]), st.integers(-1, 12), st.integers(-1, 12)), max_size=60),
)
def test_no_number_runs_twice_whatever_comes(window: int, steps: list[tuple[str, int, int]]) -> None:
    """Against a model that remembers everything: what was begun, what runs, and the mark."""
    sessions = make_sessions(window=window)
    session = sessions.get(1)
    assert session is not None
    begun: list[int] = []
    running: list[int] = []
    mark = 0
    for what, seq, ack in steps:
        if what == "end":
            if running:
                session.finish(running.pop(seq % len(running)), OK)
            continue
        verdict = session.admit(seq, ack, "S.charge", b"x")
        if not ack < seq <= ack + window:
            assert verdict is Verdict.BEYOND
            continue
        mark = max(mark, ack)
        if seq <= mark:
            assert verdict is Verdict.FORGOTTEN
        elif seq not in begun:
            assert verdict is Verdict.FRESH
            begun.append(seq)
            running.append(seq)
        else:
            assert verdict is (Verdict.RUNNING if seq in running else Verdict.ENDED)
        assert session.ack == mark
        assert all(mark < kept <= mark + window for kept in session.entries)
        assert session.running == len(running)
    ended = [seq for seq in session.entries if seq not in running]
    assert sessions.ledger.bytes == len(ended) * (ENTRY_BYTES + len(OK.body))

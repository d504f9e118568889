"""The exactly-once half of the server core: one test for each of its rules."""

from __future__ import annotations

from typing import Any

import pytest

from onerack.rpc.core.commands import Advance, Invoke, Keep, Open, decode_command, encode_command
from onerack.rpc.core.durable import LOG
from onerack.rpc.core.runs import Committed
from onerack.rpc.messages import Mode, OpenSession, SessionOpened, Status
from tests.rpc.core_bench import CHARGE, CHARGE_SLOWLY, READ, TRANSFER, ServerBench


def durable_bench(**config: Any) -> tuple[ServerBench, int]:
    """A server with a log, and a session in it."""
    bench = ServerBench(durable=True, **config)
    return bench, bench.open(durable=True)


def transfer(bench: ServerBench, session: int, seq: int = 1, **fields: Any) -> list[Status]:
    return bench.request(session, seq, method=TRANSFER, **fields)


# ------------------------------------------------------------------------------------------------ commit


def test_a_session_is_told_of_after_its_command_is_durable() -> None:
    bench = ServerBench(durable=True)
    bench.say(OpenSession(5, True))
    assert bench.sent == []
    bench.commit()
    (opened,) = bench.sent
    assert isinstance(opened, SessionOpened)
    assert opened.call == 5


def test_a_session_that_is_asked_for_twice_before_it_is_durable_is_one() -> None:
    bench = ServerBench(durable=True)
    bench.say(OpenSession(5, True))
    bench.say(OpenSession(5, True))
    assert len(bench.proposals) == 1


def test_the_handler_runs_and_the_reply_leaves_after_commit() -> None:
    bench, session = durable_bench()
    assert transfer(bench, session) == []
    assert bench.begun == []
    bench.commit()
    assert bench.begun == [b"x"]
    assert bench.answers == [("a", 1, Status.OK)]


def test_a_duplicate_before_commit_waits_with_the_first() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    assert transfer(bench, session) == []
    assert transfer(bench, session, link="b") == []
    assert len(bench.proposals) == 1, "and is not proposed again"
    bench.commit()
    assert bench.answers == [("a", 1, Status.OK), ("b", 1, Status.OK)]


def test_a_duplicate_after_commit_is_answered_from_memory() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.commit()
    assert transfer(bench, session, link="b") == [Status.OK]
    assert (len(bench.begun), bench.proposals) == (1, [])


def test_an_exception_is_an_outcome_like_any_other() -> None:
    bench, session = durable_bench()
    bench.inline = False
    transfer(bench, session)
    bench.commit()
    bench.fail("not enough money")
    assert transfer(bench, session) == [Status.FAILED]
    assert len(bench.begun) == 1


def test_an_acknowledged_call_is_discarded_on_receipt() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    transfer(bench, session, 2, ack=1)
    bench.commit()
    assert transfer(bench, session) == []
    assert bench.proposals == []


def test_an_acknowledgement_takes_effect_in_the_order_of_the_log() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.commit()
    transfer(bench, session, 2, ack=1)
    assert transfer(bench, session) == [Status.OK], "not before it is durable"
    bench.commit()
    assert transfer(bench, session) == []


# ------------------------------------------------------------------------------------------------ the log decides


def test_the_log_may_hold_a_call_twice_and_it_runs_once() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    (command,) = bench.proposals
    bench.commit(command, command)
    assert len(bench.begun) == 1
    assert bench.answers == [("a", 1, Status.OK)]


def test_a_call_that_another_server_has_proposed_too_is_answered_by_whichever_is_applied_first() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    theirs = bench.proposals.pop()
    transfer(bench, session, link="b")
    bench.commit(theirs)
    assert bench.answers == [("a", 1, Status.OK), ("b", 1, Status.OK)]


def test_a_command_of_a_session_that_has_expired_meanwhile_is_not_run() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    transfer(bench, session)
    bench.commit(encode_command(Advance(1000.0)), bench.proposals.pop())
    assert bench.begun == []
    assert bench.answers == [("a", 1, Status.EXPIRED)]


def test_the_same_opening_twice_in_the_log_brings_back_no_dead_session() -> None:
    bench = ServerBench(durable=True)
    bench.say(OpenSession(5, True))
    (command,) = bench.proposals
    bench.commit()
    opened = bench.sent[0]
    assert isinstance(opened, SessionOpened)
    transfer(bench, opened.session)
    bench.commit()
    bench.close(opened.session)
    bench.commit()
    bench.commit(command)
    assert transfer(bench, opened.session) == [Status.EXPIRED]
    assert len(bench.begun) == 1


def test_a_false_retry_is_told_before_and_after_commit() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    assert transfer(bench, session, arguments=b"other") == [Status.FALSE_RETRY]
    bench.commit()
    assert transfer(bench, session, arguments=b"other") == [Status.FALSE_RETRY]
    assert bench.begun == [b"x"]


def test_a_false_retry_that_two_servers_let_pass_is_found_at_apply() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    first = bench.proposals.pop()
    command = decode_command(first)
    assert isinstance(command, Invoke)
    bench.commit(encode_command(Invoke(command.at, session, 1, 0, command.method, b"other")))
    bench.commit(first)
    assert bench.begun == [b"other"]
    assert bench.answers == [] or bench.answers == [("a", 1, Status.FALSE_RETRY)]


@pytest.mark.parametrize(("seq", "ack"), [(5, 0), (1, 1), (1 << 62, 0)])
def test_a_number_outside_the_window_never_enters_the_log(seq: int, ack: int) -> None:
    bench, session = durable_bench(window=4)
    assert transfer(bench, session, seq, call=1, ack=ack) == [Status.REFUSED]
    assert bench.proposals == []


def test_a_method_that_the_service_no_longer_has_is_told_to_the_shell() -> None:
    bench, session = durable_bench()
    bench.inline = False
    gone = Invoke(0.0, session, 1, 0, "S.gone", b"x")
    bench.core.step(Committed(9, encode_command(gone)), LOG, 1.0)
    (execution,) = bench.core.drain().applied
    assert (execution.request.method, execution.method) == (-1, "S.gone")


# ------------------------------------------------------------------------------------------------ crashes


def test_the_next_life_answers_what_this_one_has_run() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.commit()
    after = bench.reboot()
    assert after.begun == [b"x"], "the log is applied again"
    assert transfer(after, session) == [Status.OK]
    assert len(after.begun) == 1


def test_what_was_proposed_and_not_durable_is_run_by_the_next_life_when_it_is_asked_again() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    after = bench.reboot()
    assert after.begun == []
    transfer(after, session)
    after.commit()
    assert after.answers == [("a", 1, Status.OK)]


def test_a_snapshot_then_a_duplicate_of_an_older_call() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.commit()
    after = bench.reboot(snapshot=bench.snapshot())
    assert after.begun == []
    assert transfer(after, session) == [Status.OK], "sessions are part of it"
    assert transfer(after, session, arguments=b"other") == [Status.FALSE_RETRY], "with what tells false retries"


def test_a_snapshot_gives_the_services_own_state_back() -> None:
    bench, _ = durable_bench()
    after = ServerBench(seed=3, durable=True)
    assert after.core.durable is not None
    assert after.core.durable.restore(bench.snapshot()) == b"state"


def test_leases_do_not_run_while_nobody_serves() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    transfer(bench, session)
    bench.commit()
    after = bench.reboot(now=1_000_000.0)
    after.tick(after_s=50.0)
    after.commit()
    assert transfer(after, session) == [Status.OK]


def test_a_command_that_comes_late_does_not_turn_back_the_time() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    early = encode_command(Advance(1.0))
    for at in (50.0, 100.0):
        bench.commit(encode_command(Keep(at, session, 0)), early)
    bench.commit(encode_command(Advance(155.0)), early)
    assert transfer(bench, session) == [], "it was heard at 100 and lives"
    assert decode_command(bench.proposals[0]).at >= 155.0


def test_log_time_never_goes_back() -> None:
    bench, session = durable_bench()
    bench.now += 500.0
    transfer(bench, session)
    bench.commit()
    after = bench.reboot(now=0.0)
    transfer(after, session, 2)
    times = [decode_command(command).at for command in (*bench.log, *after.proposals)]
    assert times == sorted(times)


# ------------------------------------------------------------------------------------------------ leases


def test_a_durable_session_expires_by_a_command_though_nothing_else_happens() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    while bench.wake_at is not None:
        bench.tick(after_s=bench.wake_at - bench.now)
        bench.commit()
    assert bench.now <= 100.0 + 60.0 * 1.5
    assert transfer(bench, session) == [Status.EXPIRED]


def test_a_session_that_is_opened_after_a_long_silence_expires_too() -> None:
    bench = ServerBench(durable=True, session_lease_s=60.0)
    bench.tick()
    alarm = bench.wake_at
    assert alarm is None, "there is nothing to look at"
    session = bench.open(durable=True)
    while bench.wake_at is not None:
        bench.tick(after_s=bench.wake_at - bench.now)
        bench.commit()
    assert transfer(bench, session) == [Status.EXPIRED]


def test_a_call_keeps_its_session() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    for seq in range(1, 5):
        bench.tick(after_s=45.0)
        bench.commit(encode_command(Advance(0.0)))
        assert transfer(bench, session, seq, ack=seq - 1) == []
        bench.commit()
        assert bench.answers == [("a", seq, Status.OK)]


def test_a_session_from_a_snapshot_expires_though_nothing_else_happens() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    after = bench.reboot(snapshot=bench.snapshot())
    while after.wake_at is not None:
        after.tick(after_s=after.wake_at - after.now)
        after.commit()
    assert transfer(after, session) == [Status.EXPIRED]


def test_keeping_a_session_is_told_to_the_log_now_and_then() -> None:
    bench, session = durable_bench(session_lease_s=80.0)
    for _ in range(100):
        bench.now += 1.0
        assert bench.keep(session)
        bench.commit()
    assert len(bench.log) - 1 == 100 // 11, "each eighth of a lease"
    assert not bench.keep(session + 1)


def test_of_one_session_the_log_is_told_one_thing_at_a_time() -> None:
    bench, session = durable_bench(session_lease_s=80.0)
    bench.now += 70.0
    for ack in range(50):
        assert bench.keep(session, ack=0 if ack < 25 else ack)
    assert len(bench.proposals) == 1, "a slow log would be filled with the news"
    bench.commit()
    bench.keep(session, ack=49)
    bench.drop(definite=True)
    bench.keep(session, ack=49)
    assert len(bench.proposals) == 1, "what the log did not take is told again"


@pytest.mark.parametrize(("seq", "status"), [(1, [Status.OK]), (3, [Status.OVERLOADED]), (4, [])])
def test_whoever_only_tries_again_lives(seq: int, status: list[Status]) -> None:
    """Answered from memory, refused because it is full, or waiting for a log that does not come to an end."""
    bench, session = durable_bench(session_lease_s=60.0, replies_bytes_max=500)
    transfer(bench, session, 4)
    slow = bench.proposals.pop()
    transfer(bench, session, 1)
    transfer(bench, session, 2)
    bench.commit()
    for _ in range(30):
        bench.tick(after_s=10.0)
        bench.commit()
        assert transfer(bench, session, seq) == status
        bench.commit()
    bench.commit(slow)
    assert bench.answers[0] == ("a", 4, Status.OK)


def test_closing_a_session_is_decided_by_the_log() -> None:
    bench, session = durable_bench()
    bench.close(session)
    transfer(bench, session)
    bench.commit()
    assert bench.begun == []
    assert bench.answers == [("a", 1, Status.EXPIRED)]


# ------------------------------------------------------------------------------------------------ refusals


def test_a_full_memory_of_replies_refuses_and_still_acknowledges() -> None:
    bench, session = durable_bench(replies_bytes_max=500)
    for seq in (1, 2):
        transfer(bench, session, seq)
    bench.commit()
    assert transfer(bench, session, 3, ack=2) == [], "it is the one that the mark waits for"
    bench.commit()
    for seq in (4, 5):
        transfer(bench, session, seq, ack=2)
    bench.commit()
    other = bench.open("b", durable=True)
    assert transfer(bench, other, 1, link="b") == [Status.OVERLOADED]
    assert transfer(bench, session, 7, ack=5) == [Status.OVERLOADED]
    bench.commit()
    assert bench.core.reply_cache_bytes == 0
    assert transfer(bench, other, 1, link="b") == []


def test_the_call_that_the_mark_waits_for_is_never_kept_out_by_replies() -> None:
    bench, session = durable_bench(replies_bytes_max=500)
    for seq in (2, 3):
        transfer(bench, session, seq)
    bench.commit()
    assert transfer(bench, session, 4) == [Status.OVERLOADED]
    assert transfer(bench, session, 1) == []
    bench.commit()
    assert bench.answers == [("a", 1, Status.OK)]


def test_only_plain_handlers_without_attachments_can_run_exactly_once() -> None:
    bench, session = durable_bench()
    once = Mode.EXACTLY_ONCE
    assert bench.request(session, 1, method=CHARGE_SLOWLY, mode=once) == [Status.REFUSED]
    assert bench.request(session, 1, method=CHARGE, mode=once, attachment=b"x") == [Status.REFUSED]
    assert bench.request(session, 1, method=CHARGE, mode=once) == []
    bench.commit()
    assert bench.begun == [b"x"]


def test_a_server_that_stops_proposes_no_new_calls() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.commit()
    bench.core.stop()
    assert transfer(bench, session, 2) == [Status.OVERLOADED]
    assert transfer(bench, session, 1) == [Status.OK]
    assert bench.proposals == []


@pytest.mark.parametrize(
    ("cause", "status"),
    [("storage", Status.REFUSED), ("overloaded", Status.OVERLOADED), ("stopping", Status.OVERLOADED)],
)
def test_what_the_log_surely_does_not_take_is_refused_for_as_long_as_the_reason_lasts(
    cause: str, status: Status
) -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    transfer(bench, session, link="b")
    bench.drop(definite=True, cause=cause)
    assert bench.answers == [("a", 1, status), ("b", 1, status)]
    transfer(bench, session)
    bench.commit()
    assert bench.begun == [b"x"], "the same number may come again"


def test_what_the_log_may_have_taken_is_answered_by_nobody() -> None:
    bench, session = durable_bench()
    transfer(bench, session)
    bench.drop(definite=False)
    assert bench.answers == []


@pytest.mark.parametrize("definite", [True, False])
def test_a_session_that_the_log_does_not_take_is_refused(definite: bool) -> None:
    bench = ServerBench(durable=True)
    bench.say(OpenSession(5, True))
    bench.drop(definite=definite)
    assert bench.answers == [("a", 5, Status.REFUSED)]


# ------------------------------------------------------------------------------------------------ without a session


def test_a_weaker_call_of_an_exactly_once_method_runs_as_often_as_it_is_sent_and_after_commit() -> None:
    bench, _ = durable_bench()
    for _ in range(2):
        assert bench.request(0, 0, call=1, method=TRANSFER, mode=Mode.AT_LEAST_ONCE) == []
    bench.commit()
    assert len(bench.begun) == 2
    assert bench.answers == [("a", 1, Status.OK)] * 2


def test_the_reply_of_a_weaker_call_goes_to_the_attempt_that_asked() -> None:
    bench, _ = durable_bench()
    for call in (1, 2, 3):
        bench.request(0, 0, call=call, method=TRANSFER, mode=Mode.AT_LEAST_ONCE)
    first, second, third = bench.proposals
    bench.commit(third)
    assert bench.answers == [("a", 3, Status.OK)]
    bench.commit(third)
    assert bench.answers == [], "a command that the log holds twice runs twice, and is nobody else's"
    bench.proposals = [first]
    bench.drop(definite=True)
    assert bench.answers == [("a", 1, Status.REFUSED)]
    bench.commit(second)
    assert bench.answers == [("a", 2, Status.OK)]


def test_a_replay_answers_nobody() -> None:
    bench, _ = durable_bench()
    bench.request(0, 0, call=1, method=TRANSFER, mode=Mode.AT_LEAST_ONCE)
    bench.commit()
    after = bench.reboot()
    assert after.begun == [b"x"]
    assert after.answers == []
    after.request(0, 0, call=8, method=TRANSFER, mode=Mode.AT_LEAST_ONCE)
    after.commit()
    assert after.answers == [("a", 8, Status.OK)]


def test_readers_need_no_log() -> None:
    bench, _ = durable_bench()
    assert bench.request(0, 0, call=1, method=READ) == [Status.OK]
    assert bench.proposals == []


# ------------------------------------------------------------------------------------------------ determinism


def test_two_servers_that_apply_the_same_log_agree() -> None:
    bench, session = durable_bench(session_lease_s=60.0)
    for seq in range(1, 20):
        bench.now += 7.0
        transfer(bench, session, seq, ack=max(0, seq - 3), arguments=bytes([seq]))
        if seq % 5 == 0:
            bench.open(call=seq, durable=True)
        bench.commit()
    other = bench.reboot(seed=99, now=12345.0)
    assert other.snapshot() == bench.snapshot()
    assert other.begun == bench.begun


def test_a_log_that_holds_what_we_did_not_write_is_refused() -> None:
    bench, _ = durable_bench()
    with pytest.raises(Exception, match=r"Expected|Invalid|malformed|trailing"):
        bench.core.step(Committed(1, b"\xc1\xc1"), LOG, 0.0)


def test_an_opening_says_when_it_was_asked_for() -> None:
    bench = ServerBench(durable=True)
    bench.say(OpenSession(5, True))
    command = decode_command(bench.proposals[0])
    assert isinstance(command, Open)
    assert command.at == 0.0


def test_a_request_is_never_mistaken_for_one_of_another_session() -> None:
    bench, session = durable_bench()
    other = bench.open("b", durable=True)
    transfer(bench, session, arguments=b"one")
    transfer(bench, other, arguments=b"two", link="b")
    bench.commit()
    assert bench.begun == [b"one", b"two"]
    assert bench.answers == [("a", 1, Status.OK), ("b", 1, Status.OK)]

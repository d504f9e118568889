"""Each invariant of RPC's cores sees the falsehood that it is there to see, and reports it by its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onerack.errors import InvariantBroken
from onerack.rpc.core.client import Close, Invoke, Outcome
from onerack.rpc.core.runs import Executed, Execution
from onerack.rpc.core.sessions import Reply
from onerack.rpc.invariants import (
    CLIENT,
    SERVER,
    ClientWitness,
    ServerWitness,
    check_client,
    check_server,
)
from onerack.rpc.messages import CloseSession, KeepSession, Mode, Request, Response, Status
from onerack.runtime.seam import Envelope, Tick
from tests.rpc.core_bench import CHARGE, CHARGE_SLOWLY, OK, TRANSFER, ClientBench, ServerBench

# ------------------------------------------------------------------------------------------------ server, basic


def busy_server() -> ServerBench:
    """Session 1: calls 1 and 2 have ended, 2 is not acknowledged, 3 runs, 4 waits for a place; all as it should be."""
    bench = ServerBench(running_max=1, waiting_max=1, window=8)
    session = bench.open()
    bench.request(session, 1)
    bench.request(session, 2, ack=1)
    bench.request(session, 3, ack=1, method=CHARGE_SLOWLY)
    bench.request(session, 4, ack=1, method=CHARGE_SLOWLY)
    check_server(bench.core)
    return bench


def _far_beyond(bench: ServerBench) -> None:
    (session,) = bench.core._sessions
    session.entries[10] = session.entries.pop(2)


def _below_the_mark(bench: ServerBench) -> None:
    (session,) = bench.core._sessions
    session.ack = 2


def _miscount(bench: ServerBench) -> None:
    bench.core._sessions.ledger.bytes -= 1


def _forget_a_waiter(bench: ServerBench) -> None:
    (session,) = bench.core._sessions
    session.entries[2].attached.append(("b", 9))


def _overfill(bench: ServerBench) -> None:
    (waiting,) = bench.core._admission._waiting
    bench.core._admission._waiting.append(waiting)


def _hold_back(bench: ServerBench) -> None:
    bench.core._admission.running.clear()


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("entries_lie_within_the_window", _far_beyond),
        ("nothing_acknowledged_is_kept", _below_the_mark),
        ("the_ledger_is_the_sum_of_the_replies", _miscount),
        ("who_has_ended_keeps_nobody_waiting", _forget_a_waiter),
        ("admission_is_bounded", _overfill),
        ("nobody_waits_before_a_free_place", _hold_back),
    ],
)
def test_a_falsehood_in_a_servers_tables_is_seen(name: str, plant: Callable[[ServerBench], None]) -> None:
    bench = busy_server()
    plant(bench)
    with pytest.raises(InvariantBroken) as caught:
        check_server(bench.core)
    assert caught.value.name == name


def test_every_basic_property_of_servers_has_its_falsehood() -> None:
    assert len(SERVER) == 6


# ------------------------------------------------------------------------------------------------ client, basic


def busy_client() -> ClientBench:
    """Session 77: call 1 has ended, 2 is open, 3 has ended, 4 is open, 5 waits for its place; all as it should be."""
    bench = ClientBench()
    calls = [bench.call(CHARGE, deadline_s=100.0) for _ in range(6)]
    bench.opened(window=4)
    bench.answer(calls[0])
    bench.answer(calls[2])
    check_client(bench.core)
    return bench


def _mark_ahead(bench: ClientBench) -> None:
    bench.core._volatile.ack = 2


def _same_number(bench: ClientBench) -> None:
    bench.core._open[4].seq = 2


def _beyond_the_window(bench: ClientBench) -> None:
    bench.core._volatile.window = 2


def _lose_a_number(bench: ClientBench) -> None:
    bench.core._volatile._done.clear()


def _forget_a_call(bench: ClientBench) -> None:
    bench.core._volatile.waiting.clear()


def _forget_the_alarm(bench: ClientBench) -> None:
    bench.core._scan_at = float("inf")


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("the_mark_is_below_every_open_number", _mark_ahead),
        ("no_number_is_given_to_two_calls", _same_number),
        ("the_window_holds", _beyond_the_window),
        ("every_number_is_open_or_done", _lose_a_number),
        ("every_call_without_a_number_waits_for_one", _forget_a_call),
        ("whoever_waits_will_be_looked_at", _forget_the_alarm),
    ],
)
def test_a_falsehood_in_a_clients_tables_is_seen(name: str, plant: Callable[[ClientBench], None]) -> None:
    bench = busy_client()
    plant(bench)
    with pytest.raises(InvariantBroken) as caught:
        check_client(bench.core)
    assert caught.value.name == name


def test_every_basic_property_of_clients_has_its_falsehood() -> None:
    assert len(CLIENT) == 6


# ------------------------------------------------------------------------------------------------ server, delta


def durable_server() -> tuple[ServerBench, int]:
    """One call of a durable session has been committed and answered, and one has been proposed."""
    bench = ServerBench(durable=True)
    session = bench.open(durable=True)
    bench.request(session, 1, method=TRANSFER)
    bench.commit()
    bench.request(session, 2, method=TRANSFER)
    return bench, session


def breaks(name: str, bench: ServerBench, step: Callable[[], None]) -> None:
    with pytest.raises(InvariantBroken) as caught:
        step()
    assert caught.value.name == name


def look(bench: ServerBench, message: object = None) -> None:
    """The witness looks after a step that did nothing else."""
    bench._witness.check(message or Tick(), "a", bench.now)


def run_of(session: int, seq: int, ticket: int = 99, *, from_log: bool = False) -> Execution:
    request = Request(seq, CHARGE, Mode.AT_MOST_ONCE, 0, session, seq, 0, b"x")
    return Execution(ticket, "a", request, "S.charge", from_log=from_log)


def test_a_mark_that_goes_back_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    session.ack = 0
    breaks("the_mark_never_goes_back", bench, lambda: look(bench))


def test_a_reply_that_changes_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    session.entries[2].reply = Reply(Status.OK, b"changed")
    breaks("a_reply_never_changes", bench, lambda: look(bench))


def test_a_reply_that_is_lost_before_it_was_acknowledged_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    del session.entries[2]
    breaks("a_reply_is_kept_until_acknowledged", bench, lambda: look(bench))


def test_a_session_that_comes_back_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    bench.close(session.number)
    bench.core._sessions.open(session.number, bench.now)
    breaks("a_session_that_ended_stays_ended", bench, lambda: look(bench))


def test_a_session_that_ends_while_it_is_heard_is_seen() -> None:
    bench = ServerBench(session_lease_s=60.0)
    session = bench.open()
    bench.keep(session)
    bench.now += 10.0
    bench.core._sessions.close(session)
    breaks("sessions_live_while_they_are_heard", bench, lambda: look(bench))


def test_an_execution_that_ends_twice_is_seen() -> None:
    bench = busy_server()
    run = bench.runs[0]
    bench.end()
    breaks("an_execution_ends_once", bench, lambda: look(bench, Executed(run, OK)))


def test_a_ticket_that_is_used_twice_is_seen() -> None:
    bench = busy_server()
    bench.core._output.applied.append(bench.runs[0])
    breaks("tickets_are_unique", bench, lambda: look(bench))


def test_a_call_that_runs_twice_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    bench.core._output.applied.append(run_of(session.number, 2))
    breaks("no_call_runs_twice", bench, lambda: look(bench))


def test_a_call_that_was_refused_and_runs_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    bench.cancel(4)
    assert bench.answers == [("a", 4, Status.REFUSED)]
    bench.core._output.applied.append(run_of(session.number, 4))
    breaks("what_was_refused_never_runs", bench, lambda: look(bench))


def test_an_entry_that_runs_without_a_run_is_seen() -> None:
    bench = busy_server()
    bench._witness._runs.clear()
    breaks("every_running_entry_has_a_run", bench, bench._witness.check_runs)


def test_a_run_that_no_session_counts_is_seen() -> None:
    bench = busy_server()
    (session,) = bench.core._sessions
    session.running -= 1
    breaks("every_running_entry_has_a_run", bench, bench._witness.check_runs)


def test_an_answer_before_its_command_is_durable_is_seen() -> None:
    bench, session = durable_server()
    bench.core._output.sends.append(Envelope("a", Response(2, session, Status.OK, b"")))
    breaks("no_answer_before_commit", bench, lambda: look(bench))


def test_an_effect_before_its_command_is_durable_is_seen() -> None:
    bench, session = durable_server()
    bench.core._output.applied.append(run_of(session, 2, from_log=True))
    breaks("no_effect_before_commit", bench, lambda: look(bench))


def test_executions_and_sessions_that_are_left_at_the_end_are_seen() -> None:
    bench = busy_server()
    breaks("every_execution_ends", bench, bench._witness.check_rest)
    bench.end()
    bench.end()
    breaks("nothing_is_left", bench, bench._witness.check_rest)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("a_session_that_ended_stays_ended", lambda after, session: after._gone.add(session)),
        ("the_mark_never_goes_back", lambda after, session: setattr(after._kept[session], "mark", 5)),
        ("a_reply_never_changes", lambda after, session: after._kept[session].replies.update({1: Reply(0, b"other")})),
        ("a_reply_is_kept_until_acknowledged", lambda after, session: after._kept[session].replies.update({9: OK})),
    ],
)
def test_a_restart_that_forgets_is_seen(name: str, plant: Callable[[ServerWitness, int], None]) -> None:
    bench, session = durable_server()
    after = bench.reboot()
    after._witness.check_succession(bench._witness)
    plant(bench._witness, session)
    breaks(name, after, lambda: after._witness.check_succession(bench._witness))


# ------------------------------------------------------------------------------------------------ client, delta


def told(witness: ClientWitness, name: str, message: object = None) -> None:
    with pytest.raises(InvariantBroken) as caught:
        witness.check(message or Tick(), "")
    assert caught.value.name == name


def test_a_call_that_begins_twice_is_seen() -> None:
    bench = busy_client()
    told(bench._witness, "a_call_begins_once", Invoke(2, CHARGE, Mode.AT_MOST_ONCE, b"x"))


@pytest.mark.parametrize("call", [1, 99])
def test_an_outcome_of_a_call_that_is_not_open_is_seen(call: int) -> None:
    bench = busy_client()
    bench.core._output.applied.append(Outcome(call, Status.OK))
    told(bench._witness, "a_call_ends_once")


def test_an_outcome_of_a_call_that_stays_open_is_seen() -> None:
    bench = busy_client()
    bench.core._output.applied.append(Outcome(2, Status.OK))
    told(bench._witness, "a_call_is_open_until_its_outcome")


def test_a_call_that_ends_without_an_outcome_is_seen() -> None:
    bench = busy_client()
    del bench.core._open[2]
    told(bench._witness, "a_call_is_open_until_its_outcome")


@pytest.mark.parametrize(
    "request_",
    [Request(9, CHARGE, 2, 0, 77, 2, 1, b"x"), Request(2, CHARGE, 2, 0, 77, 2, 1, b"other")],
)
def test_an_xid_for_another_call_or_other_arguments_is_seen(request_: Request) -> None:
    bench = busy_client()
    bench.core._output.sends.append(Envelope("server", request_))
    told(bench._witness, "an_xid_is_never_used_again")


@pytest.mark.parametrize("message", [KeepSession(77, 0), Request(9, CHARGE, 2, 0, 77, 9, 0, b"x")])
def test_a_clients_mark_that_goes_back_is_seen(message: object) -> None:
    bench = busy_client()
    bench.core._output.sends.append(Envelope("server", KeepSession(77, 1)))
    bench._witness.check(Tick(), "")
    bench.core._output.sends.append(Envelope("server", message))
    told(bench._witness, "the_mark_never_goes_back")


def test_a_call_that_is_begun_while_closing_is_seen() -> None:
    bench = busy_client()
    bench.core._output.sends.append(Envelope("server", CloseSession(77)))
    bench.core._output.sends.append(Envelope("server", Request(9, CHARGE, 2, 0, 77, 9, 1, b"x")))
    told(bench._witness, "nothing_is_begun_while_closing", Close())

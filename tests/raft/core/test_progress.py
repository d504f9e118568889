"""Progress: the states of a follower, and its window."""

from __future__ import annotations

from onerack.raft.core.progress import Progress


def replicating(match: int = 5) -> Progress:
    progress = Progress(match + 1, 0.0)
    progress.accept(match)
    return progress


def may_send(progress: Progress) -> bool:
    return progress.may_send(3, 100)


def test_probe_has_one_message_outstanding() -> None:
    progress = Progress(6, 0.0)
    assert may_send(progress)
    progress.note_sent(9, 10, 0)
    assert not may_send(progress)
    assert progress.next == 6
    progress.accept(9)
    assert (progress.state, progress.match, progress.next) == ("replicate", 9, 10)


def test_replicate_does_not_wait_for_answers() -> None:
    progress = replicating()
    progress.note_sent(6, 10, 0)
    progress.note_sent(8, 10, 0)
    assert (progress.next, may_send(progress)) == (9, True)


def test_the_window_is_limited_in_messages() -> None:
    progress = replicating()
    for index in (6, 7, 8):
        progress.note_sent(index, 1, 0)
    assert not may_send(progress)
    progress.accept(7)
    assert may_send(progress)
    assert len(progress.in_flight) == 1


def test_the_window_is_limited_in_bytes() -> None:
    progress = replicating()
    progress.note_sent(6, 100, 0)
    assert not may_send(progress)
    progress.accept(6)
    assert (may_send(progress), progress.in_flight_bytes) == (True, 0)


def test_an_empty_append_takes_no_place_in_the_window() -> None:
    progress = replicating()
    progress.note_sent(5, 0, 5)
    assert (progress.next, len(progress.in_flight)) == (6, 0)


def test_who_asks_may_go_past_the_window_once() -> None:
    progress = replicating()
    progress.note_sent(6, 100, 0)
    progress.asks = True
    assert may_send(progress)
    progress.note_sent(6 - 1, 0, 0)
    assert not may_send(progress)


def test_a_refusal_leads_back_to_probe_and_never_before_match() -> None:
    progress = replicating()
    progress.note_sent(9, 1, 0)
    progress.refuse(9, 2)
    assert (progress.state, progress.next, len(progress.in_flight)) == ("probe", 6, 0)


def test_a_refusal_goes_back_to_where_the_logs_may_agree() -> None:
    progress = Progress(100, 0.0)
    progress.refuse(99, 40)
    assert progress.next == 41
    progress.refuse(40, 90)
    assert progress.next == 40, "always by at least one"


def test_which_refusals_are_stale() -> None:
    probing = Progress(10, 0.0)
    assert [probing.is_stale_refusal(index) for index in (8, 9, 10)] == [True, False, True]
    sending = replicating()
    sending.note_sent(9, 1, 0)
    assert [sending.is_stale_refusal(index) for index in (4, 5, 6, 9, 10)] == [True, True, False, False, True]


def test_an_old_acknowledgement_changes_nothing() -> None:
    progress = replicating()
    progress.note_sent(8, 1, 0)
    progress.accept(3)
    assert (progress.match, progress.next, len(progress.in_flight)) == (5, 9, 1)


def test_snapshot_sends_nothing() -> None:
    progress = replicating()
    progress.become_snapshot(10.0)
    assert not may_send(progress)
    progress.become_probe()
    assert (may_send(progress), progress.next) == (True, 6)

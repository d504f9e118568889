"""The log in memory: places and terms, cut and truncated, and what the disk has of it."""

from __future__ import annotations

import pytest

from onerack.raft.core.log import Log
from onerack.raft.messages import Entry, Kind, LogReset, SnapshotMark


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(term, index, Kind.COMMANDS, b"123") for index, term in enumerate(terms, first)]


def log_of(*terms: int) -> Log:
    return Log(SnapshotMark(), entries(1, *terms))


def test_an_empty_log() -> None:
    log = Log(SnapshotMark(), ())
    assert (log.first_index, log.last_index, log.last_term) == (1, 0, 0)
    assert [log.term_at(index) for index in (-1, 0, 1)] == [None, 0, None]
    assert log.entry_at(0) is None


def test_places_and_terms() -> None:
    log = log_of(1, 1, 3)
    assert [log.term_at(index) for index in range(5)] == [0, 1, 1, 3, None]
    assert (log.last_index, log.last_term) == (3, 3)
    assert log.between(2, 3) == entries(2, 1, 3)


@pytest.mark.parametrize(
    ("mark", "first", "terms", "kept"),
    [
        (SnapshotMark(), 1, (1, 2), (1, 2)),
        (SnapshotMark(3, 2), 4, (2, 3), (4, 5)),
        (SnapshotMark(3, 2), 1, (1, 1, 2, 3), (1, 4)),
        (SnapshotMark(3, 2), 2, (1, 2, 3), (3, 4)),
        (SnapshotMark(3, 2), 3, (2,), (4, 3)),
        (SnapshotMark(3, 2), 4, (), (4, 3)),
    ],
)
def test_what_a_restart_finds(mark: SnapshotMark, first: int, terms: tuple[int, ...], kept: tuple[int, int]) -> None:
    log = Log(mark, entries(first, *terms))
    assert (log.first_index, log.last_index) == kept
    assert log.term_at(mark.index) == mark.term
    assert log.durable == log.last_index
    assert log.take_writes() == []


@pytest.mark.parametrize("terms", [(1, 1), (1, 1, 1, 1, 1)])
def test_a_log_that_missed_the_snapshot_is_dropped_on_the_disk_too(terms: tuple[int, ...]) -> None:
    mark = SnapshotMark(3, 2)
    log = Log(mark, entries(1, *terms))
    assert (log.first_index, log.last_index, log.last_term) == (4, 3, 2)
    assert log.take_writes() == [LogReset(mark)]


def test_a_log_with_a_gap_is_refused() -> None:
    with pytest.raises(AssertionError, match="begins at 5"):
        Log(SnapshotMark(3, 2), entries(5, 2))
    with pytest.raises(AssertionError, match="where 2 belongs"):
        Log(SnapshotMark(), [*entries(1, 1), *entries(3, 1)])


def test_an_append_leaves_no_gap_and_no_falling_term() -> None:
    log = log_of(2)
    with pytest.raises(AssertionError, match="cannot follow"):
        log.append(entries(3, 2))
    with pytest.raises(AssertionError, match="of term 1 cannot follow"):
        log.append(entries(2, 1))


def test_a_truncation_never_reaches_the_commit_index_nor_the_cut() -> None:
    log = log_of(1, 1, 1)
    with pytest.raises(AssertionError, match="committed"):
        log.truncate_from(2, commit=2)
    log.cut(2)
    with pytest.raises(AssertionError, match="begins at"):
        log.truncate_from(2, commit=1)


def test_batches_are_limited_by_bytes_but_hold_at_least_one_entry() -> None:
    log = log_of(1, 1, 1, 1)
    assert [len(log.batch_from(first, 7)) for first in (1, 2, 3, 4, 5)] == [2, 2, 2, 1, 0]
    assert len(log.batch_from(1, 1)) == 1
    assert log.bytes_from(3) == 6


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (9, 9, (6, 4)),
        (9, 3, (3, 2)),
        (4, 4, (4, 4)),
        (5, 2, (3, 2)),
        (5, 1, (1, 1)),
        (5, 0, (0, 0)),
        (0, 5, (0, 0)),
    ],
)
def test_the_last_place_that_may_agree(index: int, term: int, expected: tuple[int, int]) -> None:
    assert log_of(1, 2, 2, 4, 4, 4).last_agreeable(index, term) == expected


def test_the_last_place_that_may_agree_is_the_base_when_all_else_is_cut() -> None:
    log = log_of(1, 2, 2, 4)
    log.cut(2)
    assert log.last_agreeable(4, 1) == (2, 2)
    assert log.last_agreeable(1, 1) == (1, 0)


@pytest.mark.parametrize(
    ("last_index", "last_term", "expected"), [(2, 2, True), (1, 3, True), (3, 2, True), (1, 2, False), (9, 1, False)]
)
def test_which_log_is_newer(last_index: int, last_term: int, expected: bool) -> None:
    assert log_of(1, 2).is_at_least(last_index, last_term) is expected


def test_writes_are_given_once_and_again_from_where_they_changed() -> None:
    log = log_of(1)
    log.append(entries(2, 1, 1))
    assert log.take_writes() == entries(2, 1, 1)
    assert log.take_writes() == []
    log.truncate_from(3, commit=0)
    log.append(entries(3, 2, 2))
    assert log.take_writes() == entries(3, 2, 2)


def test_what_is_truncated_before_it_was_written_is_never_written() -> None:
    log = log_of(1)
    log.append(entries(2, 1, 1, 1))
    log.truncate_from(3, commit=0)
    assert log.take_writes() == entries(2, 1)


def test_durable_follows_the_disk_not_the_log() -> None:
    log = log_of(1)
    log.append(entries(2, 1, 1))
    log.take_writes()
    log.append(entries(4, 1))
    assert log.durable == 1
    log.note_durable(3)
    assert log.durable == 3


def test_a_truncation_takes_back_what_is_durable() -> None:
    log = log_of(1, 1, 1)
    log.truncate_from(2, commit=0)
    log.append(entries(2, 2, 2))
    log.note_durable(3)
    assert log.durable == 1, "the sync was of what is gone"


def test_a_reset_is_written_before_what_follows_it() -> None:
    log, mark = log_of(1, 1), SnapshotMark(7, 3)
    log.reset(mark)
    log.append(entries(8, 3))
    assert log.take_writes() == [LogReset(mark), *entries(8, 3)]
    log.note_durable(8)
    assert log.durable == 8


def test_only_what_is_durable_is_cut() -> None:
    log = log_of(1)
    log.append(entries(2, 1, 1))
    log.cut(3)
    assert (log.first_index, log.last_index) == (2, 3)
    assert log.take_writes() == entries(2, 1, 1)


def test_payloads_are_not_copied() -> None:
    payload = bytes(1000)
    log = Log(SnapshotMark(), ())
    log.append([Entry(1, 1, Kind.COMMANDS, payload)])
    assert log.batch_from(1, 1)[0].payload is payload

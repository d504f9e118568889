"""The judge finds what a store must not do: each wrong is planted into a record that is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from onerack.sim.checker import Read
from tests.faults.clients import Lease, Operation, Record, Watcher
from tests.faults.judge import Round, Wrong

BASE = 10
S = 10**9


def done(client: str, kind: str, changes: tuple[tuple[str, str | None], ...], at: int, revision: int) -> Operation:
    operation = Operation(client, kind, changes, at)
    operation.end, operation.revision = at + 1, revision
    return operation


def recorded() -> Record:
    """A put, a lost put that happened, a cas, a delete, a key whose lease ends, a read, the last write."""
    record = Record("r1/", BASE)
    lost = Operation("c2", "put", (("r1/k1", "b"),), 3)
    cas = done("c1", "cas", (("r1/k0", "c"),), 6, 13)
    cas.expected, cas.result = "a", True
    delete = done("c1", "delete", (("r1/k1", None),), 8, 14)
    delete.result = True
    get = Operation("c3", "get", (), 10)
    get.end, get.result = 11, ("r1/k0", "c")
    refused = Operation("c4", "put", (("r1/k2", "never"),), 12)
    refused.was_refused = True
    record.operations = [
        done("c1", "put", (("r1/k0", "a"),), 1, 11), lost, cas, delete, get, refused,
        done("c1", "put", (("r1/lease/d", "d"),), 14, 15), done("end", "put", (("r1/k~end", "e"),), 9 * S, 17),
    ]  # fmt: skip
    lease = Lease(7, 2, 13)
    lease.key = "r1/lease/d"
    record.leases[7] = lease
    record.reads = [Read(14, "r1/k0", "r1/k0\0", (("r1/k0", "c"),), 10, 11)]
    log, watch = Watcher("log", "r1/", "r1/~", BASE + 1), Watcher("w", "r1/k", "r1/k~~", BASE + 1)
    log.told = [
        (11, (("r1/k0", "a"),)), (12, (("r1/k1", "b"),)), (13, (("r1/k0", "c"),)), (14, (("r1/k1", None),)), (14, ()),
        (15, (("r1/lease/d", "d"),)), (16, (("r1/lease/d", None),)), (17, (("r1/k~end", "e"),)),
    ]  # fmt: skip
    watch.told = [told for told in log.told if not told[1] or told[1][0][0] != "r1/lease/d"]
    log.told_at, watch.told_at = [8 * S] * len(log.told), [8 * S] * len(watch.told)
    record.watchers, record.last = [log, watch], 17
    return record


def test_what_is_right_is_found_right() -> None:
    judged = Round(recorded(), [])
    judged.judge()
    assert judged.pending == []


def test_a_lost_write_of_an_earlier_round_may_come_late() -> None:
    record = recorded()
    late = record.operations.pop(1)
    Round(record, [late]).judge()


def test_a_lost_write_that_nobody_has_seen_stays_open() -> None:
    record = recorded()
    never = Operation("c9", "put", (("r1/k0", "never"),), 5)
    record.operations.append(never)
    judged = Round(record, [])
    judged.judge()
    assert judged.pending == [never]


def lose(record: Record) -> None:
    """The log does not have what was acknowledged."""
    record.operations.append(done("c5", "put", (("r1/k2", "x"),), 2, 18))
    record.log.told[0] = (11, (("r1/k2", "y"),))


def execute_refused(record: Record) -> None:
    record.log.told[1] = (12, (("r1/k2", "never"),))


def execute_twice(record: Record) -> None:
    record.log.told[3] = (14, (("r1/k1", "b"),))


def end_lease_early(record: Record) -> None:
    record.log.told_at = [1 * S] * len(record.log.told)


def read_old(record: Record) -> None:
    record.reads[0] = replace(record.reads[0], revision=12, found=(("r1/k0", "a"),))


def get_old(record: Record) -> None:
    record.operations[4].result = ("r1/k0", "a")


def miss_an_event(record: Record) -> None:
    del record.watchers[1].told[1], record.watchers[1].told_at[1]


def tell_twice(record: Record) -> None:
    watch = record.watchers[1]
    watch.told.insert(1, watch.told[0])
    watch.told_at.insert(1, watch.told_at[0])


def promise_too_much(record: Record) -> None:
    """A progress notice that is ahead of the events."""
    record.watchers[1].told[0:0] = [(13, ())]
    record.watchers[1].told_at[0:0] = [S]


def move(record: Record) -> None:
    record.operations[0].revision = 12


def compare_wrongly(record: Record) -> None:
    record.operations[2].expected = "z"


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lose, "nobody has written|acknowledged write is lost"), (execute_refused, "what was refused was executed"),
        (execute_twice, "executed twice"), (end_lease_early, "before its lease was over"),
        (read_old, "reads_are_not_stale"), (get_old, "linearizability"), (miss_an_event, "events_have_no_gap"),
        (tell_twice, "events_are_ordered_and_unique"), (promise_too_much, "progress_comes_after_events"),
        (move, "in the log at"), (compare_wrongly, "linearizability"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(plant: Callable[[Record], None], words: str) -> None:
    record = recorded()
    plant(record)
    with pytest.raises(Wrong, match=words):
        Round(record, []).judge()

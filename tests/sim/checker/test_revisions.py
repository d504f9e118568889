"""The order of revisions: an honest store passes, and each property has a lie that only it finds."""

from __future__ import annotations

import random

import msgspec
import pytest

from onerack.sim.checker import Read, Store, Watch, Write, check_revisions

WRITES = [
    Write(2, (("a", 1),), 0, 10),
    Write(3, (("a", 2), ("b", 1)), 11, 20),
    Write(4, (("c", 1),), 15, None),
    Write(5, (("a", None),), 30, 40),
]
WATCH = Watch("a", "b", 2, ((2, (("a", 1),)), (3, (("a", 2),)), (4, ()), (5, (("a", None),))), closed=True)
ALL = Watch("a", "z", 3, ((3, (("a", 2), ("b", 1))), (4, (("c", 1),))))
READ = Read(3, "a", "z", (("a", 2), ("b", 1)), 12, 22)


def replace_write(place: int, **fields: object) -> list[Write]:
    writes = list(WRITES)
    writes[place] = msgspec.structs.replace(writes[place], **fields)
    return writes


def test_an_honest_store_passes() -> None:
    old = Read(5, "a", "z", (("a", 1),), 41, 50, at_revision=2)
    lazy = Read(2, "a", "z", (("a", 1),), 41, 50, linearizable=False)
    assert check_revisions(WRITES, [READ, old, lazy], [WATCH, ALL]).is_good


WRONG_WRITES = {
    "revisions_are_unique": replace_write(1, revision=2),
    "revisions_have_no_gap": WRITES[1:],
    "revisions_agree_with_time": replace_write(3, call=0, end=1),
}


@pytest.mark.parametrize("name", sorted(WRONG_WRITES))
def test_a_wrong_order_of_writes_is_found(name: str) -> None:
    assert [each.name for each in check_revisions(WRONG_WRITES[name]).anomalies] == [name]


WRONG_READS = {
    "reads_are_not_stale": Read(2, "a", "z", (("a", 1),), 21, 22),
    "reads_do_not_foresee": Read(4, "a", "z", (("a", 2), ("b", 1), ("c", 1)), 11, 14),
    "reads_show_their_revision": msgspec.structs.replace(READ, found=(("a", 2),)),
}


@pytest.mark.parametrize("name", sorted(WRONG_READS))
def test_a_wrong_read_is_found(name: str) -> None:
    (anomaly,) = check_revisions(WRITES, [READ, WRONG_READS[name]]).anomalies
    assert anomaly.name == name
    assert anomaly.window == (WRONG_READS[name].call, WRONG_READS[name].end)


WRONG_WATCHES = {
    "skipped": ("events_have_no_gap_and_are_whole", (WATCH.told[0], WATCH.told[3])),
    "torn": ("events_have_no_gap_and_are_whole", ((2, (("a", 1),)), (3, (("b", 1),)))),
    "invented": ("events_have_no_gap_and_are_whole", (*WATCH.told, (6, (("a", 9),)))),
    "not all": ("events_have_no_gap_and_are_whole", WATCH.told[:2]),
    "twice": ("events_are_ordered_and_unique", (WATCH.told[0], WATCH.told[0])),
    "early progress": ("progress_comes_after_events", (WATCH.told[0], (3, ()), *WATCH.told[1:])),
}


@pytest.mark.parametrize("what", sorted(WRONG_WATCHES))
def test_a_wrong_watch_is_found(what: str) -> None:
    name, told = WRONG_WATCHES[what]
    (anomaly,) = check_revisions(WRITES, [], [msgspec.structs.replace(WATCH, told=told)]).anomalies
    assert anomaly.name == name


def test_long_runs_of_an_honest_store_pass() -> None:
    chance = random.Random(5)
    writes, reads, now = [], [], 0
    for revision in range(2, 3000):
        changes = tuple((key, chance.choice([revision, None])) for key in sorted(chance.sample("abcdef", 2)))
        writes.append(Write(revision, changes, now, now + 5))
        now += chance.randint(1, 9)
    store = Store(writes)
    for write in writes[::7]:
        assert write.end is not None
        reads.append(Read(write.revision, "b", "e", store.state(write.revision, "b", "e"), write.call + 1, write.end))
    assert check_revisions(writes, reads, [Watch("b", "e", 10, tuple(store.events("b", "e", 10)), True)]).is_good

"""Automatic compaction: how much history stays, who proposes, and that users do not hinder it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.config import KvConfig
from onerack.errors import UsageError
from onerack.kv.server.compactor import Compactor, Notes
from tests.kv.server.client import connected
from tests.kv.server.group import group
from tests.rpc.links import run


def test_by_time_what_could_be_read_so_long_ago_stays() -> None:
    notes = Notes(KvConfig(auto_compaction_s=100))
    taken = [notes.take(float(now), 10 + now) for now in range(0, 160, 10)]
    assert taken == [0] * 10 + [10, 20, 30, 40, 50, 60]


def test_by_time_a_gap_between_two_looks_keeps_more_and_never_less() -> None:
    notes = Notes(KvConfig(auto_compaction_s=100))
    assert [notes.take(now, revision) for now, revision in ((0.0, 5), (99.0, 50), (199.5, 90))] == [0, 0, 50]
    # At 260 the store of 160 s ago is wanted: the last that was noted before is of 99.
    assert notes.take(260.0, 95) == 50
    assert notes.take(1000.0, 99) == 95


def test_by_revisions_so_many_of_the_last_stay() -> None:
    notes = Notes(KvConfig(auto_compaction_revisions=100))
    assert [notes.take(0.0, revision) for revision in (1, 100, 101, 250)] == [-99, 0, 1, 150]


def test_history_is_kept_by_one_measure() -> None:
    with pytest.raises(UsageError, match="by one of them"):
        KvConfig(auto_compaction_s=1, auto_compaction_revisions=1)
    with pytest.raises(UsageError, match="negative"):
        KvConfig(auto_compaction_s=-1)


def test_the_leader_compacts_for_all_also_when_users_are_asked_who_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            async with connected(found.places["n1"].address) as client:
                for number in range(20):
                    await client.call("Put", key=b"a", value=b"%d" % number)
                await client.call("UserAdd", name="root", password="secret")
                await client.call("UserGrantRole", user="root", role="root")
                await client.call("AuthEnable")
            config = KvConfig(auto_compaction_revisions=5)
            places = list(found.places.values())
            compactors = [Compactor(place.node, place.machine, config, look_s=0.01) for place in places]
            while any(place.machine.store.compacted != place.machine.revision - 5 for place in places):
                await asyncio.sleep(0.01)
            for compactor in compactors:
                compactor.close()
            assert {place.machine.revision for place in places} == {21}

    run(main())

"""Virtual time, seeded streams, the simulated network, the virtual loop, the simulated disk."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from onerack.errors import UsageError
from onerack.sim.disk import SimDisk, SimHalt
from onerack.sim.env import SimClock
from onerack.sim.loop import Standstill, simulate
from onerack.sim.network import Network, Weather
from onerack.sim.seeds import stream
from onerack.sim.world import World


def test_things_happen_in_order_of_time_then_of_planning() -> None:
    world, log = World(), list[str]()
    for seconds, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (-5.0, "now")):
        world.after(seconds, log.append, name)
    while world.step():
        pass
    assert log == ["now", "a", "b", "c"]
    assert (world.now, world.events) == (2.0, 4)


def test_streams_are_known_and_independent() -> None:
    assert [stream(1, "network").randrange(1000) for _ in range(2)] == [stream(1, "network").randrange(1000)] * 2
    assert stream(1, "network").random() != stream(1, "faults").random()
    assert stream(1, "network").random() != stream(2, "network").random()
    assert stream(7, "golden").getrandbits(32) == 1730328844, "another value would make all known seeds others"


class Post:
    """A network and what it delivered."""

    def __init__(self, weather: Weather) -> None:
        self.world = World()
        self.arrived: list[tuple[str, Any, str]] = []
        self.disturbed: set[str] = set()
        self.network = Network(
            self.world,
            random.Random(1),
            weather,
            lambda to, message, sender: self.arrived.append((to, message, sender)),
            self.disturbed.add,
        )

    def send(self, count: int) -> list[int]:
        for number in range(count):
            self.network.send("a", "b", number)
        while self.world.step():
            pass
        return [message for _, message, _ in self.arrived]


def test_an_ordered_network_keeps_order_and_loses_nothing() -> None:
    post = Post(Weather(ordered=True, drop=1.0, duplicate=1.0, slow=0.5))
    assert post.send(200) == list(range(200))


def test_a_cut_holds_an_ordered_network_up() -> None:
    post = Post(Weather(ordered=True))
    post.network.cut("b", 5.0)
    assert post.send(3) == [0, 1, 2]
    assert post.world.now >= 5.0


def test_a_rack_network_drops_repeats_and_reorders() -> None:
    post = Post(Weather(ordered=False, drop=0.2, duplicate=0.2))
    arrived = post.send(1000)
    assert arrived != sorted(arrived)
    assert len(set(arrived)) == 1000 - post.network.lost
    assert len(arrived) == len(set(arrived)) + post.network.repeated
    assert post.disturbed == {"a", "b"}


def test_a_cut_takes_what_is_on_its_way() -> None:
    post = Post(Weather(ordered=False))
    post.network.send("a", "b", 1)
    post.network.cut("a", 5.0)
    assert post.send(1) == []
    post.network.heal()
    assert post.send(1) == [0]


def test_sleeping_takes_no_time() -> None:
    async def story() -> float:
        clock = SimClock()
        started = clock.now()
        await asyncio.gather(clock.sleep(3600.0), clock.sleep(10.0))
        return clock.now() - started

    assert simulate(story()) == pytest.approx(3600.0)


def test_timeouts_are_virtual_too() -> None:
    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await asyncio.Event().wait()

    simulate(story())


def test_work_for_threads_is_done_in_the_loop() -> None:
    async def story() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(sum, [1, 2, 3])

    assert simulate(story()) == 6


def test_a_standstill_is_an_error_and_not_a_hang() -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Standstill):
        simulate(story())


# ------------------------------------------------------------------------------------------------------ disk


def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(60):
        disk = SimDisk(random.Random(seed))
        file = disk.open_append("/d/log")
        file.append(b"synced")
        file.sync()
        disk.sync_directory("/d")
        file.append(b"1234")
        disk.crash()
        kept.add(disk.read("/d/log"))
    assert kept == {b"synced", b"synced1", b"synced12", b"synced123", b"synced1234"}


def test_a_crash_keeps_a_prefix_or_some_sectors_of_what_was_written_over() -> None:
    kept = set()
    for seed in range(400):
        disk = SimDisk(random.Random(seed))
        disk.open_append("/d/log").append(bytes(1536))
        file = disk.open_fixed("/d/log")
        file.write(0, b"s" * 100)
        file.sync()
        disk.sync_directory("/d")
        file.write(510, b"12", b"3" * 512, b"45")
        disk.crash()
        content = disk.read("/d/log")
        assert len(content) == 1536
        assert content[:100] == b"s" * 100
        assert not content[100:510].strip(b"\0")
        assert not content[1026:].strip(b"\0")
        kept.add(content[510:1026].replace(b"3" * 512, b"3").replace(b"\0" * 512, b"-").replace(b"\0", b"-"))
    assert {b"-----", b"12---", b"12345", b"--3--", b"---45", b"12-45", b"--345", b"123--", b"1----", b"1234-"} <= kept


def test_what_was_written_over_is_gone_after_a_failed_sync() -> None:
    disk = SimDisk(random.Random(1))
    disk.open_append("/d/log").append(b"before")
    disk.syncs_until_failure = 1
    file = disk.open_fixed("/d/log")
    file.write(0, b"B")
    file.sync()
    file.write(1, b"E")
    assert disk.read("/d/log") == b"BEfore"
    with pytest.raises(SimHalt):
        file.sync()
    file.sync()
    assert disk.read("/d/log") == b"Before"


def test_a_rename_may_be_lost_until_the_directory_is_synced() -> None:
    def after_crash(seed: int, sync: bool) -> bool:
        disk = SimDisk(random.Random(seed))
        file = disk.open_append("/d/tmp")
        file.append(b"x")
        file.sync()
        disk.sync_directory("/d")
        disk.rename("/d/tmp", "/d/final")
        if sync:
            disk.sync_directory("/d")
        disk.crash()
        try:
            return disk.read("/d/final") == b"x"
        except FileNotFoundError:
            return disk.read("/d/tmp") != b"x"

    assert {after_crash(seed, sync=False) for seed in range(30)} == {True, False}
    assert {after_crash(seed, sync=True) for seed in range(30)} == {True}


def test_after_a_failed_sync_the_bytes_are_gone_though_the_next_sync_succeeds() -> None:
    disk = SimDisk(random.Random(1))
    disk.syncs_until_failure = 1
    file = disk.open_append("/d/log")
    file.append(b"one")
    file.sync()
    file.append(b"two")
    with pytest.raises(SimHalt):
        file.sync()
    file.sync()
    assert disk.read("/d/log") == b"one"


def test_locks_end_with_the_process_or_the_machine() -> None:
    disk = SimDisk(random.Random(1))
    file = disk.open_append("/d/log")
    file.append(b"not synced")
    first = disk.lock("/d/lock")
    disk.kill()
    assert disk.read("/d/log") == b"not synced", "the kernel lives on"
    disk.lock("/d/lock")
    first.close()
    with pytest.raises(UsageError, match="held by another process"):
        disk.lock("/d/lock")
    disk.crash()
    disk.lock("/d/lock")


def test_a_process_that_ends_in_a_thread_ends_whoever_waits_for_it() -> None:
    disk = SimDisk(random.Random(1))
    disk.syncs_until_failure = 0
    file = disk.open_append("/d/log")
    with pytest.raises(SimHalt):
        simulate(asyncio.to_thread(file.sync))

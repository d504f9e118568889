"""The local log and the volatile one as hosts: order, batches, refusals, failures, snapshots, the lock."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import NotExecuted, Overloaded, StorageFull, Unknown, UsageError
from onerack.rpc.durable import log as local_log
from onerack.rpc.durable.files import LogFiles, Segment
from onerack.rpc.durable.format import COMMAND_BYTES_MAX, RECORD_BYTES_MAX, encode_record
from onerack.rpc.durable.host import DurableHost, Machine
from onerack.rpc.durable.log import LocalLog
from onerack.rpc.durable.memory import VolatileLog
from onerack.rpc.durable.recovery import recover
from onerack.sim.disk import SimDisk, SimHalt
from onerack.sim.loop import simulate
from tests.rpc.ledger import DIRECTORY, Ledger, commands_in, draw, open_log

Open = Callable[..., LocalLog]
Run = Callable[[Coroutine[Any, Any, None]], None]
Place = tuple[Open, Run]


@pytest.fixture(params=["real", "real in thread", "simulated", "simulated in thread"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A way to open the same log again and again, and a way to run."""
    disk = None if request.param.startswith("real") else SimDisk(random.Random(1))
    directory = str(tmp_path / "log") if disk is None else DIRECTORY

    def open_here(**options: int) -> LocalLog:
        return open_log(disk, directory, in_thread=request.param.endswith("thread"), **options)

    return open_here, asyncio.run if disk is None else simulate


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.0005)


def numbered(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]


def test_a_log_is_what_calls_bind_to() -> None:
    hosts: list[DurableHost] = [LocalLog("anywhere"), VolatileLog()]
    machine: Machine = Ledger()
    assert [host.durable for host in hosts] == [True, False]
    assert isinstance(machine, Ledger)


# ------------------------------------------------------------------------------------------------ order and batches


def test_commands_are_applied_in_order_and_again_in_the_next_life(place: Place) -> None:
    open_here, run = place

    async def life(before: int, after: int) -> None:
        log, machine = open_here(), Ledger()
        await log.start(machine)
        assert machine.commands == numbered(*range(before))
        assert machine.batches[-1:] == [before], "told once after the replay"
        for number in range(before, after):
            log.propose(str(number).encode())
            if number % 3 == 0:
                await asyncio.sleep(0.0005)
        await log.close()
        assert machine.commands == numbered(*range(after))

    for before, after in ((0, 10), (10, 10), (10, 11), (11, 40), (40, 40)):
        run(life(before, after))


def test_what_is_proposed_in_one_turn_shares_a_sync(place: Place) -> None:
    open_here, run = place

    async def story() -> None:
        log, machine = open_here(), Ledger()
        await log.start(machine)
        for _ in range(3):
            for command in numbered(*range(100)):
                log.propose(command)
            await until(lambda: len(machine.commands) % 100 == 0 and bool(machine.commands))
            await asyncio.sleep(0.01)
        await log.close()
        assert machine.batches == [0, 100, 200, 300]
        assert (log.batches, log.commands) == (3, 300)

    run(story())


def test_what_is_proposed_while_the_disk_works_is_the_next_batch(place: Place) -> None:
    open_here, run = place

    class Asking(Ledger):
        """Asks for more while a batch is applied, as a caller does who was just answered."""

        def apply(self, index: int, command: bytes) -> None:
            super().apply(index, command)
            if index <= 30:
                log.propose(b"more")

    log = open_here()

    async def story() -> None:
        machine = Asking()
        await log.start(machine)
        for command in numbered(*range(10)):
            log.propose(command)
        await until(lambda: len(machine.commands) == 40)
        await log.close()
        assert machine.batches == [0, 10, 20, 30, 40]

    run(story())


def test_in_a_thread_the_loop_lives_while_the_disk_works(tmp_path: Path) -> None:
    async def story() -> None:
        log, machine = open_log(None, str(tmp_path), in_thread=True), Ledger()
        await log.start(machine)
        loop, released = asyncio.get_running_loop(), asyncio.Event()
        append = Segment.append

        def slow(self: Segment, index: int, commands: list[bytes]) -> int:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
            return append(self, index, commands)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Segment, "append", slow)
            log.propose(b"first")
            await asyncio.sleep(0.01)
            for command in (b"second", b"third"):
                log.propose(command)
            assert not machine.commands
            released.set()
            await log.close()
        assert machine.batches == [0, 1, 3]

    asyncio.run(story())


def test_a_batch_has_at_most_so_many_commands_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_log, "BATCH_BYTES_MAX", 1000)

    async def story() -> None:
        log, machine = open_log(SimDisk(random.Random(1)), batch_max=4), Ledger()
        await log.start(machine)
        for size in (1, 1, 1, 1, 1, 400, 400, 400, 5000, 5000, 1):
            log.propose(bytes(size))
        await log.close()
        assert machine.batches == [0, 4, 7, 8, 9, 10, 11]

    simulate(story())


# ------------------------------------------------------------------------------------------------ refusals


def test_a_log_that_is_not_open_takes_nothing(place: Place) -> None:
    open_here, run = place

    def refuses(log: LocalLog) -> bool:
        with pytest.raises(NotExecuted) as refused:
            log.propose(b"too early or too late")
        return refused.value.cause == "stopping"

    async def story() -> None:
        log, machine = open_here(), Ledger()
        assert refuses(log)
        await log.start(machine)
        log.propose(b"in time")
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        assert refuses(log)
        await closing
        await log.close()
        assert refuses(log)
        assert machine.commands == [b"in time"]

    run(story())


def test_a_command_may_be_as_long_as_a_record_allows() -> None:
    async def story() -> None:
        log = open_log(SimDisk(random.Random(1)))
        await log.start(Ledger())
        with pytest.raises(UsageError, match=f"at most {COMMAND_BYTES_MAX}"):
            log.propose(bytes(COMMAND_BYTES_MAX + 1))
        await log.close()

    simulate(story())
    surroundings = len(encode_record(draw(16), 1, [bytes(100_000)], 48)) - 100_000
    assert COMMAND_BYTES_MAX + surroundings <= RECORD_BYTES_MAX


def test_commands_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_log, "WAITING_MAX", 10)

    async def story() -> None:
        log, machine = open_log(SimDisk(random.Random(1))), Ledger()
        await log.start(machine)
        for command in numbered(*range(10)):
            log.propose(command)
        with pytest.raises(Overloaded, match="10 commands wait"):
            log.propose(b"one more")
        await log.close()
        assert machine.commands == numbered(*range(10))

    simulate(story())


def test_a_log_is_open_once(place: Place) -> None:
    open_here, run = place

    async def story() -> None:
        first, second = open_here(), open_here()
        await first.start(Ledger())
        with pytest.raises(UsageError, match="lock is held by another process"):
            await second.start(Ledger())
        first.propose(b"goes on")
        await first.close()
        machine = Ledger()
        third = open_here()
        await third.start(machine)
        assert machine.commands == [b"goes on"]
        await third.close()

    run(story())


# ------------------------------------------------------------------------------------------------ failures


@contextmanager
def failing(owner: type, name: str, failure: BaseException) -> Iterator[None]:
    def fail(*arguments: object) -> None:
        raise failure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


def test_a_full_disk_refuses_and_the_log_goes_on_when_there_is_room(place: Place) -> None:
    open_here, run = place

    async def story() -> None:
        log, machine = open_here(), Ledger()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: machine.commands == [b"first"])
        with failing(Segment, "append", StorageFull("here")):
            for command in (b"second", b"third"):
                log.propose(command)
            await until(lambda: len(machine.dropped_commands) == 2)
            log.propose(b"fourth")
            await until(lambda: len(machine.dropped_commands) == 3)
        with failing(LogFiles, "begin_segment", StorageFull("there")):
            log.propose(b"fifth")
            await until(lambda: len(machine.dropped_commands) == 4)
        log.propose(b"last")
        await log.close()
        assert machine.commands == [b"first", b"last"]
        assert [command for command, _ in machine.dropped_commands] == [b"second", b"third", b"fourth", b"fifth"]
        for _, error in machine.dropped_commands:
            assert isinstance(error, NotExecuted)
            assert error.cause == "storage"
            assert "no space left on the disk" in str(error)
        machine = Ledger()
        log = open_here()
        await log.start(machine)
        assert machine.commands == [b"first", b"last"]
        await log.close()

    run(story())


def test_a_disk_that_is_full_when_a_log_is_opened_refuses_and_lets_go() -> None:
    disk = SimDisk(random.Random(1), capacity_bytes=10)

    async def story() -> None:
        with pytest.raises(StorageFull, match=r"log-0000000000000001\.tmp"):
            await open_log(disk).start(Ledger())
        assert disk.names(DIRECTORY) == []
        disk.capacity_bytes = 1 << 20
        log = open_log(disk)
        await log.start(Ledger())
        await log.close()

    simulate(story())


def test_any_other_failure_halts_and_says_what_is_known(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    open_here, run = place

    async def story() -> None:
        log, machine = open_here(batch_max=2), Ledger()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: machine.commands == [b"first"])
        with failing(Segment, "append", OSError(errno.EIO, "Input/output error")):
            for command in (b"in flight", b"in flight too", b"waiting"):
                log.propose(command)
            await until(lambda: log.failure is not None)
        assert [(command, type(error)) for command, error in machine.dropped_commands] == [
            (b"in flight", Unknown),
            (b"in flight too", Unknown),
            (b"waiting", NotExecuted),
        ]
        assert {error.cause for _, error in machine.dropped_commands} == {"storage"}
        with pytest.raises(NotExecuted) as refused:
            log.propose(b"too late")
        assert refused.value.cause == "storage"
        with pytest.raises(OSError, match="Input/output error"):
            await log.close()
        assert "has halted" in caplog.text
        log, machine = open_here(), Ledger()
        await log.start(machine)
        assert machine.commands == [b"first"]
        await log.close()

    run(story())


def test_a_machine_that_fails_halts_the_log_and_its_command_is_applied_in_the_next_life(place: Place) -> None:
    open_here, run = place

    class Failing(Ledger):
        def apply(self, index: int, command: bytes) -> None:
            if index == 2:
                raise ZeroDivisionError("a bug")
            super().apply(index, command)

    async def story() -> None:
        log, failing_machine = open_here(), Failing()
        await log.start(failing_machine)
        for command in numbered(1, 2, 3):
            log.propose(command)
        with pytest.raises(ZeroDivisionError):
            await log.close()
        assert failing_machine.commands == [b"1"]
        assert [(command, type(error)) for command, error in failing_machine.dropped_commands] == [
            (b"2", Unknown),
            (b"3", Unknown),
        ]
        machine = Ledger()
        log = open_here()
        await log.start(machine)
        assert machine.commands == numbered(1, 2, 3)
        await log.close()

    run(story())


@pytest.mark.parametrize("in_thread", [False, True])
def test_after_a_failed_sync_nobody_is_told_anything(in_thread: bool) -> None:
    disk = SimDisk(random.Random(1))

    async def story() -> None:
        log, machine = open_log(disk, in_thread=in_thread), Ledger()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: machine.commands == [b"first"])
        disk.syncs_until_failure = 0
        log.propose(b"second")
        await until(lambda: log.failure is not None)
        with pytest.raises(SimHalt):
            await log.close()
        assert machine.commands == [b"first"]
        assert machine.dropped_commands == []

    simulate(story())
    disk.crash()
    assert recover(disk, DIRECTORY).commands == [b"first"]


def test_a_log_that_is_cancelled_leaves_what_it_acknowledged(place: Place) -> None:
    open_here, run = place
    machine = Ledger()

    async def story() -> None:
        log = open_here()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: bool(machine.commands))
        log.propose(b"perhaps")
        # Here the loop ends, and cancels the writer.

    run(story())
    assert machine.commands[0] == b"first"


def test_who_loses_patience_while_closing_stops_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        log, machine = open_log(None, str(tmp_path), in_thread=True), Ledger()
        await log.start(machine)
        log.propose(b"first")
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        closing.cancel()
        await log.close()
        assert machine.commands == [b"first"]

    asyncio.run(story())


# ------------------------------------------------------------------------------------------------ snapshots


def test_a_snapshot_replaces_the_log(place: Place) -> None:
    open_here, run = place

    async def life() -> None:
        log, machine = open_here(snapshot_after_bytes=2000), Ledger()
        await log.start(machine)
        before = len(machine.commands)
        for number in range(before, before + 60):
            log.propose(f"{number:040}".encode())
            await asyncio.sleep(0.0005)
        await log.close()
        assert log.snapshots >= 1
        assert log.snapshot_failure is None
        assert machine.restored == (before > 0)
        assert machine.commands == [f"{number:040}".encode() for number in range(before + 60)]

    run(life())
    run(life())


def test_old_files_are_gone_after_a_snapshot() -> None:
    disk = SimDisk(random.Random(1))

    async def life(snapshot_after_bytes: int) -> None:
        log = open_log(disk, snapshot_after_bytes=snapshot_after_bytes)
        await log.start(Ledger())
        log.propose(bytes(100))
        await log.close()

    for _ in range(3):
        simulate(life(1 << 20))
    assert len(disk.names(DIRECTORY)) == 3
    simulate(life(100))
    assert disk.names(DIRECTORY) == ["log-0000000000000005", "snapshot-0000000000000004"]
    recovered = recover(disk, DIRECTORY)
    assert commands_in(recovered.snapshot or b"") == [bytes(100)] * 4
    assert recovered.commands == []


def test_a_log_that_is_opened_often_gets_a_snapshot_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_log, "SEGMENTS_MAX", 5)
    disk = SimDisk(random.Random(1))

    async def life() -> None:
        log = open_log(disk)
        await log.start(Ledger())
        log.propose(b"x")
        await log.close()

    counts = []
    for _ in range(12):
        simulate(life())
        counts.append(len(disk.names(DIRECTORY)))
    assert counts == [1, 2, 3, 4, 5, 2, 2, 3, 4, 5, 6, 2]


def test_a_large_state_is_not_written_more_often_than_the_log_doubles_it() -> None:
    async def story() -> None:
        log, machine = open_log(SimDisk(random.Random(1)), snapshot_after_bytes=1000), Ledger()
        await log.start(machine)
        for _ in range(200):
            log.propose(bytes(500))
            await asyncio.sleep(0.002)
        await log.close()
        # 1, 2, 4 ... 128 times some thousand bytes; a snapshot for each thousand bytes would be a hundred.
        assert 5 <= log.snapshots <= 8

    simulate(story())


@pytest.mark.parametrize("owner", [LogFiles, "disk"])
def test_a_snapshot_without_room_is_tried_again_later(owner: Any) -> None:
    disk = SimDisk(random.Random(1))

    async def story() -> None:
        log, machine = open_log(disk, snapshot_after_bytes=1000), Ledger()
        await log.start(machine)

        async def grow(count: int) -> None:
            for _ in range(count):
                log.propose(bytes(500))
                await asyncio.sleep(0.002)

        if owner == "disk":
            disk.capacity_bytes = 1700  # The second batch makes a snapshot due, for which there is no room.
            await grow(2)
        else:
            with failing(LogFiles, "begin_segment", StorageFull("here")):
                await grow(2)
        failure = log.snapshot_failure
        assert isinstance(failure, StorageFull)
        assert log.snapshots == 0
        assert not [name for name in disk.names(DIRECTORY) if name.endswith("tmp") or name.startswith("snapshot")]
        disk.capacity_bytes = 1 << 30
        await grow(3)
        await log.close()
        assert log.snapshot_failure is None
        assert log.snapshots == 1
        assert len(machine.commands) == 5

    simulate(story())


def test_a_machine_that_cannot_be_pictured_halts_the_log() -> None:
    class Camera(Ledger):
        def snapshot(self) -> bytes:
            raise ZeroDivisionError("a bug")

    async def story() -> None:
        log, machine = open_log(SimDisk(random.Random(1)), snapshot_after_bytes=1), Camera()
        await log.start(machine)
        log.propose(b"first")
        with pytest.raises(ZeroDivisionError):
            await log.close()
        assert machine.commands == [b"first"]
        assert machine.dropped_commands == []

    simulate(story())


def test_a_process_that_ends_while_it_writes_a_snapshot_is_found_out() -> None:
    disk = SimDisk(random.Random(1))

    async def story() -> None:
        log, machine = open_log(disk, snapshot_after_bytes=1), Ledger()
        await log.start(machine)
        disk.syncs_until_failure = 3  # One for the batch, two for the new segment.
        log.propose(b"first")
        await until(lambda: log.failure is not None)
        with pytest.raises(SimHalt):
            await log.close()

    simulate(story())
    disk.crash()
    assert recover(disk, DIRECTORY).commands == [b"first"]


def test_a_log_that_halts_keeps_its_lock_until_its_snapshot_is_written() -> None:
    disk = SimDisk(random.Random(1))

    async def story() -> None:
        log, machine = open_log(disk, snapshot_after_bytes=1), Ledger()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: bool(machine.commands))
        with failing(Segment, "append", OSError(errno.EIO, "Input/output error")):
            log.propose(b"second")
            await asyncio.sleep(0.0001)
            assert log.failure is not None
            with pytest.raises(UsageError):
                disk.lock(f"{DIRECTORY}/lock")
            with pytest.raises(OSError, match="Input/output error"):
                await log.close()
        assert disk.names(DIRECTORY) == ["log-0000000000000002", "snapshot-0000000000000001"]
        disk.lock(f"{DIRECTORY}/lock").close()

    simulate(story())


@pytest.mark.parametrize("in_thread", [False, True])
def test_whoever_is_cancelled_writes_no_more(in_thread: bool) -> None:
    """So a simulated machine dies: its tasks are cancelled, and no thread of it works on."""
    disk = SimDisk(random.Random(1))

    async def story() -> None:
        log, machine = open_log(disk, in_thread=in_thread, snapshot_after_bytes=1), Ledger()
        await log.start(machine)
        log.propose(b"first")
        await until(lambda: bool(machine.commands))
        log.propose(b"second")
        await asyncio.sleep(0.0001)
        assert log._writer is not None
        log._writer.cancel()
        disk.crash()
        found = recover(disk, DIRECTORY)
        await asyncio.sleep(1)
        assert recover(disk, DIRECTORY) == found

    simulate(story())


# ------------------------------------------------------------------------------------------------ the volatile log


def test_a_volatile_log_applies_in_order_in_the_next_turn() -> None:
    async def story() -> None:
        log, machine = VolatileLog(), Ledger()
        with pytest.raises(NotExecuted, match="takes no commands"):
            log.propose(b"too early")
        await log.start(machine)
        for command in numbered(1, 2, 3):
            log.propose(command)
        assert machine.commands == []
        await asyncio.sleep(0)
        assert machine.batches == [3]
        log.propose(b"4")
        await log.close()
        assert machine.commands == numbered(1, 2, 3, 4)
        with pytest.raises(NotExecuted, match="takes no commands"):
            log.propose(b"too late")

    simulate(story())

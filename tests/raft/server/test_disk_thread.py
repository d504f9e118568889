"""The disk's thread: jobs in order, errors handed on once, an end that waits for the last one."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from onerack.raft.server.disk_thread import FAST_IN_A_ROW, FAST_S, DiskPace, DiskThread


def test_jobs_are_done_in_order_in_another_thread_and_heard_of_in_the_loop() -> None:
    async def test() -> None:
        disk = DiskThread(asyncio.get_running_loop(), "disk")
        worked: list[tuple[int, int]] = []
        heard: list[tuple[int, int, BaseException | None]] = []
        over = asyncio.Event()

        def done(number: int, error: BaseException | None) -> None:
            heard.append((number, threading.get_ident(), error))
            if len(heard) == 20:
                over.set()

        def work(number: int) -> None:
            worked.append((number, threading.get_ident()))

        for number in range(20):
            disk.do(partial(work, number), partial(done, number))
        await over.wait()
        assert [number for number, _ in worked] == list(range(20))
        assert len({thread for _, thread in worked}) == 1
        assert worked[0][1] != threading.get_ident()
        assert heard == [(number, threading.get_ident(), None) for number in range(20)]
        disk.close()

    asyncio.run(test())


def test_an_error_of_whatever_kind_is_handed_on_and_the_thread_lives() -> None:
    class Halt(BaseException):
        pass

    async def test() -> None:
        disk = DiskThread(asyncio.get_running_loop(), "disk")
        heard: asyncio.Queue[BaseException | None] = asyncio.Queue()

        def fail() -> None:
            raise Halt

        disk.do(fail, heard.put_nowait)
        assert isinstance(await heard.get(), Halt)
        disk.do(lambda: None, heard.put_nowait)
        assert await heard.get() is None
        disk.close()

    asyncio.run(test())


def test_to_close_waits_for_the_job_under_way() -> None:
    async def test() -> None:
        disk = DiskThread(asyncio.get_running_loop(), "disk")
        may_end, ended = threading.Event(), threading.Event()

        def work() -> None:
            may_end.wait()
            ended.set()

        disk.do(work, lambda error: None)
        closing = asyncio.create_task(asyncio.to_thread(disk.close))
        await asyncio.sleep(0)
        assert not closing.done()
        may_end.set()
        await closing
        assert ended.is_set()

    asyncio.run(test())


def test_a_loop_that_has_ended_is_not_told_and_does_not_hold_the_thread() -> None:
    loop = asyncio.new_event_loop()
    disk = DiskThread(loop, "disk")
    loop.close()
    disk.do(lambda: None, lambda error: None)
    disk.close()


def test_a_disk_is_fast_when_the_last_few_writes_were_and_slow_after_a_single_slow_one() -> None:
    pace = DiskPace()
    for _ in range(FAST_IN_A_ROW):
        assert not pace.is_fast
        pace.took(FAST_S / 2)
    assert pace.is_fast
    pace.took(FAST_S * 2)
    assert not pace.is_fast

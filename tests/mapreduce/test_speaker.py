"""The connection between parent and worker, from both ends: the front desk here, a speaker or a forked worker there."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.config import MIB
from onerack.errors import ProtocolError
from onerack.mapreduce.front_desk import FrontDesk
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Failure,
    Fragment,
    FromWorker,
    Heartbeat,
    JobSpec,
    LoadJob,
    MapCompleted,
    Program,
    Register,
    RunMap,
    Split,
)
from onerack.mapreduce.worker import desk, speaker
from onerack.mapreduce.worker.desk import encoded
from onerack.mapreduce.worker.main import Worker
from onerack.mapreduce.worker.orders import EXIT_DONE, EXIT_ORPHAN, Fork
from onerack.mapreduce.worker.speaker import Speaker

ATTEMPT = AttemptId("j", "map", 0, 1)
ORDER = RunMap(ATTEMPT)


class Parent:
    """A front desk, and what was heard at it."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[FromWorker] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.desk = FrontDesk(
            lambda _, report: self.heard.put_nowait(report), lambda _, reason: self.lost.put_nowait(reason)
        )

    async def hears(self, kind: type[Any]) -> Any:
        """The next report of a kind."""
        while not isinstance(report := await self.heard.get(), kind):
            pass
        return report


def play(story: Callable[[Parent, socket.socket], Coroutine[Any, Any, None]]) -> None:
    """Runs `story(parent, the worker's end)`."""

    async def act() -> None:
        ours, theirs = socket.socketpair()
        parent = Parent()
        parent.desk.seat("w1", ours)
        try:
            await story(parent, theirs)
        finally:
            await parent.desk.close()

    asyncio.run(asyncio.wait_for(act(), 30))


async def taken(voice: Speaker) -> Any:
    """The next order, as the main thread gets it."""
    return await asyncio.get_running_loop().run_in_executor(None, voice.orders.get)


def heartbeat_of(voices: list[Speaker]) -> Heartbeat:
    return Heartbeat("w1", running=voices[0].running)


@contextmanager
def speaking(connection: socket.socket, heartbeat: Callable[[], Heartbeat] | None = None) -> Iterator[Speaker]:
    voices: list[Speaker] = []
    voices.append(Speaker(connection, heartbeat or (lambda: heartbeat_of(voices)), 0.005))
    voices[0].start(Register("w1"))
    yield voices[0]
    voices[0]._thread.join(10)


def test_orders_and_reports_pass_in_order_and_the_end_is_told() -> None:
    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs) as voice:
            assert await parent.heard.get() == Register("w1")
            for number in range(20):
                parent.desk.order("w1", RunMap(ATTEMPT, order=number))
                assert await taken(voice) == RunMap(ATTEMPT, order=number)
                voice.running = ATTEMPT
                voice.report(encoded(MapCompleted("w1", ATTEMPT, (), counters={"n": number})))
                assert (await parent.hears(MapCompleted)).counters == {"n": number}
            parent.desk.show_out("w1")
            assert await taken(voice) is None

    play(story)


def test_no_heartbeat_names_an_attempt_that_was_reported() -> None:
    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs) as voice:
            parent.desk.order("w1", ORDER)
            await taken(voice)
            voice.running = ATTEMPT
            while (await parent.hears(Heartbeat)).running is None:
                pass
            voice.report(encoded(AttemptFailed("w1", ATTEMPT, Failure("exit", ""))))
            await parent.hears(AttemptFailed)
            assert [(await parent.hears(Heartbeat)).running for _ in range(10)] == [None] * 10
            parent.desk.show_out("w1")

    play(story)


def test_a_lack_of_memory_does_not_end_the_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = iter([False, False, True])
    monkeypatch.setattr(speaker, "has_room", lambda: next(lacks, True))
    failures = iter([MemoryError(), MemoryError()])

    def heartbeat() -> Heartbeat:
        for failure in failures:
            raise failure
        return Heartbeat("w1", ATTEMPT)

    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs, heartbeat):
            assert await parent.hears(Heartbeat) == Heartbeat("w1", ATTEMPT)
            parent.desk.show_out("w1")

    play(story)


def test_a_job_of_a_hundred_thousand_pieces_reaches_its_worker() -> None:
    fragments = tuple(Fragment(f"/{'a-long-name/' * 20}{number}", 0, 1) for number in range(100_000))
    spec = JobSpec(
        job="j", name="j", program=Program("builtin", "wordcount"), splits=(Split(0, fragments),), reducers=1,
        directory="", staging="",
    )  # fmt: skip

    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs) as voice:
            parent.desk.order("w1", LoadJob(spec))
            parent.desk.order("w1", ORDER)
            assert await taken(voice) == LoadJob(spec)
            assert await taken(voice) == ORDER
            voice.report(encoded(MapCompleted("w1", ATTEMPT, ())))
            parent.desk.show_out("w1")

    assert len(msgspec.msgpack.encode(spec)) > 25 * MIB
    play(story)


def test_a_message_that_is_too_long_is_refused_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_MESSAGE_BYTES_MAX", 100)

    async def story(parent: Parent, theirs: socket.socket) -> None:
        with theirs, pytest.raises(ProtocolError, match="at most 100"):
            parent.desk.order("w1", RunMap(AttemptId("j" * 100, "map", 0, 1)))

    play(story)


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\x93no message" * 20, b"\xff" * 8])
def test_what_is_no_message_ends_the_connection_and_says_so(garbage: bytes) -> None:
    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs) as voice:
            await parent.hears(Heartbeat)
            os.write(theirs.fileno(), garbage)
            assert await taken(voice) is None
            assert "connection has ended: " in await parent.lost.get()

    play(story)


def test_a_message_for_the_other_side_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs, lambda: ORDER):  # type: ignore[arg-type, return-value]
            assert "it sent what is no message" in await parent.lost.get()
            parent.desk.show_out("w1")

    play(story)


def test_who_was_shown_out_is_not_heard_any_more() -> None:
    async def story(parent: Parent, theirs: socket.socket) -> None:
        with speaking(theirs) as voice:
            await parent.hears(Heartbeat)
            parent.desk.show_out("w1")
            while not parent.heard.empty():
                parent.heard.get_nowait()
            assert await taken(voice) is None
        await asyncio.sleep(0)
        assert parent.heard.empty()
        assert parent.lost.empty()

    play(story)


# -------------------------------------------------------------------------------------------------- the process


WORKER = """
import os, socket, sys, time
from onerack.mapreduce.worker.main import Worker, work
from onerack.mapreduce.worker.orders import Fork

Worker._attempt = lambda self, *_: time.sleep(1000)
os._exit(work(socket.socket(fileno=int(sys.argv[1])), Fork("w1", sys.argv[2], 0.01)))
"""
"""A worker whose task does nothing but sleep."""


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_without_a_parent_ends_at_once(tmp_path: Path, busy: bool) -> None:
    (tmp_path / "logs").mkdir()
    spec = JobSpec(
        job="j", name="j", program=Program("builtin", "x"), splits=(), reducers=1, directory=str(tmp_path), staging=""
    )
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", WORKER, str(theirs.fileno()), str(tmp_path / "position")]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    async def story() -> None:
        parent = Parent()
        parent.desk.seat("w1", ours)
        assert (await parent.hears(Register)).pid == process.pid
        if busy:
            parent.desk.order("w1", LoadJob(spec))
            parent.desk.order("w1", ORDER)
            while (await parent.hears(Heartbeat)).running is None:
                pass
        await parent.desk.close()

    asyncio.run(asyncio.wait_for(story(), 30))

    assert process.wait(30) == (EXIT_ORPHAN if busy else EXIT_DONE)


def test_a_report_that_cannot_be_sent_is_a_failure_that_says_so() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(theirs, Fork("w1", "", 1.0))
        report = worker._sendable(ATTEMPT, MapCompleted("w1", ATTEMPT, (), counters={"huge": 1 << 80}))

    failed = msgspec.msgpack.decode(report, type=AttemptFailed)
    assert failed.failure.final
    assert "cannot be sent" in failed.failure.message

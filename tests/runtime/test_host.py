"""The host's rules: durable before it leaves, one Output in flight, messages before the tick, halt on failure.

All of it in virtual time; one test crosses real threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from onerack.errors import NotExecuted
from onerack.runtime.host import Host
from onerack.runtime.real import RealClock
from onerack.runtime.seam import Envelope, Event, NodeId, Output, Tick
from onerack.sim.env import SimClock
from onerack.sim.loop import simulate


class Echo:
    """A core that journals and sends back whatever it hears; `wake_at` is what it wants next."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, NodeId, float]] = []
        self.drains = 0
        self.wake_at: float | None = None
        self._output = Output()

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        self.heard.append((message, sender, now))
        if isinstance(message, Tick):
            self.wake_at = None
            return
        if message == "die":
            raise AssertionError("a broken invariant")
        self._output.writes.append(message.encode())
        self._output.sends.append(Envelope(sender, message))
        self._output.applied.append(message)
        self._output.events.append(Event("heard", {"message": message}))

    def drain(self) -> Output:
        self.drains += 1
        output, self._output = self._output, Output()
        output.wake_at = self.wake_at
        return output


class Recorder:
    """Everything that leaves, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failure: Exception | None = None

    def append(self, records: Sequence[bytes]) -> None:
        if self.failure is not None:
            raise self.failure
        self.log.append("write " + b",".join(records).decode())

    def send(self, envelope: Envelope) -> None:
        self.log.append(f"send {envelope.message} to {envelope.to}")

    def applied(self, decision: object) -> None:
        self.log.append(f"applied {decision}")

    def event(self, event: Event) -> None:
        self.log.append(str(event))


def make_host(core: Echo, recorder: Recorder, **options: Any) -> Host:
    return Host(
        core,
        name="n1",
        clock=options.pop("clock", SimClock()),
        send=recorder.send,
        journal=recorder,
        on_applied=recorder.applied,
        on_event=recorder.event,
        **options,
    )


async def run_until_quiet(host: Host, seconds: float = 10.0) -> None:
    """Lets the host live for so long, then stops it; raises what halted it."""
    running = asyncio.create_task(host.run())
    await asyncio.wait({running}, timeout=seconds)
    host.stop()
    await running


@pytest.mark.parametrize("in_thread", [False, True])
def test_writes_then_sends_then_applied_then_events(in_thread: bool) -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder, journal_in_thread=in_thread)
    host.post("a", "x")
    simulate(run_until_quiet(host))
    assert recorder.log == ["write a", "send a to x", "applied a", "heard message=a"]


def test_messages_that_gather_pay_for_one_write() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder)
    for letter in "abc":
        host.post(letter, "x")
    simulate(run_until_quiet(host))
    assert recorder.log[0] == "write a,b,c"
    assert [message for message, _, _ in core.heard] == ["a", "b", "c"]


def test_nothing_leaves_while_the_disk_works_and_nothing_is_drained() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder, journal_in_thread=True)

    async def story() -> None:
        running = asyncio.create_task(host.run())
        host.post("a", "x")
        for _ in range(3):
            await asyncio.sleep(0)
        assert core.heard
        drains = core.drains
        host.post("b", "x")
        for _ in range(20):
            await asyncio.sleep(0)
        assert recorder.log == []
        assert core.drains == drains
        await asyncio.sleep(1.0)
        host.stop()
        await running

    simulate(story())
    assert [line for line in recorder.log if line.startswith(("write", "send"))] == [
        "write a", "send a to x", "write b", "send b to x",
    ]  # fmt: skip


def test_a_journal_that_fails_halts_the_host_before_anything_leaves() -> None:
    core, recorder = Echo(), Recorder()
    recorder.failure = OSError("the disk is gone")
    host = make_host(core, recorder)
    host.post("a", "x")
    with pytest.raises(OSError, match="the disk is gone"):
        simulate(run_until_quiet(host))
    assert recorder.log == []


def test_a_core_that_breaks_halts_the_host() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder)
    host.post("a", "x")
    host.post("die", "x")
    with pytest.raises(AssertionError, match="a broken invariant"):
        simulate(run_until_quiet(host))
    assert recorder.log == [], "what the core had said before it broke may be wrong too"


def test_the_core_is_woken_when_it_asked_to_be() -> None:
    core, recorder = Echo(), Recorder()
    core.wake_at = 7.0
    simulate(run_until_quiet(make_host(core, recorder)))
    ((message, sender, now),) = core.heard
    assert isinstance(message, Tick)
    assert (sender, now) == ("n1", 7.0)


def test_messages_that_are_here_are_stepped_before_the_tick() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder)

    async def story() -> None:
        core.wake_at = 5.0
        running = asyncio.create_task(host.run())
        asyncio.get_running_loop().call_at(5.0, host.post, "a", "x")
        await asyncio.sleep(6.0)
        host.stop()
        await running

    simulate(story())
    assert [type(message).__name__ for message, _, _ in core.heard] == ["str", "Tick"]


def test_an_inbox_that_overflows_refuses_and_stays_flat() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder, inbox_max=3)
    for letter in "abc":
        host.post(letter, "x")
    with pytest.raises(NotExecuted) as caught:
        host.post("d", "x")
    assert caught.value.cause == "overloaded"
    simulate(run_until_quiet(host))
    assert len(core.heard) == 3


def test_a_flood_does_not_starve_the_loop() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder)
    for number in range(5000):
        host.post(str(number), "x")
    simulate(run_until_quiet(host))
    assert core.drains >= 5
    assert len(core.heard) == 5000


def test_after_the_end_posting_is_harmless() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder)
    simulate(run_until_quiet(host))
    host.post("late", "x")
    assert core.heard == []


def test_threads_may_post_and_stop() -> None:
    core, recorder = Echo(), Recorder()
    host = make_host(core, recorder, clock=RealClock())
    loop = threading.Thread(target=lambda: asyncio.run(host.run()))
    loop.start()

    def post_many(name: str) -> None:
        for number in range(200):
            host.post(f"{name}{number}", name)

    posters = [threading.Thread(target=post_many, args=(name,)) for name in "abcd"]
    for poster in posters:
        poster.start()
    for poster in posters:
        poster.join()
    stopped_when_all_heard(host, core, 800)
    loop.join(timeout=30)
    assert not loop.is_alive()
    assert len(core.heard) == 800
    for name in "abcd":
        own = [message for message, sender, _ in core.heard if sender == name]
        assert own == [f"{name}{number}" for number in range(200)], "each sender is heard in its own order"


def stopped_when_all_heard(host: Host, core: Echo, messages: int) -> None:
    """Stops the host from within, at the last message; no clock is consulted."""
    heard_all = threading.Event()
    step = core.step

    def watched(message: Any, sender: NodeId, now: float) -> None:
        step(message, sender, now)
        if message == "last":
            core.heard.pop()
            heard_all.set()

    core.step = watched  # type: ignore[method-assign]
    host.post("last", "x")
    assert heard_all.wait(timeout=30)
    assert len(core.heard) == messages
    host.stop()

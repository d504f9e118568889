"""Signals while a job runs: one orderly end, and nothing taken from the program around it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from onerack.mapreduce.interruption import Interruption, Stopped


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of the test runner come back, whatever a test does."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_and_further_ones_are_left_alone(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def raise_twice() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # While things are being put in order.

    with pytest.raises(Stopped, match=number.name), Interruption():
        raise_twice()

    assert signal.getsignal(number) is before


def test_a_signal_in_the_shielded_part_is_delivered_when_the_job_is_over() -> None:
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))

    with Interruption() as interruption:
        with interruption.shielded():
            signal.raise_signal(signal.SIGINT)
        assert received == []

    assert received == [signal.SIGINT]


def test_a_programs_own_handlers_for_ending_and_an_ignored_interrupt_stay() -> None:
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with Interruption():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert received == [signal.SIGTERM]


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def look() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGINT)]

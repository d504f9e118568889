"""Tests of the watch: silence, standstill and strangers, with time as an argument."""

from __future__ import annotations

import pytest

from onerack.config import RpcConfig
from onerack.errors import ProtocolError
from onerack.rpc.messages import Ping, Pong
from onerack.rpc.transports.frames import LARGE_BYTES
from onerack.rpc.transports.watch import Seen, Watch

CONFIG = RpcConfig(hello_timeout_s=10, keepalive_interval_s=20, keepalive_timeout_s=8)
QUIET = Seen(True, False, False, True, None, None, 0)
HEARD = QUIET._replace(has_heard=True)


def watch(*, must_introduce: bool = False) -> Watch:
    return Watch(CONFIG, 0, must_introduce=must_introduce)


def run(watching: Watch, seen: Seen, begin: int, end: int) -> list[tuple[int, Ping | Pong]]:
    """Ticks every second; what is to be sent, and when."""
    said = [(now, watching.tick(now, seen)) for now in range(begin, end)]
    return [(now, message) for now, message in said if message is not None]


def test_one_tick_is_a_quarter_of_the_shortest_time() -> None:
    assert watch().period_s == 2


def test_silence_is_asked_about_once_and_then_is_the_end() -> None:
    watching = watch()
    assert run(watching, QUIET, 1, 28) == [(20, Ping(1))]
    with pytest.raises(ConnectionError, match="said nothing for 28 s"):
        watching.tick(28, QUIET)


def test_any_sign_of_life_is_an_answer() -> None:
    watching = watch()
    assert run(watching, QUIET, 1, 28) == [(20, Ping(1))]
    assert watching.tick(28, HEARD) is None
    assert run(watching, QUIET, 29, 56) == [(48, Ping(2))]


def test_while_we_do_not_read_we_say_that_we_live_and_nothing_counts_against_the_peer() -> None:
    watching = watch(must_introduce=True)
    blind = QUIET._replace(is_reading=False, half_frame=4, large_bytes=5, is_introduced=False)
    assert run(watching, blind, 1, 100) == [(now, Pong(0)) for now in range(1, 100)]
    assert run(watching, QUIET, 100, 119) == []
    assert watching.tick(119, QUIET) == Ping(1)


def test_one_that_takes_nothing_of_what_waits_for_it_has_to_take_some() -> None:
    watching = watch()
    deaf = QUIET._replace(is_deaf=True, half_frame=4, large_bytes=5)
    assert run(watching, deaf, 1, 28) == [(20, Ping(1))]
    with pytest.raises(ConnectionError, match="said nothing for 28 s"):
        watching.tick(28, deaf)
    watching = watch()
    assert run(watching, deaf._replace(has_heard=True), 1, 100) == []


def test_a_stranger_has_to_say_something() -> None:
    silent = HEARD._replace(is_introduced=False)
    assert run(watch(), silent, 1, 100) == [], "nobody asked this one to"
    watching = watch(must_introduce=True)
    run(watching, silent, 1, 10)
    with pytest.raises(ProtocolError, match="not introduced itself within 10 s"):
        watching.tick(10, silent)
    introduced = watch(must_introduce=True)
    run(introduced, silent, 1, 10)
    run(introduced, HEARD, 10, 12)
    run(introduced, silent, 12, 100)


def test_a_frame_that_stands_still_halfway_is_the_end() -> None:
    watching = watch()
    for now in range(1, 50):
        watching.tick(now, HEARD._replace(half_frame=now // 9))
    with pytest.raises(ProtocolError, match="stands still halfway"):
        run(watching, HEARD._replace(half_frame=5), 50, 58)


def test_a_frame_that_is_completed_begins_anew() -> None:
    watching = watch()
    for now in range(1, 100):
        watching.tick(now, HEARD._replace(half_frame=None if now % 9 == 0 else 4))


def test_an_attachment_that_drips_is_the_end_and_one_that_flows_is_not() -> None:
    flowing, dripping = watch(), watch()
    for now in range(1, 100):
        flowing.tick(now, HEARD._replace(large_bytes=now * LARGE_BYTES // 8))
    for now in range(1, 11):
        dripping.tick(now, HEARD._replace(large_bytes=now * LARGE_BYTES // 12))
    with pytest.raises(ProtocolError, match="of an attachment less than 65536 bytes"):
        dripping.tick(11, HEARD._replace(large_bytes=11 * LARGE_BYTES // 12))


def test_small_attachments_that_are_finished_are_progress() -> None:
    watching = watch()
    for now in range(1, 100):
        watching.tick(now, HEARD._replace(large_bytes=100, large_finished=now // 5))

"""Parts of a worker's process: its channel, its limits, and the words for its end."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onerack.codec import encode_frame
from onerack.config import MIB
from onerack.errors import ProtocolError
from onerack.mapreduce.messages import AttemptId
from onerack.mapreduce.worker import death, limits
from onerack.mapreduce.worker.channel import Channel
from onerack.mapreduce.worker.main import AttemptLog
from onerack.mapreduce.worker.orders import EXIT_ORPHAN, Exited, Fork, Forked, FromNursery, Kill, Stop, ToNursery

Ends = tuple[Channel[FromNursery], Channel[ToNursery]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The parent's end and the nursery's."""
    one, other = socket.socketpair()
    with one, other:
        yield Channel(one, FromNursery), Channel(other, ToNursery)


# -------------------------------------------------------------------------------------------------- channel


def test_messages_arrive_whole_and_in_order(ends: Ends) -> None:
    parent, nursery = ends
    orders = [Kill(f"w{number}") for number in range(100)]

    for order in orders:
        parent.send(order)

    assert [nursery.receive() for _ in orders] == orders


def test_a_descriptor_arrives_with_its_message(ends: Ends) -> None:
    parent, nursery = ends
    reading, writing = os.pipe()

    parent.send(Fork("w1", "/nowhere", 0.25), [writing])
    os.close(writing)
    order = nursery.receive()
    received = nursery.take_descriptor()
    os.write(received, b"here")
    os.close(received)

    assert order == Fork("w1", "/nowhere", 0.25)
    assert os.read(reading, 100) == b"here"
    os.close(reading)


def test_a_message_without_the_descriptor_it_needs_is_refused(ends: Ends) -> None:
    parent, nursery = ends
    parent.send(Fork("w1", "/nowhere", 0.25))
    nursery.receive()

    with pytest.raises(ProtocolError, match="descriptor"):
        nursery.take_descriptor()


def test_a_closed_peer_is_the_end_and_no_error(ends: Ends) -> None:
    parent, nursery = ends

    nursery.close()

    assert parent.receive() is None


@pytest.mark.parametrize(
    "received",
    [
        encode_frame(b"\x93no message"),
        encode_frame(b"\x81\xa4type\xa7unheard"),
        struct.pack("<II", 1 << 31, 0),
        b"\0" * 64,
    ],
)
def test_what_is_no_message_is_refused(ends: Ends, received: bytes) -> None:
    parent, nursery = ends

    parent.connection.sendall(received)

    with pytest.raises(ProtocolError):
        nursery.receive()


def test_a_message_for_the_other_side_is_refused(ends: Ends) -> None:
    parent, nursery = ends

    parent.send(Forked("w1", 17))

    with pytest.raises(ProtocolError):
        nursery.receive()


def test_orders_and_reports_survive_the_wire(ends: Ends) -> None:
    parent, nursery = ends

    parent.send(Stop(0.5))
    nursery.send(Exited("w1", 17, 9, 1000))

    assert nursery.receive() == Stop(0.5)
    assert parent.receive() == Exited("w1", 17, 9, 1000)


# -------------------------------------------------------------------------------------------------- limits


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a process of its own, for limits cannot be taken back."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_memory_above_the_baseline_and_the_headroom_is_refused() -> None:
    ended = run_python(
        "from onerack.mapreduce.worker.limits import *\n"
        "limit_memory(64 << 20, baseline_bytes=data_bytes())\n"
        "kept = bytearray(64 << 20)\n"
        "print('within')\n"
        "bytearray(HEADROOM_BYTES + (1 << 20))\n"
    )

    assert ended.stdout == "within\n"
    assert "MemoryError" in ended.stderr


def test_a_resident_size_is_read_and_a_gone_process_has_none() -> None:
    assert MIB < limits.resident_bytes(os.getpid()) < 1 << 40
    assert limits.resident_bytes(2**22 + 1) == 0


def test_a_process_that_runs_uses_time_and_a_stopped_one_says_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert limits.processor_ticks(child.pid) is not None
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert limits.processor_ticks(child.pid) is None
        child.kill()
    assert limits.processor_ticks(child.pid) is None


def test_a_child_dies_with_its_parent() -> None:
    ended = run_python(
        "import os, time\n"
        "from onerack.mapreduce.worker.limits import die_with_parent\n"
        "parent = os.getpid()\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.close(reading)\n"
        "        die_with_parent(os.getppid())\n"
        "        os.write(writing, b'ready')\n"
        "        time.sleep(1000)\n"
        "    assert os.read(reading, 5) == b'ready'\n"
        "    os._exit(0)\n"
        "os.close(writing)\n"
        "os.wait()\n"
        "print(os.read(reading, 10))\n"  # The end of the pipe comes when the grandchild, its last writer, is dead.
    )

    assert (ended.stdout, ended.stderr) == ("b''\n", "")


# -------------------------------------------------------------------------------------------------- death


def described(status: int, *, memory_bytes_max: int = MIB, killed_by_kernel: bool = False) -> tuple[str, str]:
    failure = death.describe(
        status, memory_bytes_max=memory_bytes_max, memory_limit_bytes=100 * MIB, killed_by_kernel=killed_by_kernel
    )
    return failure.cause, failure.message


def test_an_exit_status_is_named() -> None:
    assert described(3 << 8) == (
        "exit",
        "the worker process ended with exit status 3; user code must not end the process",
    )


def test_a_signal_is_named_also_one_without_a_name() -> None:
    assert described(signal.SIGSEGV)[0] == "crash"
    assert "SIGSEGV" in described(signal.SIGSEGV)[1]
    assert "signal 63" in described(63)[1]


def test_a_worker_that_has_lost_its_connection_is_not_said_to_have_exited() -> None:
    assert described(EXIT_ORPHAN << 8)[0] == "lost"


def test_a_plain_sigkill_is_not_called_a_lack_of_memory() -> None:
    assert described(signal.SIGKILL, memory_bytes_max=99 * MIB)[0] == "killed"
    assert described(signal.SIGKILL, killed_by_kernel=True)[0] == "memory"


def test_an_abort_is_a_lack_of_memory_only_near_the_limit() -> None:
    assert described(signal.SIGABRT, memory_bytes_max=99 * MIB)[0] == "memory"
    assert described(signal.SIGABRT, memory_bytes_max=9 * MIB)[0] == "crash"


# -------------------------------------------------------------------------------------------------- logs


def test_of_a_long_log_the_beginning_is_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    attempt = AttemptId("j", "map", 0, 1)
    log = AttemptLog(str(tmp_path), attempt, 10)
    os.write(1, b"0123456789abc")
    log.cut()
    os.write(2, b"more")
    log.close()

    assert (tmp_path / "logs" / f"{attempt}.log").read_bytes() == b"0123456789"


def test_a_log_that_user_code_has_removed_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = AttemptLog(str(tmp_path), AttemptId("j", "map", 0, 1), 10)
    os.write(1, b"0123456789abc")
    (log_path,) = (tmp_path / "logs").iterdir()
    log_path.unlink()
    log.cut()
    log.close()

    assert list((tmp_path / "logs").iterdir()) == []

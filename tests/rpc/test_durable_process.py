"""A real process writes a real log and is killed: nothing that it acknowledged is missing, again and again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from onerack.rpc.durable.recovery import recover
from onerack.runtime.real import RealDisk
from tests.rpc.log_child import IN_FLIGHT, named

ROOT = Path(__file__).parents[2]


def killed_after(directory: str, seconds: float, in_thread: bool) -> int:
    """Lets a process work on the log for so long, kills it, and gives the last index that it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.rpc.log_child", directory, "in_thread" if in_thread else "inline"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        first = child.stdout.readline()
        assert first, "it recovered"
        time.sleep(seconds)
        child.kill()
        said = child.stdout.read()
    return int((first + said).split(b"\n")[-2])


def count_of(directory: str) -> int:
    """How many commands the log has; each is looked at."""
    recovered = recover(RealDisk(), directory)
    before = msgspec.msgpack.decode(recovered.snapshot, type=int) if recovered.snapshot is not None else 0
    assert before == recovered.snapshot_index
    for index, command in enumerate(recovered.commands, start=before + 1):
        assert command == named(index)
    return before + len(recovered.commands)


def kill_and_look(directory: str, rounds: int, seconds: float) -> None:
    acknowledged = 0
    for number in range(rounds):
        now = killed_after(directory, random.Random(number).uniform(0, seconds), in_thread=number % 2 == 1)
        assert now >= acknowledged
        acknowledged = now
        found = count_of(directory)
        assert acknowledged <= found <= acknowledged + IN_FLIGHT
    assert acknowledged > rounds * IN_FLIGHT


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    kill_and_look(str(tmp_path), rounds=3, seconds=0.3)
    assert [name for name in os.listdir(tmp_path) if name.startswith("snapshot-")], "the log was turned over"


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_in_a_hundred_kills(tmp_path: Path) -> None:
    kill_and_look(str(tmp_path), rounds=100, seconds=1.0)

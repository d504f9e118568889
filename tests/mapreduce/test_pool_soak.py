"""Soak: workers are killed at random while real jobs run; the output is the same, byte by byte, every time.

Fifty rounds by `make soak`; the round's number is the seed. The same round is run once, small, by `make test`, so that
the soak itself cannot rot.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onerack.config import MapReduceConfig
from onerack.mapreduce import JobResult, run
from tests.mapreduce.processes import children, is_alive

PATIENT = MapReduceConfig(attempts_max=1000)
"""Being killed counts as a failure of the task, and here nearly every attempt is killed."""
KILLS_MAX = 15
"""In one job; without an end, a slow machine would never finish one."""


class Killer:
    """Kills a random worker of this process now and then, until it is told to stop or has killed enough."""

    def __init__(self, seed: int, pause_s_max: float) -> None:
        self.killed: list[int] = []
        self._dice = random.Random(seed)
        self._pause_s_max = pause_s_max
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _kill(self) -> None:
        while len(self.killed) < KILLS_MAX and not self._done.wait(self._dice.uniform(0.02, self._pause_s_max)):
            workers = [worker for nursery in children(os.getpid()) for worker in children(nursery)]
            if workers:
                victim = self._dice.choice(workers)
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)


def write_corpus(folder: Path, size: int) -> None:
    """Lines of words, most of them rare."""
    dice = random.Random(size)
    folder.mkdir()
    for number in range(8):
        lines = (" ".join(f"word{int(dice.paretovariate(0.3)) % 50_000}" for _ in range(10)) for _ in range(size))
        (folder / f"{number}.txt").write_text("\n".join(lines))


def count(folder: Path, out: Path) -> JobResult:
    def words(key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, len(key[0])

    def total(word: str, values: Iterator[int]) -> int:
        return sum(values)

    return run(
        map=words, reduce=total, input=str(folder), output=str(out), workers=3, reducers=4, split_size="64KB",
        overwrite=True, config=PATIENT,
    )  # fmt: skip


def digest(out: Path) -> str:
    """Of all part files, names and bytes."""
    content = b"".join(path.name.encode() + path.read_bytes() for path in sorted(out.glob("part-*")))
    return hashlib.sha256(content).hexdigest()


def play(tmp_path: Path, *, seed: int, size: int, pause_s_max: float) -> int:
    """One round. Returns how many workers were killed."""
    write_corpus(tmp_path / "corpus", size)
    count(tmp_path / "corpus", tmp_path / "undisturbed")
    with Killer(seed, pause_s_max) as killer:
        result = count(tmp_path / "corpus", tmp_path / "disturbed")
    assert digest(tmp_path / "disturbed") == digest(tmp_path / "undisturbed")
    assert result.metrics.records_in == 8 * size
    assert not [pid for pid in killer.killed if is_alive(pid)]
    assert sorted(os.listdir(tmp_path)) == ["corpus", "disturbed", "home", "undisturbed"]
    return len(killer.killed)


def test_killed_workers_change_nothing(tmp_path: Path) -> None:
    play(tmp_path, seed=0, size=1_000, pause_s_max=0.3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50))
def test_workers_killed_at_random_change_nothing(tmp_path: Path, seed: int) -> None:
    assert play(tmp_path, seed=seed, size=8_000, pause_s_max=0.5) > 0

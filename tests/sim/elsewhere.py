"""Trace hashes as other processes find them, with other seeds of Python's own hashes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def hashes_elsewhere(module: str, seeds: int) -> Iterator[list[str]]:
    """Of the first so many seeds, once for each process."""
    program = f"from {module} import run_schedule\nfor s in range({seeds}): print(run_schedule(s).trace_hash)"
    others = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "77")
    ]
    for other in others:
        printed, _ = other.communicate()
        yield printed.split()

"""Tasks that only sleep, on ten workers; a worker that finds itself sick sleeps twenty times as long.

`sleepers.py SOURCE TARGET healthy|sick|backup`: nobody is sick; one is; one is and backup tasks are on. The sick one
is whichever process first creates a file of that name; it stays sick for as long as it lives.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ours.marks import leave
from onerack.mapreduce import run

WORKERS = 10
TASK_S = 1.0
SICK_FACTOR = 20


def sick(ward: Path) -> bool:
    """Whether this very process is the sick worker."""
    try:
        descriptor = os.open(ward, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return ward.read_text() == str(os.getpid())
    with os.fdopen(descriptor, "w") as file:
        file.write(str(os.getpid()))
    return True


if __name__ == "__main__":
    source, target, mode = sys.argv[1:4]
    ward = Path(target).with_name("ward")
    ward.unlink(missing_ok=True)

    def doze(key: object, line: str) -> Iterator[tuple[str, int]]:
        time.sleep(TASK_S * (SICK_FACTOR if mode != "healthy" and sick(ward) else 1))
        yield line, 1

    task_bytes = Path(source).stat().st_size // Path(source).read_text().count("\n")
    result = run(
        map=doze,
        reduce="sum",
        input=source,
        output=target,
        workers=WORKERS,
        split_size=task_bytes,
        backup_tasks=mode == "backup",
    )
    leave(rows=float(sum(1 for _ in result.rows())))

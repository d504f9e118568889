"""How long a user waits for the first call of map: the process starts, imports, plans, forks, and calls."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from benchmarks.ours.marks import leave
from onerack.mapreduce import run

if __name__ == "__main__":
    source, target, workers = sys.argv[1:4]

    def first(key: object, line: str) -> Iterator[tuple[str, float]]:
        yield "first", time.time()

    result = run(map=first, reduce="min", input=source, output=target, workers=int(workers))
    leave(first_map_at=next(float(value) for _, value in result.rows()))

"""Ray, by hand: map tasks return one dict per partition through the object store, reduce tasks merge them."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import ray

from benchmarks.peers.arguments import Task, main, read_span, spans

SPLIT_BYTES = 32 << 20
REDUCERS = 2


@ray.remote(num_returns=REDUCERS)  # type: ignore[untyped-decorator]
def count(span: tuple[str, int, int]) -> Any:
    parts: list[dict[bytes, int]] = [{} for _ in range(REDUCERS)]
    for word, number in Counter(read_span(span).split()).items():
        parts[zlib.crc32(word) % REDUCERS][word] = number
    return tuple(parts)


@ray.remote  # type: ignore[untyped-decorator]
def write(path: str, *parts: dict[bytes, int]) -> int:
    total: Counter[bytes] = Counter()
    for part in parts:
        total.update(part)
    with Path(path).open("wb") as file:
        file.writelines(b"%b\t%d\n" % item for item in total.items())
    return len(total)


def wordcount(task: Task) -> None:
    ray.init(num_cpus=task.workers, include_dashboard=False, log_to_driver=False)
    maps = [count.remote(span) for span in spans(task.source, SPLIT_BYTES)]
    ray.get([write.remote(str(task.target / f"part-{r}.tsv"), *(refs[r] for refs in maps)) for r in range(REDUCERS)])
    ray.shutdown()


if __name__ == "__main__":
    main({"wordcount": wordcount})

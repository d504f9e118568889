"""Dask bag on processes: partitions counted with a Counter each, folded in pairs."""

from __future__ import annotations

from collections import Counter

import dask
from dask.delayed import delayed

from benchmarks.peers.arguments import Task, main, read_span, spans

SPLIT_BYTES = 32 << 20


def count(span: tuple[str, int, int]) -> Counter[bytes]:
    return Counter(read_span(span).split())


def total(parts: list[Counter[bytes]]) -> Counter[bytes]:
    result: Counter[bytes] = Counter()
    for part in parts:
        result.update(part)
    return result


def wordcount(task: Task) -> None:
    counted = [delayed(count)(span) for span in spans(task.source, SPLIT_BYTES)]
    # The last merge would be shipped to a process and back: the parent does it, as Dask's own `frequencies` does.
    parts = dask.compute(*counted, scheduler="processes", num_workers=task.workers)
    with (task.target / "counts.tsv").open("wb") as file:
        file.writelines(b"%b\t%d\n" % item for item in total(list(parts)).items())


if __name__ == "__main__":
    main({"wordcount": wordcount})

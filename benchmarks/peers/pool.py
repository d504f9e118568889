"""What everybody writes by hand: multiprocessing.Pool, and a Counter or dict that the parent merges."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from benchmarks.peers.arguments import Task, main, read_span, spans

SPLIT_BYTES = 32 << 20


def count(span: tuple[str, int, int]) -> Counter[bytes]:
    return Counter(read_span(span).split())


def wordcount(task: Task) -> None:
    total: Counter[bytes] = Counter()
    with Pool(task.workers) as pool:
        for part in pool.imap_unordered(count, spans(task.source, SPLIT_BYTES)):
            total.update(part)
    with (task.target / "counts.tsv").open("wb") as file:
        file.writelines(b"%b\t%d\n" % item for item in total.items())


def postings(paths: list[str]) -> dict[bytes, list[str]]:
    index: dict[bytes, list[str]] = {}
    for path in paths:
        for word in set(Path(path).read_bytes().split()):
            index.setdefault(word, []).append(path)
    return index


def invertedindex(task: Task) -> None:
    paths = sorted(map(str, task.source.iterdir()))
    step = max(1, len(paths) // (task.workers * 8))
    total: dict[bytes, list[str]] = {}
    with Pool(task.workers) as pool:
        # imap, not imap_unordered: pieces come in the order of the paths, so no list needs sorting.
        for part in pool.imap(postings, [paths[i : i + step] for i in range(0, len(paths), step)]):
            for word, names in part.items():
                total.setdefault(word, []).extend(names)
    with (task.target / "index.tsv").open("wb") as file:
        file.writelines(b"%b\t%b\n" % (word, " ".join(names).encode()) for word, names in total.items())


def matching(pattern: bytes, span: tuple[str, int, int]) -> bytes:
    search = re.compile(pattern).search
    return b"".join(line for line in read_span(span).splitlines(keepends=True) if search(line))


def grep(task: Task) -> None:
    with Pool(task.workers) as pool, (task.target / "lines.txt").open("wb") as file:
        for lines in pool.imap(partial(matching, task.pattern.encode()), spans(task.source, SPLIT_BYTES)):
            file.write(lines)


if __name__ == "__main__":
    main({"wordcount": wordcount, "invertedindex": invertedindex, "grep": grep})

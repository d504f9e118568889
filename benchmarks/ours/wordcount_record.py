"""Word count through the record door: the plainest program there is, nothing in it for speed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from onerack.mapreduce import run


def count_words(key: object, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


if __name__ == "__main__":
    source, target, workers = sys.argv[1:4]
    run(map=count_words, reduce="sum", input=source, output=target, workers=int(workers))

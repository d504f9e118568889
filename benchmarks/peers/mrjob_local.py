"""mrjob's local runner: its own processes, its own sort, a combiner as its manual advises."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mrjob.job import MRJob
from mrjob.protocol import RawProtocol


class WordCount(MRJob):  # type: ignore[misc]
    OUTPUT_PROTOCOL = RawProtocol

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, str]]:
        yield word, str(sum(counts))


if __name__ == "__main__":
    if sys.argv[1:2] == ["wordcount"]:
        # The shared command line, in mrjob's terms; mrjob starts this file again with its own arguments.
        source, target, _, workers = sys.argv[2:6]
        sys.argv[1:] = ["-r", "local", "--num-cores", workers, "--output-dir", target, "--no-cat-output", source]
    WordCount.run()

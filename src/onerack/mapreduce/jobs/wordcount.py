"""wordcount: how often each word occurs.

The idea: the paper's first example, and the one every engine is measured by. A word is what `bytes.split()` gives:
bytes between blanks (9 to 13 and 32), whatever they mean, so the output's words are the input's bytes. A split is
counted as a whole in one table, and only its distinct words are shuffled.

Source: Dean & Ghemawat, OSDI 2004, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import TABLE_BYTES_MAX, BuiltinJob, Out, Reader, text_blocks
from onerack.mapreduce.messages import JobSpec

_TABLE_SHARE = 0.3
"""Of the task's memory; handing a table over takes about as much again."""


class WordCount(BuiltinJob):
    """word TAB count, in order of the words within each part."""

    usage: ClassVar[str] = "onerack run wordcount INPUT... --out DIR"
    encoding = "bytes"
    reduce = "sum"

    def map(self, key: Any, line: bytes) -> Iterator[tuple[bytes, int]]:
        for word in line.split():
            yield word, 1

    def make_collector(self, path: str, spec: JobSpec) -> Any:
        """One that does not fold again what comes folded."""
        from onerack.mapreduce.shuffle.folded import FoldedCollector

        return FoldedCollector(path, reducers=spec.reducers, accelerate=spec.accelerate)

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """The same as `map`, for a whole split."""
        from onerack.mapreduce.kernels.words import word_table

        table_bytes_max = min(_TABLE_SHARE * context.memory_bytes, TABLE_BYTES_MAX)
        table = word_table(context.accelerate, min(reader.split.size_bytes, context.memory_bytes // 8))
        for block in text_blocks(reader, context):
            table.add(block.data)
            if table.memory_bytes > table_bytes_max:
                _hand_over(table, out)
        _hand_over(table, out)


def _hand_over(table: Any, out: Out) -> None:
    import pyarrow as pa

    from onerack.mapreduce.columns import Columns

    words, counts = table.take()
    if len(words):
        out.add_columns(Columns("bytes", words, "int", pa.array(counts)))

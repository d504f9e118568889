"""invertedindex: for each word the documents (files) that hold it, sorted by name.

The idea: a document is a file, a word what `bytes.split()` gives. The map side numbers the documents of its split and
notes each pair (word, document) once; the reduce side brings numbers and words of all splits together, sorts pairs as
one column of 64-bit numbers (word in the upper half, document in the lower) and puts the names in while it writes.

The rule: the result is that of `yield word, path` with reduce = "set": each name once, in order.

Source: Dean & Ghemawat, OSDI 2004, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import TABLE_BYTES_MAX, BuiltinJob, Out, Reader, text_blocks
from onerack.mapreduce.messages import JobSpec, Section

_BATCH_BYTES = 1 << 20
"""Small documents are taken together, as many as fill this."""
_TABLE_SHARE = 0.25
"""Of the task's memory; handing the postings over takes about as much again."""


class InvertedIndex(BuiltinJob):
    """word TAB ["document", ...], in order of the words within each part."""

    usage: ClassVar[str] = "onerack run invertedindex INPUT... --out DIR"
    encoding = "bytes"
    reduce = "set"

    def map(self, key: tuple[str, int], line: bytes) -> Iterator[tuple[bytes, str]]:
        for word in line.split():
            yield word, key[0]

    def make_collector(self, path: str, spec: JobSpec) -> Any:
        """Postings instead of pairs."""
        from onerack.mapreduce.shuffle.postings import PostingsCollector

        return PostingsCollector(path, reducers=spec.reducers, accelerate=spec.accelerate)

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """The same as `map`, for a whole split."""
        from onerack.mapreduce.kernels.postings import posting_table

        table_bytes_max = min(_TABLE_SHARE * context.memory_bytes, TABLE_BYTES_MAX)
        table = posting_table(context.accelerate, min(reader.split.size_bytes, context.memory_bytes // 8))
        names: list[str] = []
        batch: list[Any] = []
        size = 0
        for block in text_blocks(reader, context):
            continues = bool(names) and block.path == names[-1]
            if batch and (continues or size > _BATCH_BYTES):
                table.add(len(names) - len(batch), batch)
                batch, size = [], 0
                if table.memory_bytes > table_bytes_max:
                    out.add_postings(table.take(), names)
                    names = names[-1:] if continues else []
            if not continues:
                names.append(block.path)
            batch.append(block.data)
            size += len(block.data)
        table.add(len(names) - len(batch), batch)
        out.add_postings(table.take(), names)

    def reduce_partition(self, sections: Sequence[Section], writer: Out, context: TaskContext) -> None:
        """Writes the partition's words in order, each with its documents."""
        from onerack.mapreduce.jobs.indexing import index_rows
        from onerack.mapreduce.shuffle.postings import read_postings

        for rows in index_rows(list(read_postings(sections)), context.memory_bytes, context.accelerate):
            if writer.format_name == "tsv":
                writer.write_raw(rows.as_tsv(), len(rows.words))
            else:
                writer.write_pairs(rows.as_pairs())
            context.progress(records=len(rows.words), bytes=rows.documents.nbytes)

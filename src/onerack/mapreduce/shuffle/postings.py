"""Sections of postings: words with the documents that hold them, documents by number.

The idea: an inverted index shuffles far more document names than words, so names are written once for each section
and postings hold numbers. An extent is an Arrow IPC stream of one table `word: binary, documents: list<int32>`; the
names lie in the schema's metadata, in order of their numbers.

The rule: within a section each word stands once for each extent, and its documents increase. Names may occur in
several sections (a document cut by a split border); the reduce side brings them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from onerack.errors import Corruption
from onerack.mapreduce.kernels.buffers import list_array
from onerack.mapreduce.kernels.postings import Postings
from onerack.mapreduce.keys import partitions_of
from onerack.mapreduce.messages import Section
from onerack.mapreduce.shuffle.arrays import first_and_last, partition_borders, partition_order
from onerack.mapreduce.shuffle.format import ALIGNMENT, SectionUnreadable, read_extents
from onerack.mapreduce.shuffle.map_side import MapSide

ENCODING: Final = "arrow-postings"
_NAMES: Final = b"documents"


class Extent(NamedTuple):
    """One extent, read."""

    words: Any
    lists: Any
    """A list<int32> array beside `words`: positions in `names`."""
    names: list[str]


class PostingsCollector(MapSide):
    """The map side: takes postings, leaves a shuffle file with a section for each partition."""

    def __init__(self, path: str, *, reducers: int, accelerate: bool) -> None:
        super().__init__(path, reducers=reducers, encoding=ENCODING)
        self._accelerate = accelerate

    def add_postings(self, postings: Postings, names: Sequence[str]) -> None:
        """Writes one extent for each partition that has words."""
        if not len(postings.words):
            return
        self.spills += self._writer.rows_written > 0
        lists = list_array(postings.starts, pa.array(postings.documents))
        partitions = partitions_of(postings.words, self._reducers, accelerate=self._accelerate)
        order = pa.array(partition_order(partitions, self._reducers))
        words, lists = postings.words.take(order), lists.take(order)
        metadata = {_NAMES: msgspec.msgpack.encode([name.encode("utf-8", "surrogateescape") for name in names])}
        for partition, (start, end) in enumerate(pairwise(partition_borders(partitions, self._reducers).tolist())):
            if end > start:
                columns = [words.slice(start, end - start), lists.slice(start, end - start)]
                self._write(partition, pa.table(columns, names=["word", "documents"], metadata=metadata))

    def _write(self, partition: int, table: Any) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        content = sink.getvalue()
        bounds = first_and_last(table.column(0).combine_chunks(), False)
        padding = bytes(-content.size % ALIGNMENT)
        self._writer.append(partition, [content, padding], rows=len(table), is_sorted=False, bounds=bounds)


def read_postings(sections: Sequence[Section]) -> Iterator[Extent]:
    """The extents of a partition, in map order. Raises: SectionUnreadable."""
    for section in sections:
        for extent, content in read_extents(section):
            table = pa.ipc.open_stream(pa.py_buffer(content)).read_all().combine_chunks()
            if len(table) != extent.rows:
                damage = Corruption(section.path, extent.offset, f"{extent.rows} rows", f"{len(table)}")
                raise SectionUnreadable(section.path, str(damage), corrupt=True)
            raws = msgspec.msgpack.decode((table.schema.metadata or {})[_NAMES], type=list[bytes])
            names = [raw.decode("utf-8", "surrogateescape") for raw in raws]
            yield Extent(table.column(0).chunk(0), table.column(1).chunk(0), names)

"""LineReader: what all formats have in common whose records are lines, or are made of lines.

The idea: small files are what makes reading slow, so neighbours are read into one buffer and treated as one stretch
of lines; the keys remember which line came from which file. Large files come chunk by chunk.

The rule: an `origin` is a stretch of whole lines of one codec, with the place of each in its file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from onerack.mapreduce.inputs.chunks import Chunk
from onerack.mapreduce.inputs.lines import LineCodec, line_codec
from onerack.mapreduce.inputs.records import ByteBlock, ByteOrigin, PathOffsets
from onerack.mapreduce.inputs.sources import Source, is_remote, local_path
from onerack.mapreduce.inputs.split_reader import BYTE_BLOCK_BYTES, SplitReader
from onerack.mapreduce.messages import Fragment, InputFormat, Split

UNDECODABLE: Final = (
    "is not valid {encoding}: {reason}; give the file's encoding (--encoding latin-1), "
    "a policy for such bytes (--errors replace), or set bad records aside (--on-error skip:N)"
)
JOINED_BYTES_MAX: Final = 64 * 1024
"""A file up to this size shares a buffer with its neighbours."""


class Stretch(NamedTuple):
    """Lines, where they lie, and how they are decoded."""

    codec: LineCodec
    origin: ByteOrigin


class LineReader(SplitReader):
    """Reads a split as stretches of lines."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        super().__init__(split, format)
        self.codec = line_codec(format.encoding, format.errors)

    def byte_blocks(self, block_bytes: int = BYTE_BLOCK_BYTES) -> Iterator[ByteBlock]:
        return self.over_fragments(partial(self.line_blocks, codec=self.codec, block_bytes=block_bytes))

    def stretches(self, chunk_bytes: int) -> Iterator[Stretch]:
        """All lines of the split, in order."""
        joined: list[tuple[str, bytes]] = []
        size = 0
        for fragment in self.split.fragments:
            content = self._small(fragment)
            if content is None:
                yield from self._joined(joined)
                joined, size = [], 0
                yield from self.over_fragment(fragment, partial(self.stretches_of, chunk_bytes=chunk_bytes))
                continue
            joined.append((fragment.path, content))
            size += len(content)
            if size >= chunk_bytes:
                yield from self._joined(joined)
                joined, size = [], 0
        yield from self._joined(joined)

    def _small(self, fragment: Fragment) -> bytes | None:
        """The content of a whole small file; None for all others, which are read (or refused) with more care."""
        path = fragment.path
        may_join = fragment.start == 0 and fragment.length <= JOINED_BYTES_MAX and self.codec.body == self.codec
        if not may_join or is_remote(path) or self.is_whole(fragment, self.codec):
            return None
        try:
            descriptor = os.open(local_path(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.read(descriptor, fragment.length + 1)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        return content if len(content) == fragment.length else None

    def _joined(self, files: list[tuple[str, bytes]]) -> Iterator[Stretch]:
        """Files end to end, each ended by a newline."""
        if files:
            contents = [content if content.endswith(b"\n") or not content else content + b"\n" for _, content in files]
            self.passed(sum(len(content) for _, content in files))
            begins = np.cumsum([0, *map(len, contents)])
            yield Stretch(self.codec, _origin([path for path, _ in files], begins[:-1], b"".join(contents), self.codec))

    def stretches_of(self, source: Source, fragment: Fragment, chunk_bytes: int) -> Iterator[Stretch]:
        """The lines of one fragment, chunk by chunk."""
        codec = self.codec.body
        for offset, data in self.chunks(source, fragment, self.codec, chunk_bytes):
            start = 0
            if offset == 0:
                codec, start = self.codec.at_start(data)
            yield Stretch(codec, chunk_origin(fragment.path, Chunk(offset, data), codec, start))


def chunk_origin(path: str, chunk: Chunk, codec: LineCodec, start: int) -> ByteOrigin:
    """The places of a chunk's lines; `start`: the length of a byte order mark, which is no part of a line."""
    return _origin([path], np.array([-chunk.offset]), chunk.data, codec, start)


def _origin(
    paths: list[str], begins: npt.NDArray[np.int64], data: bytes, codec: LineCodec, start: int = 0
) -> ByteOrigin:
    """The places of the lines of `data`, in which the first byte of each file lies (or would lie) at `begins`."""
    stops = codec.ends(data)
    if len(data) > (stops[-1] if len(stops) else start):
        stops = np.append(stops, len(data))
    starts = np.empty_like(stops)
    if len(stops):
        starts[0] = start
        starts[1:] = stops[:-1]
    if len(paths) == 1:
        return ByteOrigin(PathOffsets(paths, [0], starts - begins[0]), data, starts, stops, codec.newline)
    firsts = np.searchsorted(starts, begins)
    offsets = starts - np.repeat(begins, np.diff(firsts, append=len(starts)))
    return ByteOrigin(PathOffsets(paths, firsts.tolist(), offsets), data, starts, stops, codec.newline)


def decoded_lines(codec: LineCodec, origin: ByteOrigin) -> list[str]:
    """The lines, decoded at once. Raises: UnicodeDecodeError: go line by line."""
    return codec.decode(lines_of(origin), len(origin.stops))


def lines_of(origin: ByteOrigin) -> bytes:
    """The bytes of all lines, without a byte order mark."""
    start = int(origin.starts[0]) if len(origin.starts) else 0
    return origin.data[start:] if start else origin.data


def undecodable(encoding: str, error: UnicodeDecodeError) -> str:
    """What is wrong with a record that does not decode, and what helps."""
    return UNDECODABLE.format(encoding=encoding, reason=error.reason)


def joined_paths(keys: PathOffsets) -> Any:
    """The files of some records as a dictionary-encoded column."""
    import pyarrow as pa

    counts: Iterable[int] = keys.counts()
    places: Any = np.repeat(np.arange(len(keys.paths), dtype=np.int32), list(counts))
    return pa.DictionaryArray.from_arrays(places, pa.array(list(keys.paths), pa.string()))

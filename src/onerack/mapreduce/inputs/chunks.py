"""Chunks: a byte range of a file, cut at the ends of its lines.

The idea: `border(x)` is the first line start at or after x. A fragment [start, stop) holds the bytes from
border(start) to border(stop), so neighbours meet exactly, whoever reads them and however small they are. The
remainder of a chunk behind its last newline is not kept but read again with the next: no copying, and no state.

The rule: every chunk begins at a line start and ends behind a newline, except that the last of a file ends with the
file. No fragment reads far beyond its stop to learn that nothing begins in it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from onerack.config import GIB
from onerack.errors import InputError
from onerack.mapreduce.inputs.lines import LineCodec
from onerack.mapreduce.inputs.sources import LocalSource, Source
from onerack.mapreduce.messages import Fragment

LINE_BYTES_MAX: Final = GIB
"""No column holds more, so a longer line could not be shuffled; most likely it is no text."""
MAPPED_BYTES_MIN: Final = 1024 * 1024
"""Below it, reading is cheaper than mapping: fragments, and blocks of them."""
_WINDOW_BYTES: Final = 64 * 1024
_SLACK_BYTES: Final = 4096
"""Read beyond a fragment's end, in the hope that its last line ends there."""


class Chunk(NamedTuple):
    """Whole lines, and where in the (plain) file they begin."""

    offset: int
    data: bytes


def first_line(source: Source, position: int, stop: int) -> int:
    """border(position), or `stop` when no line starts before it."""
    at = position - 1
    if position <= 0:
        return 0
    while at < stop - 1:
        window = source.read_at(at, min(_WINDOW_BYTES, stop - 1 - at))
        if not window:
            break
        end = window.find(b"\n")
        if end >= 0:
            return at + end + 1
        at += len(window)
    return stop


def range_chunks(source: Source, fragment: Fragment, chunk_bytes: int) -> Iterator[Chunk]:
    """The lines that start in the fragment. Requires: an encoding whose files may be cut."""
    for offset, data, end in range_blocks(source, fragment, chunk_bytes):
        yield Chunk(offset, data[:end])


def range_blocks(source: Source, fragment: Fragment, chunk_bytes: int) -> Iterator[tuple[int, bytes, int]]:
    """The same, not copied: offset, what was read from there on, and where in it the chunk ends."""
    stop = fragment.start + fragment.length
    position = first_line(source, fragment.start, stop)
    size = 0
    while position < stop:
        size = size or min(chunk_bytes, stop - position + _SLACK_BYTES)
        data = source.read_at(position, size)
        end = _end_in(data, stop - position)
        if len(data) < size and not end:
            if position + len(data) < stop:
                raise shrunk(fragment)
            end = len(data)
        if not end:
            size = _longer(source.path, position, size)
            continue
        size = 0
        source.consumed += end
        yield position, data, end
        position += end


def _end_in(data: bytes, left: int) -> int:
    """Where the chunk ends: the last line end of `data`, or the first one at or behind the fragment's stop."""
    if len(data) < left:
        return data.rfind(b"\n") + 1
    return data.find(b"\n", left - 1) + 1 or data.rfind(b"\n", 0, left - 1) + 1


def _longer(path: str, position: int, size: int) -> int:
    """The line did not end within `size` bytes: read twice as much. Raises: InputError: that would be too much."""
    if size >= LINE_BYTES_MAX:
        raise InputError(
            path, f"the line at byte {position} is longer than {LINE_BYTES_MAX} bytes; is this a file of text lines?"
        )
    return min(size * 2, LINE_BYTES_MAX)


def shrunk(fragment: Fragment) -> InputError:
    """The file is shorter than the plan says."""
    return InputError(
        fragment.path,
        f"ends before byte {fragment.start + fragment.length}: it was cut while the job ran; run the job again",
    )


def stream_chunks(path: str, plain: Iterator[bytes], codec: LineCodec, chunk_bytes: int) -> Iterator[Chunk]:
    """All lines of a file that can only be read from its start."""
    buffer = bytearray()
    offset = searched = 0
    for content in plain:
        buffer += content
        if len(buffer) < max(chunk_bytes, 4):
            continue
        if not offset:
            codec, _ = codec.at_start(bytes(buffer[:4]))
        end = codec.last_end(buffer, searched)
        searched = 0
        if end:
            yield Chunk(offset, bytes(memoryview(buffer)[:end]))
            offset += end
            del buffer[:end]
        else:
            searched = len(buffer)
            _longer(path, offset, searched)
    if buffer:
        yield Chunk(offset, bytes(buffer))


class MappedFile:
    """A local file as memory, of which only what is being looked at counts as this process's.

    Pages that were passed are given back to the kernel, in whose cache they stay; so a scan of any length costs one
    block. A view is valid as long as somebody holds it. A file that is cut short while it is mapped kills the process
    with SIGBUS; the task runs again, and then its reader says what is wrong.
    """

    def __init__(self, source: LocalSource, fragment: Fragment) -> None:
        self.size = os.fstat(source.descriptor).st_size
        if self.size < fragment.start + fragment.length:
            raise shrunk(fragment)
        self.bytes = mmap.mmap(source.descriptor, self.size, access=mmap.ACCESS_READ)
        self.bytes.madvise(mmap.MADV_SEQUENTIAL)
        self._source = source
        self._view = memoryview(self.bytes)

    def pass_over(self, start: int, stop: int) -> Iterator[memoryview]:
        """The view of one stretch; what it brought into memory goes when the next is asked for."""
        self._source.consumed += stop - start
        yield self._view[start:stop]
        page = start - start % mmap.PAGESIZE
        self.bytes.madvise(mmap.MADV_DONTNEED, page, stop - page)


def mapped_blocks(source: LocalSource, fragment: Fragment, block_bytes: int) -> Iterator[tuple[int, memoryview]]:
    """The lines that start in the fragment, as views of the mapped file: nothing is copied."""
    file = MappedFile(source, fragment)
    stop = fragment.start + fragment.length
    position = first_line(source, fragment.start, stop)
    while position < stop:
        if stop - position <= block_bytes:
            end = file.bytes.find(b"\n", stop - 1) + 1 or file.size
        else:
            end = file.bytes.rfind(b"\n", position, position + block_bytes) + 1
            end = end or file.bytes.find(b"\n", position + block_bytes) + 1 or file.size
        for view in file.pass_over(position, end):
            yield position, view
        position = end

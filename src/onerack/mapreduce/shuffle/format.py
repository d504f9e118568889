"""The shuffle file: all that one map attempt has for all reduce tasks, in one file that nobody ever changes.

    header | extent | extent | ... | footer | u32 crc32 | u32 length of the footer | magic

The idea: an extent is one run of rows of one partition, as an Arrow IPC stream that a reader maps and uses as it
lies. A map task that runs out of memory *spills*: it appends one extent for each partition and starts afresh, so
that nothing is read and written twice. A *section* is the list of one partition's extents.

The rule: no byte of a file is without a checksum, and no byte is used before its checksum was verified. Extents
(their padding included) are covered by the crc32 in section and footer, the footer by its own, header and magic are
constants. The file appears under its name, whole, by a rename.

The format is described for other readers in docs/shuffle-format.md.
Source: Dean & Ghemawat, OSDI 2004, section 3.1 (R regions on the local disk of the map worker).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from onerack.errors import BadKey, Corruption, OnerackError, storing
from onerack.mapreduce.canonical import mixed_kinds
from onerack.mapreduce.columns import Columns, KeyKind, ValueKind
from onerack.mapreduce.keys import HASH_NAME
from onerack.mapreduce.messages import Extent, Section
from onerack.mapreduce.shuffle.arrays import cut_rows, first_and_last

VERSION: Final = 1
ENCODING: Final = "arrow-ipc-stream"
ALIGNMENT: Final = 64
"""Extents start at multiples of this, as Arrow wants its buffers."""
MAGIC: Final = b"1RACKSHF"
HEADER: Final = (MAGIC + bytes((VERSION,))).ljust(ALIGNMENT, b"\x00")
TRAILER: Final = struct.Struct("<II8s")
"""crc32 of (length, footer), length of the footer, magic."""
FOOTER_BYTES_MAX: Final = 256 << 20
_LENGTH: Final = struct.Struct("<I")
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
BATCH_BYTES: Final = 1 << 20
"""About so much is one record batch: the unit in which a reader must be able to hold a run."""
BATCH_ROWS: Final = 1 << 16
KEY_BYTES_MAX: Final = 64
"""Smallest and largest key are cut to this length in the footer."""
MAPPED_BYTES_MIN: Final = 1 << 20
"""Smaller sections are read, not mapped: a job may have thousands of them, and a process only so many files."""


class SectionUnreadable(OnerackError):
    """A section of a map attempt's shuffle file is gone or damaged; the map task must run again."""

    def __init__(self, path: str, reason: str, corrupt: bool) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.corrupt = corrupt
        """True: the bytes are there but wrong. False: they cannot be read."""


class FooterExtent(msgspec.Struct, frozen=True):
    """What the footer says of one extent."""

    partition: int
    offset: int
    size: int
    rows: int
    checksum: int
    is_sorted: bool
    key_min: bytes
    """The first `KEY_BYTES_MAX` bytes of the smallest key."""
    key_max: bytes


class Footer(msgspec.Struct, frozen=True):
    """The table of contents."""

    version: int
    attempt: str
    """Name of the file as the map attempt wrote it."""
    hash: str
    encoding: str
    partitions: int
    extents: tuple[FooterExtent, ...]


class Kinds(NamedTuple):
    """What the columns of an extent hold."""

    key: KeyKind
    value: ValueKind
    order: str
    """Kind of the sort keys; "" when there are none or nobody said."""


class SameKinds:
    """Remembers the first kinds and refuses others. Values may be of any."""

    def __init__(self) -> None:
        self.first: Kinds | None = None

    def check(self, kinds: Kinds) -> None:
        """Raises: BadKey."""
        if self.first is None:
            self.first = kinds
        if kinds.key != self.first.key:
            raise mixed_kinds(self.first.key, kinds.key)
        if kinds.order != self.first.order:
            raise BadKey(f"sort_key: sort keys of two kinds in one job: {self.first.order} and {kinds.order}")


class Run(NamedTuple):
    """The rows of one extent: batches of `key`, `value` and perhaps `order`, over memory that may be a mapped file."""

    kinds: Kinds
    batches: list[Any]
    rows: int
    size_bytes: int

    @property
    def has_order(self) -> bool:
        return bool(self.batches[0].num_columns == 3)

    def columns(self) -> Iterator[Columns]:
        for batch in self.batches:
            yield batch_columns(self.kinds, batch)


def batch_columns(kinds: Kinds, batch: Any) -> Columns:
    order = batch.column(2) if batch.num_columns == 3 else None
    return Columns(kinds.key, batch.column(0), kinds.value, batch.column(1), order)


# ---------------------------------------------------------------------------------------------- writing


class ShuffleWriter:
    """Appends extents to `path`.tmp; `close` adds the footer and gives the file its name."""

    def __init__(self, path: str, partitions: int, *, encoding: str = ENCODING) -> None:
        self.path = path
        self.encoding = encoding
        self.bytes_written = 0
        self.rows_written = 0
        self.kinds = SameKinds()
        """Of the columns written; none of raw rows, postings and other bytes."""
        self._extents: list[FooterExtent] = []
        self._partitions = partitions
        with storing(path):
            self._file = open(path + ".tmp", "wb", buffering=0)  # noqa: SIM115
            self._write(HEADER)

    def _write(self, content: Any) -> None:
        """Writes all of it: an unbuffered write may stop short."""
        view = memoryview(content).cast("B")
        with storing(self.path):
            while len(view):
                view = view[self._file.write(view) :]
        self.bytes_written += memoryview(content).nbytes

    def add_extent(self, partition: int, columns: Columns, *, order_kind: str = "", is_sorted: bool) -> None:
        """Appends rows as one extent of `partition`. Requires: at least one row."""
        self.kinds.check(Kinds(columns.key_kind, columns.value_kind, order_kind))
        bounds = first_and_last(columns.keys, is_sorted)
        self.append(partition, _messages(columns, order_kind), rows=columns.rows, is_sorted=is_sorted, bounds=bounds)

    def append(
        self, partition: int, pieces: Iterable[Any], *, rows: int, is_sorted: bool, bounds: tuple[bytes, bytes]
    ) -> None:
        """Appends an extent as its bytes; together the pieces fill a multiple of `ALIGNMENT`.

        `bounds`: the smallest and the largest key.
        """
        start, checksum = self.bytes_written, 0
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
            self._write(piece)
        self._extents.append(
            FooterExtent(
                partition=partition,
                offset=start,
                size=self.bytes_written - start,
                rows=rows,
                checksum=checksum,
                is_sorted=is_sorted,
                key_min=bounds[0][:KEY_BYTES_MAX],
                key_max=bounds[1][:KEY_BYTES_MAX],
            )
        )
        self.rows_written += rows

    def close(self) -> tuple[Section, ...]:
        """The sections, one for each partition. The file has its name now."""
        footer = Footer(
            version=VERSION,
            attempt=os.path.basename(self.path),
            hash=HASH_NAME,
            encoding=self.encoding,
            partitions=self._partitions,
            extents=tuple(self._extents),
        )
        content = msgspec.msgpack.encode(footer)
        length = _LENGTH.pack(len(content))
        self._write(content + TRAILER.pack(zlib.crc32(length + content), len(content), MAGIC))
        self._file.close()
        os.replace(self.path + ".tmp", self.path)
        return sections_of(footer, self.path)

    def abort(self) -> None:
        """Leaves nothing behind."""
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path + ".tmp")


def _messages(columns: Columns, order_kind: str) -> Iterator[Any]:
    """An Arrow IPC stream in pieces, padded to the alignment."""
    names, arrays = ["key", "value"], [columns.keys, columns.values]
    if columns.order is not None:
        names.append("order")
        arrays.append(columns.order)
    kinds = {"key_kind": columns.key_kind, "value_kind": columns.value_kind, "order_kind": order_kind}
    batch = pa.RecordBatch.from_arrays(arrays, names=names).replace_schema_metadata(kinds)
    size = 0
    head = batch.schema.serialize()
    yield head
    size += head.size
    for start, rows in cut_rows(arrays, BATCH_BYTES, BATCH_ROWS):
        message = batch.slice(start, rows).serialize()
        yield message
        size += message.size
    yield _END_OF_STREAM.ljust(len(_END_OF_STREAM) + -(size + len(_END_OF_STREAM)) % ALIGNMENT, b"\x00")


def sections_of(footer: Footer, path: str) -> tuple[Section, ...]:
    """The sections that a footer describes."""
    extents: list[list[Extent]] = [[] for _ in range(footer.partitions)]
    for extent in footer.extents:
        extents[extent.partition].append(Extent(extent.offset, extent.size, extent.rows, extent.checksum))
    return tuple(Section(path, tuple(of_partition)) for of_partition in extents)


# ---------------------------------------------------------------------------------------------- reading


@contextmanager
def _unreadable_named(path: str) -> Iterator[None]:
    """Turns what reading can raise into `SectionUnreadable`."""
    try:
        yield
    except Corruption as error:
        raise SectionUnreadable(path, str(error), corrupt=True) from error
    except OSError as error:
        raise SectionUnreadable(path, error.strerror or str(error), corrupt=False) from error


def read_section(section: Section) -> list[Run]:
    """The runs of a section, verified. Large sections are mapped, so their memory is the page cache's.

    Raises: SectionUnreadable.
    """
    contents = read_extents(section)
    with _unreadable_named(section.path):
        return [_parse_extent(section.path, extent, content) for extent, content in contents]


def read_extents(section: Section) -> list[tuple[Extent, Any]]:
    """The bytes of a section's extents, verified; mapped when there are many.

    Raises: SectionUnreadable.
    """
    if not section.extents:
        return []
    with _unreadable_named(section.path), open(section.path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        end = max(extent.offset + extent.size for extent in section.extents)
        if end > size:
            raise Corruption(section.path, size, f"at least {end} bytes", f"{size}")
        mapped = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) if _is_large(section) else None
        contents = []
        for extent in section.extents:
            if mapped is not None:
                content: Any = mapped[extent.offset : extent.offset + extent.size]
            else:
                content = os.pread(file.fileno(), extent.size, extent.offset)
            found = zlib.crc32(content)
            if len(content) != extent.size or found != extent.checksum:
                raise Corruption(section.path, extent.offset, f"crc32 {extent.checksum:08x}", f"{found:08x}")
            contents.append((extent, content))
        return contents


def _is_large(section: Section) -> bool:
    return section.size_bytes >= MAPPED_BYTES_MIN


def _parse_extent(path: str, extent: Extent, content: Any) -> Run:
    reader = pa.ipc.open_stream(pa.py_buffer(content))
    batches = [batch for batch in reader if batch.num_rows]
    about: dict[str, Any] = {name.decode(): value.decode() for name, value in reader.schema.metadata.items()}
    kinds = Kinds(about["key_kind"], about["value_kind"], about["order_kind"])
    rows = sum(batch.num_rows for batch in batches)
    if rows != extent.rows:
        raise Corruption(path, extent.offset, f"{extent.rows} rows", f"{rows}")
    return Run(kinds, batches, rows, extent.size)


def read_footer(path: str) -> Footer:
    """The table of contents of a shuffle file.

    Raises: SectionUnreadable: the file is missing, cut short or damaged.
    """
    with _unreadable_named(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(HEADER)) != HEADER:
            raise Corruption(path, 0, f"a shuffle file of version {VERSION}", "something else")
        at = size - TRAILER.size
        if at < len(HEADER):
            raise Corruption(path, size, "a footer", "the end of the file")
        file.seek(at)
        checksum, length, magic = TRAILER.unpack(file.read(TRAILER.size))
        if magic != MAGIC or length > min(at - len(HEADER), FOOTER_BYTES_MAX):
            raise Corruption(path, at, "the end of a footer", "other bytes")
        file.seek(at - length)
        content = file.read(length)
        found = zlib.crc32(_LENGTH.pack(length) + content)
        if found != checksum:
            raise Corruption(path, at - length, f"crc32 {checksum:08x}", f"{found:08x}")
        return msgspec.msgpack.decode(content, type=Footer)


def verify_file(path: str) -> Footer:
    """Reads every byte of a shuffle file and checks it; returns its footer.

    Raises: SectionUnreadable.
    """
    footer = read_footer(path)
    covered = len(HEADER)
    for extent in footer.extents:
        if extent.offset != covered:
            raise SectionUnreadable(path, f"byte {covered} belongs to no extent", corrupt=True)
        covered += extent.size
    read = read_section if footer.encoding == ENCODING else read_extents
    for section in sections_of(footer, path):
        read(section)
    return footer

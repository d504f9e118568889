"""The shuffle file: what is written is read, damage of any kind is found, and disks that are full are named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from onerack.errors import StorageFull
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.messages import Extent, Section
from onerack.mapreduce.shuffle import format as shuffle_format
from onerack.mapreduce.shuffle.format import (
    ALIGNMENT,
    HEADER,
    MAGIC,
    TRAILER,
    SectionUnreadable,
    ShuffleWriter,
    read_footer,
    read_section,
    verify_file,
)


def columns_of(keys: list[bytes], values: list[int]) -> Columns:
    return Columns("bytes", pa.array(keys, pa.binary()), "int", pa.array(values, pa.int64()))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "m0.1.shuffle")


def write_small(path: str) -> tuple[Section, ...]:
    """Three partitions: two extents, none, one."""
    writer = ShuffleWriter(path, partitions=3)
    writer.add_extent(0, columns_of([b"a", b"b"], [1, 2]), is_sorted=True)
    writer.add_extent(2, columns_of([b"z", b"y"], [3, 4]), is_sorted=False)
    writer.add_extent(0, columns_of([b"a"], [5]), is_sorted=True)
    return writer.close()


def rows_of(section: Section) -> list[tuple[bytes, int]]:
    return [
        row
        for run in read_section(section)
        for columns in run.columns()
        for row in zip(columns.keys.to_pylist(), columns.values.to_pylist(), strict=True)
    ]


def test_sections_hold_their_extents_in_order_of_writing(path: str) -> None:
    sections = write_small(path)
    assert [rows_of(section) for section in sections] == [
        [(b"a", 1), (b"b", 2), (b"a", 5)],
        [],
        [(b"z", 3), (b"y", 4)],
    ]
    assert [section.rows for section in sections] == [3, 0, 2]


def test_the_footer_says_what_is_where(path: str) -> None:
    sections = write_small(path)
    footer = verify_file(path)
    assert (footer.version, footer.attempt, footer.hash, footer.partitions) == (1, "m0.1.shuffle", "crc32m", 3)
    assert shuffle_format.sections_of(footer, path) == sections
    assert [(extent.partition, extent.key_min, extent.key_max) for extent in footer.extents] == [
        (0, b"a", b"b"), (2, b"y", b"z"), (0, b"a", b"a"),
    ]  # fmt: skip
    assert all(extent.offset % ALIGNMENT == 0 for extent in footer.extents)


def test_every_single_bit_flip_is_found(path: str) -> None:
    write_small(path)
    content = Path(path).read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        Path(path).write_bytes(damaged)
        with pytest.raises(SectionUnreadable) as caught:
            verify_file(path)
        assert caught.value.corrupt, f"byte {position}"


def test_a_bit_flip_in_a_section_is_found_without_the_footer(path: str) -> None:
    section = write_small(path)[2]
    content = bytearray(Path(path).read_bytes())
    first = section.extents[0].offset
    for position in range(first, first + section.extents[0].size):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        Path(path).write_bytes(damaged)
        with pytest.raises(SectionUnreadable, match="crc32"):
            read_section(section)


def test_every_truncation_is_found(path: str) -> None:
    sections = write_small(path)
    content = Path(path).read_bytes()
    for size in range(len(content)):
        Path(path).write_bytes(content[:size])
        with pytest.raises(SectionUnreadable) as caught:
            verify_file(path)
        assert caught.value.corrupt
    Path(path).write_bytes(content[: sections[2].extents[0].offset + 10])
    with pytest.raises(SectionUnreadable, match="at least"):
        read_section(sections[2])


def test_a_missing_file_is_gone_but_not_corrupt(path: str) -> None:
    section = write_small(path)[0]
    os.unlink(path)
    with pytest.raises(SectionUnreadable, match="No such file") as caught:
        read_section(section)
    assert not caught.value.corrupt
    assert caught.value.path == path
    with pytest.raises(SectionUnreadable):
        read_footer(path)


def test_a_section_that_names_the_wrong_place_is_refused(path: str) -> None:
    section = write_small(path)[0]
    extent = section.extents[0]
    for wrong in (
        msgspec.structs.replace(extent, offset=extent.offset + ALIGNMENT),
        msgspec.structs.replace(extent, size=extent.size - ALIGNMENT),
        msgspec.structs.replace(extent, rows=extent.rows + 1),
        Extent(10**9, 64, 1, 0),
    ):
        with pytest.raises(SectionUnreadable) as caught:
            read_section(Section(path, (wrong,)))
        assert caught.value.corrupt


def test_a_footer_that_claims_an_absurd_length_is_refused_before_it_is_read(path: str) -> None:
    Path(path).write_bytes(HEADER + TRAILER.pack(0, 2**32 - 1, MAGIC))
    with pytest.raises(SectionUnreadable, match="end of a footer"):
        read_footer(path)


def test_the_name_appears_only_when_the_file_is_whole(path: str) -> None:
    writer = ShuffleWriter(path, partitions=1)
    writer.add_extent(0, columns_of([b"a"], [1]), is_sorted=True)
    assert not os.path.exists(path)
    writer.close()
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_an_aborted_file_leaves_nothing(path: str) -> None:
    writer = ShuffleWriter(path, partitions=1)
    writer.add_extent(0, columns_of([b"a"], [1]), is_sorted=True)
    writer.abort()
    writer.abort()
    assert os.listdir(os.path.dirname(path)) == []


class FullDisk:
    """A file on a disk with no space left."""

    def __init__(self, file: Any, error: int) -> None:
        self._file = file
        self._error = error

    def write(self, _: Any) -> int:
        raise OSError(self._error, os.strerror(self._error))

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(path: str, error: int) -> None:
    writer = ShuffleWriter(path, partitions=1)
    writer._file = FullDisk(writer._file, error)  # type: ignore[assignment]
    with pytest.raises(StorageFull, match=r"m0\.1\.shuffle"):
        writer.add_extent(0, columns_of([b"a"], [1]), is_sorted=True)
    writer.abort()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_write_that_stops_short_is_continued(path: str) -> None:
    class Short:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, content: Any) -> int:
            return int(self._file.write(content[:7]))

        def close(self) -> None:
            self._file.close()

    writer = ShuffleWriter(path, partitions=1)
    writer._file = Short(writer._file)  # type: ignore[assignment]
    writer.add_extent(0, columns_of([b"a" * 100], [1]), is_sorted=True)
    assert rows_of(writer.close()[0]) == [(b"a" * 100, 1)]


def test_large_sections_are_mapped_in_many_batches_and_small_keys_cut_in_the_footer(path: str) -> None:
    keys = [f"{number:07}".encode() * 20 for number in range(20_000)]
    writer = ShuffleWriter(path, partitions=1)
    writer.add_extent(0, columns_of(keys, list(range(len(keys)))), is_sorted=True)
    (section,) = writer.close()
    (run,) = read_section(section)
    assert section.size_bytes > shuffle_format.MAPPED_BYTES_MIN
    assert len(run.batches) > 1
    assert max(batch.nbytes for batch in run.batches) <= shuffle_format.BATCH_BYTES * 2
    assert [key for columns in run.columns() for key in columns.keys.to_pylist()] == keys
    extent = verify_file(path).extents[0]
    assert extent.key_max == keys[-1][: shuffle_format.KEY_BYTES_MAX]


def test_slices_are_written_without_what_they_hide(path: str) -> None:
    whole = columns_of([b"x" * 1000] * 1000, list(np.arange(1000)))
    writer = ShuffleWriter(path, partitions=1)
    writer.add_extent(0, whole._replace(keys=whole.keys.slice(5, 2), values=whole.values.slice(5, 2)), is_sorted=True)
    (section,) = writer.close()
    assert section.size_bytes < 4000
    assert rows_of(section) == [(b"x" * 1000, 5), (b"x" * 1000, 6)]

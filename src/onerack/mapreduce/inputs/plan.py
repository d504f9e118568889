"""Plan: files become splits, one for each map task.

The idea: many more splits than workers, so that work balances itself and little is lost with a worker; but a split
costs some milliseconds, so small files share one, as long as every slot still gets several. Large files are cut into
equal pieces, no longer than a split and short enough for all slots to have work, wherever the cut falls: the reader
finds the record borders, the planner never opens a file.

The rule: the plan depends only on the files' names and sizes and on the settings, so the same job over the same
files has the same splits, and with them the same order of values, anywhere.

Source: Dean & Ghemawat, OSDI 2004, sections 3.1 and 3.5 (task granularity).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from onerack.config import MIB, MapReduceConfig
from onerack.errors import UsageError
from onerack.mapreduce.inputs.compression import compression_of
from onerack.mapreduce.inputs.csv_rows import check_options, may_be_cut
from onerack.mapreduce.inputs.lines import line_codec
from onerack.mapreduce.inputs.listing import Found, list_files
from onerack.mapreduce.messages import Fragment, InputFormat, Option, Split

_SPLITS_PER_SLOT_MIN = MapReduceConfig().splits_per_slot_min
_CUT_BYTES_MIN = MIB
"""A smaller piece of a file is not worth a task, unless smaller splits were asked for."""
_PACKED_FILES_MAX = 4096
"""More files in one split would make its task a long one to repeat, and its message a large one."""


class Plan(msgspec.Struct, frozen=True):
    """What a job will read."""

    splits: tuple[Split, ...]
    total_bytes: int
    """As they lie on the disk."""
    files: int
    warnings: tuple[str, ...] = ()


def plan(inputs: Sequence[str], format: InputFormat, *, split_bytes: int, slots: int) -> Plan:
    """The splits of a job. `slots`: how many map tasks can run at once.

    Raises: InputError: an input is missing or unreadable. UsageError: the format's settings make no sense.
    """
    if split_bytes < 1:
        raise UsageError(f"split_bytes={split_bytes}: must be at least 1")
    check_format(format)
    listing = list_files(inputs)
    total = sum(file.size for file in listing.files)
    # Rounded up: a few bytes too few would make one piece more, and one worker wait for it.
    share = min(split_bytes, -(-total // (max(slots, 1) * _SPLITS_PER_SLOT_MIN)))
    fragments = list(_cut(listing.files, format, min(split_bytes, max(share, _CUT_BYTES_MIN))))
    packed = _pack(fragments, share)
    splits = tuple(Split(index, tuple(bundle)) for index, bundle in enumerate(packed))
    warnings = (*listing.warnings, *_unsplittable(listing.files, format, split_bytes))
    return Plan(splits, total, len(listing.files), warnings)


def check_format(format: InputFormat) -> None:
    """Refuses settings that no file could satisfy. Raises: UsageError."""
    if format.name == "fixed" and format.record_bytes < 1:
        raise UsageError("input format 'fixed' needs record_bytes: the size of one record, at least 1")
    if format.name == "csv":
        check_options(format)
    try:
        msgspec.convert(format.options, dict[str, Option])
    except msgspec.ValidationError as error:
        raise UsageError(f"input format {format.name!r} has options that no format takes: {error}") from None
    if format.name in ("text", "jsonl", "csv", "file"):
        line_codec(format.encoding, format.errors)


def is_splittable(path: str, format: InputFormat) -> bool:
    """Whether several tasks may read one file of this format."""
    if format.name == "file" or compression_of(path, format) != "none":
        return False
    if format.name == "csv" and not may_be_cut(format):
        return False
    return format.name not in ("text", "jsonl", "csv") or line_codec(format.encoding, format.errors).splittable


def _cut(files: Iterable[Found], format: InputFormat, split_bytes: int) -> Iterator[Fragment]:
    for path, size in files:
        if size <= split_bytes or not is_splittable(path, format):
            if size or format.name == "file":
                yield Fragment(path, 0, size)
            continue
        # Equal pieces, none longer than asked for: a short last piece would be a task for nothing.
        pieces = -(-size // split_bytes)
        borders = [size * piece // pieces for piece in range(pieces + 1)]
        for start, stop in pairwise(borders):
            yield Fragment(path, start, stop - start)


def _pack(fragments: Iterable[Fragment], packed_bytes: int) -> Iterator[list[Fragment]]:
    """Neighbours share a split while it stays within `packed_bytes`, so that every slot still gets its splits."""
    bundle: list[Fragment] = []
    size = 0
    for fragment in fragments:
        if bundle and (size + fragment.length > packed_bytes or len(bundle) >= _PACKED_FILES_MAX):
            yield bundle
            bundle, size = [], 0
        bundle.append(fragment)
        size += fragment.length
    if bundle:
        yield bundle


def _unsplittable(files: Iterable[Found], format: InputFormat, split_bytes: int) -> list[str]:
    """One warning for all files that one task has to read alone although they are large."""
    large = [file for file in files if file.size > split_bytes and not is_splittable(file.path, format)]
    if not large or format.name == "file":
        return []
    first = max(large, key=lambda file: file.size)
    compression = compression_of(first.path, format)
    if compression != "none":
        reason = f"{compression} files cannot be cut; several smaller files would be read in parallel"
    elif format.name == "csv" and not may_be_cut(format):
        reason = "a quoted field may hold a newline; if none does, set the option newlines_in_values to false"
    else:
        reason = f"files in {format.encoding} cannot be cut"
    return [f"{len(large)} files larger than a split are read by one task each, such as {first.path}: {reason}"]

"""The records inside a block of bytes, for `map_block`: how many there are, and each of them alone.

The idea: at full speed nobody looks for records in a block; they are counted for the display. Only a tracked attempt
cuts a failed block into them. The rule: a record keeps its line end, so that the records of a block put together are
the block, and a function that takes blocks takes each of them.
"""

from __future__ import annotations

from itertools import pairwise

from onerack.mapreduce.inputs.lines import line_codec
from onerack.mapreduce.messages import InputFormat


def count_records(data: bytes, format: InputFormat) -> int:
    """How many records lie in a block."""
    if format.name == "file":
        return 1
    if format.name == "fixed":
        return len(data) // format.record_bytes
    newline = line_codec(format.encoding, format.errors).newline
    return data.count(newline) + (not data.endswith(newline))


def byte_records(data: bytes, format: InputFormat) -> list[bytes]:
    """The records of a block, in order."""
    if format.name == "file":
        return [data]
    if format.name == "fixed":
        ends = list(range(0, len(data), format.record_bytes))
    else:
        ends = [0, *line_codec(format.encoding, format.errors).ends(data).tolist()]
    if ends[-1:] != [len(data)]:
        ends.append(len(data))
    return [data[start:end] for start, end in pairwise(ends)]

"""The names of files, and frames in them: what segments, snapshots and the identity have in common.

The idea: a name says what a file is and which; how a file gets its name is told in runtime/unfinished.py. The rule:
what is not named so, or not yet, is not the log's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from onerack.codec import HEADER as FRAME
from onerack.codec import frame_checksum
from onerack.errors import Corruption
from onerack.rpc.durable.recovery import SEGMENT_PREFIX, SNAPSHOT_PREFIX, file_name, files_of
from onerack.runtime.unfinished import UNFINISHED

SUBDIRECTORY: Final = "raft"
"""Of a node's data directory; the log and its snapshots are in there."""
LOCK: Final = "lock"
IDENTITY: Final = "identity"
SEGMENT_SUFFIX: Final = ".seg"
SNAPSHOT_SUFFIX: Final = ".snap"
_UNFINISHED: Final = re.compile(rf"(.+?)(\.[0-9a-f]+)?{re.escape(UNFINISHED)}")


def raft_directory(directory: str | os.PathLike[str]) -> str:
    """Of a node with this data directory."""
    return f"{os.fspath(directory).rstrip('/')}/{SUBDIRECTORY}"


def segment_name(sequence: int) -> str:
    return file_name(SEGMENT_PREFIX, sequence) + SEGMENT_SUFFIX


def snapshot_name(index: int) -> str:
    return file_name(SNAPSHOT_PREFIX, index) + SNAPSHOT_SUFFIX


def segments_in(names: Sequence[str]) -> list[int]:
    """The sequence numbers of the segments among these names, sorted."""
    return _numbers(names, SEGMENT_PREFIX, SEGMENT_SUFFIX)


def snapshots_in(names: Sequence[str]) -> list[int]:
    """The indexes of the snapshots among these names, sorted."""
    return _numbers(names, SNAPSHOT_PREFIX, SNAPSHOT_SUFFIX)


def unfinished_in(names: Sequence[str]) -> list[str]:
    """The files that never got their names."""
    stems = {name: match[1] for name in names if (match := _UNFINISHED.fullmatch(name))}
    return [name for name, stem in stems.items() if stem == IDENTITY or segments_in([stem]) or snapshots_in([stem])]


def _numbers(names: Sequence[str], prefix: str, suffix: str) -> list[int]:
    return [
        file.index for file in files_of([name.removesuffix(suffix) for name in names if name.endswith(suffix)], prefix)
    ]


def frame_at(content: bytes, path: str, position: int) -> bytes:
    """The payload of the frame (codec.py) that lies here. Raises: Corruption."""
    rest = len(content) - position - FRAME.size
    length, checksum = FRAME.unpack_from(content, position) if rest >= 0 else (0, 0)
    if not 0 < length <= rest:
        raise Corruption(path, position, "a frame", f"a length of {length} before {max(0, rest)} bytes")
    payload = content[position + FRAME.size : position + FRAME.size + length]
    found = frame_checksum(payload)
    if found != checksum:
        raise Corruption(path, position, f"crc32 {checksum:08x}", f"{found:08x}")
    return payload

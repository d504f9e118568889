"""Place: what every output place has in common, wherever it is.

The idea: final names and the mark `_SUCCESS` do not depend on the file system; how things get there does
(destination.py for this machine, remote.py for the rest).

The rule: parts are numbered in order of partition, and `_SUCCESS` lists them with sizes, rows and checksums, so
whoever finds it finds all of them and can tell whether they are whole.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from onerack.mapreduce.messages import Part, Quarantined

SUCCESS: Final = "_SUCCESS"
OVERWRITE: Final = "choose another directory, or overwrite it (--overwrite)"


def final_name(index: int, staged: str) -> str:
    """part-00017.jsonl for the 17th part, whatever attempt wrote it: reduce-00017.3.jsonl.

    The first dot ends the task's name and the second one the attempt's number; what follows is the suffix.
    """
    suffix = staged.split(".", 2)[2:]
    return f"part-{index:05d}" + "".join(f".{end}" for end in suffix)


def success_mark(parts: Sequence[Part], success: dict[str, Any]) -> bytes:
    """The content of `_SUCCESS`."""
    listed = [
        {"path": final_name(i, part.path), "size": part.size, "rows": part.rows, "crc32": f"{part.checksum:08x}"}
        for i, part in enumerate(parts)
    ]
    return msgspec.json.format(msgspec.json.encode({**success, "parts": listed}), indent=2) + b"\n"


class Destination(ABC):
    """Where a job's output will be."""

    url: str
    staging: str
    """Where attempts put their parts."""

    @abstractmethod
    def commit(
        self, parts: Sequence[Part], success: dict[str, Any], quarantined: Sequence[Quarantined] = ()
    ) -> list[str]:
        """Makes the output appear; gives the parts' final paths. Raises: StorageFull, and nothing appeared."""

    @abstractmethod
    def abort(self) -> None:
        """Leaves nothing of the job."""

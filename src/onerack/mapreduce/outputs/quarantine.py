"""Quarantine: the bad records of a job, beside its output, in full.

The idea: whoever allowed bad records wants to look at them, mend them and run them again; so each is one line of
JSON: where it lies, its bytes twice (base64: exactly; text: readable), and the user's own traceback.

The rule: `_quarantine` exists exactly when a record was set aside.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from onerack.mapreduce.messages import Quarantined

DIRECTORY: Final = "_quarantine"
FILE: Final = "records.jsonl"


def quarantine_lines(quarantined: Sequence[Quarantined]) -> bytes:
    """The file's content."""
    encoder = msgspec.json.Encoder()
    lines = [
        {
            "file": bad.record.path,
            "offset": bad.record.offset,
            "number": bad.record.number,
            "raw": base64.b64encode(bad.raw).decode(),
            "text": bad.raw.decode("utf-8", "backslashreplace"),
            "preview": bad.record.preview,
            "traceback": bad.traceback,
        }
        for bad in quarantined
    ]
    return encoder.encode_lines(lines)

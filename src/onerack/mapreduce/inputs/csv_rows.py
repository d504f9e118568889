"""CSV: a record is a row."""

from __future__ import annotations

from onerack.mapreduce.messages import InputFormat


def may_be_cut(format: InputFormat) -> bool:
    """Whether the job promises that no quoted field holds a newline."""
    return format.options.get("newlines_in_values", True) is False

"""Amounts as people read them: rates, seconds, counts. (Sizes: onerack.mapreduce.sizes, which reads them too.)

The idea: one place decides on units and digits, so that progress, summary and history say the same number the same
way.
"""

from __future__ import annotations

from onerack.mapreduce.sizes import format_size


def rate_text(bytes_per_second: float) -> str:
    return f"{format_size(bytes_per_second)}/s"


def seconds_text(seconds: float) -> str:
    """`0.04 s`, `9.87 s`, `42.1 s`, `3 min 05 s`, `2 h 07 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def count_text(count: int) -> str:
    """Thousands apart: `1,234,567`."""
    return f"{count:,}"


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`, `1 retry`, `2 retries`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count_text(count)} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def input_text(bytes_in: int, records_in: int) -> str:
    """What was read. A job that takes whole splits (grep) does not count its records: then none are mentioned, for
    "0 records" would be false."""
    size = format_size(bytes_in)
    return size if bytes_in and not records_in else f"{size}, {plural(records_in, 'record')}"

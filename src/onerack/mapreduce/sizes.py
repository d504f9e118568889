"""Sizes as people write them: 64MB, 1.5GiB, 4096.

The idea: memory and files come in powers of two, so MB and MiB both mean 1024 * 1024 here, as in `ls -h`, `dd` and
most tools; nobody who writes `--split-size 64MB` wants 61.035 MiB.

The rule: what is not understood is refused, with the suffixes that are.
"""

from __future__ import annotations

import re

from onerack.errors import UsageError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)


def parse_size(size: int | str, *, name: str) -> int:
    """Bytes of `size`. `name` is the option's, for the message.

    Raises: UsageError: not a positive size.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise UsageError(f"{name}={size!r}: expected a number of bytes or text such as '64MB'")
    if isinstance(size, str):
        found = _PATTERN.fullmatch(size)
        if found is None:
            raise UsageError(f"{name}={size!r} is no size: write a number and one of B, KB, MB, GB, TB, e.g. '64MB'")
        size = int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])
    if size <= 0:
        raise UsageError(f"{name}={size}: must be more than 0 bytes")
    return size


def format_size(size_bytes: float) -> str:
    """1536 -> '1.5 KB'."""
    for suffix in ("B", "KB", "MB", "GB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {suffix}" if suffix == "B" else f"{size_bytes:.1f} {suffix}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TB"

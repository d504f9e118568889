"""planted bugs (placeholder while wiring)."""

from __future__ import annotations
from onerack.mapreduce.core import Master
from collections.abc import Callable

PLANTED: dict[str, Callable[[], Master]] = {}

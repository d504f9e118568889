"""Planted bugs."""

from collections.abc import Callable

from onerack.sim.raft.kit import Kit

PLANTED: dict[str, Callable[[], Kit]] = {}

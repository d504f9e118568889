"""The services that every server has: health, and what there is to call.

The idea: they are ordinary interfaces, called like any other, also by people (`onerack rpc describe ADDR`). The rule:
they tell nothing that a client that may connect could not find out by calling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from onerack.rpc.modes import readonly, service


class ServiceDescription(msgspec.Struct, frozen=True):
    """One service of a server."""

    name: str
    schema_hash: str
    text: str
    """Its methods as a person reads them."""
    json_schema: str
    """JSON Schema of each method's arguments and result."""
    schema: bytes
    """A msgpack `schema.Schema`."""


@service("onerack.Health")
class Health(Protocol):
    """Whether the server takes calls."""

    @readonly
    async def check(self) -> str:
        """`serving`, or `stopping` while it ends."""


@service("onerack.Reflection")
class Reflection(Protocol):
    """What can be called here."""

    @readonly
    async def describe(self) -> list[ServiceDescription]:
        """The services of this server, builtin ones last."""


class HealthService:
    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping

    def check(self) -> str:
        return "stopping" if self._is_stopping() else "serving"


class ReflectionService:
    def __init__(self, describe: Callable[[], Sequence[ServiceDescription]]) -> None:
        self._describe = describe

    def describe(self) -> list[ServiceDescription]:
        return list(self._describe())

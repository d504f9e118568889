"""A witness keeps no store: not even a serializable read may be answered from its empty one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from onerack.errors import NotExecuted
from onerack.kv.client.values import Found, Get
from onerack.kv.core import KvMachine
from onerack.kv.server.native import NativeKv


class Node:
    """What the service asks of a raft node, when it is a witness or not."""

    def __init__(self, is_witness: bool) -> None:
        self.is_witness = is_witness

    def read(self, done: Callable[[Any], None]) -> None:
        done(NotExecuted("a witness", cause="invalid"))


def service(is_witness: bool) -> NativeKv:
    native = NativeKv(KvMachine())
    native.node = Node(is_witness)  # type: ignore[assignment]  # as much of one as is asked
    return native


def test_a_voter_answers_a_serializable_read_at_once() -> None:
    async def main() -> None:
        native = service(is_witness=False)
        for found in (native.get(b"a", True), native.find(Get(b"a"), True)):
            assert isinstance(found, Found)
            assert found.kvs == []

    asyncio.run(main())


def test_a_witness_refuses_it() -> None:
    async def main() -> None:
        native = service(is_witness=True)
        for answer in (native.get(b"a", True), native.find(Get(b"a"), True)):
            assert isinstance(answer, asyncio.Future)
            with pytest.raises(NotExecuted, match="a witness"):
                await answer

    asyncio.run(main())

"""Locks and leases of the native client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import NotExecuted, Unknown
from onerack.kv.client.lease import Lease
from onerack.kv.client.values import Granted
from tests.kv.client.nodes import Nodes, run


def test_one_at_a_time_in_the_order_of_their_coming_with_growing_tokens(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            holding: list[int] = []
            tokens: list[int] = []

            async def work() -> None:
                async with store.lock("l") as held:
                    holding.append(1)
                    assert len(holding) == 1
                    tokens.append(held.token)
                    assert await store.get(held.key) is not None
                    await asyncio.sleep(0.001)
                    holding.pop()

            await asyncio.gather(*(work() for _ in range(8)))
            assert tokens == sorted(tokens)
            assert len(set(tokens)) == 8
            assert (await store.find("l/", prefix=True)).count == 0

    run(test)


def test_a_lock_whose_key_was_made_although_nobody_heard_is_entered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            lock = store.lock("l")
            txn, lost = store.txn, [True]

            async def lossy(*arguments: Any) -> Any:
                done = await txn(*arguments)
                if lost:
                    lost.clear()
                    raise Unknown("the answer was lost", cause="disconnected")
                return done

            monkeypatch.setattr(store, "txn", lossy)
            async with lock as held:
                assert (await store.find("l/", prefix=True)).count == 1
                assert held.token == 2

    run(test)


def test_a_holder_whose_lease_ended_does_not_get_the_lock(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            async with store.lock("l"):
                late = store.lock("l")
                waiting = asyncio.ensure_future(late.acquire())
                while (await store.find("l/", prefix=True)).count < 2:
                    await asyncio.sleep(0.001)
                await store.revoke(late.lease.id)
            with pytest.raises(NotExecuted, match="lease ended"):
                await waiting

    run(test)


class Grantor:
    """Grants; renews as often as it was told to."""

    def __init__(self, renewals: int, ttl_s: int) -> None:
        self.renewals = renewals
        self.ttl_s = ttl_s
        self.revoked: list[int] = []

    async def grant(self, ttl_s: int, lease: int = 0) -> Granted:
        return Granted(7, self.ttl_s)

    async def revoke(self, lease: int) -> None:
        self.revoked.append(lease)

    async def renew(self, lease: int) -> int:
        self.renewals -= 1
        if self.renewals < 0:
            raise Unknown("nobody answers", cause="disconnected")
        return self.ttl_s if self.renewals else 0


def test_a_lease_that_is_over_is_lost_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        grantor = Grantor(renewals=3, ttl_s=1)
        async with Lease(grantor, 1) as lease:
            monkeypatch.setattr(lease, "ttl_s", 0.03)
            await lease.lost.wait()
        assert grantor.renewals == 0
        assert grantor.revoked == []  # there is nothing to end

    run(test)


def test_a_lease_that_nobody_renews_is_lost_when_its_time_is_over() -> None:
    async def test() -> None:
        grantor = Grantor(renewals=0, ttl_s=1)
        async with Lease(grantor, 1) as lease:
            lease._renewal.cancel()  # type: ignore[union-attr]
            lease.ttl_s = 0
            lease._renewal = asyncio.ensure_future(lease._renew())
            await lease.lost.wait()
        assert grantor.revoked == []

    run(test)

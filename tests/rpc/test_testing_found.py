"""Schedules that simulated worlds have found in the shells: each failed once, and is kept.

The rule: a schedule is made as small as it can be, and says what went wrong; the seed is beside it where it matters.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from onerack import rpc
from onerack.config import RpcConfig
from onerack.rpc.testing import Faults, World, prove
from tests.rpc.simulated import Feed, FeedServer, Tally, TallyServer, upto


def test_a_call_and_its_cancellation_that_arrive_together_do_not_keep_the_handlers_place() -> None:
    """The handler's task was cancelled before its first step, so it never said that it had ended: its place among the
    handlers that may run was gone for ever, and duplicates of the call waited for an answer until the end of days."""

    async def scenario(world: World) -> None:
        config = RpcConfig(running_max=2, waiting_max=2)
        world.serve(Tally, TallyServer, config=config)
        counter = await world.connect(Tally)
        for key in range(40):
            with rpc.options(deadline=0.001), suppress(rpc.CallError):
                await counter.add_slowly(key)
        await asyncio.sleep(1.0)
        assert await counter.add_slowly(1) > 0
        await world.calm()

    prove(scenario, seeds=2, faults=Faults(vary=False))


def test_an_upload_that_is_called_off_raises_nothing_in_the_loop() -> None:
    """Cancelling the caller cancelled the call's future, and a callback asked that for its result."""

    async def scenario(world: World) -> None:
        world.serve(Feed, FeedServer)
        feed = await world.connect(Feed)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await feed.total(upto(1000))
        assert await feed.total(upto(3)) == 3

    prove(scenario, seeds=1, faults=Faults(vary=False))

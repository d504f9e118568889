"""Random requests to three nodes of ours and three of the real etcd: the same answers, errors and revisions.

The idea: the scripts beside this file ask what somebody has thought of. Here a seed draws it: keys and transactions,
leases, users and their rights, watches, locks and elections, of all members. What is left out, and why, is said where
it is drawn; docs/kv.md lists the differences that are meant.

The short rounds belong to `make test-etcd`; the long ones are a soak, and take `ONERACK_SEED` as the first seed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from tests.kv.server.beside.cluster import NAMES, both
from tests.kv.server.beside.keys import KeyRequests
from tests.kv.server.beside.lines import LineRound
from tests.kv.server.beside.sides import Sides, Step
from tests.kv.server.beside.users import OPENING, UserRequests
from tests.kv.server.beside.watches import WatchRound
from tests.kv.server.client import connected
from tests.kv.server.group import Group
from tests.kv.server.theirs import needs_etcd, needs_etcdctl

pytestmark = [needs_etcdctl, needs_etcd]
_NOTHING = 10
"""So many differences are enough to look at."""

Round = Callable[[Random, Sides, int], Awaitable[None]]


async def keys(random: Random, sides: Sides, steps: int) -> None:
    requests = KeyRequests(random)
    for _ in range(steps):
        await sides.ask(requests.draw(sides.revision))
        if sides.diverged or len(sides.differences) > _NOTHING:
            return


async def users(random: Random, sides: Sides, steps: int) -> None:
    requests = UserRequests(random)
    for number in range(steps):
        if number % 100 == 0:  # Nobody stays locked out.
            await sides.ask(Step("UserChangePassword", {"name": "root", "password": "pw"}, 0, "root"))
            for step in OPENING:
                await sides.ask(step)
        await sides.ask(requests.draw(sides.revision, sides.ours.known))
        if sides.diverged or len(sides.differences) > _NOTHING:
            return


async def watches(random: Random, sides: Sides, steps: int) -> None:
    await WatchRound(random, sides).run(steps)


async def lines(random: Random, sides: Sides, steps: int) -> None:
    await LineRound(random, sides).run(steps)


ROUNDS: dict[str, tuple[Round, int]] = {
    "keys": (keys, 400), "users": (users, 200), "watches": (watches, 80), "lines": (lines, 30),
}  # fmt: skip
"""What is drawn, and how many steps make a short round."""


async def members_agree(here: Group) -> None:
    """All of ours have the same in their stores."""
    hashes = []
    for name in NAMES:
        async with connected(here.places[name].address) as client:
            await client.call("Range", key=b"-")
            hashed = await client.call("HashKV")
            hashes.append((hashed.header.revision, hashed.hash, hashed.compact_revision))
    assert len(set(hashes)) == 1, hashes


async def compared(directory: Path, name: str, seeds: range, steps: int) -> None:
    asked, (play, _) = 0, ROUNDS[name]
    async with both(directory) as (sides, here):
        for seed in seeds:
            await play(Random(seed), sides, steps)
            assert not sides.differences, f"seed {seed}\n" + "\n".join(sides.differences)
            if name != "users":  # With authentication on the sum is not for strangers.
                await members_agree(here)
        asked = sides.asked
    print(f"{name}: {asked} answers were compared, seeds {seeds.start} to {seeds.stop - 1}")


@pytest.mark.etcd
@pytest.mark.parametrize("name", ROUNDS)
def test_random_requests_have_the_same_outcome(tmp_path: Path, name: str) -> None:
    asyncio.run(compared(tmp_path, name, range(1, 2), ROUNDS[name][1]))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ROUNDS)
def test_many_random_requests_have_the_same_outcome(tmp_path: Path, name: str) -> None:
    first = int(os.environ.get("ONERACK_SEED", "100"))
    asyncio.run(compared(tmp_path, name, range(first, first + 10), 4 * ROUNDS[name][1]))

"""Proves a counter: loses its messages, doubles them, crashes its machine, and counts what was executed.

    python examples/prove_counter.py [SEEDS]

First the counter as it should be, whose `add` is exactly once. Then the same with a mistake that every review has let
pass: `add` was declared at least once, which is for methods that may run twice. As a test of pytest, the first would be

    @rpc_sim(seeds=100, faults=FAULTS)
    async def test_counts(world): ...
"""

import asyncio
import sys
from contextlib import suppress
from typing import Protocol

from onerack import rpc
from onerack.rpc.testing import Faults, Violation, prove

FAULTS = Faults(drop=0.15, duplicate=0.15, reorder=True, server_crashes=3, client_crashes=1)


class Counter(Protocol):
    @rpc.exactly_once
    async def add(self, amount: int) -> int: ...


class HastyCounter(Protocol):
    @rpc.at_least_once
    async def add(self, amount: int) -> int: ...


class Count:
    """The service, for either."""

    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total

    def snapshot(self):
        return str(self.total).encode()

    def restore(self, snapshot):
        self.total = int(snapshot)


def counting(interface):
    async def counts(world):
        world.serve(interface, Count, durable=True)
        ann, bob = await world.connect(interface), await world.connect(interface)

        async def add(counter):
            for amount in range(1, 11):
                with suppress(rpc.CallError):  # The client may crash while it waits: then nobody knows.
                    await counter.add(amount)

        await asyncio.gather(add(ann), add(bob))
        world.assert_exactly_once(interface.add)

    return counts


def main(seeds):
    report = prove(counting(Counter), seeds=seeds, faults=FAULTS)
    print(f"{report.calls} calls, {report.crashes} crashes, {report.lost} messages lost, {report.repeated} doubled")
    print(f"{report.outcomes['OK']} calls were answered, and each of these was executed once")
    try:
        prove(counting(HastyCounter), seeds=seeds, faults=FAULTS)
    except Violation as found:
        print(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)

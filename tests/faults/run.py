"""A run: rounds of troubles over a store of real processes, each judged before the next begins."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from tests.faults import troubles
from tests.faults.clients import Clients, Operation, Record
from tests.faults.judge import Round, Wrong
from tests.faults.links import Links
from tests.faults.nodes import Nodes
from tests.faults.patience import patiently
from tests.faults.stores import EtcdStore, Lost, NativeStore, Refused, Store
from tests.faults.troubles import Scene, Trouble

TROUBLES = 6
"""In one round."""
CLIENTS = 6


Schedule = Callable[["Run", Clients], Awaitable[None]]


class Run:
    """Of one store; `say` hears how it goes."""

    def __init__(self, nodes: Nodes, seed: int, say: Callable[[str], None], only: Sequence[str] = ()) -> None:
        self.nodes = nodes
        self.chance = Random(seed)
        self.rounds = 0
        self.counts: Counter[str] = Counter()
        self.gap_s_max = 0.0
        self._pending: list[Operation] = []
        self._say = say
        self._kinds: dict[str, Trouble] = {**troubles.PROCESSES, **troubles.LINKS}
        if nodes.disks:
            self._kinds |= troubles.DISKS
        if only:
            self._kinds = {kind: trouble for kind, trouble in self._kinds.items() if kind in only}
            assert self._kinds, f"none of these troubles can be made here: {only}"

    async def round(self, schedule: Schedule | None = None) -> Record:
        """`schedule`: what happens; by default what chance will have. Raises: Wrong, or any AssertionError."""
        self.rounds += 1
        record = Record(f"r{self.rounds}/", await self._base())
        async with Clients(self.nodes, record, CLIENTS, self.chance) as clients:
            await clients.served()
            await (schedule or Run._by_chance)(self, clients)
            await clients.finish()
        judged = Round(record, self._pending)
        await asyncio.to_thread(judged.judge)
        self._pending = judged.pending
        await self._check_hashes(record)
        await self._forget(record)
        self._count(record)
        return record

    async def _by_chance(self, clients: Clients) -> None:
        for _ in range(TROUBLES):
            await self._trouble(clients)

    async def _trouble(self, clients: Clients) -> None:
        """One, or two at once, which befall different nodes."""
        chance, nodes = self.chance, self.nodes
        leader = await nodes.led()
        names = chance.sample(nodes.names, len(nodes.names))
        if chance.random() < 0.5:
            names = [leader, *(name for name in names if name != leader)]
        chosen: list[str] = []
        for _ in range(chance.choice([1, 1, 2])):
            kind = chance.choice(sorted(self._kinds))
            # Links are mended all at once, and a disk that stands still keeps its process from dying.
            if chosen and kind not in troubles.PROCESSES:
                break
            chosen.append(kind)
        hold_s = chance.choice([0.0, 0.5, 1.0, 2.0, 4.0])
        begun = time.monotonic()
        async with AsyncExitStack() as stack:
            befallen: list[str] = []
            for kind in chosen:
                whom = [names.pop() if befallen else names.pop(0)]
                if names and kind != "some links" and chance.random() < 0.35:
                    whom += [names.pop(0) for _ in range(chance.randint(0, len(names) - 1))]
                befallen.append(f"{kind}: {' '.join(whom)}")
                await stack.enter_async_context(self._kinds[kind](Scene(nodes, clients, whom, chance)))
                self.counts[kind] += 1
                if not names:
                    break
            await asyncio.sleep(hold_s)
        gap_s = await clients.served()
        self.gap_s_max = max(self.gap_s_max, gap_s)
        shown = "; ".join(befallen)
        self._say(f"  {shown} for {time.monotonic() - begun - gap_s:.1f} s; taken again after {gap_s:.2f} s")

    # ------------------------------------------------------------------------------------------------ before and after

    async def _surely(self, what: Callable[[NativeStore], Awaitable[int]]) -> int:

        async def trying() -> int:
            while True:
                store: NativeStore | None = None
                try:
                    store = await NativeStore.connect([self.nodes.rpc[name] for name in self.nodes.names], "")
                    return await what(store)
                except (Refused, Lost):
                    await asyncio.sleep(0.1)
                finally:
                    if store is not None:
                        await store.close()

        return await patiently(trying(), self.nodes.described)

    async def _base(self) -> int:
        async def base(store: Store) -> int:
            return (await store.find("r", "r\0"))[0]

        return await self._surely(base)

    async def _check_hashes(self, record: Record) -> None:
        """Every member has the same at the last revision, as soon as it is so far."""
        hashes: dict[str, int] = {}
        for name in self.nodes.names:
            hashes[name] = await patiently(self._hash_of(name, record.last), self.nodes.described)
        if len(set(hashes.values())) != 1:
            raise Wrong(f"members differ at revision {record.last}: {hashes}")

    async def _hash_of(self, name: str, revision: int) -> int:
        while True:
            store = EtcdStore(self.nodes.etcd[name])
            try:
                return await store.hash_at(revision)
            except (Refused, Lost):
                await asyncio.sleep(0.1)
            except AssertionError as error:  # It is not there yet.
                if "future revision" not in str(error):
                    raise
                await asyncio.sleep(0.1)
            finally:
                await store.close()

    async def _forget(self, record: Record) -> None:
        """A long run must not fill the memory."""

        async def forget(store: NativeStore) -> int:
            await store.compact(record.last)
            return record.last

        await self._surely(forget)

    def _count(self, record: Record) -> None:
        operations = record.operations
        counts = {
            "writes": sum(1 for each in operations if each.changes and each.end is not None),
            "lost answers": sum(1 for each in operations if each.changes and each.end is None and not each.was_refused),
            "refused": sum(1 for each in operations if each.was_refused),
            "reads": len(record.reads),
            "leases": len(record.leases),
            "events": sum(len(told[1]) for each in record.watchers for told in each.told),
        }
        self.counts.update(counts)
        self._say(f"round {self.rounds}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


async def run_for(
    directory: Path,
    links: Links,
    *,
    count: int,
    seed: int,
    minutes: float,
    has_disks: bool,
    say: Callable[[str], None],
    only: Sequence[str] = (),
) -> Run:
    """At least one round. Raises: AssertionError."""
    give_up_at = time.monotonic() + minutes * 60
    async with Nodes(directory, count, links, has_disks=has_disks) as nodes:
        run = Run(nodes, seed, say, only)
        while not run.rounds or time.monotonic() < give_up_at:
            await run.round()
        return run

"""Clients that do everything a store offers, one thing at a time each, and write down what they asked and were told.

    r3/k0 ... r3/k4     values that many write, read, compare and delete
    r3/lease/...        keys that end with a lease; some leases are renewed for a while, all are left alone at last
    r3/stuff            large values, to fill disks
    r3/k~end            the last write of a round

The idea: a run is a row of rounds. In each the store begins with nothing under the round's own name, and what happened
is judged before the next begins (judge.py), so a run may last for days.

The rule: every value is written once, so whoever sees a value knows which write made it.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import Any, Final

from onerack.sim.checker import Read
from onerack.sim.checker.revisions import Changes
from tests.faults.nodes import Nodes
from tests.faults.patience import patiently
from tests.faults.stores import EtcdStore, Lost, NativeStore, Refused, Store, Told

KEYS: Final = 5
STUFF: Final = "|" + "x" * 400_000
_KINDS: Final = {
    "put": 30, "get": 25, "cas": 15, "delete": 5, "put both": 5, "range": 5, "local get": 5, "past": 5, "lease": 5,
}  # fmt: skip


class Operation:
    """One request."""

    def __init__(self, client: str, kind: str, changes: Changes, call: int) -> None:
        self.client = client
        self.kind = kind
        self.changes = changes
        """What it is to write; None: to delete. Empty: it reads."""
        self.call = call
        self.end: int | None = None
        self.revision: int | None = None
        """Of the answer's header."""
        self.result: Any = None
        """Of a read the value, of a cas whether it was done, of a delete whether there was one."""
        self.expected: str | None = None
        """Of a cas."""
        self.was_refused = False

    def __str__(self) -> str:
        outcome = "refused" if self.was_refused else "?" if self.end is None else f"{self.result!r} @{self.revision}"
        return f"[{self.call}, {self.end}] {self.client} {self.kind} {self.changes} -> {outcome}"


class Lease:
    """One kv lease, and what is known of it."""

    def __init__(self, number: int, ttl_s: int, since: int) -> None:
        self.number = number
        self.ttl_s = ttl_s
        self.since = since
        """The latest call of a grant or renewal that was answered with yes: from then on it had its whole time."""
        self.key = ""


class Watcher:
    """One watch."""

    def __init__(self, name: str, first: str, behind: str, start: int) -> None:
        self.name, self.first, self.behind, self.start = name, first, behind, start
        self.told: list[Told] = []
        self.told_at: list[int] = []
        """When."""

    def __str__(self) -> str:
        return f"the watch {self.name}, which has reached {self.reached}"

    @property
    def reached(self) -> int:
        return self.told[-1][0] if self.told else self.start - 1


class Record:
    """Of one round."""

    def __init__(self, prefix: str, base: int) -> None:
        self.prefix = prefix
        self.base = base
        """The revision of the store when the round began."""
        self.operations: list[Operation] = []
        self.reads: list[Read] = []
        self.leases: dict[int, Lease] = {}
        self.watchers: list[Watcher] = []
        self.last = 0
        """The revision of the last write."""

    @property
    def log(self) -> Watcher:
        """The watch that is told everything."""
        return self.watchers[0]


class Clients:
    """`async with Clients(nodes, record, count, chance) as clients`: they work until `finish`."""

    def __init__(self, nodes: Nodes, record: Record, count: int, chance: Random) -> None:
        self.nodes = nodes
        self.record = record
        self.acknowledged = 0
        self.latest = 0
        """When the latest one of the writes began that were acknowledged."""
        self._chance = chance
        self._count = count
        self._value = 0
        self._is_over = False
        """No more is begun."""
        self._is_told = False
        self._workers: list[asyncio.Task[None]] = []
        self._watchers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Clients:
        prefix, start = self.record.prefix, self.record.base + 1
        self._watch(Watcher("log", prefix, prefix + "~", start), 0)
        for number in range(1, 4):
            self._watch(Watcher(f"w{number}", prefix + "k", prefix + "k~~", start), number)
        self._workers = [
            asyncio.create_task(self._work(number, Random(self._chance.random()))) for number in range(self._count)
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in (*self._workers, *self._watchers):
            task.cancel()
        await asyncio.gather(*self._workers, *self._watchers, return_exceptions=True)

    def check(self) -> None:
        """Raises: whatever has ended a client that should go on."""
        for task in (*self._workers, *self._watchers):
            if task.done() and not self._is_over:
                task.result()

    async def until(self, condition: Any, what: object) -> None:
        """Raises: AssertionError: it does not come; or what a client has died of."""

        async def come() -> None:
            while not condition():
                self.check()
                self.nodes.check_alive()
                await asyncio.sleep(0.01)

        async def excuse() -> str:
            return f"{what}; {await self.nodes.described()}"

        await patiently(come(), excuse)

    async def served(self, count: int = 30) -> float:
        """Returns when writes that begin now are taken, and then `count` more: how long the first of them took."""
        since = time.monotonic_ns()
        await self.until(lambda: self.latest > since, "a write that is taken")
        gap_s = (time.monotonic_ns() - since) / 1e9
        enough = self.acknowledged + count
        await self.until(lambda: self.acknowledged >= enough, "more writes that are taken")
        return gap_s

    async def finish(self) -> None:
        """Requires: nothing is wrong with any node. Ends the work, waits until all leases are over and everything is
        told."""
        self._is_over = True
        await asyncio.gather(*self._workers)
        record = self.record
        await self.surely(self._leases_are_over)
        record.last = await self.surely(self._last_write)
        for watcher in record.watchers:
            await self.until(lambda each=watcher: each.reached >= record.last, watcher)
        self._is_told = True

    async def surely(self, what: Any) -> Any:
        """Does it with any store until it is answered."""

        async def trying() -> Any:
            while True:
                store = None
                try:
                    store = await self._connect(NativeStore, self._chance)
                    return await what(store)
                except (Refused, Lost):
                    await asyncio.sleep(0.1)
                finally:
                    if store is not None:
                        await store.close()

        return await patiently(trying(), self.nodes.described)

    async def _leases_are_over(self, store: Store) -> None:
        prefix = self.record.prefix + "lease/"
        while (await store.find(prefix, prefix + "~"))[1]:
            await asyncio.sleep(0.05)

    async def _last_write(self, store: Store) -> int:
        operation = self._begin("end", "put", ((self.record.prefix + "k~end", self._new("end")),))
        revision = await self._written(operation, store.put(*operation.changes[0]))  # type: ignore[arg-type]
        assert revision is not None
        return revision

    # ------------------------------------------------------------------------------------------------ watching

    def _watch(self, watcher: Watcher, number: int) -> None:
        self.record.watchers.append(watcher)
        self._watchers.append(asyncio.create_task(self._follow(watcher, number)))

    async def _follow(self, watcher: Watcher, number: int) -> None:
        """One half with our own client, one through etcd's API at one node. A store that is lost is found again."""
        kind = EtcdStore if number % 2 else NativeStore
        while not self._is_told:
            store: Store | None = None
            try:
                store = await self._connect(kind, Random(number), self.nodes.names[number % len(self.nodes.names)])
                async for told in store.watch(watcher.first, watcher.behind, watcher.reached + 1):
                    watcher.told.append(told)
                    watcher.told_at.append(time.monotonic_ns())
            except (Refused, Lost):
                await asyncio.sleep(0.1)
            finally:
                if store is not None:
                    await store.close()

    # ------------------------------------------------------------------------------------------------ working

    async def _work(self, number: int, chance: Random) -> None:
        life, kind = 0, NativeStore if number % 2 else EtcdStore
        while self._goes_on():
            store: Store | None = None
            try:
                store = await self._connect(kind, chance)
                for _ in range(chance.randrange(20, 100)):
                    await self._one(f"c{number}.{life}", store, chance)
                    await asyncio.sleep(0.005)
                    if not self._goes_on():
                        break
            except Refused:
                await asyncio.sleep(0.03)
            except Lost:
                life += 1  # Nobody of the old name asks for anything any more.
                await asyncio.sleep(0.03)
            finally:
                if store is not None:
                    await store.close()

    def _goes_on(self) -> bool:
        return not self._is_over

    async def _connect(self, kind: Any, chance: Random, name: str = "") -> Any:
        """Mostly to a node that is well: who asks another one may have to wait for his deadline. Raises: Refused."""
        nodes = self.nodes
        well = nodes.well
        if not name:
            name = chance.choice(well if well and chance.random() < 0.95 else nodes.names)
        rpc = [nodes.rpc[name], *(nodes.rpc[each] for each in well if each != name)]
        return await kind.connect(rpc, nodes.etcd[name])

    async def _one(self, client: str, store: Store, chance: Random) -> None:
        """Raises: Refused, Lost."""
        record = self.record
        [kind] = chance.choices(list(_KINDS), list(_KINDS.values()))
        key = self._key(chance)
        match kind:
            case "get":
                await self._get(client, store, key)
            case "cas":
                await self._cas(client, store, key)
            case "local get":
                await self._read(store.find(key, key + "\0", serializable=True), key, key + "\0", is_local=True)
            case "range":
                first, behind = record.prefix + "k", record.prefix + "k~"
                await self._read(store.find(first, behind), first, behind)
            case "past":
                at = chance.randint(record.base, max(record.base, record.log.reached))
                await self._read(store.find(key, key + "\0", at=at), key, key + "\0", at=at)
            case "lease":
                await self._lease(client, store, chance)
            case "delete":
                operation = self._begin(client, kind, ((key, None),))
                await self._deleted(operation, store.delete(key))
            case "put both":
                both = sorted({key, self._key(chance)})
                changes = tuple((each, self._new(client)) for each in both)
                operation = self._begin(client, kind, changes)
                await self._written(operation, store.put_both(changes))
            case _:
                value = self._new(client)
                operation = self._begin(client, kind, ((key, value),))
                await self._written(operation, store.put(key, value))

    def _key(self, chance: Random) -> str:
        return f"{self.record.prefix}k{chance.randrange(KEYS)}"

    def _new(self, client: str) -> str:
        self._value += 1
        return f"{client}.{self._value}"

    # ------------------------------------------------------------------------------------------------ one thing

    def _begin(self, client: str, kind: str, changes: Changes) -> Operation:
        operation = Operation(client, kind, changes, time.monotonic_ns())
        self.record.operations.append(operation)
        return operation

    async def _written(self, operation: Operation, call: Any) -> int:
        """The answer is a revision. Raises: Refused, Lost."""
        return int(await self._answered(operation, call, lambda answer: (answer, None)))

    async def _deleted(self, operation: Operation, call: Any) -> None:
        await self._answered(operation, call, lambda answer: (answer[0], answer[1] > 0))

    async def _answered(self, operation: Operation, call: Any, meaning: Any) -> Any:
        try:
            answer = await call
        except Refused:
            operation.was_refused = True
            raise
        operation.end = time.monotonic_ns()
        operation.revision, operation.result = meaning(answer)
        self.acknowledged += 1
        self.latest = max(self.latest, operation.call)
        return answer

    async def _get(self, client: str, store: Store, key: str) -> None:
        operation = Operation(client, "get", (), time.monotonic_ns())
        _, found = await self._read(store.find(key, key + "\0"), key, key + "\0")
        operation.end, operation.result = time.monotonic_ns(), (key, found[0][1] if found else None)
        self.record.operations.append(operation)

    async def _cas(self, client: str, store: Store, key: str) -> None:
        """What was last told of the key is a good guess, and often no more."""
        told = [value for _, changes in self.record.log.told[-20:] for each, value in changes if each == key]
        value = self._new(client)
        operation = self._begin(client, "cas", ((key, value),))
        operation.expected = told[-1] if told else None  # type: ignore[assignment]
        await self._answered(operation, store.cas(key, operation.expected, value), lambda answer: answer)

    async def _read(
        self, call: Any, first: str, behind: str, *, at: int = 0, is_local: bool = False
    ) -> tuple[int, Changes]:
        begun = time.monotonic_ns()
        revision, found = await call
        self.record.reads.append(
            Read(revision, first, behind, found, begun, time.monotonic_ns(), not is_local, at or None)
        )
        return int(revision), found

    async def _lease(self, client: str, store: Store, chance: Random) -> None:
        """A key with a lease, which is renewed for a while, and then left alone."""
        asked = time.monotonic_ns()
        lease = Lease(await store.grant(chance.randint(1, 2)), 0, asked)
        lease.ttl_s = await self._renewed(lease, store)
        if not lease.ttl_s:
            return
        value = self._new(client)
        lease.key = f"{self.record.prefix}lease/{value}"
        self.record.leases[lease.number] = lease
        operation = self._begin(client, "put", ((lease.key, value),))
        await self._written(operation, store.put(lease.key, value, lease.number))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(lease.ttl_s / 3)
            if not await self._renewed(lease, store):
                break

    async def _renewed(self, lease: Lease, store: Store) -> int:
        asked = time.monotonic_ns()
        ttl_s = await store.renew(lease.number)
        if ttl_s:
            lease.since = asked
        return ttl_s

    # ------------------------------------------------------------------------------------------------ filling disks

    async def stuff(self, bytes_max: int) -> bool:
        """Large values until the store has no room for more: True. False: it had room for `bytes_max`.

        If a majority of the disks is full but not the leader's, nobody says so: answers do not come.
        """
        written = lost = 0
        store: Store | None = None
        while written < bytes_max:
            try:
                store = store or await self._connect(NativeStore, self._chance)
                value = self._new("stuff")
                operation = self._begin("stuff", "put", ((self.record.prefix + "stuff", value),))
                await self._written(operation, store.put(self.record.prefix + "stuff", value + STUFF))
            except Refused as refused:
                if "space" in str(refused) or "full" in str(refused):
                    return True
                await asyncio.sleep(0.05)
            except Lost:
                lost += 1
                if lost == 3:
                    return True
            written += len(STUFF)
        if store is not None:
            await store.close()
        return False

"""A lock: one holder at a time, as long as its lease lives.

    name/<lease in hexadecimal>     a key for each who wants it; the one that was made first has it

The idea: every contender writes a key of its own under its own lease, and waits for the one just before it to go; so
a release wakes one contender and not all of them. The keys are those of etcd's own lock, so `etcdctl lock` joins in.

The rule: a holder that was stopped for longer than its lease does not know that it holds the lock no more. So whatever
it protects must refuse an older `token` than it has seen: the token grows with every holder.

Source: the concurrency package of etcd; Burrows, The Chubby lock service, OSDI 2006, for sequencers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol, Self

from onerack.errors import NotExecuted, Unknown
from onerack.kv.client.lease import Grantor, Lease
from onerack.kv.client.values import Compare, Deleted, Done, Events, Found, Get, Put, Written

_ASCENDING, _DESCENDING, _BY_CREATE = 1, 2, 2


class Locker(Grantor, Protocol):
    """What is needed of a client."""

    async def txn(
        self, compare: Iterable[Compare] = (), success: Iterable[Any] = (), failure: Iterable[Any] = ()
    ) -> Done: ...

    async def find(self, key: bytes, range_end: bytes = b"", *, prefix: bool = False, **more: Any) -> Found: ...

    async def delete(self, key: bytes) -> Deleted: ...

    def watch_all(self, key: bytes, *, revision: int = 0, puts: bool = True) -> AsyncIterator[Events]: ...


class Lock:
    """`async with client.lock("name") as held: ...`; waits until it is held."""

    def __init__(self, client: Locker, name: bytes, ttl_s: int) -> None:
        self._client = client
        self._prefix = name + b"/"
        self.lease = Lease(client, ttl_s)
        self.key = b""
        """Who holds the lock can show that it does: this key exists."""
        self.token = 0
        """Grows with every holder."""

    async def acquire(self) -> None:
        """Raises: NotExecuted: the lease ended while it waited. CallError."""
        await self.lease.begin()
        try:
            self.key = self._prefix + b"%x" % self.lease.id
            self.token = await self._enter()
            while (before := await self._before()) is not None:
                await self._until_gone(*before)
            if not (await self._client.find(self.key)).kvs:
                raise NotExecuted("the lease ended while it waited for the lock", cause="expired")
        except BaseException:
            await self.lease.end()
            raise

    async def release(self) -> None:
        """The key goes with its lease."""
        await self.lease.end()

    async def _enter(self) -> int:
        """Makes our key. It is there or not, whatever was heard of the attempt before, so this can be repeated."""
        absent = Compare(self.key, "create", "=", 0)
        while True:
            try:
                done = await self._client.txn([absent], [Put(self.key, lease=self.lease.id)], [Get(self.key)])
            except Unknown:
                if self.lease.lost.is_set():
                    raise
                continue
            (result,) = done.results
            if isinstance(result, Written):
                return result.revision
            assert isinstance(result, Found)
            return result.kvs[0].create_revision

    async def _before(self) -> tuple[bytes, int] | None:
        """The key just before ours, and as of which revision; None: we are the first."""
        found = await self._client.find(
            self._prefix, prefix=True, limit=1, sort_order=_DESCENDING, sort_target=_BY_CREATE,
            max_create_revision=self.token - 1,
        )  # fmt: skip
        return (found.kvs[0].key, found.revision) if found.kvs else None

    async def _until_gone(self, key: bytes, revision: int) -> None:
        async for events in self._client.watch_all(key, revision=revision + 1, puts=False):
            if events.events:
                return

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.release()

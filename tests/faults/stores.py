"""The store as its clients have it: our own, and etcd's API. Both say the same of a call that failed.

    Refused     it was surely not executed, and never will be
    Lost        nobody knows

The idea: what clients do and what is checked does not depend on how they talk. The rule: whatever a client is told that
is neither an answer nor one of the two is a fault of the store, and fails the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

from onerack.errors import CallError, NotExecuted, OnerackError, Unknown
from onerack.kv import client as native
from onerack.kv.client import Compare, Put
from onerack.kv.core import errors
from onerack.sim.checker.revisions import Changes
from tests.kv.server.client import Client, StatusError

DEADLINE_S: Final = 3.0
"""Of a call."""
Told = tuple[int, Changes]
"""A revision and its changes, sorted; without changes: all up to here was told."""

_SURELY_NOT: Final = {
    each.text
    for each in (
        errors.NO_LEADER, errors.LEADER_CHANGED, errors.STOPPED, errors.TOO_MANY_REQUESTS, errors.NO_SPACE,
        errors.LEASE_NOT_FOUND,
    )
}  # fmt: skip


class Refused(Exception):
    """It was not executed."""


class Lost(Exception):
    """It may have been executed, or may be yet."""


class Store(Protocol):
    """Every method raises Refused or Lost. Numbers that come back are revisions, of the answer's header."""

    async def put(self, key: str, value: str, lease: int = 0) -> int: ...

    async def find(
        self, first: str, behind: str, *, serializable: bool = False, at: int = 0
    ) -> tuple[int, Changes]: ...

    async def delete(self, key: str) -> tuple[int, int]:
        """And how many there were."""

    async def cas(self, key: str, expected: str | None, value: str) -> tuple[int, bool]: ...

    async def put_both(self, changes: Changes) -> int: ...

    async def grant(self, ttl_s: int) -> int: ...

    async def renew(self, lease: int) -> int:
        """The seconds that it has; 0: it is no more."""

    def watch(self, first: str, behind: str, revision: int) -> AsyncIterator[Told]:
        """Ends when it is lost."""

    async def compact(self, revision: int) -> None: ...

    async def close(self) -> None: ...


def shown(value: bytes) -> str:
    """A value without its padding, which nobody compares."""
    return value.partition(b"|")[0].decode()


def by_revision(events: Sequence[tuple[int, str, str | None]]) -> Iterator[Told]:
    for revision, group in groupby(events, key=lambda event: event[0]):
        yield revision, tuple(sorted((key, value) for _, key, value in group))


# ------------------------------------------------------------------------------------------------ our own client


class NativeStore:
    """Over `onerack.kv.client`, which finds the leader by itself."""

    def __init__(self, client: native.KvClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, rpc: Sequence[str], etcd: str) -> NativeStore:
        try:
            return cls(await native.connect(*rpc, timeout_s=DEADLINE_S, connect_timeout_s=1.0, insecure=True))
        except OnerackError as error:
            raise Refused(str(error)) from error

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        return int((await self._asked(self._client.put(key, value, lease=lease))).revision)

    async def find(self, first: str, behind: str, *, serializable: bool = False, at: int = 0) -> tuple[int, Changes]:
        found = await self._asked(self._client.find(first, behind, serializable=serializable, revision=at))
        return found.revision, tuple((kv.key.decode(), shown(kv.value)) for kv in found.kvs)

    async def delete(self, key: str) -> tuple[int, int]:
        deleted = await self._asked(self._client.delete(key))
        return deleted.revision, deleted.deleted

    async def cas(self, key: str, expected: str | None, value: str) -> tuple[int, bool]:
        name = key.encode()
        compare = (
            Compare(name, "version", "=", 0) if expected is None else Compare(name, "value", "=", expected.encode())
        )
        done = await self._asked(self._client.txn([compare], [Put(name, value.encode())]))
        return done.revision, done.succeeded

    async def put_both(self, changes: Changes) -> int:
        puts = [Put(key.encode(), str(value).encode()) for key, value in changes]
        return int((await self._asked(self._client.txn((), puts))).revision)

    async def grant(self, ttl_s: int) -> int:
        return int((await self._asked(self._client.grant(ttl_s))).lease)

    async def renew(self, lease: int) -> int:
        return int(await self._asked(self._client.renew(lease)))

    async def watch(self, first: str, behind: str, revision: int) -> AsyncIterator[Told]:
        async for events in self._client.watch_all(first, behind, revision=revision):
            found = [
                (each.kv.mod_revision, each.kv.key.decode(), shown(each.kv.value) if each.kind == "put" else None)
                for each in events.events
            ]
            for told in by_revision(found):
                yield told
            yield events.revision, ()

    async def compact(self, revision: int) -> None:
        await self._asked(self._client.compact(revision))

    async def close(self) -> None:
        await self._client.close()

    async def _asked(self, call: Any) -> Any:
        try:
            return await call
        except (native.KvRefused, NotExecuted) as error:
            if isinstance(error, native.KvRefused) and str(error) not in _SURELY_NOT:
                raise
            raise Refused(str(error)) from error
        except Unknown as error:
            raise Lost(str(error)) from error
        except CallError as error:
            raise AssertionError(f"this is no answer: {error!r}") from error


# ------------------------------------------------------------------------------------------------ etcd's API


class EtcdStore:
    """Over etcd's gRPC API, at one node."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Client | None = None

    @classmethod
    async def connect(cls, rpc: Sequence[str], etcd: str) -> EtcdStore:
        store = cls(etcd)
        await store._connected()
        return store

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        answer = await self._call("Put", key=key.encode(), value=value.encode(), lease=lease)
        return int(answer.header.revision)

    async def find(self, first: str, behind: str, *, serializable: bool = False, at: int = 0) -> tuple[int, Changes]:
        answer = await self._call(
            "Range", key=first.encode(), range_end=behind.encode(), serializable=serializable, revision=at
        )
        return answer.header.revision, tuple((kv.key.decode(), shown(kv.value)) for kv in answer.kvs)

    async def delete(self, key: str) -> tuple[int, int]:
        answer = await self._call("DeleteRange", key=key.encode())
        return answer.header.revision, answer.deleted

    async def cas(self, key: str, expected: str | None, value: str) -> tuple[int, bool]:
        name = key.encode()
        compare: dict[str, Any] = {"key": name, "target": 0, "version": 0}
        if expected is not None:
            compare = {"key": name, "target": 3, "value": expected.encode()}
        answer = await self._call(
            "Txn", compare=[compare], success=[{"request_put": {"key": name, "value": value.encode()}}]
        )
        return answer.header.revision, answer.succeeded

    async def put_both(self, changes: Changes) -> int:
        puts = [{"request_put": {"key": key.encode(), "value": str(value).encode()}} for key, value in changes]
        return int((await self._call("Txn", success=puts)).header.revision)

    async def grant(self, ttl_s: int) -> int:
        return int((await self._call("LeaseGrant", TTL=ttl_s)).ID)

    async def renew(self, lease: int) -> int:
        client = await self._connected()
        stream = client.open("LeaseKeepAlive")
        stream.send(ID=lease)
        try:
            return int((await stream.receive(DEADLINE_S)).TTL)
        except (StatusError, TimeoutError) as error:
            await self.close()
            raise Lost(str(error)) from error
        finally:
            stream.cancel()

    async def watch(self, first: str, behind: str, revision: int) -> AsyncIterator[Told]:
        stream = (await self._connected()).open("Watch")
        wanted = {"key": first.encode(), "range_end": behind.encode(), "start_revision": revision}
        stream.send(create_request=wanted)
        try:
            while True:
                answer = await stream.receive(DEADLINE_S)
                assert not answer.canceled, answer
                events = [
                    (each.kv.mod_revision, each.kv.key.decode(), None if each.type else shown(each.kv.value))
                    for each in answer.events
                ]
                for told in by_revision(events):
                    yield told
        except (StatusError, TimeoutError) as error:  # Nothing was said for long: perhaps there is nobody any more.
            raise Lost(str(error)) from error

    async def compact(self, revision: int) -> None:
        await self._call("Compact", revision=revision)

    async def hash_at(self, revision: int) -> int:
        """Of the whole store."""
        return int((await self._call("HashKV", revision=revision)).hash)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> Client:
        if self._client is None:
            host, _, port = self._address.rpartition("/")[2].rpartition(":")
            try:
                async with asyncio.timeout(1.0):
                    self._client = Client(*await asyncio.open_connection(host, int(port)))
            except (OSError, TimeoutError) as error:
                raise Refused(str(error)) from error
        return self._client

    async def _call(self, method: str, **fields: Any) -> Any:
        client = await self._connected()
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await client.call(method, **fields)
        except TimeoutError as error:
            await self.close()
            raise Lost(f"{method} had no answer") from error
        except StatusError as error:
            if error.code == -1:
                await self.close()
                raise Lost(error.text) from error
            if error.text in _SURELY_NOT:
                raise Refused(error.text) from error
            if error.text.startswith("etcdserver: request timed out"):
                raise Lost(error.text) from error
            raise AssertionError(f"{method}({fields}) was answered by {error}") from error

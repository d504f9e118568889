"""The client of the store, for Python programs.

    async with await kv.client.connect("tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002") as store:
        await store.put("greeting", "hello")
        kv = await store.get("greeting")                        # None if it is not there
        async for event in store.watch("jobs/", prefix=True):
            ...

The idea: a call is one message, and calls that are made in the same turn of the event loop travel together; so many
concurrent callers cost each of them little, and nobody has to make batches.

The rules, for every method that writes:
- it returns when a majority of the nodes has it on its disks;
- `KvRefused`: the store said no. `NotExecuted`: it never happened; it was tried again until the time was over.
- `Unknown`: it may have happened, once, or may yet. It is not tried again by itself: a transaction that compares
  revisions can be, by whoever knows what it means.
Methods that read are tried again; they see every write that was acknowledged before they began, unless `serializable`.
Keys and values are bytes, or text as UTF-8.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Self

from onerack.errors import ApplicationError, CallError, UsageError
from onerack.kv.client.failures import meaning_of
from onerack.kv.client.lease import Lease
from onerack.kv.client.link import Link
from onerack.kv.client.lock import Lock
from onerack.kv.client.ranges import Key, as_bytes, span
from onerack.kv.client.signed import Badge
from onerack.kv.client.together import Together
from onerack.kv.client.users import Auth
from onerack.kv.client.values import (
    AlarmStatus,
    Compare,
    Delete,
    Deleted,
    Done,
    Event,
    Events,
    Found,
    Get,
    Granted,
    KeyValue,
    MemberStatus,
    NodeStatus,
    Put,
    Remaining,
    Txn,
    Written,
)

Op = Put | Get | Delete | Txn
_WATCH_PAUSE_S: Final = 0.1


class KvClient:
    """Made by `connect`; `async with client`, or `await client.close()`. For one event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._together = Together(link)
        self.auth = Auth(self._call)
        """Users and roles."""

    # ------------------------------------------------------------------------------------------------ keys

    async def put(
        self,
        key: Key,
        value: Key,
        *,
        lease: int = 0,
        previous: bool = False,
        keep_value: bool = False,
        keep_lease: bool = False,
    ) -> Written:
        """Gives a key a value. `lease`: with which it ends. `keep_...`: of a key that exists, one part stays."""
        asked = as_bytes(key), as_bytes(value), lease, previous, keep_value, keep_lease
        try:
            if not (lease or previous or keep_value or keep_lease):
                return await self._together.put(asked[0], asked[1])
            return await self._link.stub.put(*asked)
        except CallError as error:
            written: Written = await self._link.again(error, "put", *asked)
            return written

    async def get(self, key: Key, *, revision: int = 0, serializable: bool = False) -> KeyValue | None:
        """One key, now or as of a revision; None: it is not there."""
        if revision:
            found = await self.find(key, revision=revision, serializable=serializable)
        else:
            asked = (key.encode() if type(key) is str else key, serializable)
            try:
                found = await self._link.stub.get(*asked)  # type: ignore[arg-type]  # as_bytes, written out
            except CallError as error:
                found = await self._link.again(error, "get", *asked)
        return found.kvs[0] if found.kvs else None

    async def find(
        self,
        /,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
        **more: Any,
    ) -> Found:
        """Keys of a range, or all that begin with `key`. `more`: other fields of `Get`."""
        first, end = span(key, range_end, prefix=prefix)
        found: Found = await self._call("find", Get(first, end, limit=limit, revision=revision, **more), serializable)
        return found

    async def delete(self, key: Key, range_end: Key = b"", *, prefix: bool = False, previous: bool = False) -> Deleted:
        """Takes away one key, a range, or all that begin with `key`; a key that is not there is no error."""
        first, end = span(key, range_end, prefix=prefix)
        deleted: Deleted = await self._call("delete", first, end, previous)
        return deleted

    async def txn(
        self, compare: Iterable[Compare] = (), success: Iterable[Op] = (), failure: Iterable[Op] = ()
    ) -> Done:
        """If all comparisons hold, `success` is done, else `failure`: as one revision."""
        done: Done = await self._call("txn", Txn(list(compare), list(success), list(failure)))
        return done

    async def compact(self, revision: int, *, physical: bool = False) -> int:
        """Forgets what no read at this revision or later needs. Gives the store's revision.

        `physical`: returns when it has also gone from the memory of the node that was asked.
        """
        return int(await self._call("compact", revision, physical))

    async def watch(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> AsyncIterator[Event]:
        """What changes, each event once and in order, from a revision on (0: from now).

        A lost connection is made anew where the last event was. Raises: KvRefused: the revision is compacted.
        """
        async for events in self.watch_all(
            key, range_end, prefix=prefix, revision=revision, previous=previous, puts=puts, deletes=deletes
        ):
            for event in events.events:
                yield event

    async def watch_all(
        self,
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
        revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> AsyncIterator[Events]:
        """As `watch`, as many events together as there are; the first item comes when the watch has begun."""
        first, end = span(key, range_end, prefix=prefix)
        at, has_begun = revision, False
        while True:
            try:
                async for events in self._link.stub.watch(first, end, at, previous, puts, deletes):
                    at = events.revision + 1
                    if events.events or not has_begun:
                        has_begun = True
                        yield events
            except CallError as error:
                meaning = meaning_of(error)
                if isinstance(meaning, ApplicationError) or error.cause == "closed":
                    raise meaning from None
            await asyncio.sleep(_WATCH_PAUSE_S)

    # ------------------------------------------------------------------------------------------------ leases, locks

    async def grant(self, ttl_s: int, lease: int = 0) -> Granted:
        """A kv lease that ends after `ttl_s` unless it is renewed. See `lease` for one that renews itself."""
        granted: Granted = await self._call("grant", ttl_s, lease)
        return granted

    async def revoke(self, lease: int) -> None:
        """Ends a kv lease; its keys go with it."""
        await self._call("revoke", lease)

    async def renew(self, lease: int) -> int:
        """Gives the seconds that it has from now on; 0: there is no such lease."""
        return int(await self._call("renew", lease))

    async def remaining(self, lease: int, *, keys: bool = False) -> Remaining:
        remaining: Remaining = await self._call("remaining", lease, keys)
        return remaining

    async def leases(self) -> list[int]:
        found: list[int] = await self._call("leases")
        return found

    def lease(self, ttl_s: int) -> Lease:
        """`async with client.lease(10) as lease:` renews itself, and ends with the block."""
        return Lease(self, ttl_s)

    def lock(self, name: Key, *, ttl_s: int = 10) -> Lock:
        """`async with client.lock("name") as held:` one holder at a time. See lock.py for what it promises."""
        return Lock(self, as_bytes(name), ttl_s)

    # ------------------------------------------------------------------------------------------------ the group

    @property
    def server(self) -> str:
        """The node that calls go to now; empty while there is no connection."""
        return self._link.server

    async def status(self) -> NodeStatus:
        """Of the node that this client talks to."""
        status: NodeStatus = await self._call("status")
        return status

    async def members(self) -> list[MemberStatus]:
        members: list[MemberStatus] = await self._call("members")
        return members

    async def manage(self, order: str, node: str) -> None:
        """`learner`, `voter`, `witness`, `remove`, or `transfer` of the leadership."""
        await self._call("manage", order, node)

    async def add_member(self, name: str, address: str, role: str = "learner") -> None:
        """Has a node join that is about to be started."""
        await self._call("add_member", name, address, role)

    async def alarms(self) -> list[AlarmStatus]:
        """What members have warned of."""
        found: list[AlarmStatus] = await self._call("alarms")
        return found

    async def disarm(self) -> list[AlarmStatus]:
        """Takes all alarms back; gives those that there were. Make room first, or they will be raised again."""
        found: list[AlarmStatus] = await self._call("disarm")
        return found

    async def defragment(self) -> None:
        """The node that is asked frees what is compacted, and cuts its log by a snapshot."""
        await self._call("defragment")

    async def snapshot(self) -> AsyncIterator[bytes]:
        """The whole store, in pieces."""
        try:
            async for piece in self._link.stub.snapshot():
                yield piece
        except CallError as error:
            raise meaning_of(error) from None

    # ------------------------------------------------------------------------------------------------ how

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._link.stub, method)(*arguments)
        except CallError as error:
            return await self._link.again(error, method, *arguments)

    async def close(self) -> None:
        """May be called again."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


async def connect(
    *endpoints: str,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    cluster: str = "",
    user: str = "",
    password: str = "",
    timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    follow_leader: bool = True,
) -> KvClient:
    """Connects to a store at some of its nodes' addresses (`rpc`): `tcp://host:port`, `tls://host:port`.

    `timeout_s`: how long each call may take, with all its attempts. `cluster`: a node of another is refused. `user`,
    `password`: who calls, once authentication is on; it is asked for when the first call is made. Without them it is
    the user whom the certificate of `tls` names. `follow_leader`: calls go to whoever leads; False: where they are.

    Raises: NotExecuted: nobody answers. BindingRefused: they are no store, or another cluster's. UsageError.
    """
    if not endpoints:
        raise UsageError("connect() needs the address of a node, such as tcp://127.0.0.1:7001")
    if password and not user:
        raise UsageError("a password is nobody's without a user")
    link = Link(
        endpoints, tls=tls, insecure=insecure, cluster=cluster, timeout_s=timeout_s,
        badge=Badge(user, password) if user else None, follow_leader=follow_leader,
    )  # fmt: skip
    await link.start(connect_timeout_s)
    return KvClient(link)

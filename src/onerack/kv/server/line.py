"""A line: those who stand under a prefix, in the order in which they came; who has come first, holds it.

    <name>/<lease, in hex>    the key of one who stands in line; its create revision is his place

The idea: a key is put once, under a lease, and the revision at which it was created is its place for ever. Each waits
only for the one just before him, so that an end wakes one and not all. Locks and elections are both this.

The rule: who gives up, leaves the line. A place is lost with its lease, so what is done under a lock must be fenced by
its revision: no lease can stop a client that was asleep.

Source: Hunt et al., ZooKeeper, 2010, section 2.4 (locks without the herd); etcd v3's concurrency recipes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from onerack.errors import OnerackError
from onerack.kv.core import Kind, KvError
from onerack.kv.core.errors import UNKNOWN, Refused
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.inside import InsideWatch
from onerack.kv.server.outcomes import granted
from onerack.kv.server.watch import WatchService

SESSION_TTL_S: Final = 60
"""Who stands in line without a lease of his own gets one for so long."""
_EXPIRED: Final = KvError(UNKNOWN, "mutex: session is expired")

_RANGE: Final = LIBRARY["RangeRequest"]
_COMPARE: Final = LIBRARY["Compare"]
_OP: Final = LIBRARY["RequestOp"]


class Place(msgspec.Struct, eq=False):
    """Where somebody stands."""

    key: bytes
    revision: int
    """At which the key was created."""
    lease: int
    value: bytes
    """As it is now in the store."""
    seen: int
    """The revision at which this was known."""
    is_new: bool


class Line:
    """What can be done with lines, on one node, for one user."""

    def __init__(self, desk: Desk, watches: WatchService, user: str) -> None:
        self.desk = desk
        self.watches = watches
        self.user = user

    # ------------------------------------------------------------------------------------------------ standing in line

    async def stand(self, name: bytes, lease: int, value: bytes) -> Place:
        """Takes a place, or finds the one that this lease has already. Raises: Refused, CallError."""
        lease = lease or await self._new_lease()
        key = b"%b/%x" % (name, lease)
        put = _OP(request_put=LIBRARY["PutRequest"](key=key, value=value, lease=lease))
        get = _OP(request_range=_RANGE(key=key))
        answer = await self.txn(key, 0, put, get)
        if answer.succeeded:
            return Place(key, answer.header.revision, lease, value, answer.header.revision, True)
        found = answer.responses[0].response_range.kvs[0]
        return Place(key, found.create_revision, lease, found.value, answer.header.revision, False)

    async def wait_until_first(self, name: bytes, place: Place) -> bytes:
        """The header of the read that has found nobody before. Raises: Refused, CallError."""
        with self._left_on_error(place):
            while True:
                before = await self.range(
                    key=name + b"/",
                    range_end=end_of_prefix(name + b"/"),
                    max_create_revision=place.revision - 1,
                    sort_order=_RANGE.DESCEND,
                    sort_target=_RANGE.CREATE,
                    limit=1,
                )
                if not before.kvs:
                    break
                await self._wait_until_gone(before.kvs[0].key, before.header.revision + 1)
            own = await self.range(key=place.key)
            if not own.kvs or own.kvs[0].create_revision != place.revision:
                raise Refused(_EXPIRED)
            return self.desk.machine.header(own.header.revision)

    async def _wait_until_gone(self, key: bytes, revision: int) -> None:
        async with InsideWatch(self.watches, self.user, key, b"", revision) as watch:
            while not any(event.type for event in await watch.events()):
                pass

    @contextmanager
    def _left_on_error(self, place: Place) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if place.is_new:
                self.desk.spawn(self._leave(place))
            raise

    async def _leave(self, place: Place) -> None:
        try:
            await self.resign(place.key, place.revision)
        except (OnerackError, Refused):
            """Then it ends with its lease."""

    async def resign(self, key: bytes, revision: int) -> Any:
        """Leaves the line, if the place is still his."""
        return await self.txn(key, revision, _OP(request_delete_range=LIBRARY["DeleteRangeRequest"](key=key)))

    # ------------------------------------------------------------------------------------------------ its parts

    async def _new_lease(self) -> int:
        request = LIBRARY["LeaseGrantRequest"](TTL=SESSION_TTL_S).SerializeToString()
        response = await self.desk.execute(Kind.LEASE_GRANT, self.user, request)
        return int(LIBRARY["LeaseGrantResponse"].FromString(response).ID)

    async def txn(self, key: bytes, created: int, then: Any, otherwise: Any = None) -> Any:
        """`then`, if the key was created at this revision (0: it does not exist); a TxnResponse."""
        is_so = _COMPARE(result=_COMPARE.EQUAL, target=_COMPARE.CREATE, key=key, create_revision=created)
        failure = [] if otherwise is None else [otherwise]
        request = LIBRARY["TxnRequest"](compare=[is_so], success=[then], failure=failure).SerializeToString()
        response = await self.desk.execute(Kind.TXN, self.user, request)
        return LIBRARY["TxnResponse"].FromString(response)

    async def range(self, **fields: Any) -> Any:
        """A linearizable RangeResponse."""
        await self.desk.node.catch_up()
        found = self.desk.machine.range(self.user, _RANGE(**fields).SerializeToString())
        return LIBRARY["RangeResponse"].FromString(granted(found))

    async def first(self, name: bytes) -> Any:
        """A RangeResponse with the one who holds the line, or nobody."""
        prefix = name + b"/"
        return await self.range(
            key=prefix, range_end=end_of_prefix(prefix), sort_order=_RANGE.ASCEND, sort_target=_RANGE.CREATE, limit=1
        )


def end_of_prefix(prefix: bytes) -> bytes:
    """The end of the range of all keys with this prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b"\0"

"""The link: which node a client talks to, and what it does when a call fails.

    connect to any endpoint -> ask who leads -> connect to that one -> look now and then whether it still leads

The idea: every node takes every call, so a link needs no leader to work; with the leader a write saves one hop. The RPC
connection itself goes on to the next address when it is lost, so whoever leads is only the first of several addresses.

The rule: a write is tried again only when it was surely not executed; a read whenever its connection was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Any, Final

from onerack import rpc
from onerack.errors import CallError, NotExecuted, OnerackError
from onerack.kv.client.failures import may_be_tried_again, meaning_of
from onerack.kv.client.interface import Kv
from onerack.kv.client.signed import Badge

_LOOK_S: Final = 1.0
"""How often it is looked whether another node leads."""
_CONNECT_S: Final = 1.0
"""A leader that cannot be reached so soon is left alone ..."""
_SHUN_S: Final = 30.0
"""... for so long."""
_PAUSE_S_MIN: Final = 0.02
_PAUSE_S_MAX: Final = 0.5
_CLEAN_UP_S: Final = 0.25
READS: Final = frozenset(
    {
        "get", "find", "renew", "remaining", "leases", "status", "members", "alarms", "disarm", "defragment",
        "auth_status", "roles_of", "users", "permissions_of", "roles",
    }
)  # fmt: skip
"""Methods that do no harm when they run twice."""
ORDERS: Final = frozenset({"manage", "add_member"})
"""Methods that change the group."""


class Link:
    """Open with `start`, end with `close`. For one event loop."""

    stub: Kv
    """The node that is talked to now."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | None,
        insecure: bool,
        cluster: str,
        timeout_s: float,
        badge: Badge | None = None,
        follow_leader: bool = True,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._how: dict[str, Any] = {"tls": tls, "insecure": insecure, "cluster": cluster, "deadline": timeout_s}
        self.timeout_s = timeout_s
        self._badge = badge
        self._follows_leader = follow_leader
        self._client: rpc.Client[Kv]
        self._following: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        """One for each client of before: it has open calls, and is closed when those have ended."""
        self._shunned: dict[str, float] = {}
        self._closing = asyncio.Event()

    async def start(self, connect_timeout_s: float) -> None:
        """Raises: NotExecuted: nobody answers. BindingRefused, UsageError: as `rpc.connect`."""
        self._client = await rpc.connect(Kv, *self._endpoints, connect_timeout=connect_timeout_s, **self._how)
        self.stub = self._signed(self._client.stub)
        if not self._follows_leader:
            return
        await self._move_to_leader()
        self._following = asyncio.get_running_loop().create_task(self._follow_leader())

    def _signed(self, stub: Kv) -> Kv:
        return stub if self._badge is None else self._badge.sign(stub)

    async def close(self) -> None:
        """Open calls end as Unknown if they may have run. May be called again."""
        self._closing.set()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._client.close()
        # They are not cancelled: a client whose closing was cancelled would never be closed.
        await asyncio.gather(*self._retiring)

    @property
    def server(self) -> str:
        """Where calls go now; empty while there is no connection."""
        return self._client.server

    # ------------------------------------------------------------------------------------------------ failures

    async def again(self, error: CallError, method: str, *arguments: Any) -> Any:
        """A call has failed: tries it again, as long as that is right and there is time.

        Raises: KvRefused, NotExecuted, Unknown: what it has come to.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.timeout_s
        pause_s = _PAUSE_S_MIN
        while True:
            error = meaning_of(error)
            now = loop.time()
            late = now + pause_s >= give_up_at
            is_worth_it = may_be_tried_again(error, reads=method in READS, orders=method in ORDERS)
            if late or self._closing.is_set() or not is_worth_it:
                raise error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)
            try:
                with rpc.options(deadline=give_up_at - loop.time()):
                    return await getattr(self.stub, method)(*arguments)
            except CallError as failed:
                error = failed

    # ------------------------------------------------------------------------------------------------ who leads

    async def _follow_leader(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._move_to_leader()

    async def _move_to_leader(self) -> None:
        """If somebody else leads, and can be reached. Never fails: where we are, calls are taken, too."""
        try:
            with rpc.options(deadline=_CONNECT_S):
                status = await self.stub.status()
            if status.leader in ("", status.name) or self._is_shunned(status.leader_address):
                return
            await self._move_to(status.leader, status.leader_address)
        except OnerackError:
            return

    async def _move_to(self, leader: str, address: str) -> None:
        others = [endpoint for endpoint in self._endpoints if endpoint != address]
        # It may be unreachable from here, under an address that the nodes use among themselves.
        try:
            client = await rpc.connect(Kv, address, *others, connect_timeout=_CONNECT_S, **self._how)
        except OnerackError:
            self._shun(address)
            raise
        try:
            with rpc.options(deadline=_CONNECT_S):
                found = await client.stub.status()
            if found.name != leader:
                raise NotExecuted(f"{address} is {found.name}", cause="unreachable")
        except BaseException:
            self._shun(address)
            await client.close()
            raise
        before, self._client, self.stub = self._client, client, self._signed(client.stub)
        task = asyncio.get_running_loop().create_task(self._retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _shun(self, address: str) -> None:
        self._shunned[address] = asyncio.get_running_loop().time() + _SHUN_S

    def _is_shunned(self, address: str) -> bool:
        return not address or self._shunned.get(address, 0.0) > asyncio.get_running_loop().time()

    async def _retire(self, client: rpc.Client[Kv]) -> None:
        """Its calls and watches go on where they are."""
        while client.open_calls and client.server and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEAN_UP_S):
                    await self._closing.wait()
        await client.close()

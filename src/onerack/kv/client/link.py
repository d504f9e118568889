"""The link: which node a client talks to, and what it does when a call fails.

    connect to any endpoint -> ask who leads -> connect to that one -> look now and then whether it still leads

The idea: every node takes every call, so a link needs no leader to work; with the leader a write saves one hop. The RPC
connection itself goes on to the next address when it is lost, so whoever leads is only the first of several addresses.

The rule: a write is tried again only when it was surely not executed; a read whenever its connection was lost.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final

from onerack import rpc
from onerack.errors import CallError, NotExecuted, OnerackError
from onerack.kv.client.failures import may_be_tried_again, meaning_of
from onerack.kv.client.interface import Kv

_LOOK_S: Final = 1.0
"""How often it is looked whether another node leads."""
_CONNECT_S: Final = 1.0
"""A leader that cannot be reached so soon is left alone ..."""
_SHUN_S: Final = 30.0
"""... for so long."""
_PAUSE_S_MIN: Final = 0.02
_PAUSE_S_MAX: Final = 0.5
_CLEAN_UP_S: Final = 0.25
READS: Final = frozenset({"get", "find", "renew", "remaining", "leases", "status", "members"})
"""Methods that do no harm when they run twice."""


class Link:
    """Open with `start`, end with `close`. For one event loop."""

    stub: Kv
    """The node that is talked to now."""

    def __init__(
        self, endpoints: Sequence[str], *, tls: ssl.SSLContext | None, insecure: bool, cluster: str, timeout_s: float
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._how: dict[str, Any] = {"tls": tls, "insecure": insecure, "cluster": cluster, "deadline": timeout_s}
        self.timeout_s = timeout_s
        self._client: rpc.Client[Kv]
        self._tasks: set[asyncio.Task[None]] = set()
        self._retired: dict[rpc.Client[Kv], None] = {}
        """They have open calls, and are closed when those have ended."""
        self._shunned: dict[str, float] = {}
        self._is_closed = False

    async def start(self, connect_timeout_s: float) -> None:
        """Raises: NotExecuted: nobody answers. BindingRefused, UsageError: as `rpc.connect`."""
        self._client = await rpc.connect(Kv, *self._endpoints, connect_timeout=connect_timeout_s, **self._how)
        self.stub = self._client.stub
        await self._move_to_leader()
        self._spawn(self._follow_leader())

    async def close(self) -> None:
        """Open calls end as Unknown if they may have run. May be called again."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in [self._client, *self._retired]:
            await client.close()

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
            if late or self._is_closed or not may_be_tried_again(error, reads=method in READS):
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
        before, self._client, self.stub = self._client, client, client.stub
        self._retired[before] = None
        self._spawn(self._retire(before))

    def _shun(self, address: str) -> None:
        self._shunned[address] = asyncio.get_running_loop().time() + _SHUN_S

    def _is_shunned(self, address: str) -> bool:
        return not address or self._shunned.get(address, 0.0) > asyncio.get_running_loop().time()

    async def _retire(self, client: rpc.Client[Kv]) -> None:
        """Its calls and watches go on where they are."""
        while client.open_calls and client.server:  # noqa: ASYNC110 - nobody tells when a connection has no more calls
            await asyncio.sleep(_CLEAN_UP_S)
        await client.close()
        self._retired.pop(client, None)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""The client of the store for programs without an event loop: the same methods, which wait.

    from onerack.kv.client import blocking

    with blocking.connect("tcp://127.0.0.1:7001") as store:
        store.put("greeting", "hello")
        for event in store.watch("jobs/", prefix=True):
            ...

The idea: the client lives on an event loop in a thread of its own; a method hands its work over and waits. The rules:
any number of threads may share one; it does not survive a fork; Ctrl-C ends the wait, and cancels what was waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from onerack.errors import NotExecuted
from onerack.kv.client import client
from onerack.kv.client.client import KvClient
from onerack.kv.client.lock import Lock
from onerack.kv.client.ranges import Key
from onerack.kv.client.users import Auth
from onerack.kv.client.values import Event

P = ParamSpec("P")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")


class LoopThread:
    """An event loop in a thread. A daemon: a program that forgets to close its client can end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kv client", daemon=True)
        self._thread.start()
        self._gate = threading.Lock()
        self._has_ended = False

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it in the loop. Raises: what it does. NotExecuted: the client is closed."""
        with self._gate:
            if self._has_ended:
                work.close()
                raise NotExecuted("the client was closed; it was not executed", cause="closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """May be called again."""
        with self._gate:
            if self._has_ended:
                return
            self._has_ended = True
            ended = asyncio.run_coroutine_threadsafe(self._ending(last), self._loop)
        with contextlib.suppress(Exception):
            ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _ending(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await last()
        # Waits of other threads whose calls the closing has not ended: streams, and pauses before another attempt.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


class _Blocking(Protocol[S_co]):
    @property
    def inner(self) -> S_co: ...

    @property
    def thread(self) -> LoopThread: ...


def _blocking(
    method: Callable[Concatenate[S_co, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[S_co], P], T]:
    """The same method, which waits."""

    @functools.wraps(method)
    def call(self: _Blocking[S_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.thread.wait_for(method(self.inner, *args, **kwargs))

    return call


class BlockingAuth:
    """Users and roles; what the methods mean: see `onerack.kv.client.users.Auth`."""

    def __init__(self, inner: Auth, thread: LoopThread) -> None:
        self.inner = inner
        self.thread = thread

    enable = _blocking(Auth.enable)
    disable = _blocking(Auth.disable)
    status = _blocking(Auth.status)
    add_user = _blocking(Auth.add_user)
    delete_user = _blocking(Auth.delete_user)
    change_password = _blocking(Auth.change_password)
    grant_role = _blocking(Auth.grant_role)
    revoke_role = _blocking(Auth.revoke_role)
    roles_of = _blocking(Auth.roles_of)
    users = _blocking(Auth.users)
    add_role = _blocking(Auth.add_role)
    delete_role = _blocking(Auth.delete_role)
    grant_permission = _blocking(Auth.grant_permission)
    revoke_permission = _blocking(Auth.revoke_permission)
    permissions_of = _blocking(Auth.permissions_of)
    roles = _blocking(Auth.roles)


class BlockingKv:
    """Made by `connect`; `with client`, or `client.close()`. What the methods mean: see KvClient."""

    def __init__(self, inner: KvClient, thread: LoopThread) -> None:
        self.inner = inner
        self.thread = thread
        self.auth = BlockingAuth(inner.auth, thread)

    put = _blocking(KvClient.put)
    get = _blocking(KvClient.get)
    find = _blocking(KvClient.find)
    delete = _blocking(KvClient.delete)
    txn = _blocking(KvClient.txn)
    compact = _blocking(KvClient.compact)
    grant = _blocking(KvClient.grant)
    revoke = _blocking(KvClient.revoke)
    renew = _blocking(KvClient.renew)
    remaining = _blocking(KvClient.remaining)
    leases = _blocking(KvClient.leases)
    status = _blocking(KvClient.status)
    members = _blocking(KvClient.members)
    manage = _blocking(KvClient.manage)
    add_member = _blocking(KvClient.add_member)
    alarms = _blocking(KvClient.alarms)
    disarm = _blocking(KvClient.disarm)
    defragment = _blocking(KvClient.defragment)

    def watch(self, key: Key, range_end: Key = b"", **how: Any) -> Iterator[Event]:
        """As `KvClient.watch`; end it by closing the generator, or by leaving its loop."""
        return self._items(self.inner.watch(key, range_end, **how))

    def snapshot(self) -> Iterator[bytes]:
        """The whole store, in pieces."""
        return self._items(self.inner.snapshot())

    @contextlib.contextmanager
    def lock(self, name: Key, *, ttl_s: int = 10) -> Iterator[Lock]:
        """`with client.lock("name") as held:`; `held.lease.lost` tells whether it was lost."""
        held = self.inner.lock(name, ttl_s=ttl_s)
        self.thread.wait_for(held.acquire())
        try:
            yield held
        finally:
            self.thread.wait_for(held.release())

    def _items(self, stream: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> list[T]:
            try:
                return [await anext(stream)]
            except StopAsyncIteration:
                return []

        try:
            while item := self.thread.wait_for(following()):
                yield item[0]
        finally:
            with contextlib.suppress(NotExecuted):  # The client is closed, and the stream with it.
                self.thread.wait_for(stream.aclose())  # type: ignore[attr-defined]  # both are generators

    def close(self) -> None:
        """Calls of other threads end as Unknown if they may have run. May be called again."""
        self.thread.end(self.inner.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connect(*endpoints: str, **how: Any) -> BlockingKv:
    """As `kv.client.connect`, with the same options. Raises: as that."""
    thread = LoopThread()
    try:
        inner = thread.wait_for(client.connect(*endpoints, **how))
    except BaseException:
        thread.end(_nothing)
        raise
    return BlockingKv(inner, thread)


async def _nothing() -> None:
    pass

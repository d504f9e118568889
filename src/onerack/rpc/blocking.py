"""Blocking: services for programs without an event loop. The methods of a stub wait, and return what was asked for.

    from onerack.rpc import blocking

    with blocking.connect(Account, "tcp://127.0.0.1:7700") as account:
        account.transfer("ann", "bob", 5)
        for entry in account.history("ann"):            # a stream is an ordinary iterator, in both directions
            print(entry)

The idea: the same client as elsewhere lives on an event loop in a thread of its own; a method hands the call over and
waits for its end. Whatever belongs to the caller stays in the caller's thread: an iterator of arguments is advanced
there, `options(...)` is read there, Ctrl-C arrives there and cancels the call.

The rules:
- A stub may be used by any number of threads at once.
- It does not survive a fork: threads do not. Connect in the process that calls; a stub of the parent says so.
- In an event loop use `rpc.connect`: a call here would stop the loop, and for ever if the server runs on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from onerack.errors import NotExecuted, UsageError
from onerack.rpc import client
from onerack.rpc.interface import Interface, Method, interface_of

Service = TypeVar("Service")
T = TypeVar("T")

_END: Final = object()


def connect(protocol: Callable[..., Service], *addresses: str, **how: Any) -> Client[Service]:
    """As `rpc.connect`, with the same options; returns when a server has welcomed us.

    Raises: as `rpc.connect`.
    """
    interface = interface_of(cast(type, protocol))
    thread = _LoopThread(f"rpc {interface.name}")
    try:
        inner = thread.wait_for(lambda: client.connect(protocol, *addresses, **how))
    except BaseException:
        thread.end()
        raise
    return Client(interface, inner, thread)


class Client(Generic[Service]):
    """A connection to a service. `with client as stub`, or `client.stub` and `client.close()`."""

    def __init__(self, interface: Interface, inner: client.Client[Service], thread: _LoopThread) -> None:
        self._inner = inner
        self._thread = thread
        members = {method.name: staticmethod(_function(method, inner.stub, thread)) for method in _methods(interface)}
        self.stub: Any = type(f"{interface.name.rpartition('.')[2]}Stub", (), {"__slots__": (), **members})()
        """Has the interface's methods; what type checkers know of them is that they exist."""

    @property
    def server(self) -> str:
        """Where the connection that is up leads to; empty while there is none."""
        return self._inner.server

    def close(self) -> None:
        """Ends the connection; calls of other threads end as Unknown if they may have run. May be called again."""
        self._thread.end(self._inner.close)

    def __enter__(self) -> Any:
        return self.stub

    def __exit__(self, *exception: object) -> None:
        self.close()


def _methods(interface: Interface) -> list[Method]:
    return list(interface.methods.values())


def _function(method: Method, stub: Any, thread: _LoopThread) -> Callable[..., Any]:
    inner = getattr(stub, method.name)

    def call(*args: Any, **kwargs: Any) -> Any:
        turn = _Turn(thread)
        if method.stream_parameter is not None:
            args, kwargs = _with_pulled(method, turn, args, kwargs)
        if method.result_is_stream:
            return _items(turn, inner(*args, **kwargs))
        return turn.wait_for(lambda: inner(*args, **kwargs))

    call.__name__, call.__qualname__, call.__doc__ = method.name, method.full_name, inner.__doc__
    return call


def _with_pulled(method: Method, turn: _Turn, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments, with the caller's iterable as the asynchronous iterator that the stub takes."""
    try:
        bound = method.signature.python.bind(*args, **kwargs)
    except TypeError:
        return args, kwargs  # The stub says it better.
    name = method.stream_parameter
    assert name is not None
    given = bound.arguments[name]
    if not hasattr(given, "__iter__"):
        raise UsageError(f"{method.signature.place(name)} must be iterable, and is {given!r:.80}")
    bound.arguments[name] = turn.pulled(iter(given))
    return bound.args, bound.kwargs


def _items(turn: _Turn, stream: AsyncIterator[T]) -> Iterator[T]:
    """What the stream gives. A generator, so that it is closed as soon as nobody reads it any more."""
    try:
        while True:
            item = turn.wait_for(lambda: _next(stream))
            if item is _END:
                return
            yield cast(T, item)
    finally:
        turn.start(stream.aclose)  # type: ignore[attr-defined]  # the stub's streams are generators


async def _next(stream: AsyncIterator[Any]) -> Any:
    return await anext(stream, _END)


class _Turn:
    """One call: the caller's thread, which waits, and is asked for items meanwhile."""

    def __init__(self, thread: _LoopThread) -> None:
        self._thread = thread
        self._context = contextvars.copy_context()
        """The options of the caller's block, with which a stream goes on to be called."""
        self._wishes: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        """What the caller's thread is to do; True ends the wait."""

    def wait_for(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs it in the loop; returns or raises what it does. Ctrl-C cancels it."""
        done: Future[T] = Future()
        task = self._thread.start(make, done, self._context)
        done.add_done_callback(lambda _: self._wishes.put(lambda: True))
        try:
            while not self._wishes.get()():
                pass
        except BaseException:
            self._thread.cancel(task)
            raise
        return done.result()

    def start(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Runs it in the loop; nobody waits."""
        self._thread.start_if_open(make, self._context)

    def pulled(self, iterator: Iterator[T]) -> AsyncIterator[T]:
        """The caller's iterator, advanced in the caller's thread whenever the loop wants an item."""

        async def items() -> AsyncIterator[T]:
            loop = asyncio.get_running_loop()
            while True:
                wanted: asyncio.Future[Any] = loop.create_future()
                self._wishes.put(partial(_advance, iterator, wanted, loop))
                item = await wanted
                if item is _END:
                    return
                yield item

        return items()


def _advance(iterator: Iterator[Any], wanted: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> bool:
    """In the caller's thread. What is no mere error (Ctrl-C, say) ends the wait."""
    item: Any
    error = None
    try:
        item = next(iterator, _END)
    except Exception as failure:
        item, error = None, failure

    def give() -> None:
        if not wanted.done():
            if error is None:
                wanted.set_result(item)
            else:
                wanted.set_exception(error)

    with contextlib.suppress(RuntimeError):  # The loop has ended, and the call with it: that is the next wish.
        loop.call_soon_threadsafe(give)
    return False


class _LoopThread:
    """An event loop in a thread. A daemon: a program that forgets to close its client can end."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._gate = threading.Lock()
        """What is handed to the loop is either run, or refused because the loop has ended."""
        self._has_ended = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def wait_for(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return _Turn(self).wait_for(make)

    def start(
        self, make: Callable[[], Coroutine[Any, Any, T]], done: Future[T], context: contextvars.Context
    ) -> list[asyncio.Task[T]]:
        """Runs it in the loop; `done` gets its end. Gives where its task will be.

        Raises: NotExecuted: the client is closed. UsageError: this is another process.
        """
        started: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self.loop.create_task(make(), context=context)
            started.append(task)
            self._tasks.add(task)
            task.add_done_callback(lambda ended: self._hand_back(ended, done))

        self._hand_over(begin)
        return started

    def _hand_over(self, begin: Callable[[], object]) -> None:
        if os.getpid() != self._process:
            raise UsageError("this client belongs to the process that forked this one; connect anew after a fork")
        with self._gate:
            if self._has_ended:
                raise NotExecuted("the client was closed; it was not executed", cause="closed")
            self.loop.call_soon_threadsafe(begin)

    def _hand_back(self, task: asyncio.Task[T], done: Future[T]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            done.cancel()
        elif (error := task.exception()) is not None:
            done.set_exception(error)
        else:
            done.set_result(task.result())

    def start_if_open(self, make: Callable[[], Coroutine[Any, Any, Any]], context: contextvars.Context) -> None:
        if os.getpid() == self._process and not self._has_ended:
            try:
                self.start(make, Future(), context)
            except NotExecuted:
                return  # Closed meanwhile, which ends streams too.

    def cancel(self, started: list[asyncio.Task[T]]) -> None:
        """What was handed over before has begun when this runs."""
        with self._gate:
            if not self._has_ended:
                self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in started])

    def end(self, close: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Lets `close` end what is open, then the loop and the thread."""
        if os.getpid() != self._process:
            return  # Everything that the loop holds is shared with the parent, who still uses it.
        with self._gate:
            if self._has_ended:
                return
            self._has_ended = True
            asyncio.run_coroutine_threadsafe(self._closing(close), self.loop)
        self._thread.join()
        self.loop.close()

    async def _closing(self, close: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        try:
            if close is not None:
                await close()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=1.0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.loop.shutdown_asyncgens()
        finally:
            self.loop.stop()

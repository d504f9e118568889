"""Servers and clients over sockets that are connected already: who is who, and that the end of the link is the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from onerack.config import RpcConfig
from onerack.errors import BindingRefused, NotExecuted, Unknown, UsageError
from onerack.rpc import Client, Server, connect, current, service


class Guestbook(Protocol):
    async def sign(self, words: str) -> str: ...

    def talk(self, said: AsyncIterator[str]) -> AsyncIterator[str]: ...


@service("test_over_socket.Guestbook")
class OtherGuestbook(Protocol):
    async def sign(self, words: int) -> str: ...


class Book:
    def sign(self, words: str) -> str:
        return f"{current().peer.identity}: {words}"

    async def talk(self, said: AsyncIterator[str]) -> AsyncIterator[str]:
        async for words in said:
            yield self.sign(words)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    serving = Server({Guestbook: Book()}, config=RpcConfig())
    try:
        yield serving
    finally:
        await serving.close(drain_s=1)


async def child(serving: Server, identity: str, lost: asyncio.Queue[str]) -> Client[Guestbook]:
    ours, theirs = socket.socketpair()
    serving.attach(ours, identity=identity, lost=lost.put_nowait)
    return await connect(Guestbook, over=theirs)


def test_handlers_know_who_is_at_the_other_end() -> None:
    async def story() -> None:
        lost: asyncio.Queue[str] = asyncio.Queue()
        async with server() as house, await child(house, "ann", lost) as ann, await child(house, "bob", lost) as bob:
            assert await ann.sign("hello") == "ann: hello"
            assert await bob.sign("hello") == "bob: hello"

            async def words() -> AsyncIterator[str]:
                yield "one"
                yield "two"

            assert [each async for each in ann.talk(words())] == ["ann: one", "ann: two"]

    run(story())


def test_the_server_is_told_why_a_link_has_ended() -> None:
    async def story() -> None:
        lost: asyncio.Queue[str] = asyncio.Queue()
        async with server() as serving:
            client = await child(serving, "ann", lost)
            assert lost.empty()
            await client.close()
            assert await lost.get() == "the peer closed the connection"

            ours, theirs = socket.socketpair()
            serving.attach(ours, lost=lost.put_nowait)
            with theirs:
                theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert "HTTP" in await lost.get()

    run(story())


def test_a_lost_link_is_the_end_of_the_client() -> None:
    async def story() -> None:
        async with server() as serving:
            ours, theirs = socket.socketpair()
            link = serving.attach(ours)
            client = await connect(Guestbook, over=theirs)
            async with client as book:
                listening = asyncio.Event()

                async def never() -> AsyncIterator[str]:
                    listening.set()
                    await asyncio.Event().wait()
                    yield ""

                talking = asyncio.ensure_future(anext(book.talk(never())))
                await listening.wait()
                link.close("enough")

                with pytest.raises(Unknown, match="closed the connection"):
                    await talking
                with pytest.raises(NotExecuted, match="closed the connection") as refused:
                    await book.sign("too late")
                assert refused.value.cause == "unreachable"
                assert client.server == ""

    run(story())


def test_a_peer_that_is_gone_is_said_at_once() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        with pytest.raises(NotExecuted, match="no connection: the socket: the peer"):
            await connect(Guestbook, over=theirs)

    run(story())


def test_a_server_that_does_not_fit_is_named() -> None:
    async def story() -> None:
        async with server() as serving:
            ours, theirs = socket.socketpair()
            serving.attach(ours)
            with pytest.raises(BindingRefused, match="there is no service"):
                await connect(OtherGuestbook, over=theirs)

    run(story())


def test_a_client_has_a_socket_or_addresses() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(UsageError, match="over="):
                await connect(Guestbook, "memory://book", over=ours)
        with pytest.raises(UsageError, match="over="):
            await connect(Guestbook)

    run(story())

"""Requests that are not answered."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from onerack import rpc
from onerack.errors import UsageError
from onerack.rpc.messages import Response


class Board(Protocol):
    @rpc.readonly
    async def note(self, words: str, body: rpc.Attachment) -> int: ...

    @rpc.readonly
    async def notes(self) -> list[str]: ...

    async def once(self) -> None: ...


class BoardServer:
    def __init__(self) -> None:
        self.words: list[str] = []

    def note(self, words: str, body: rpc.Attachment) -> int:
        self.words.append(words + bytes(body).decode())
        if words == "bad":
            raise ValueError(words)
        return len(self.words)

    def notes(self) -> list[str]:
        return self.words

    def once(self) -> None: ...


def test_what_is_told_arrives_in_order_and_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[object] = []

    async def main() -> None:
        server = await rpc.serve(Board, BoardServer(), "tcp://127.0.0.1:0")
        client = await rpc.connect(Board, server.address)
        channel = client._channel
        received = channel.received

        def listen(link: object, arrivals: object) -> None:
            answered.extend(message for message, _ in arrivals)  # type: ignore[attr-defined]
            received(link, arrivals)  # type: ignore[arg-type]

        monkeypatch.setattr(channel, "received", listen)
        for words in ("a", "bad", "b"):
            client.tell("note", words, b"!")
        client.tell("note", "c", body=b"?" * 100_000)
        assert client.open_calls == 0
        assert await client.stub.notes() == ["a!", "bad!", "b!", "c" + "?" * 100_000]
        await client.close()
        client.tell("note", "late", b"")
        await server.close()

    asyncio.run(main())
    assert len([message for message in answered if isinstance(message, Response)]) == 1


def test_what_cannot_be_told_is_named() -> None:
    async def main() -> None:
        server = await rpc.serve(Board, BoardServer(), "tcp://127.0.0.1:0")
        async with server:
            client = await rpc.connect(Board, server.address)
            with pytest.raises(UsageError, match="no method 'nothing'"):
                client.tell("nothing")
            with pytest.raises(UsageError, match=r"Board\.once is at_most_once, which needs an answer"):
                client.tell("once")
            with pytest.raises(TypeError, match="body"):
                client.tell("note", "x")
            await client.close()

    asyncio.run(main())

"""Handlers: an implementation that does not fit is refused before the first call, and one that fits is called right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

import pytest

from onerack.errors import UsageError
from onerack.rpc.attachment import Attachment
from onerack.rpc.interface import Handler, bind, interface_of
from onerack.rpc.modes import exactly_once


class Store(Protocol):
    async def put(self, name: str, content: Attachment, mode: int = 0, *, owner: str = "root") -> int: ...
    async def take(self, names: AsyncIterator[str]) -> int: ...
    def list(self, prefix: str = "") -> AsyncIterator[str]: ...
    async def touch(self, name: str, *, at: int = 0) -> int: ...
    @exactly_once
    async def rename(self, source: str, target: str) -> None: ...


class Files:
    """A right one, with every freedom that it may take."""

    def put(self, name: str, content: memoryview, mode: int, owner: str, dry: bool = False) -> Any:
        return (name, content, mode, owner, dry)

    async def take(self, names: AsyncIterator[str], *more: int, **others: int) -> Any:
        return [name async for name in names]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        yield prefix

    def touch(self, name: str, *, at: int) -> Any:
        return (name, at)

    def rename(self, source: str, target: str, /) -> Any:
        return (source, target)


def handlers_with(**methods: Any) -> dict[str, Handler]:
    """Files, with some of its methods replaced."""
    return bind(interface_of(Store), type("Files", (Files,), methods)())


def handler_named(name: str) -> Handler:
    return bind(interface_of(Store), Files())[name]


def test_every_method_has_a_handler_of_its_kind() -> None:
    handlers = bind(interface_of(Store), Files())
    assert {name: handler.kind for name, handler in handlers.items()} == {
        "put": "plain",
        "take": "async",
        "list": "stream",
        "touch": "plain",
        "rename": "plain",
    }
    assert all(handler.method is interface_of(Store).methods[name] for name, handler in handlers.items())


def test_a_handler_is_given_what_the_caller_gave() -> None:
    put, touch, rename = handler_named("put"), handler_named("touch"), handler_named("rename")
    arguments, attachment, _ = put.method.arguments("a", b"content", owner="me")
    assert put.call(arguments, attachment) == ("a", b"content", 0, "me", False)
    assert touch.call(touch.method.arguments("a", at=5)[0]) == ("a", 5)
    assert rename.call(rename.method.arguments("a", target="b")[0]) == ("a", "b")


@pytest.mark.parametrize(("arrived", "content"), [(None, b""), (bytearray(b"abc"), b"abc")])
def test_an_attachment_is_handed_over_as_a_read_only_view(arrived: Any, content: bytes) -> None:
    put = handler_named("put")
    view = put.call(put.method.Arguments("a", 0, owner="me"), arrived)[1]
    assert (type(view), view.readonly, bytes(view)) == (memoryview, True, content)


def test_streams_are_handed_over_as_they_are() -> None:
    async def names() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async def both() -> tuple[Any, Any]:
        take, list_ = handler_named("take"), handler_named("list")
        taken = await take.call(take.method.Arguments(), None, names())
        return taken, [name async for name in list_.call(list_.method.Arguments("x"))]

    assert asyncio.run(both()) == (["a", "b"], ["x"])


def test_a_function_that_returns_an_iterator_is_a_stream_too() -> None:
    async def other() -> AsyncIterator[str]:
        yield "a"

    handler = handlers_with(list=lambda self, prefix: other())["list"]
    assert handler.kind == "stream"


def test_an_object_that_can_be_called_is_a_handler() -> None:
    class Taker:
        async def __call__(self, names: AsyncIterator[str]) -> int:
            return 0

    async def renamed(extra: int, source: str, target: str) -> None: ...

    assert handlers_with(take=Taker())["take"].kind == "async"
    with pytest.raises(UsageError, match="must be a plain `def`"):
        handlers_with(rename=partial(renamed, 3))


async def stream(self: Any, prefix: str) -> AsyncIterator[str]:
    yield prefix


async def waits(self: Any, prefix: str) -> Any: ...


def no_more(self: Any, source: str) -> None: ...
def other_name(self: Any, source: str, destination: str) -> None: ...
def other_order(self: Any, target: str, source: str) -> None: ...
def one_more(self: Any, source: str, target: str, force: bool) -> None: ...
def anything(self: Any, *names: str) -> None: ...
def by_keyword(self: Any, source: str, *, target: str) -> None: ...
async def awaited(self: Any, source: str, target: str) -> None: ...
def generated(self: Any, source: str, target: str) -> Any:
    yield source


async def generated_async(self: Any, source: str, target: str) -> Any:
    yield source


def reads(self: Any, names: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "method", "complaint"),
    [
        ("rename", None, r"Files\.rename is missing; Store\.rename\(source, target\) needs it"),
        ("rename", 3, r"Files\.rename must be a method, and is 3"),
        ("rename", no_more, r"parameter 2 of Store\.rename is 'target', and Files\.rename takes no more"),
        ("rename", other_name, r"is 'target', and Files\.rename has 'destination' there"),
        ("rename", other_order, r"parameter 1 of Store\.rename is 'source', and Files\.rename has 'target' there"),
        ("rename", one_more, r"'force' is not in Store\.rename, and has no default"),
        ("rename", anything, r"has '\*names' there"),
        ("rename", by_keyword, r"'target' may be given by position, and not by keyword only"),
        ("rename", awaited, r"Files\.rename must be a plain `def`: exactly_once"),
        ("rename", generated, r"has a `yield`, and the result of Store\.rename is no stream"),
        ("rename", generated_async, r"has a `yield`"),
        ("list", waits, r"Files\.list is `async def` without `yield`; the result of Store\.list is a stream"),
        ("take", reads, r"Files\.take must be `async def`, since it reads the stream 'names'"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_by_name(name: str, method: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        handlers_with(**{name: method})


def test_an_implementation_is_an_object() -> None:
    with pytest.raises(UsageError, match=r"Files is a class; give an object of it: Files\(\.\.\.\)"):
        bind(interface_of(Store), Files)

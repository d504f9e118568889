"""Signed calls: the stub of a client that has a user's name and password.

    no token yet -> sign in -> every call bears the token -> the store does not know it any more -> sign in again

The idea: a token is good on every node, so one sign-in serves all connections of a client, those too that it makes when
a leader has died. So that nobody has to think of it, what is handed out here looks like the stub itself.

The rules: a call that is refused because its token is void was not executed, so it is made again, once, with another
token. A password is sent when a token is needed, and never with a call. Without a token nothing is sent but what
anybody may ask: a certificate must not speak for somebody who was asked to sign in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from onerack import rpc
from onerack.errors import CallError, NotExecuted, Unknown
from onerack.kv.client.failures import TOKEN, is_signed_out, meaning_of
from onerack.kv.client.interface import Kv
from onerack.rpc.interface import interface_of

OPEN: Final = frozenset({"status", "members", "sign_in", "auth_status"})
"""Methods that anybody may call."""
STREAMS: Final = frozenset({"watch", "snapshot"})


class Badge:
    """Of one client: whose it is, and the token, if there is one."""

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self._password = password
        self._token: str | None = None
        self._turn = asyncio.Lock()

    async def token(self, stub: Kv, void: str | None = None) -> str:
        """Another one than `void`; empty: the store asks nobody who he is.

        Raises: CallError: it cannot be had, and so nothing else was executed.
        """
        async with self._turn:
            if self._token is None or self._token == void:
                self._token = None
                try:
                    self._token = await stub.sign_in(self.user, self._password)
                except CallError as error:
                    raise _nothing_done(error) from error
            return self._token

    def sign(self, stub: Kv) -> Kv:
        """The same stub, whose calls are this user's."""
        signed: Any = _SignedStub()
        for name in interface_of(Kv).methods:
            method = getattr(stub, name)
            if name in STREAMS:
                method = partial(self._stream, stub, method)
            elif name not in OPEN:
                method = partial(self._call, stub, method)
            setattr(signed, name, method)
        return signed  # type: ignore[no-any-return]  # it has the stub's methods

    async def _call(self, stub: Kv, method: Callable[..., Any], *arguments: Any) -> Any:
        token = self._token
        if token is None:
            token = await self.token(stub)
        try:
            with rpc.options(metadata={TOKEN: token}):
                return await method(*arguments)
        except CallError as error:
            if not is_signed_out(error):
                raise
        with rpc.options(metadata={TOKEN: await self.token(stub, token)}):
            return await method(*arguments)

    async def _stream(self, stub: Kv, method: Callable[..., Any], *arguments: Any) -> AsyncIterator[Any]:
        token, has_begun = await self.token(stub), False
        while True:
            with rpc.options(metadata={TOKEN: token}):
                items = method(*arguments)
            try:
                async with aclosing(items):
                    async for item in items:
                        has_begun = True
                        yield item
                return
            except CallError as error:
                if has_begun or not is_signed_out(error):
                    raise
            has_begun, token = True, await self.token(stub, token)


class _SignedStub:
    """What `Badge.sign` makes."""


def _nothing_done(error: CallError) -> CallError:
    """A sign-in whose end nobody knows has changed nothing: what it was for was not executed."""
    meaning = meaning_of(error)
    if isinstance(meaning, Unknown):
        return NotExecuted(f"signing in: {meaning}", cause=meaning.cause)
    return meaning

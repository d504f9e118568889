"""Credentials: what is done with passwords before a command enters the log.

    name, password -> compared with the hash that holds now -> a token, which the log makes known to every node
    a new password -> its hash -> the command that holds it

The idea: hashing takes long on purpose, and salt and tokens are chance; so all of it happens here, in a worker thread,
before the command. Both doors of the store, etcd's and the native one, sign their callers in by this.

The rules: a password leaves this node only as its hash; that a user is unknown takes as long as that his password is
wrong, and sounds the same.

Source: the Auth service of etcd v3.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from onerack.kv.core import Kind, KvMachine
from onerack.kv.core.commands import log_in, with_hashed_password
from onerack.kv.core.errors import AUTH_FAILED, AUTH_NOT_ENABLED, MALFORMED, REQUEST_TOO_LARGE, Refused
from onerack.kv.core.passwords import SALT_BYTES, hashed, matches
from onerack.kv.server.tokens import new_token

AT_ONCE: Final = 2
"""Passwords that are hashed at the same time: each takes a core and some MiB."""
WITH_PASSWORD: Final = frozenset({Kind.USER_ADD, Kind.USER_CHANGE_PASSWORD})

Execute = Callable[[int, str, bytes], Awaitable[bytes]]
"""(kind, user, request) -> the machine's response. Raises: Refused, CallError."""


class UpToDate(Protocol):
    """A node, as far as it is needed here."""

    async def catch_up(self) -> None: ...


class Credentials:
    """Of one door of one node."""

    def __init__(self, machine: KvMachine, execute: Execute) -> None:
        self._machine = machine
        self._execute = execute
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def sign_in(self, node: UpToDate, name: str, password: str) -> bytes:
        """An AuthenticateResponse, with a token. Raises: Refused, CallError."""
        while True:
            await node.catch_up()  # What is compared is the password that holds when nothing newer is committed.
            auth = self._machine.auth
            if not auth.enabled:
                raise Refused(AUTH_NOT_ENABLED)
            revision = auth.state.revision
            user = auth.state.users.get(name)
            if not await self._is_right(password, user.password if user is not None else ""):
                raise Refused(AUTH_FAILED)
            token = new_token()
            response = await self._execute(Kind.LOG_IN, "", log_in(name, token))
            if self._machine.auth.state.revision == revision:
                return response
            # Somebody was faster: the password may be another one by now.
            await self._execute(Kind.LOG_OUT, "", token.encode())

    async def hashed(self, kind: Kind, request: bytes) -> bytes:
        """A request with a new password, as it may enter the log. Raises: Refused."""
        if len(request) > self._machine.config.request_bytes_max:
            raise Refused(REQUEST_TOO_LARGE)
        try:
            async with self._turn:
                return await asyncio.to_thread(with_hashed_password, kind, request, secrets.token_bytes(SALT_BYTES))
        except DecodeError:
            raise Refused(MALFORMED) from None

    async def _is_right(self, password: str, stored: str) -> bool:
        async with self._turn:
            if stored:
                return await asyncio.to_thread(matches, password, stored)
            await asyncio.to_thread(hashed, password, bytes(SALT_BYTES))
            return False

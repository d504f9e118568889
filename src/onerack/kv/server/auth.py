"""The service Auth: users, roles, and logging in.

The idea: to change users and roles is a command like any other. What needs time or chance, hashing a password,
comparing one, drawing a token, is done here, before the command, in a worker thread.

The rules: a password leaves this node only as its hash; that a user is unknown takes as long as that his password is
wrong, and sounds the same.

Source: the Auth service of etcd v3.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from onerack.kv.core import Kind
from onerack.kv.core.commands import KIND_OF_PATH, log_in, with_hashed_password
from onerack.kv.core.errors import AUTH_FAILED, AUTH_NOT_ENABLED, MALFORMED, REQUEST_TOO_LARGE, Refused
from onerack.kv.core.passwords import SALT_BYTES, hashed, matches
from onerack.kv.messages import LIBRARY, METHODS
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.outcomes import granted
from onerack.kv.server.tokens import new_token

_SERVICE: Final = "/etcdserverpb.Auth/"
_AUTHENTICATE: Final = _SERVICE + "Authenticate"
_WITH_PASSWORD: Final = frozenset({Kind.USER_ADD, Kind.USER_CHANGE_PASSWORD})
_AT_ONCE: Final = 2
"""Passwords that are hashed at the same time: each takes a core and some MiB."""


class AuthService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def handlers(self) -> Mapping[str, Unary | Stream]:
        found: dict[str, Unary | Stream] = {_AUTHENTICATE: Unary(self._authenticate)}
        for path in METHODS:
            if not path.startswith(_SERVICE) or path in found:
                continue
            kind = KIND_OF_PATH.get(path)
            if kind is None:
                found[path] = Unary(partial(self._ask, path))
            else:
                found[path] = Unary(partial(self._change, kind))
        return found

    # ------------------------------------------------------------------------------------------------ users and roles

    def _change(self, kind: Kind, call: Call, request: bytes) -> None:
        user = self._desk.admit(call)
        if user is None:
            return
        if kind in _WITH_PASSWORD:
            self._desk.run(call, self._change_password(kind, user, request))
        else:
            self._desk.propose(call, kind, user, request)

    async def _change_password(self, kind: Kind, user: str, request: bytes) -> bytes:
        if len(request) > self._desk.config.request_bytes_max:
            raise Refused(REQUEST_TOO_LARGE)
        try:
            async with self._turn:
                salt = secrets.token_bytes(SALT_BYTES)
                changed = await asyncio.to_thread(with_hashed_password, kind, request, salt)
        except DecodeError:
            raise Refused(MALFORMED) from None
        return await self._desk.execute(kind, user, changed)

    def _ask(self, path: str, call: Call, request: bytes) -> None:
        user = self._desk.admit(call)
        if user is not None:
            self._desk.run(call, self._asked(path, user, request))

    async def _asked(self, path: str, user: str, request: bytes) -> bytes:
        await self._desk.node.catch_up()
        return granted(self._desk.machine.ask(path, user, request))

    # ------------------------------------------------------------------------------------------------ logging in

    def _authenticate(self, call: Call, request: bytes) -> None:
        try:
            asked = LIBRARY["AuthenticateRequest"].FromString(request)
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
            return
        self._desk.run(call, self._log_in(asked.name, asked.password))

    async def _log_in(self, name: str, password: str) -> bytes:
        """Compares the password with the one that holds when nothing newer is committed."""
        machine, desk = self._desk.machine, self._desk
        while True:
            await desk.node.catch_up()
            if not machine.auth.enabled:
                raise Refused(AUTH_NOT_ENABLED)
            revision = machine.auth.state.revision
            user = machine.auth.state.users.get(name)
            if not await self._is_right(password, user.password if user is not None else ""):
                raise Refused(AUTH_FAILED)
            token = new_token()
            response = await desk.execute(Kind.LOG_IN, "", log_in(name, token))
            if machine.auth.state.revision == revision:
                return response
            # Somebody was faster: the password may be another one by now.
            await desk.execute(Kind.LOG_OUT, "", token.encode())

    async def _is_right(self, password: str, stored: str) -> bool:
        async with self._turn:
            if stored:
                return await asyncio.to_thread(matches, password, stored)
            await asyncio.to_thread(hashed, password, bytes(SALT_BYTES))
            return False

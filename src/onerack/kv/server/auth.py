"""The service Auth: users, roles, and logging in.

The idea: to change users and roles is a command like any other. What needs time or chance, hashing a password,
comparing one, drawing a token, is done before the command (`credentials`).

Source: the Auth service of etcd v3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from onerack.kv.core import Kind
from onerack.kv.core.commands import KIND_OF_PATH
from onerack.kv.core.errors import MALFORMED
from onerack.kv.messages import LIBRARY, METHODS
from onerack.kv.server.credentials import WITH_PASSWORD, Credentials
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.outcomes import granted

_SERVICE: Final = "/etcdserverpb.Auth/"
_AUTHENTICATE: Final = _SERVICE + "Authenticate"


class AuthService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._credentials = Credentials(desk.machine, desk.execute)

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
        if kind in WITH_PASSWORD:
            self._desk.run(call, self._change_password(kind, user, request))
        else:
            self._desk.propose(call, kind, user, request)

    async def _change_password(self, kind: Kind, user: str, request: bytes) -> bytes:
        hashed = await self._credentials.hashed(kind, request)
        return await self._desk.execute(kind, user, hashed)

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
        self._desk.run(call, self._credentials.sign_in(self._desk.node, asked.name, asked.password))

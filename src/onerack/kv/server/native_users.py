"""Users and roles by the native interface: etcd's, in other words.

The idea: there is one state of users, and one set of commands that change it; here the native calls become them. Who
asks is told by the token of the call, as for any other call; who has none yet signs in.

The rule: nothing is decided here. Whether somebody may, the machine says when it applies the command.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from onerack.kv.client.values import AuthStatus, Permission
from onerack.kv.core import Kind, encode_command
from onerack.kv.core.commands import MOUNT
from onerack.kv.core.errors import AUTH_NOT_ENABLED, Refused
from onerack.kv.core.permissions import READ, READ_WRITE, WRITE
from onerack.kv.messages import LIBRARY
from onerack.kv.server.credentials import Credentials
from onerack.kv.server.native_calls import Answer, NativeCalls, checked, refused

_PATH: Final = "/etcdserverpb.Auth/"
Word = Literal["read", "write", "readwrite"]
_KINDS: Final[dict[Word, int]] = {"read": READ, "write": WRITE, "readwrite": READ_WRITE}
_WORDS: Final = {number: word for word, number in _KINDS.items()}


class NativeUsers(NativeCalls):
    """A part of the service of one node."""

    def __init__(self, *how: Any) -> None:
        super().__init__(*how)
        self._credentials = Credentials(self.machine, self._execute)

    async def _execute(self, kind: int, user: str, request: bytes) -> bytes:
        return checked(await self.node.execute(MOUNT, encode_command(kind, user.encode(), request)))

    # ------------------------------------------------------------------------------------------------ who am I

    async def sign_in(self, name: str, password: str) -> str:
        try:
            response = await self._credentials.sign_in(self.node, name, password)
        except Refused as refusal:
            if refusal.error is AUTH_NOT_ENABLED:
                return ""
            raise refused(refusal.error) from None
        token: str = LIBRARY["AuthenticateResponse"].FromString(response).token
        return token

    # ------------------------------------------------------------------------------------------------ on and off

    def enable_auth(self) -> Answer:
        return self._change(Kind.AUTH_ENABLE, "AuthEnable")

    def disable_auth(self) -> Answer:
        return self._change(Kind.AUTH_DISABLE, "AuthDisable")

    def auth_status(self) -> Answer:
        return self._ask("AuthStatus", "AuthStatus", lambda found: AuthStatus(found.enabled, found.authRevision))

    # ------------------------------------------------------------------------------------------------ users

    async def add_user(self, name: str, password: str, no_password: bool = False) -> None:
        options = LIBRARY["UserAddOptions"](no_password=no_password)
        await self._with_password(Kind.USER_ADD, "AuthUserAdd", name=name, password=password, options=options)

    async def change_password(self, name: str, password: str) -> None:
        await self._with_password(Kind.USER_CHANGE_PASSWORD, "AuthUserChangePassword", name=name, password=password)

    def delete_user(self, name: str) -> Answer:
        return self._change(Kind.USER_DELETE, "AuthUserDelete", name=name)

    def grant_role(self, name: str, role: str) -> Answer:
        return self._change(Kind.USER_GRANT_ROLE, "AuthUserGrantRole", user=name, role=role)

    def revoke_role(self, name: str, role: str) -> Answer:
        return self._change(Kind.USER_REVOKE_ROLE, "AuthUserRevokeRole", name=name, role=role)

    def roles_of(self, name: str) -> Answer:
        return self._ask("UserGet", "AuthUserGet", lambda found: list(found.roles), name=name)

    def users(self) -> Answer:
        return self._ask("UserList", "AuthUserList", lambda found: list(found.users))

    # ------------------------------------------------------------------------------------------------ roles

    def add_role(self, role: str) -> Answer:
        return self._change(Kind.ROLE_ADD, "AuthRoleAdd", name=role)

    def delete_role(self, role: str) -> Answer:
        return self._change(Kind.ROLE_DELETE, "AuthRoleDelete", role=role)

    def grant_permission(self, role: str, permission: Permission) -> Answer:
        granted = LIBRARY["Permission"](
            permType=_KINDS[permission.kind], key=permission.key, range_end=permission.range_end
        )
        return self._change(Kind.ROLE_GRANT_PERMISSION, "AuthRoleGrantPermission", name=role, perm=granted)

    def revoke_permission(self, role: str, key: bytes, range_end: bytes = b"") -> Answer:
        words = {"role": role, "key": key, "range_end": range_end}
        return self._change(Kind.ROLE_REVOKE_PERMISSION, "AuthRoleRevokePermission", **words)

    def permissions_of(self, role: str) -> Answer:
        return self._ask("RoleGet", "AuthRoleGet", lambda found: list(map(_permission, found.perm)), role=role)

    def roles(self) -> Answer:
        return self._ask("RoleList", "AuthRoleList", lambda found: list(found.roles))

    # ------------------------------------------------------------------------------------------------ how

    def _change(self, kind: Kind, stem: str, **fields: Any) -> Answer:
        return self.command(kind, LIBRARY[f"{stem}Request"](**fields).SerializeToString(), lambda _response: None)

    async def _with_password(self, kind: Kind, stem: str, **fields: Any) -> None:
        user = self.user()
        request = LIBRARY[f"{stem}Request"](**fields).SerializeToString()
        try:
            hashed = await self._credentials.hashed(kind, request)
        except Refused as refusal:
            raise refused(refusal.error) from None
        await self._execute(kind, user, hashed)

    def _ask(self, method: str, stem: str, read: Any, **fields: Any) -> Answer:
        user, request = self.user(), LIBRARY[f"{stem}Request"](**fields).SerializeToString()

        def look() -> Any:
            answer = checked(self.machine.ask(f"{_PATH}{method}", user, request))
            return read(LIBRARY[f"{stem}Response"].FromString(answer))

        return self.after_barrier(look)


def _permission(granted: Any) -> Permission:
    return Permission(_WORDS[granted.permType], granted.key, granted.range_end)

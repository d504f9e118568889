"""Commands and questions about users and roles: from etcd's messages to `auth`, and back.

The idea: each command has one line here that says what it does to `Auth`. All of them answer with a header alone, so
a handler returns what comes behind the header: mostly nothing.

The rule: management needs the role root, once authentication is on; only about oneself one may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from onerack.kv.core.auth import ROOT, Auth, User
from onerack.kv.core.commands import Changes, Handler, Kind
from onerack.kv.core.errors import PERMISSION_NOT_GIVEN, PERMISSION_REFUSED, Refused
from onerack.kv.core.permissions import READ_WRITE, Grant
from onerack.kv.messages import LIBRARY

Answer = Callable[[str, Any], bytes]
"""(user, request) -> the response without its header."""

_NOTHING: Final = b""


class Management:
    """The desk where users and roles are managed."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def handlers(self) -> dict[int, tuple[Any, Handler]]:
        """By kind of command: the request's class, and what answers it."""
        auth = self._auth
        changes: dict[int, tuple[str, Callable[[Any], object]]] = {
            Kind.AUTH_ENABLE: ("AuthEnable", lambda request: auth.enable()),
            Kind.AUTH_DISABLE: ("AuthDisable", lambda request: auth.disable()),
            Kind.USER_ADD: ("AuthUserAdd", self._add_user),
            Kind.USER_DELETE: ("AuthUserDelete", lambda request: auth.delete_user(request.name)),
            Kind.USER_CHANGE_PASSWORD: (
                "AuthUserChangePassword",
                lambda request: auth.change_password(request.name, request.hashedPassword),
            ),
            Kind.USER_GRANT_ROLE: ("AuthUserGrantRole", lambda request: auth.grant_role(request.user, request.role)),
            Kind.USER_REVOKE_ROLE: (
                "AuthUserRevokeRole",
                lambda request: auth.revoke_role(request.name, request.role),
            ),
            Kind.ROLE_ADD: ("AuthRoleAdd", lambda request: auth.add_role(request.name)),
            Kind.ROLE_DELETE: ("AuthRoleDelete", lambda request: auth.delete_role(request.role)),
            Kind.ROLE_GRANT_PERMISSION: ("AuthRoleGrantPermission", self._grant_permission),
            Kind.ROLE_REVOKE_PERMISSION: (
                "AuthRoleRevokePermission",
                lambda request: auth.revoke_permission(request.role, request.key, request.range_end),
            ),
        }
        found: dict[int, tuple[Any, Handler]] = {
            kind: (LIBRARY[f"{stem}Request"], self._as_root(change)) for kind, (stem, change) in changes.items()
        }
        found[Kind.LOG_IN] = (LIBRARY["AuthenticateRequest"], self._log_in)
        found[Kind.LOG_OUT] = (None, self._log_out)
        return found

    def _as_root(self, change: Callable[[Any], object]) -> Handler:
        def handle(user: str, request: Any, changes: Changes) -> bytes:
            self._auth.check_admin(user)
            change(request)
            return _NOTHING

        return handle

    def _add_user(self, request: Any) -> None:
        self._auth.add_user(request.name, request.hashedPassword, request.options.no_password)

    def _grant_permission(self, request: Any) -> None:
        if not request.HasField("perm") or not 0 <= request.perm.permType <= READ_WRITE:
            raise Refused(PERMISSION_NOT_GIVEN)
        grant = (request.perm.key, request.perm.range_end, request.perm.permType)
        self._auth.grant_permission(request.name, grant)

    def _log_in(self, user: str, request: Any, changes: Changes) -> bytes:
        self._auth.log_in(request.name, request.password)
        return _encoded("AuthenticateResponse", token=request.password)

    def _log_out(self, user: str, request: bytes, changes: Changes) -> bytes:
        self._auth.log_out(request.decode().splitlines())
        return _NOTHING

    # ------------------------------------------------------------------------------------------------ questions

    def questions(self) -> dict[str, tuple[Any, Answer]]:
        """By the path of the method."""
        asked = {
            "UserGet": ("AuthUserGet", self._get_user),
            "UserList": ("AuthUserList", self._list_users),
            "RoleGet": ("AuthRoleGet", self._get_role),
            "RoleList": ("AuthRoleList", self._list_roles),
            "AuthStatus": ("AuthStatus", self._status),
        }
        return {
            f"/etcdserverpb.Auth/{method}": (LIBRARY[f"{stem}Request"], handler)
            for method, (stem, handler) in asked.items()
        }

    def _get_user(self, user: str, request: Any) -> bytes:
        if request.name != user:
            self._auth.check_admin(user)
        return _encoded("AuthUserGetResponse", roles=self._auth.user(request.name).roles)

    def _list_users(self, user: str, request: Any) -> bytes:
        self._auth.check_admin(user)
        return _encoded("AuthUserListResponse", users=sorted(self._auth.state.users))

    def _get_role(self, user: str, request: Any) -> bytes:
        if self._auth.enabled and not self._has_role(user, request.role):
            raise Refused(PERMISSION_REFUSED)
        grants: list[Grant] = self._auth.role(request.role).grants
        permission = LIBRARY["Permission"]
        return _encoded(
            "AuthRoleGetResponse",
            perm=[permission(permType=kind, key=key, range_end=end) for key, end, kind in grants],
        )

    def _has_role(self, user: str, role: str) -> bool:
        self._auth.check_known(user)
        found: User = self._auth.user(user)
        return role in found.roles or ROOT in found.roles

    def _list_roles(self, user: str, request: Any) -> bytes:
        self._auth.check_admin(user)
        return _encoded("AuthRoleListResponse", roles=sorted(self._auth.state.roles))

    def _status(self, user: str, request: Any) -> bytes:
        state = self._auth.state
        return _encoded("AuthStatusResponse", enabled=state.enabled, authRevision=state.revision)


def _encoded(name: str, **fields: Any) -> bytes:
    return bytes(LIBRARY[name](**fields).SerializeToString())

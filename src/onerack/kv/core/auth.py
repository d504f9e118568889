"""Users, roles, and who may do what.

The idea: users and roles are part of the replicated state, and a permission is looked at when a command is applied,
not when it arrives: then the order of the log decides whether a put came before or after the permission was taken
away, and every node decides alike.

The rules:
- nothing is asked while authentication is off; to turn it on needs a user `root` that has the role `root`;
- passwords come hashed (`passwords`); a token is drawn by the server, and here only remembered;
- who is deleted, or gets another password, loses his tokens; roles may change under a token.

Source: the auth API of etcd v3; field by field its behaviour, but that a transaction inside a transaction, an asked-for
previous value and the keys of a lease are looked at, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final

import msgspec

from onerack.kv.core.errors import (
    AUTH_NOT_ENABLED,
    INVALID_AUTH_MANAGEMENT,
    PERMISSION_NOT_GRANTED,
    PERMISSION_REFUSED,
    ROLE_EMPTY,
    ROLE_EXISTS,
    ROLE_NOT_FOUND,
    ROLE_NOT_GRANTED,
    ROOT_ROLE_MISSING,
    ROOT_USER_MISSING,
    USER_EMPTY,
    USER_EXISTS,
    USER_NOT_FOUND,
    Refused,
)
from onerack.kv.core.permissions import Grant, Rights
from onerack.kv.core.store import End

ROOT: Final = "root"
"""The user, and the role, that may do everything."""
NOBODY: Final = ""


class User(msgspec.Struct, eq=False):
    name: str
    password: str
    """Hashed; empty: nobody can log in under this name."""
    no_password: bool = False
    roles: list[str] = []
    """Sorted."""


class Role(msgspec.Struct, eq=False):
    name: str
    grants: list[Grant] = []
    """Sorted by key, those of one key in the order in which they were granted; no two for the same range."""


class AuthState(msgspec.Struct):
    """All of it, as it is kept in a snapshot."""

    enabled: bool = False
    revision: int = 1
    users: dict[str, User] = {}
    roles: dict[str, Role] = {}
    tokens: dict[str, str] = {}
    """token -> name of the user."""


class Auth:
    """Answers whether somebody may, and changes who may."""

    def __init__(self) -> None:
        self.state = AuthState()
        self._rights: dict[str, Rights] = {}
        """By user, as far as somebody has asked; forgotten with each change."""

    @property
    def enabled(self) -> bool:
        return self.state.enabled

    # ------------------------------------------------------------------------------------------------ who may

    def check_read(self, user: str, key: bytes, end: End) -> None:
        """Raises: Refused."""
        if self.state.enabled and not self._may_all(user) and not self._rights_of(user).may_read(key, end):
            raise Refused(PERMISSION_REFUSED)

    def check_write(self, user: str, key: bytes, end: End) -> None:
        """Raises: Refused."""
        if self.state.enabled and not self._may_all(user) and not self._rights_of(user).may_write(key, end):
            raise Refused(PERMISSION_REFUSED)

    def check_keys_writable(self, user: str, keys: Iterable[bytes]) -> None:
        """Who attaches a key to a lease, or ends it, decides about all its keys."""
        if self.state.enabled:
            for key in keys:
                self.check_write(user, key, None)

    def check_known(self, user: str) -> None:
        """For what concerns no key: it must be somebody."""
        if self.state.enabled:
            self._user_of_request(user)

    def check_admin(self, user: str) -> None:
        """Raises: Refused: `user` is not one of those who have the role root."""
        if self.state.enabled and not self._may_all(user):
            raise Refused(PERMISSION_REFUSED)

    def may_watch(self, user: str, key: bytes, end: End) -> bool:
        try:
            self.check_read(user, key, end)
        except Refused:
            return False
        return True

    def _may_all(self, user: str) -> bool:
        return ROOT in self._user_of_request(user).roles

    def _user_of_request(self, user: str) -> User:
        if user == NOBODY:
            raise Refused(USER_EMPTY)
        found = self.state.users.get(user)
        if found is None:
            raise Refused(PERMISSION_REFUSED)
        return found

    def _rights_of(self, user: str) -> Rights:
        rights = self._rights.get(user)
        if rights is None:
            roles = [self.state.roles[name] for name in self.state.users[user].roles if name in self.state.roles]
            rights = self._rights[user] = Rights(grant for role in roles for grant in role.grants)
        return rights

    # ------------------------------------------------------------------------------------------------ on and off

    def enable(self) -> None:
        if self.state.enabled:
            return
        root = self.state.users.get(ROOT)
        if root is None:
            raise Refused(ROOT_USER_MISSING)
        if ROOT not in root.roles:
            raise Refused(ROOT_ROLE_MISSING)
        self.state.enabled = True
        self._rights.clear()

    def disable(self) -> None:
        if not self.state.enabled:
            return
        self.state.enabled = False
        self.state.tokens.clear()
        self._changed()

    # ------------------------------------------------------------------------------------------------ tokens

    def log_in(self, user: str, token: str) -> None:
        """The server has compared the password, and has drawn a token."""
        if not self.state.enabled:
            raise Refused(AUTH_NOT_ENABLED)
        if user not in self.state.users:
            raise Refused(PERMISSION_REFUSED)
        self.state.tokens[token] = user

    def log_out(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            self.state.tokens.pop(token, None)

    def user_of(self, token: str) -> str | None:
        return self.state.tokens.get(token)

    def _log_out_user(self, user: str) -> None:
        self.log_out([token for token, name in self.state.tokens.items() if name == user])

    # ------------------------------------------------------------------------------------------------ users

    def user(self, name: str) -> User:
        """Raises: Refused: there is none."""
        found = self.state.users.get(name)
        if found is None:
            raise Refused(USER_NOT_FOUND)
        return found

    def add_user(self, name: str, password: str, no_password: bool) -> None:
        if not name:
            raise Refused(USER_EMPTY)
        if name in self.state.users:
            raise Refused(USER_EXISTS)
        self.state.users[name] = User(name, "" if no_password else password, no_password, [])
        self._changed()

    def delete_user(self, name: str) -> None:
        if self.state.enabled and name == ROOT:
            raise Refused(INVALID_AUTH_MANAGEMENT)
        self.user(name)
        del self.state.users[name]
        self._log_out_user(name)
        self._changed()

    def change_password(self, name: str, password: str) -> None:
        user = self.user(name)
        if not user.no_password:
            user.password = password
        self._log_out_user(name)
        self._changed()

    def grant_role(self, name: str, role: str) -> None:
        user = self.user(name)
        if role != ROOT:
            self.role(role)
        if role in user.roles:
            return
        user.roles = sorted([*user.roles, role])
        self._changed()

    def revoke_role(self, name: str, role: str) -> None:
        if self.state.enabled and name == ROOT and role == ROOT:
            raise Refused(INVALID_AUTH_MANAGEMENT)
        user = self.user(name)
        if role not in user.roles:
            raise Refused(ROLE_NOT_GRANTED)
        user.roles = [kept for kept in user.roles if kept != role]
        self._changed()

    # ------------------------------------------------------------------------------------------------ roles

    def role(self, name: str) -> Role:
        """Raises: Refused: there is none."""
        found = self.state.roles.get(name)
        if found is None:
            raise Refused(ROLE_NOT_FOUND)
        return found

    def add_role(self, name: str) -> None:
        if not name:
            raise Refused(ROLE_EMPTY)
        if name in self.state.roles:
            raise Refused(ROLE_EXISTS)
        self.state.roles[name] = Role(name, [])
        self._changed()

    def delete_role(self, name: str) -> None:
        if self.state.enabled and name == ROOT:
            raise Refused(INVALID_AUTH_MANAGEMENT)
        self.role(name)
        del self.state.roles[name]
        for user in self.state.users.values():
            if name in user.roles:
                user.roles = [kept for kept in user.roles if kept != name]
        self._changed()

    def grant_permission(self, name: str, grant: Grant) -> None:
        """Replaces what the role had for the same range."""
        role = self.role(name)
        key, end, _ = grant
        places = [place for place, kept in enumerate(role.grants) if kept[:2] == (key, end)]
        if places:
            role.grants = [grant if place in places else kept for place, kept in enumerate(role.grants)]
        else:
            role.grants = sorted([*role.grants, grant], key=itemgetter(0))
        self._changed()

    def revoke_permission(self, name: str, key: bytes, end: bytes) -> None:
        role = self.role(name)
        kept = [grant for grant in role.grants if grant[:2] != (key, end)]
        if len(kept) == len(role.grants):
            raise Refused(PERMISSION_NOT_GRANTED)
        role.grants = kept
        self._changed()

    def _changed(self) -> None:
        self.state.revision += 1
        self._rights.clear()

    def restore(self, state: AuthState) -> None:
        self.state = state
        self._rights.clear()

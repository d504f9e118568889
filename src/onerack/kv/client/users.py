"""Users and roles: who may do what, for programs that look after a store.

    await store.auth.add_user("ann", "secret")
    await store.auth.grant_permission("reader", "read", "config/", prefix=True)

The idea: etcd's users and roles, under the names that Python programs would give them. The rule: what is changed here
is changed for the clients of etcd, too, and the other way round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from onerack.kv.client.ranges import Key, span
from onerack.kv.client.values import AuthStatus, Permission

Call = Callable[..., Awaitable[Any]]
"""(method, arguments ...) -> its result."""


class Auth:
    """Of a client: `client.auth`. Once authentication is on, nearly all of it wants a user with the role root."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def enable(self) -> None:
        """From now on every caller must be somebody. Raises: KvRefused: there is no user root with the role root."""
        await self._call("enable_auth")

    async def disable(self) -> None:
        """From now on everybody may do everything; users and roles stay."""
        await self._call("disable_auth")

    async def status(self) -> AuthStatus:
        """Anybody may ask."""
        status: AuthStatus = await self._call("auth_status")
        return status

    # ------------------------------------------------------------------------------------------------ users

    async def add_user(self, name: str, password: str = "", *, no_password: bool = False) -> None:
        """`no_password`: he is known by his certificate, and cannot sign in."""
        await self._call("add_user", name, password, no_password)

    async def delete_user(self, name: str) -> None:
        """Whoever is signed in as this user is so no more."""
        await self._call("delete_user", name)

    async def change_password(self, name: str, password: str) -> None:
        """Whoever is signed in as this user must sign in again."""
        await self._call("change_password", name, password)

    async def grant_role(self, name: str, role: str) -> None:
        await self._call("grant_role", name, role)

    async def revoke_role(self, name: str, role: str) -> None:
        await self._call("revoke_role", name, role)

    async def roles_of(self, name: str) -> list[str]:
        """Everybody may ask that of himself."""
        found: list[str] = await self._call("roles_of", name)
        return found

    async def users(self) -> list[str]:
        found: list[str] = await self._call("users")
        return found

    # ------------------------------------------------------------------------------------------------ roles

    async def add_role(self, role: str) -> None:
        """It may do nothing yet. The role `root` may do everything."""
        await self._call("add_role", role)

    async def delete_role(self, role: str) -> None:
        await self._call("delete_role", role)

    async def grant_permission(
        self,
        role: str,
        kind: Literal["read", "write", "readwrite"],
        key: Key,
        range_end: Key = b"",
        *,
        prefix: bool = False,
    ) -> None:
        """For one key, a range, or all keys that begin with `key`. It replaces what was said of the same range."""
        await self._call("grant_permission", role, Permission(kind, *span(key, range_end, prefix=prefix)))

    async def revoke_permission(self, role: str, key: Key, range_end: Key = b"", *, prefix: bool = False) -> None:
        """Takes back what was said of this very range."""
        await self._call("revoke_permission", role, *span(key, range_end, prefix=prefix))

    async def permissions_of(self, role: str) -> list[Permission]:
        """Whoever has the role may ask."""
        found: list[Permission] = await self._call("permissions_of", role)
        return found

    async def roles(self) -> list[str]:
        found: list[str] = await self._call("roles")
        return found

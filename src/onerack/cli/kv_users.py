"""`onerack kv user`, `role` and `auth`: who may do what.

The idea: etcd's words, as etcdctl has them: roles may read and write ranges of keys, users have roles, and the role
root may do everything. The rule: a password is never printed, and need not be on the command line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import typer

from onerack.cli import kv_options as options
from onerack.cli.kv_options import with_store
from onerack.cli.kv_password import new_credentials_of
from onerack.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from onerack.kv.client import KvClient, Permission

ENABLE_EXAMPLES = """\b
Examples:
  onerack kv user add root
  onerack kv auth enable
"""
DISABLE_EXAMPLES = """\b
Examples:
  onerack kv auth disable --user root
"""
STATUS_EXAMPLES = """\b
Examples:
  onerack kv auth status
  onerack kv auth status --json | jq .enabled
"""
USER_ADD_EXAMPLES = """\b
Examples:
  onerack kv user add ann
  pwgen 20 1 | tee ann.secret | onerack kv user add ann --user root
  onerack kv user add worker.example.com --no-password
"""
USER_EXAMPLES: Final = {
    "del": "onerack kv user del ann --user root",
    "passwd": "onerack kv user passwd ann --user root",
    "grant-role": "onerack kv user grant-role ann reader --user root",
    "revoke-role": "onerack kv user revoke-role ann reader --user root",
    "get": "onerack kv user get ann --user ann",
    "list": "onerack kv user list --user root --json",
}
ROLE_EXAMPLES: Final = {
    "add": "onerack kv role add reader --user root",
    "del": "onerack kv role del reader --user root",
    "get": "onerack kv role get reader --user root",
    "list": "onerack kv role list --user root",
    "grant-permission": "onerack kv role grant-permission reader read config/ --prefix --user root",
    "revoke-permission": "onerack kv role revoke-permission reader config/ --prefix --user root",
}


auth_app = options.group("auth", "Whether users are asked who they are.")
user_app = options.group("user", "Users: who may sign in, and which roles each has.")
role_app = options.group("role", "Roles: which keys whoever has one may read and write.")

NewUser = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:PASSWORD]", help="Without a password it is asked for, or read as a line of standard input."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="The role.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key, or where the range begins.")]


def _say(described: dict[str, Any], words: str, *, as_json: bool) -> None:
    print(json.dumps(described) if as_json else words)


# ------------------------------------------------------------------------------------------------ on and off


async def enable(store: KvClient, as_json: options.AsJson = False) -> None:
    """From now on every caller must be a user. There must be a user root; it gets the role root if it has not.

    Nodes go on speaking with each other as before.
    """
    from onerack.kv.client import KvRefused

    try:
        await store.auth.enable()
    except KvRefused as error:
        if "does not have root role" not in str(error):
            raise
        await store.auth.grant_role("root", "root")
        await store.auth.enable()
    _say({"enabled": True}, "users are asked who they are from now on", as_json=as_json)


async def disable(store: KvClient, as_json: options.AsJson = False) -> None:
    """From now on everybody may do everything. Users and roles stay as they are."""
    await store.auth.disable()
    _say({"enabled": False}, "nobody is asked who he is from now on", as_json=as_json)


async def auth_status(store: KvClient, as_json: options.AsJson = False) -> None:
    """Say whether authentication is on. Anybody may ask."""
    found = await store.auth.status()
    words = f"authentication is {'on' if found.enabled else 'off'}; revision {found.revision} of users and roles"
    _say({"enabled": found.enabled, "revision": found.revision}, words, as_json=as_json)


# ------------------------------------------------------------------------------------------------ users


async def add_user(
    store: KvClient,
    name: NewUser,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user is known by a certificate of this name, and cannot sign in.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a user, who may do nothing yet."""
    if no_password:
        await store.auth.add_user(name, no_password=True)
    else:
        name, password = new_credentials_of(name, "NAME")
        await store.auth.add_user(name, password)
    _say({"user": name, "added": True}, f"{name} is a user", as_json=as_json)


async def delete_user(store: KvClient, name: Name, as_json: options.AsJson = False) -> None:
    """Take a user away; whoever is signed in as this user is so no more."""
    await store.auth.delete_user(name)
    _say({"user": name, "deleted": True}, f"{name} is no user any more", as_json=as_json)


async def passwd(store: KvClient, name: NewUser, as_json: options.AsJson = False) -> None:
    """Give a user another password; whoever is signed in with the old one is so no more."""
    name, password = new_credentials_of(name, "NAME")
    await store.auth.change_password(name, password)
    _say({"user": name, "changed": True}, f"{name} has another password", as_json=as_json)


async def grant_role(store: KvClient, name: Name, role: Role, as_json: options.AsJson = False) -> None:
    """Give a user a role."""
    await store.auth.grant_role(name, role)
    _say({"user": name, "role": role, "granted": True}, f"{name} has the role {role}", as_json=as_json)


async def revoke_role(store: KvClient, name: Name, role: Role, as_json: options.AsJson = False) -> None:
    """Take a role away from a user."""
    await store.auth.revoke_role(name, role)
    _say({"user": name, "role": role, "granted": False}, f"{name} has the role {role} no more", as_json=as_json)


async def get_user(store: KvClient, name: Name, as_json: options.AsJson = False) -> None:
    """Print the roles of a user, one in a line. A user may ask that of himself."""
    roles = await store.auth.roles_of(name)
    _print_words({"user": name, "roles": roles}, roles, as_json=as_json)


async def list_users(store: KvClient, as_json: options.AsJson = False) -> None:
    """Print all users, one in a line."""
    users = await store.auth.users()
    _print_words({"users": users}, users, as_json=as_json)


def _print_words(described: dict[str, Any], words: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(described))
        return
    for word in words:
        print(options.to_text(word.encode(), "text"))


# ------------------------------------------------------------------------------------------------ roles


async def add_role(store: KvClient, role: Role, as_json: options.AsJson = False) -> None:
    """Make a role, which may do nothing yet."""
    await store.auth.add_role(role)
    _say({"role": role, "added": True}, f"{role} is a role", as_json=as_json)


async def delete_role(store: KvClient, role: Role, as_json: options.AsJson = False) -> None:
    """Take a role away, also from all who have it."""
    await store.auth.delete_role(role)
    _say({"role": role, "deleted": True}, f"{role} is no role any more", as_json=as_json)


async def get_role(
    store: KvClient, role: Role, encoding: options.Encoding = "text", as_json: options.AsJson = False
) -> None:
    """Print what a role may do: read, write or readwrite, the key, and the end of the range if it is one."""
    found = await store.auth.permissions_of(role)
    if as_json:
        print(json.dumps({"role": role, "permissions": [_described(each, encoding) for each in found]}))
        return
    for each in found:
        shown = [each.kind, *(options.to_text(part, encoding) for part in (each.key, each.range_end) if part)]
        print("\t".join(shown))


def _described(permission: Permission, encoding: str) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": permission.kind}
    options.put_into(described, "key", permission.key, encoding)
    options.put_into(described, "range_end", permission.range_end, encoding)
    return described


async def list_roles(store: KvClient, as_json: options.AsJson = False) -> None:
    """Print all roles, one in a line."""
    roles = await store.auth.roles()
    _print_words({"roles": roles}, roles, as_json=as_json)


async def grant_permission(
    store: KvClient,
    role: Role,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="read, write or readwrite.")],
    key: Key,
    range_end: options.RangeEnd = "",
    prefix: options.Prefix = False,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> None:
    """Let a role read or write a key, or a range. It replaces what was said of the same range."""
    if kind not in ("read", "write", "readwrite"):
        raise UsageError(f"KIND {kind!r}: expected read, write or readwrite")
    first, end = options.to_bytes(key, encoding, "KEY"), options.to_bytes(range_end, encoding, "--to")
    granted = cast(Literal["read", "write", "readwrite"], kind)
    await store.auth.grant_permission(role, granted, first, end, prefix=prefix)
    words = f"{role} may {_MAY[kind]} {_range_words(key, range_end, prefix)}"
    _say({"role": role, "granted": kind}, words, as_json=as_json)


_MAY: Final = {"read": "read", "write": "write", "readwrite": "read and write"}


async def revoke_permission(
    store: KvClient,
    role: Role,
    key: Key,
    range_end: options.RangeEnd = "",
    prefix: options.Prefix = False,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> None:
    """Take back what a role may do with a key, or a range: one that was granted, as it was granted."""
    first, end = options.to_bytes(key, encoding, "KEY"), options.to_bytes(range_end, encoding, "--to")
    await store.auth.revoke_permission(role, first, end, prefix=prefix)
    words = f"{role} has nothing to do with {_range_words(key, range_end, prefix)} any more"
    _say({"role": role, "revoked": True}, words, as_json=as_json)


def _range_words(key: str, range_end: str, prefix: bool) -> str:
    return f"{key}..." if prefix else f"{key} to {range_end}" if range_end else key


# ------------------------------------------------------------------------------------------------ commands


def _add(app: typer.Typer, name: str, command: Callable[..., Any], examples: str) -> None:
    epilog = examples if "\n" in examples else f"\b\nExamples:\n  {examples}\n"
    app.command(name=name, epilog=epilog)(with_store(command))


_add(auth_app, "enable", enable, ENABLE_EXAMPLES)
_add(auth_app, "disable", disable, DISABLE_EXAMPLES)
_add(auth_app, "status", auth_status, STATUS_EXAMPLES)
_add(user_app, "add", add_user, USER_ADD_EXAMPLES)
_USER_COMMANDS: dict[str, Callable[..., Any]] = {
    "del": delete_user, "passwd": passwd, "grant-role": grant_role, "revoke-role": revoke_role, "get": get_user,
    "list": list_users,
}  # fmt: skip
_ROLE_COMMANDS: dict[str, Callable[..., Any]] = {
    "add": add_role, "del": delete_role, "get": get_role, "list": list_roles, "grant-permission": grant_permission,
    "revoke-permission": revoke_permission,
}  # fmt: skip
for _name, _command in _USER_COMMANDS.items():
    _add(user_app, _name, _command, USER_EXAMPLES[_name])
for _name, _command in _ROLE_COMMANDS.items():
    _add(role_app, _name, _command, ROLE_EXAMPLES[_name])

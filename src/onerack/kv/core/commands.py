"""Commands: what the store's part of the log holds.

    u8 kind | u8 length of the user's name | name | the request, as protobuf, as it came from the client

The idea: what a client has sent is what every log holds; only what the client could not know is put before it. Two
requests never enter the log as they came, because they hold a password: `with_hashed_password` rewrites them, and
`log_in` makes its own. A few kinds have no request of etcd's: the leader's words on leases, a node's own alarm, the
end of tokens.

The rule: kinds never change their number; an unknown one is refused by every node alike.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, Final

from onerack.kv.core.passwords import hashed
from onerack.kv.core.version import Version
from onerack.kv.messages import LIBRARY

MOUNT: Final = 1
"""Where the store is mounted on the log."""
NAME_BYTES_MAX: Final = 255
_TERM: Final = struct.Struct("<Q")


class Kind(IntEnum):
    """What a command does."""

    PUT = 1
    DELETE_RANGE = 2
    TXN = 3
    COMPACT = 4
    LEASE_GRANT = 5
    LEASE_REVOKE = 6
    LEASE_EXPIRE = 7
    """u64 term of the leader that says so | i64 id, as often as there are leases."""
    ALARM = 8
    AUTH_ENABLE = 9
    AUTH_DISABLE = 10
    USER_ADD = 11
    """With `hashedPassword` instead of `password`."""
    USER_DELETE = 12
    USER_CHANGE_PASSWORD = 13
    """With `hashedPassword` instead of `password`."""
    USER_GRANT_ROLE = 14
    USER_REVOKE_ROLE = 15
    ROLE_ADD = 16
    ROLE_DELETE = 17
    ROLE_GRANT_PERMISSION = 18
    ROLE_REVOKE_PERMISSION = 19
    LOG_IN = 20
    """An AuthenticateRequest whose `password` is the token that the server has drawn."""
    LOG_OUT = 21
    """The tokens, each with a line feed behind."""
    LEASE_TAKE_OVER = 22
    """u64 term: expiry that leaders of earlier terms have decided is void from here on."""
    ALARM_BY_NODE = 23
    """An AlarmRequest that no client has sent: a node is in trouble."""
    COMPACT_BY_NODE = 24
    """A CompactionRequest that no client has sent: history shall not last for ever."""


Changes = list[Version]
"""What a command changes, in order; it becomes one revision."""
Handler = Callable[[str, Any, Changes], bytes]
"""(user, request, changes) -> the response without its header. Raises Refused before anything is changed."""


KIND_OF_PATH: Final = {
    "/etcdserverpb.KV/Put": Kind.PUT,
    "/etcdserverpb.KV/DeleteRange": Kind.DELETE_RANGE,
    "/etcdserverpb.KV/Txn": Kind.TXN,
    "/etcdserverpb.KV/Compact": Kind.COMPACT,
    "/etcdserverpb.Lease/LeaseGrant": Kind.LEASE_GRANT,
    "/etcdserverpb.Lease/LeaseRevoke": Kind.LEASE_REVOKE,
    "/etcdserverpb.Maintenance/Alarm": Kind.ALARM,
    "/etcdserverpb.Auth/AuthEnable": Kind.AUTH_ENABLE,
    "/etcdserverpb.Auth/AuthDisable": Kind.AUTH_DISABLE,
    "/etcdserverpb.Auth/UserAdd": Kind.USER_ADD,
    "/etcdserverpb.Auth/UserDelete": Kind.USER_DELETE,
    "/etcdserverpb.Auth/UserChangePassword": Kind.USER_CHANGE_PASSWORD,
    "/etcdserverpb.Auth/UserGrantRole": Kind.USER_GRANT_ROLE,
    "/etcdserverpb.Auth/UserRevokeRole": Kind.USER_REVOKE_ROLE,
    "/etcdserverpb.Auth/RoleAdd": Kind.ROLE_ADD,
    "/etcdserverpb.Auth/RoleDelete": Kind.ROLE_DELETE,
    "/etcdserverpb.Auth/RoleGrantPermission": Kind.ROLE_GRANT_PERMISSION,
    "/etcdserverpb.Auth/RoleRevokePermission": Kind.ROLE_REVOKE_PERMISSION,
}
"""Methods that become a command; of UserAdd and UserChangePassword only after `with_hashed_password`."""

_WITH_PASSWORD: Final = {
    Kind.USER_ADD: "AuthUserAddRequest",
    Kind.USER_CHANGE_PASSWORD: "AuthUserChangePasswordRequest",
}


def encode_command(kind: int, user: bytes, request: bytes) -> bytes:
    """Requires: the name has at most NAME_BYTES_MAX bytes; b"" is nobody."""
    return b"%c%c%b%b" % (kind, len(user), user, request)


def encode_expiry(term: int, leases: Iterable[int]) -> bytes:
    """The request of LEASE_EXPIRE."""
    ids = list(leases)
    return struct.pack(f"<Q{len(ids)}q", term, *ids)


def decode_expiry(request: bytes) -> tuple[int, tuple[int, ...]]:
    """Raises: struct.error: it is none."""
    term, *ids = struct.unpack(f"<Q{len(request) // 8 - 1}q", request)
    return term, tuple(ids)


def encode_term(term: int) -> bytes:
    """The request of LEASE_TAKE_OVER."""
    return _TERM.pack(term)


def decode_term(request: bytes) -> int:
    """Raises: struct.error: it is none."""
    (term,) = _TERM.unpack(request)
    return int(term)


def with_hashed_password(kind: Kind, request: bytes, salt: bytes) -> bytes:
    """A request of USER_ADD or USER_CHANGE_PASSWORD as it may enter the log. Slow: call it in a worker thread.

    Raises: google.protobuf.message.DecodeError: it is none.
    """
    message = LIBRARY[_WITH_PASSWORD[kind]].FromString(request)
    # Whatever a client has put there is not what it may decide.
    message.hashedPassword = hashed(message.password, salt) if message.password else ""
    message.password = ""
    return bytes(message.SerializeToString())


def log_in(user: str, token: str) -> bytes:
    """The request of LOG_IN."""
    return bytes(LIBRARY["AuthenticateRequest"](name=user, password=token).SerializeToString())

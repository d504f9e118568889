"""What client and server of the store say to each other: requests, and what comes of them.

The idea: what a transaction may do and what can be asked alone are the same words (Put, Get, Delete, Txn), and so are
their results (Written, Found, Deleted, Done). A KeyValue has the layout of the store's own versions, so that the server
sends what it holds, as it is.

The rules: fields are only added at the end, since both sides may be of different age. An empty `range_end` means one
key, b"\\0" all keys from `key` on, else the first key that is not in the range: as in etcd.

Source: the API of etcd v3.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ALL: bytes = b"\0"
"""As the end of a range: there is none."""


class KeyValue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key in one of its states. A deleted one has no value, and the version 0."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0

    @property
    def text(self) -> str:
        """The value as UTF-8. Raises: UnicodeDecodeError."""
        return self.value.decode()


# ------------------------------------------------------------------------------------------------ what can be done


class Put(msgspec.Struct, frozen=True, tag=True):
    """Gives a key a value."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    """The key goes when this lease ends; 0: it stays."""
    previous: bool = False
    """Tell what was there before."""
    keep_value: bool = False
    """The value stays as it is; the key must exist."""
    keep_lease: bool = False
    """The lease stays as it is; the key must exist."""


class Get(msgspec.Struct, frozen=True, tag=True):
    """Reads one key, or a range. The fields are those of etcd's RangeRequest: the store reads this as it is."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    """As of this revision; 0: now."""
    sort_order: int = 0
    """0: by key; 1: ascending; 2: descending, by `sort_target`."""
    sort_target: int = 0
    """0: key, 1: version, 2: create revision, 3: mod revision, 4: value."""
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Takes away one key, or a range."""

    key: bytes
    range_end: bytes = b""
    previous: bool = False
    """Tell what was there."""


Target = Literal["version", "create", "mod", "value", "lease"]
Relation = Literal["=", "!=", "<", ">"]


class Compare(msgspec.Struct, frozen=True):
    """`Compare(b"k", "version", "=", 0)`: the key does not exist. For a range it must hold for every key in it."""

    key: bytes
    target: Target
    relation: Relation
    to: int | bytes
    """Bytes for `value`, else a number."""
    range_end: bytes = b""


class Txn(msgspec.Struct, frozen=True, tag=True):
    """If all comparisons hold, `success` is done, else `failure`: as one revision."""

    compare: list[Compare] = []
    success: list[Put | Get | Delete | Txn] = []
    failure: list[Put | Get | Delete | Txn] = []


# ------------------------------------------------------------------------------------------------ what comes of it


class Written(msgspec.Struct, frozen=True, tag=True):
    """Of a Put."""

    revision: int
    previous: KeyValue | None = None


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """What a call would have raised, had it been made alone."""

    type: str
    """KvRefused, NotExecuted or Unknown."""
    cause: str
    message: str


class AllWritten(msgspec.Struct, frozen=True, array_like=True):
    """Of several puts that were asked for together."""

    revisions: list[int]
    """Of each, in their order; 0: it has failed."""
    failed: dict[int, Failed] = {}
    """By place."""


class Found(msgspec.Struct, frozen=True, tag=True):
    """Of a Get."""

    revision: int
    """Of the whole store, when it was read."""
    kvs: list[KeyValue] = []
    count: int = 0
    """Of all keys in the range, whatever the limit."""
    more: bool = False
    """The limit has left some out."""


class Deleted(msgspec.Struct, frozen=True, tag=True):
    """Of a Delete."""

    revision: int
    deleted: int = 0
    previous: list[KeyValue] = []


class Done(msgspec.Struct, frozen=True, tag=True):
    """Of a Txn."""

    revision: int
    succeeded: bool
    results: list[Written | Found | Deleted | Done] = []
    """Of the operations that were done, in their order."""


class Granted(msgspec.Struct, frozen=True):
    """A new kv lease."""

    lease: int
    ttl_s: int


class Remaining(msgspec.Struct, frozen=True):
    """How long a kv lease has left."""

    lease: int
    ttl_s: int
    """-1: there is no such lease."""
    granted_s: int = 0
    keys: list[bytes] = []


class Event(msgspec.Struct, frozen=True, array_like=True):
    """A change of a key."""

    kv: KeyValue
    previous: KeyValue | None = None

    @property
    def kind(self) -> Literal["put", "delete"]:
        return "put" if self.kv.version else "delete"


class Events(msgspec.Struct, frozen=True):
    """Some changes, in order; revisions are whole."""

    revision: int
    """Up to here everything has been told."""
    events: list[Event] = []


class AlarmStatus(msgspec.Struct, frozen=True):
    """What a member has warned of; until it is taken back, nobody may add anything (nospace) or read (corrupt)."""

    node: str
    alarm: str
    """nospace or corrupt."""


class NodeStatus(msgspec.Struct, frozen=True):
    """A node, as it sees itself."""

    name: str
    role: str
    """leader, follower, learner, witness, precandidate or candidate."""
    leader: str
    """Empty: nobody leads, as far as it knows."""
    leader_address: str
    cluster: str
    term: int
    commit: int
    applied: int
    revision: int
    compacted: int
    """-1: nothing was ever compacted."""
    size_bytes: int
    storage_full: bool
    version: str
    alarms: tuple[AlarmStatus, ...] = ()
    """Of the whole group."""
    quota_bytes: int = 0
    """What `size_bytes` may become."""


class MemberStatus(msgspec.Struct, frozen=True):
    """A member of the group."""

    name: str
    role: str
    """voter, learner or witness."""
    address: str
    endpoints: tuple[str, ...] = ()
    """Where clients of the etcd API reach it, as these write it: http:// or https://."""
    leads: bool = False


# ------------------------------------------------------------------------------------------------ users and roles


class Permission(msgspec.Struct, frozen=True):
    """What a role may do with a key, or a range."""

    kind: Literal["read", "write", "readwrite"]
    key: bytes
    range_end: bytes = b""


class AuthStatus(msgspec.Struct, frozen=True):
    """Whether users are asked who they are."""

    enabled: bool
    revision: int
    """One more with each change of users and roles."""

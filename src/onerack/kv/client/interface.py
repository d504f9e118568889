"""The store's own RPC interface, as every node offers it beside the etcd API.

The idea: any node takes any call. Writes go through the log and are answered when they are applied here; reads wait for
a barrier, unless they are `serializable`, which sees what this node has applied.

The rules, on failure:
- `ApplicationError`, whose `type` is KvError: the store refused, nothing was changed. `cause` is gRPC's word for the
  kind of refusal, the message etcd's own text.
- `ApplicationError`, whose `type` is NotExecuted or Unknown: the node says so of the command (see `client.failures`).
- `ApplicationError` of a KvError whose cause is `unauthenticated`: the token of the call is void; sign in again.
- What the connection does to a call is as its mode says: writes are at most once, reads may be tried again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from onerack import rpc
from onerack.kv.client.values import (
    AlarmStatus,
    AllWritten,
    AuthStatus,
    Deleted,
    Done,
    Events,
    Found,
    Get,
    Granted,
    MemberStatus,
    NodeStatus,
    Permission,
    Remaining,
    Txn,
    Written,
)


class Users(Protocol):
    """Who may do what: a part of Kv. All but `sign_in` and `auth_status` want the role root, once it is asked for."""

    @rpc.at_least_once
    async def sign_in(self, name: str, password: str) -> str:
        """A token for the metadata `onerack-token` of other calls; empty: nobody is asked who he is."""

    async def enable_auth(self) -> None:
        """From now on every caller must be somebody; there must be a user root with the role root."""

    async def disable_auth(self) -> None:
        """From now on everybody may do everything."""

    @rpc.readonly
    async def auth_status(self) -> AuthStatus:
        """Whether it is enabled."""

    async def add_user(self, name: str, password: str, no_password: bool = False) -> None:
        """A user; without a password he is known by his certificate only."""

    async def delete_user(self, name: str) -> None:
        """Takes a user away; his tokens are void."""

    async def change_password(self, name: str, password: str) -> None:
        """His tokens are void."""

    async def grant_role(self, name: str, role: str) -> None:
        """A user gets a role."""

    async def revoke_role(self, name: str, role: str) -> None:
        """A user loses a role."""

    @rpc.readonly
    async def roles_of(self, name: str) -> list[str]:
        """What roles a user has; everybody may ask that of himself."""

    @rpc.readonly
    async def users(self) -> list[str]:
        """All of them."""

    async def add_role(self, role: str) -> None:
        """A role that may do nothing yet."""

    async def delete_role(self, role: str) -> None:
        """Takes a role away, also from all who have it."""

    async def grant_permission(self, role: str, permission: Permission) -> None:
        """A role may read or write a range; it replaces what was said of the same range."""

    async def revoke_permission(self, role: str, key: bytes, range_end: bytes = b"") -> None:
        """Takes back what was said of this very range."""

    @rpc.readonly
    async def permissions_of(self, role: str) -> list[Permission]:
        """What a role may do; whoever has it may ask."""

    @rpc.readonly
    async def roles(self) -> list[str]:
        """All of them."""


@rpc.service("onerack.Kv")
class Kv(Users, Protocol):
    """A replicated key-value store with revisions."""

    async def put(
        self,
        key: bytes,
        value: bytes,
        lease: int = 0,
        previous: bool = False,
        keep_value: bool = False,
        keep_lease: bool = False,
    ) -> Written:
        """Gives a key a value; done when a majority has it on its disks."""

    async def put_all(self, pairs: list[tuple[bytes, bytes]]) -> AllWritten:
        """Keys and values of puts that are made at the same time; each is done for itself, in this order."""

    @rpc.readonly
    async def get(self, key: bytes, serializable: bool = False) -> Found:
        """One key as it is now."""

    @rpc.readonly
    async def find(self, wanted: Get, serializable: bool = False) -> Found:
        """Keys of a range, now or as of a revision."""

    async def delete(self, key: bytes, range_end: bytes = b"", previous: bool = False) -> Deleted:
        """Takes away one key, or a range."""

    async def txn(self, txn: Txn) -> Done:
        """Several operations as one, if comparisons hold."""

    async def compact(self, revision: int, physical: bool = False) -> int:
        """Forgets what no read at this revision or later needs; gives the store's revision.

        `physical`: answered when it has also gone from this node's memory.
        """

    @rpc.at_least_once
    async def defragment(self) -> None:
        """This node sweeps what is compacted, and cuts its log by a snapshot."""

    @rpc.readonly
    async def alarms(self) -> list[AlarmStatus]:
        """What members have warned of."""

    @rpc.at_least_once
    async def disarm(self) -> list[AlarmStatus]:
        """Takes all alarms back; gives those that there were."""

    async def grant(self, ttl_s: int, lease: int = 0) -> Granted:
        """A kv lease; the server chooses its number if none is given."""

    async def revoke(self, lease: int) -> int:
        """Ends a kv lease and takes away its keys; gives the store's revision."""

    @rpc.at_least_once
    async def renew(self, lease: int) -> int:
        """The kv lease begins anew; gives its TTL in seconds, 0 if there is none."""

    @rpc.readonly
    async def remaining(self, lease: int, keys: bool = False) -> Remaining:
        """How long a kv lease has left, and which keys it has."""

    @rpc.readonly
    async def leases(self) -> list[int]:
        """All kv leases."""

    @rpc.readonly
    def watch(
        self,
        key: bytes,
        range_end: bytes = b"",
        revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> AsyncIterator[Events]:
        """What changes, from a revision on (0: from now). The first item is empty: the watch has begun."""

    @rpc.readonly
    async def status(self) -> NodeStatus:
        """This node, and whom it takes for the leader."""

    @rpc.readonly
    async def members(self) -> list[MemberStatus]:
        """The group, as this node knows it."""

    async def manage(self, order: str, node: str) -> None:
        """`learner`, `voter`, `witness` or `remove` a node, or `transfer` the leadership to it."""

    async def add_member(self, name: str, address: str, role: str = "learner") -> None:
        """A node that is about to be started, and where the others reach it."""

    @rpc.readonly
    def snapshot(self) -> AsyncIterator[bytes]:
        """The whole store, as of the moment when it begins."""

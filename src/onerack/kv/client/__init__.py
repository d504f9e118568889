"""The native client of the store: over our own RPC, for Python programs and for `onerack kv`."""

from onerack.kv.client.client import KvClient, connect
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.interface import Kv
from onerack.kv.client.lease import Lease
from onerack.kv.client.lock import Lock
from onerack.kv.client.users import Auth
from onerack.kv.client.values import (
    AlarmStatus,
    AuthStatus,
    Compare,
    Delete,
    Deleted,
    Done,
    Event,
    Events,
    Found,
    Get,
    Granted,
    KeyValue,
    MemberStatus,
    NodeStatus,
    Permission,
    Put,
    Remaining,
    Txn,
    Written,
)

__all__ = [
    "AlarmStatus",
    "Auth",
    "AuthStatus",
    "Compare",
    "Delete",
    "Deleted",
    "Done",
    "Event",
    "Events",
    "Found",
    "Get",
    "Granted",
    "KeyValue",
    "Kv",
    "KvClient",
    "KvRefused",
    "Lease",
    "Lock",
    "MemberStatus",
    "NodeStatus",
    "Permission",
    "Put",
    "Remaining",
    "Txn",
    "Written",
    "connect",
]

"""The native client of the store: over our own RPC, for Python programs and for `onerack kv`."""

from onerack.kv.client.client import KvClient, connect
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.interface import Kv
from onerack.kv.client.lease import Lease
from onerack.kv.client.lock import Lock
from onerack.kv.client.values import (
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
    Put,
    Remaining,
    Txn,
    Written,
)

__all__ = [
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
    "Put",
    "Remaining",
    "Txn",
    "Written",
    "connect",
]

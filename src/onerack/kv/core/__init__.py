"""The store as a pure state machine: commands go in, responses and events come out.

machine      KvMachine: what the log drives; `commands` are what the log holds
store        keys in all their versions: `version`, `query`, `txn`, `operations`
leases       and `lease_desk`; `alarms`; users: `auth`, `permissions`, `passwords`, `management`
watch        who is told of what has changed; `ranges`, `deliveries`
snapshot     everything as bytes, and back; `checksum`
wire errors  the hot part of protobuf; etcd's own texts
"""

from __future__ import annotations

from onerack.kv.core.commands import Kind, encode_command
from onerack.kv.core.errors import KvError
from onerack.kv.core.machine import KvMachine

__all__ = ["Kind", "KvError", "KvMachine", "encode_command"]

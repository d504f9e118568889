"""Raft: a replicated log for your own state machine.

The idea: a few nodes keep the same log, and each applies it to its own copy of a state machine. One of them leads; what
a majority has on its disks is committed, and will never be lost nor changed, whoever dies. So the copies are the same,
and the service lives as long as a majority does.

    messages     what nodes say to each other, keep on the disk, and tell their host
    core         the protocol, pure: elections, replication, membership, reads, snapshots
    invariants   what must always be true of it, by the paper's names
    storage      the log and the snapshots on a disk

The rule: nothing is acknowledged before it is durable, and a read sees every write that was acknowledged before it
began.

Source: Ongaro & Ousterhout, In Search of an Understandable Consensus Algorithm (extended version), 2014; Ongaro,
Consensus: Bridging Theory and Practice (dissertation), 2014.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onerack.raft.machine import StateMachine as StateMachine
    from onerack.raft.server import Member as Member
    from onerack.raft.server import RaftNode as RaftNode
    from onerack.raft.server import Replica as Replica
    from onerack.raft.server import ReplicatedLog as ReplicatedLog
    from onerack.raft.server import Status as Status

# Brought when they are asked for: the pure rooms need nothing of the server's.
_HOMES = {
    "Member": "onerack.raft.server",
    "RaftNode": "onerack.raft.server",
    "Replica": "onerack.raft.server",
    "ReplicatedLog": "onerack.raft.server",
    "StateMachine": "onerack.raft.machine",
    "Status": "onerack.raft.server",
}

__all__ = ["Member", "RaftNode", "Replica", "ReplicatedLog", "StateMachine", "Status"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

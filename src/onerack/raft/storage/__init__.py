"""What a raft node keeps on its disk: the log, snapshots, and whose they are."""

from onerack.raft.storage.log import RaftLog
from onerack.raft.storage.recovery import Torn
from onerack.raft.storage.repair import Rewritten, rewrite_membership
from onerack.raft.storage.snapshots import SnapshotReader, SnapshotStore, SnapshotWriter
from onerack.raft.storage.verify import Report, verify

__all__ = [
    "RaftLog",
    "Report",
    "Rewritten",
    "SnapshotReader",
    "SnapshotStore",
    "SnapshotWriter",
    "Torn",
    "rewrite_membership",
    "verify",
]

"""What a raft node keeps on its disk: the log, snapshots, and whose they are."""

from onerack.raft.storage.log import RaftLog
from onerack.raft.storage.recovery import Torn
from onerack.raft.storage.snapshots import SnapshotReader, SnapshotStore, SnapshotWriter

__all__ = ["RaftLog", "SnapshotReader", "SnapshotStore", "SnapshotWriter", "Torn"]

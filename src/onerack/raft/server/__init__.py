"""The server of raft: binds the pure core to the disk's thread, to peers over RPC, and to the mounted machines."""

from onerack.raft.server.members import Member
from onerack.raft.server.node import RaftNode, Status
from onerack.raft.server.replica import Replica
from onerack.raft.server.replicated_log import ReplicatedLog

__all__ = ["Member", "RaftNode", "Replica", "ReplicatedLog", "Status"]

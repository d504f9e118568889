"""The pure protocol of raft: one `RaftCore` per node, split by noun."""

from onerack.raft.core.membership import decode_configuration, encode_configuration
from onerack.raft.core.peer import RaftCore

__all__ = ["RaftCore", "decode_configuration", "encode_configuration"]

"""Whose directory this is: cluster, node, the log's own random identity, and the configuration it began with.

    identity    frame( magic | version | 0 | msgpack of the Identity )

The idea: a node that is started on another node's files, or another cluster's, would vote with a memory that is not
its own. So the first thing that is read says whose they are.

The rule: the identity is written last when a log is made. Hence where there is one, the log behind it had begun, and
a log that is missing is damage, not a new node.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from onerack.codec import HEADER as FRAME
from onerack.codec import encode_frame
from onerack.errors import Corruption, UsageError
from onerack.raft.messages import Configuration
from onerack.raft.storage.files import IDENTITY, frame_at
from onerack.rpc.durable.format import IDENTITY_BYTES
from onerack.runtime.env import Disk
from onerack.runtime.seam import NodeId
from onerack.runtime.unfinished import UnfinishedFile

MAGIC: Final = b"1RACKNID"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII")


class Identity(msgspec.Struct, frozen=True):
    """Of one node's log."""

    cluster: str
    node: NodeId
    log: bytes
    """Drawn at random when the log was made; the same in all its files."""
    first: Configuration
    """What the node was told when it was made; counts until a snapshot or an entry says otherwise."""


_DECODER: Final = msgspec.msgpack.Decoder(Identity)


def encode_identity(identity: Identity) -> bytes:
    return encode_frame(_HEAD.pack(MAGIC, VERSION, 0) + msgspec.msgpack.encode(identity))


def read_identity(disk: Disk, directory: str) -> Identity | None:
    """None: there is no log yet. Raises: Corruption. UsageError: a later onerack wrote it."""
    path = f"{directory}/{IDENTITY}"
    try:
        content = disk.read(path)
    except FileNotFoundError:
        return None
    payload = frame_at(content, path, 0)
    if len(payload) < _HEAD.size or len(content) != FRAME.size + len(payload):
        raise Corruption(path, 0, "one frame", f"{len(content)} bytes")
    magic, version, _ = _HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise Corruption(path, FRAME.size, f"the magic {MAGIC!r}", f"{magic!r}")
    if version != VERSION:
        raise UsageError(f"{path} has format {version}; this onerack reads format {VERSION}, a later one may read both")
    try:
        identity = _DECODER.decode(payload[_HEAD.size :])
    except msgspec.DecodeError as error:
        raise Corruption(path, FRAME.size + _HEAD.size, "an identity", str(error)) from error
    if len(identity.log) != IDENTITY_BYTES:
        raise Corruption(path, FRAME.size + _HEAD.size, f"{IDENTITY_BYTES} bytes of identity", f"{len(identity.log)}")
    return identity


def write_identity(disk: Disk, directory: str, identity: Identity) -> None:
    """Raises: StorageFull."""
    file = UnfinishedFile(disk, directory, IDENTITY)
    try:
        file.append(encode_identity(identity))
        file.finish().close()
    except Exception:
        file.abandon()
        raise


def require_owner(identity: Identity, directory: str, cluster: str, node: NodeId) -> None:
    """Raises: UsageError: the directory is another's."""
    if (identity.cluster, identity.node) != (cluster, node):
        raise UsageError(
            f"{directory} is that of node {identity.node!r} of cluster {identity.cluster!r}, not of node {node!r} of "
            f"cluster {cluster!r}; start the node that it belongs to, or choose another directory"
        )

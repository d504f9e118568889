"""A data directory made from a saved store: how a group begins again after all of it was lost.

    saved store -> a snapshot of entry 1, in the log of a new node -> the node starts from there

The idea: to a node, a saved store is a snapshot like any other, of a group that had one entry before. Every member of
the new group is made from the same file, so all begin from the same state.

The rule: the file is checked as a whole before anything is made; a directory with data in it is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from onerack.errors import InputError, UsageError
from onerack.kv.core import KvMachine
from onerack.kv.server.saved import pieces_of
from onerack.raft.commands import KV
from onerack.raft.messages import Configuration, SnapshotMark
from onerack.raft.server.snapshots import Snapshots
from onerack.raft.storage import RaftLog


class Restored(msgspec.Struct, frozen=True):
    """What a directory was made of."""

    directory: str
    node: str
    members: tuple[str, ...]
    revision: int
    keys: int


def restore(
    saved: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    node: str,
    members: Sequence[str],
    cluster: str,
) -> Restored:
    """Raises: InputError: no such file. Corruption: it is no saved store. UsageError: the directory is not empty."""
    target = Path(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"--data {target}: is not empty; a saved store is restored into a new directory")
    if node not in members:
        raise UsageError(f"--name {node}: is not among the members {', '.join(members)}")
    machine = KvMachine()
    try:
        with open(saved, "rb") as file:
            machine.restore(pieces_of(file, str(saved)))
    except OSError as error:
        raise InputError(str(saved), error.strerror or str(error)) from None
    except AssertionError as error:
        raise InputError(str(saved), f"is not a saved store: {error}") from None
    _write(target, machine, node, Configuration(voters=tuple(sorted(members))), cluster)
    store = machine.store
    return Restored(str(target), node, tuple(sorted(members)), store.revision, len(store.live))


def _write(target: Path, machine: KvMachine, node: str, group: Configuration, cluster: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    log, _ = RaftLog.open(target, cluster=cluster, node=node, first=group, in_background=False)
    try:
        # Terms go on behind those of the lost group: its leaders' words on leases are in the store.
        mark = SnapshotMark(1, max(1, machine.leases.term), group)
        writer = log.snapshots.create(mark)
        for piece in Snapshots(log.snapshots, {KV: machine}).pieces(mark):
            writer.write(piece)
        writer.commit()
    finally:
        log.close()

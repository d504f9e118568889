"""Repair: what is left when a majority of the voters is lost for ever.

The idea: the newest configuration in a log holds, committed or not. So an entry of a new term, appended offline, makes
the node that survived a member of another configuration, in which it is the majority. As soon as it starts it elects
itself, commits everything that it has, and members can be added as ever.

The rule: this is the one act that may lose what was acknowledged, if the lost nodes knew more than this one; and if the
others come back, there are two clusters. So it is never done by itself, only by somebody who says which nodes are left.
"""

from __future__ import annotations

import os

import msgspec

from onerack.config import RaftConfig
from onerack.errors import InputError, UsageError
from onerack.raft.core.membership import decode_configuration, encode_configuration, fault_of
from onerack.raft.messages import NOBODY, Configuration, Entry, HardState, Kind, Recovered
from onerack.raft.storage.files import raft_directory
from onerack.raft.storage.identity import read_identity
from onerack.raft.storage.log import RaftLog
from onerack.runtime.env import StorageDisk
from onerack.runtime.real import RealDisk
from onerack.runtime.seam import NodeId


class Rewritten(msgspec.Struct, frozen=True):
    """Where the new configuration stands."""

    node: NodeId
    term: int
    index: int
    configuration: Configuration


def rewrite_membership(
    directory: str | os.PathLike[str],
    configuration: Configuration,
    *,
    disk: StorageDisk | None = None,
    config: RaftConfig | None = None,
) -> Rewritten:
    """From its next start on, the node that has this data directory takes part in `configuration`.

    Raises: InputError: there is no raft log. UsageError: a node runs on it, or could not lead there. Corruption.
    """
    files = disk or RealDisk()
    identity = read_identity(files, raft_directory(directory))
    if identity is None:
        raise InputError(os.fspath(directory), "there is no raft log in it")
    if identity.node not in set(configuration.voters) - set(configuration.witnesses):
        raise UsageError(f"node {identity.node!r} must be a voter, and no witness, of the new configuration")
    log, recovered = RaftLog.open(
        directory, cluster=identity.cluster, node=identity.node, config=config, disk=files, in_background=False
    )
    try:
        fault = fault_of(_configuration_of(recovered), configuration)
        if fault:
            raise UsageError(f"the new configuration cannot be: {fault}")
        term = recovered.hard_state.term + 1
        index = recovered.entries[-1].index + 1 if recovered.entries else recovered.mark.index + 1
        entry = Entry(term, index, Kind.CONFIGURATION, encode_configuration(configuration))
        log.append([HardState(term, NOBODY), entry])
        log.sync()
    finally:
        log.close()
    return Rewritten(identity.node, term, index, configuration)


def _configuration_of(recovered: Recovered) -> Configuration:
    """The one that holds: the newest in the log, committed or not."""
    for entry in reversed(recovered.entries):
        if entry.kind == Kind.CONFIGURATION and entry.index > recovered.mark.index:
            return decode_configuration(entry.payload)
    return recovered.mark.configuration

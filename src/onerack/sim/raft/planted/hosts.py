"""Planted bugs of hosts and their storage: what is said before it is durable, and what is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from onerack.raft.core import RaftCore
from onerack.raft.messages import NOBODY, Configuration, HardState, Recovered, SnapshotMark
from onerack.sim.raft.disk import Storage
from onerack.sim.raft.files import FileStorage, SectorDisk
from onerack.sim.raft.kit import Boot, Kit
from onerack.sim.raft.machine import Image, Machine, encode_image
from onerack.sim.raft.options import Options
from onerack.sim.raft.planted.kits import plant


@plant
class SendsDoNotWaitForTheDisk(Kit):
    """Answers leave, and entries are applied, while the writes that they follow from are under way."""

    sends_before_sync = True


@plant
class SyncedIsSaidTooEarly(Kit):
    """The core hears that its writes are durable when they have been handed over."""

    synced_before_sync = True


@plant
class FailedSyncsAreIgnored(Kit):
    """A node whose sync failed goes on."""

    ignores_sync_failure = True


@plant
class TheLogIsCutBeforeTheSnapshot(Kit):
    """Entries are removed when a snapshot is begun, not when it is durable."""

    cuts_before_snapshot = True


@plant
class RepliesBeforeCommit(Kit):
    """A client is told that its write is done when it has a place in the log."""

    replies_when_proposed = True


@plant
class VotesAreNotWritten(Kit):
    """The term is durable, the vote is not."""

    def append(self, storage: Storage, writes: Sequence[Any]) -> None:
        super().append(storage, [_without_vote(record) for record in writes])


def _without_vote(record: Any) -> Any:
    return HardState(record.term, NOBODY) if isinstance(record, HardState) else record


@plant
class TermsAreNotWritten(Kit):
    """Term and vote are written only together with entries."""

    def append(self, storage: Storage, writes: Sequence[Any]) -> None:
        alone = all(isinstance(record, HardState) for record in writes)
        super().append(storage, [] if alone else writes)


@plant
class RestartsForgetTheVote(Kit):
    """The vote is on the disk, and not looked at."""

    def boot(self, boot: Boot) -> RaftCore:
        recovered = replace(boot.recovered, hard_state=HardState(boot.recovered.hard_state.term, NOBODY))
        return super().boot(replace(boot, recovered=recovered))


@plant
class DirectoriesAreNotSynced(Kit):
    """A file is renamed, and its directory is left to the kernel."""

    class Wrong(SectorDisk):
        def sync_directory(self, path: str) -> None:
            return

    def make_storage(self, node: str, chance: random.Random, first: Configuration, options: Options) -> Storage:
        storage = super().make_storage(node, chance, first, options)
        if isinstance(storage, FileStorage):
            storage.disk.__class__ = self.Wrong
        return storage


@plant
class WhatIsReadIsBelieved(Kit):
    """A starting node takes what it reads for durable, though the last life may have died of a sync that failed."""

    class Wrong(FileStorage):
        def recover(self) -> Recovered:
            # What is written over itself with the same bytes is not written.
            self.disk.lazy = True
            recovered = super().recover()
            self.disk.lazy = False
            return recovered

    def make_storage(self, node: str, chance: random.Random, first: Configuration, options: Options) -> Storage:
        storage = super().make_storage(node, chance, first, options)
        if isinstance(storage, FileStorage):
            storage.__class__ = self.Wrong
        return storage


@plant
class SnapshotsWithoutSessions(Kit):
    """A snapshot holds the values only; a request that comes again after it takes effect again."""

    class Wrong(Machine):
        def snapshot(self) -> bytes:
            return encode_image(Image(self.values, {}))

    machine = Wrong


@plant
class SessionsAreNotLookedAt(Kit):
    """Every attempt takes effect."""

    class Wrong(Machine):
        def apply(self, payload: bytes) -> Any:
            self.sessions.clear()
            return super().apply(payload)

    machine = Wrong


@plant
class SnapshotsNameTheNewestConfiguration(Kit):
    """A snapshot is marked with the configuration that holds now, not with the one at its index."""

    def mark_of(self, applied: SnapshotMark, core: RaftCore) -> SnapshotMark:
        return replace(applied, configuration=core.configuration)


@plant
class SnapshotsReachTooFar(Kit):
    """A snapshot is marked with the end of the log instead of the last entry that is in it."""

    def mark_of(self, applied: SnapshotMark, core: RaftCore) -> SnapshotMark:
        last = core.last_index
        return replace(applied, index=last, term=core.term_at(last) or 0)

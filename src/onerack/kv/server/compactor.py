"""The compactor: forgets history by itself, when it is told how much of it to keep.

    by time        what a reader could see so many seconds ago, and since, stays
    by revisions   so many of the last revisions stay

The idea: every node notes now and then which revision there is, by its own clock; whoever leads proposes to compact up
to what it has noted long enough ago. Since all of them have notes, another leader goes on where this one has stopped;
a node that was just started first has to wait as long as history shall last.

The rule: it is the log that compacts, so all nodes forget the same. Nothing is proposed twice, or by a node that does
not lead; and when a clock is wrong, only how long history lasts is.

Source: etcd's automatic compaction (modes periodic and revision).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final

from onerack.config import KvConfig
from onerack.kv.core import Kind, KvError, KvMachine, encode_command
from onerack.kv.messages import LIBRARY
from onerack.raft import RaftNode
from onerack.raft.commands import KV

log = logging.getLogger(__name__)

_LOOKS: Final = 10
"""Within the time that history lasts ..."""
_LOOK_S_MAX: Final = 300.0
"""... and at least so often; by revisions, just so often."""


class Notes:
    """Which revision there was, and when; pure."""

    def __init__(self, config: KvConfig) -> None:
        self._keep_s = config.auto_compaction_s
        self._keep_revisions = config.auto_compaction_revisions
        self._noted: deque[tuple[float, int]] = deque()

    def take(self, now: float, revision: int) -> int:
        """Notes it. Up to which revision history may go; not positive: none of it may."""
        if self._keep_revisions:
            return revision - self._keep_revisions
        noted = self._noted
        noted.append((now, revision))
        # The last one that is old enough is where history begins; what is older tells nothing more.
        while len(noted) > 1 and noted[1][0] <= now - self._keep_s:
            noted.popleft()
        at, begin = noted[0]
        return begin if at <= now - self._keep_s else 0


class Compactor:
    """Of one node. Without anything to do if the configuration says nothing of it."""

    def __init__(self, node: RaftNode, machine: KvMachine, config: KvConfig, look_s: float = 0.0) -> None:
        """`look_s`: how often, if not as the configuration makes it."""
        self._node = node
        self._machine = machine
        self._notes = Notes(config)
        self._look_s = look_s or min(config.auto_compaction_s / _LOOKS or _LOOK_S_MAX, _LOOK_S_MAX)
        self._is_on = bool(config.auto_compaction_s or config.auto_compaction_revisions)
        self._proposed = 0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if not self._is_on:
            return
        self._timer = self._loop.call_later(self._look_s, self._look)
        store = self._machine.store
        to = self._notes.take(self._loop.time(), store.revision)
        if self._node.is_leader and to > max(store.compacted, self._proposed):
            self._proposed = to
            request = LIBRARY["CompactionRequest"](revision=to).SerializeToString()
            self._node.propose(KV, encode_command(Kind.COMPACT_BY_NODE, b"", request), self._done)

    def _done(self, result: Any) -> None:
        if isinstance(result, bytes):
            log.info("%s has compacted the store up to revision %d", self._node.name, self._machine.store.compacted)
            return
        if not isinstance(result, KvError):
            self._proposed = 0  # It may not have happened: the next look tries again.
        log.debug("%s has not compacted the store: %s", self._node.name, result)

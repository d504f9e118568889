"""Whereabouts: how a witness knows where the others are.

The idea: the book of addresses is replicated state, and a witness applies nothing: the group's newer members would be
strangers to it, to whom it could not answer. So it asks a member that it can reach for the book, when the log names a
stranger, and now and then besides, since members may move.

The rule: what it is told is a hint, as what it was told when it was started. Who belongs to the group and may vote, it
knows from the log, like everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from onerack import rpc
from onerack.errors import OnerackError
from onerack.raft.core import RaftCore
from onerack.raft.messages import NOBODY
from onerack.raft.server.members import Members
from onerack.raft.server.peers import Peer, Peers
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

_ASKS_S: Final = 10.0
_PATIENCE_S: Final = 1.0


class Whereabouts:
    """Of one node; nothing happens as long as it is no witness."""

    def __init__(
        self, core: RaftCore, book: Members, peers: Peers, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._core = core
        self._book = book
        self._peers = peers
        self._spawn = spawn
        self._asks_at = self._not_before = 0.0
        self._is_asking = False

    def look(self, now: float) -> None:
        """Called now and then."""
        if self._is_asking or now < self._not_before or not self._core.is_witness:
            return
        if now >= self._asks_at or any(map(self._is_strange, self._core.configuration.members)):
            self._is_asking = True
            self._not_before = now + _PATIENCE_S
            self._spawn(self._ask(now))

    def _is_strange(self, name: NodeId) -> bool:
        return name != self._core.node and self._book.address_of(name) is None

    async def _ask(self, now: float) -> None:
        try:
            for peer in self._reachable():
                with rpc.options(deadline=_PATIENCE_S):
                    self._book.learn(await (await peer.stub()).book())
                self._asks_at = now + _ASKS_S
                self._peers.keep_only({*self._core.configuration.members})
                return
        except OnerackError as error:
            log.debug("%s was not told where the others are: %s", self._core.node, error)
        finally:
            self._is_asking = False

    def _reachable(self) -> list[Peer]:
        """Whoever leads first."""
        core = self._core
        names = sorted({*core.configuration.members} - {core.node, *core.configuration.witnesses})
        names.sort(key=lambda name: name != core.leader or core.leader == NOBODY)
        found = [self._peers.get(name) for name in names]
        return [peer for peer in found if peer is not None and peer.is_up]

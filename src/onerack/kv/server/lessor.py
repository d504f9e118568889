"""The lessor: counts the seconds of all leases, on the node that leads.

    becomes leader -> LEASE_TAKE_OVER through the log -> every lease has its full time again -> renewals, expiry

The idea: when a lease ends is not replicated, only that it has ended. So the leader alone counts, by its own monotonic
clock, and says LEASE_EXPIRE through the log. Whoever leads next knows nothing of the renewals before, and gives every
lease its full time: a lease may live longer than it should, never shorter.

The rules:
- a renewal is answered only after a majority has confirmed that this node still leads: else a client might count on
  seconds that the next leader does not grant;
- while the end of a lease is on its way through the log, a renewal waits for what comes of it.

Source: Gray & Cheriton 1989; the lessor of etcd v3.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from onerack.errors import Unknown
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.core.commands import encode_expiry, encode_term
from onerack.kv.core.lease_desk import GONE
from onerack.kv.core.leases import Lease
from onerack.raft import RaftNode
from onerack.raft.commands import KV

_TICK_S: Final = 0.1
_EXPIRED_MAX: Final = 1000
"""Leases that end with one command."""
_SLACK: Final = 1000
"""So many leases that are no more may be remembered, beside those that are."""


class _Term(msgspec.Struct, eq=False):
    """One lease, as it is counted."""

    lease: Lease
    ends_at: float


class Lessor:
    """Of one node; it counts while that one leads."""

    def __init__(self, node: RaftNode, machine: KvMachine) -> None:
        self._node = node
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._term = 0
        """In which it counts; 0: it does not."""
        self._asked_term = 0
        """Of the last LEASE_TAKE_OVER that was proposed."""
        self._terms: dict[int, _Term] = {}
        self._due: list[tuple[float, int]] = []
        """A heap of (not before, id): for each counted lease one, which may be too early."""
        self._ending: dict[int, asyncio.Future[None]] = {}
        self._tick = self._loop.call_later(_TICK_S, self._look)
        node.on_role.append(self._follow_role)
        node.on_applied.append(self._follow_grants)
        machine.on_restore.append(self._forget)
        self._follow_role()

    def close(self) -> None:
        self._tick.cancel()
        self._node.on_role.remove(self._follow_role)
        self._node.on_applied.remove(self._follow_grants)
        self._machine.on_restore.remove(self._forget)
        self._forget()

    @property
    def is_counting(self) -> bool:
        return self._term != 0 and self._node.is_leader and self._node.term == self._term

    # ------------------------------------------------------------------------------------------------ who leads

    def _follow_role(self) -> None:
        if not self._node.is_leader or self._node.term != self._term:
            self._forget()
        if self._node.is_leader and self._asked_term != self._node.term:
            self._asked_term = self._node.term
            command = encode_command(Kind.LEASE_TAKE_OVER, b"", encode_term(self._node.term))
            self._node.propose(KV, command, partial(self._taken_over, self._node.term))

    def _taken_over(self, term: int, result: Any) -> None:
        if not self._node.is_leader or self._node.term != term:
            return
        if isinstance(result, bytes):
            self._term = term
            self._follow_grants()
        else:
            self._asked_term = 0  # `_look` tries again.

    def _forget(self) -> None:
        self._term = 0
        self._terms, self._due = {}, []
        ending, self._ending = self._ending, {}
        for future in ending.values():
            future.set_result(None)

    def _follow_grants(self) -> None:
        """New leases are the last ones: a lease that is known ends the search."""
        if not self._term:
            return
        terms = self._terms
        for lease in reversed(self._machine.leases.by_id.values()):
            known = terms.get(lease.id)
            if known is not None and known.lease is lease:
                return
            self._count(lease)

    def _count(self, lease: Lease) -> _Term:
        term = self._terms[lease.id] = _Term(lease, self._loop.time() + lease.ttl_s)
        heapq.heappush(self._due, (term.ends_at, lease.id))
        return term

    # ------------------------------------------------------------------------------------------------ the end

    def _look(self) -> None:
        self._tick = self._loop.call_later(_TICK_S, self._look)
        self._follow_role()
        if self.is_counting:
            self._expire(self._loop.time())
            if len(self._terms) > 2 * len(self._machine.leases.by_id) + _SLACK:
                self._rebuild()

    def _expire(self, now: float) -> None:
        due = self._due
        ended: list[int] = []
        while due and due[0][0] <= now:
            _, number = heapq.heappop(due)
            term = self._terms.get(number)
            if term is None or number in self._ending:
                continue
            if self._machine.leases.by_id.get(number) is not term.lease:
                del self._terms[number]
            elif term.ends_at > now:
                heapq.heappush(due, (term.ends_at, number))
            else:
                ended.append(number)
        for begin in range(0, len(ended), _EXPIRED_MAX):
            self._end(ended[begin : begin + _EXPIRED_MAX])

    def _end(self, leases: list[int]) -> None:
        for number in leases:
            self._ending[number] = self._loop.create_future()
        self._say_ended(self._term, leases, False)

    def _say_ended(self, term: int, leases: list[int], said_before: bool) -> None:
        if term == self._term:
            command = encode_command(Kind.LEASE_EXPIRE, b"", encode_expiry(term, leases))
            self._node.propose(KV, command, partial(self._ended, term, leases, said_before))

    def _ended(self, term: int, leases: list[int], said_before: bool, result: Any) -> None:
        if term != self._term:
            return
        if isinstance(result, Unknown) or (said_before and not isinstance(result, bytes)):
            # It may still come true at any time, so nobody may renew them before it surely has.
            self._loop.call_later(_TICK_S, self._say_ended, term, leases, True)
            return
        for number in leases:
            known = self._terms.pop(number, None)
            lease = self._machine.leases.by_id.get(number)
            if lease is not None and known is not None and known.lease is lease:
                # It was surely not taken: unless somebody renews the lease now, it is tried again.
                self._terms[number] = known
                heapq.heappush(self._due, (self._loop.time() + _TICK_S, number))
            future = self._ending.pop(number, None)
            if future is not None:
                future.set_result(None)

    def _rebuild(self) -> None:
        alive = self._machine.leases.by_id
        self._terms = {number: term for number, term in self._terms.items() if alive.get(number) is term.lease}
        self._due = [(term.ends_at, number) for number, term in self._terms.items() if number not in self._ending]
        heapq.heapify(self._due)

    # ------------------------------------------------------------------------------------------------ questions

    async def renew(self, leases: Sequence[int]) -> list[int] | None:
        """For each lease the seconds that it has now, 0 if there is none. None: this node does not lead.

        Raises: NotExecuted: no majority has confirmed it in time.
        """
        while await self._confirmed():
            ending = [self._ending[number] for number in leases if number in self._ending]
            if not ending:
                return [self._renew_one(number) for number in leases]
            await asyncio.wait(ending)
        return None

    def _renew_one(self, number: int) -> int:
        lease = self._machine.leases.by_id.get(number)
        if lease is None:
            return 0
        term = self._terms.get(number)
        if term is None or term.lease is not lease:
            self._count(lease)
        else:
            term.ends_at = self._loop.time() + lease.ttl_s
        return lease.ttl_s

    async def remaining(self, lease: int) -> int | None:
        """Whole seconds; -1: there is no such lease. None: this node does not lead. Raises: as `renew`."""
        if not await self._confirmed():
            return None
        term = self._terms.get(lease)
        if term is None or self._machine.leases.by_id.get(lease) is not term.lease:
            return GONE
        return max(0, int(term.ends_at - self._loop.time()))

    async def _confirmed(self) -> bool:
        """A majority has heard of this leader after the call began, and all that it had taken is applied."""
        term = self._term
        if not self.is_counting:
            return False
        await self._node.catch_up()
        return self.is_counting and self._term == term

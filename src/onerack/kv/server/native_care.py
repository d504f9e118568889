"""What operators ask of a node by the native interface: how it is, who is in the group, alarms, compaction, copies.

The idea: what changes the store goes through the log as any command does; what concerns one node (to sweep, to take a
snapshot) is done by the node that is asked.

The rules: once authentication is on, who changes the group or wants to see everything must have the role root; how a
node is, and who belongs to the group, may be asked by anybody. A witness knows of no users, and so takes no orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import onerack
from onerack.errors import NotExecuted
from onerack.kv.client.values import AlarmStatus, MemberStatus, NodeStatus
from onerack.kv.core.commands import Kind
from onerack.kv.messages import LIBRARY
from onerack.kv.server.identity import member_id, url_of
from onerack.kv.server.native_calls import NativeCalls, check
from onerack.raft import Member
from onerack.raft.server.node import Status

_ALARMS: Final = ("none", "nospace", "corrupt")
"""By etcd's numbers."""


def _role(status: Status) -> str:
    """Of those who follow it is also said what they are for."""
    if status.role != "follower":
        return status.role
    group = status.configuration
    return "witness" if status.name in group.witnesses else "learner" if status.name in group.learners else "follower"


class NativeCare(NativeCalls):
    """A part of the service of one node."""

    # ------------------------------------------------------------------------------------------------ how it is

    def status(self) -> NodeStatus:
        node, store = self.node, self.machine.store
        now = node.status()
        return NodeStatus(
            name=node.name, role=_role(now), leader=now.leader,
            leader_address=node.book.address_of(now.leader) or "", cluster=node.cluster, term=now.term,
            commit=now.commit, applied=now.applied, revision=store.revision, compacted=store.compacted,
            size_bytes=store.size_bytes, storage_full=node.storage_full is not None, version=onerack.__version__,
            alarms=self._alarms_raised(), quota_bytes=self.machine.config.quota_bytes,
        )  # fmt: skip

    def members(self) -> list[MemberStatus]:
        now = self.node.status()
        group, book = now.configuration, {member.name: member for member in now.members}
        found = []
        for name in sorted(group.members):
            role = "witness" if name in group.witnesses else "learner" if name in group.learners else "voter"
            known = book.get(name)
            address = self.node.book.address_of(name) or ""
            urls = tuple(map(url_of, known.endpoints)) if known else ()
            found.append(MemberStatus(name, role, address, urls, name == now.leader))
        return found

    # ------------------------------------------------------------------------------------------------ the group

    async def manage(self, order: str, node: str) -> None:
        self._check_admin()
        await self.node.manage(order, node)

    async def add_member(self, name: str, address: str, role: str = "learner") -> None:
        self._check_admin()
        await self.node.add_member(Member(name, address), role)

    def _check_admin(self) -> None:
        if self.node.is_witness:
            raise NotExecuted("a witness knows of no users, so it takes no orders: ask another node", cause="invalid")
        check(self.machine.auth.check_admin, self.user())

    # ------------------------------------------------------------------------------------------------ the store

    async def compact(self, revision: int, physical: bool = False) -> int:
        request = LIBRARY["CompactionRequest"](revision=revision, physical=physical)
        now: int = await self.command(Kind.COMPACT, request.SerializeToString(), self.revision_now)
        if physical:
            await self._sweep()
        return now

    def revision_now(self, result: bytes) -> int:
        """Of the command whose result this is: it is being applied."""
        return self.machine.revision

    async def defragment(self) -> None:
        """There are no holes to close in memory: what is compacted goes at once, and the log is cut by a snapshot."""
        self._check_admin()
        await self._sweep()
        await self.node.take_snapshot()

    async def _sweep(self) -> None:
        while not self.machine.store.sweep():  # noqa: ASYNC110 - others get their turn
            await asyncio.sleep(0)

    async def snapshot(self) -> AsyncIterator[bytes]:
        await self.node.catch_up()
        self._check_admin()
        for piece in self.machine.snapshot():
            yield piece

    # ------------------------------------------------------------------------------------------------ alarms

    async def alarms(self) -> list[AlarmStatus]:
        await self.node.catch_up()
        check(self.machine.auth.check_known, self.user())
        return list(self._alarms_raised())

    async def disarm(self) -> list[AlarmStatus]:
        raised = await self.alarms()
        request = LIBRARY["AlarmRequest"]
        for who, what in list(self.machine.alarms.raised):
            order = request(action=request.DEACTIVATE, memberID=who, alarm=what)
            await self.command(Kind.ALARM, order.SerializeToString(), self.revision_now)
        return raised

    def _alarms_raised(self) -> tuple[AlarmStatus, ...]:
        raised = self.machine.alarms.raised
        if not raised:
            return ()
        names = {member_id(name): name for name in self.node.status().configuration.members}
        return tuple(AlarmStatus(names.get(who, f"{who:x}"), _ALARMS[what]) for who, what in raised)

"""Tests of the lessor's rules, with a node that does just what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from onerack.errors import NotExecuted, Unknown
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.core.commands import decode_expiry
from onerack.kv.messages import LeaseGrantRequest, LeaseRevokeRequest
from onerack.kv.server.lessor import Lessor
from onerack.raft import RaftNode
from tests.rpc.links import run


class PuppetNode:
    """Leads when it is told to; commands wait until the test says what becomes of them."""

    def __init__(self) -> None:
        self.machine = KvMachine()
        self.is_leader = False
        self.term = 1
        self.on_role: list[Callable[[], None]] = []
        self.on_applied: list[Callable[[], None]] = []
        self.proposed: asyncio.Queue[tuple[bytes, Callable[[Any], None]]] = asyncio.Queue()
        self.reads = 0

    def propose(self, mount: int, command: bytes, done: Callable[[Any], None]) -> None:
        self.proposed.put_nowait((command, done))

    async def catch_up(self) -> None:
        self.reads += 1
        await asyncio.sleep(0)

    def lead(self, term: int) -> None:
        self.is_leader, self.term = True, term
        for call in self.on_role:
            call()

    def grant(self, lease: int, ttl_s: int) -> None:
        request = LeaseGrantRequest(ID=lease, TTL=ttl_s).SerializeToString()
        self.apply(encode_command(Kind.LEASE_GRANT, b"", request))

    def apply(self, command: bytes) -> Any:
        result = self.machine.apply(command, True)
        for call in self.on_applied:
            call()
        return result

    async def commit(self, kind: Kind) -> bytes:
        """The next command is taken."""
        command, done = await self.proposed.get()
        assert command[0] == kind
        done(self.apply(command))
        return command


def lessor_of(node: PuppetNode) -> Lessor:
    return Lessor(cast(RaftNode, node), node.machine)


def checked(test: Callable[[PuppetNode, Lessor], Awaitable[None]]) -> None:
    async def main() -> None:
        node = PuppetNode()
        lessor = lessor_of(node)
        try:
            await test(node, lessor)
        finally:
            lessor.close()

    run(main())


def test_nothing_is_renewed_before_the_leases_are_taken_over() -> None:
    async def test(node: PuppetNode, lessor: Lessor) -> None:
        node.grant(7, 100)
        assert await lessor.renew([7]) is None
        assert await lessor.remaining(7) is None
        node.lead(3)
        assert await lessor.renew([7]) is None
        await node.commit(Kind.LEASE_TAKE_OVER)
        assert node.machine.leases.term == 3
        assert await lessor.renew([7, 8]) == [100, 0]
        assert await lessor.remaining(7) in (99, 100)
        assert await lessor.remaining(8) == -1

    checked(test)


def test_a_take_over_that_failed_is_tried_again() -> None:
    async def test(node: PuppetNode, lessor: Lessor) -> None:
        node.lead(3)
        _, done = await node.proposed.get()
        done(Unknown("", cause="timeout"))
        await node.commit(Kind.LEASE_TAKE_OVER)
        assert lessor.is_counting

    checked(test)


def test_a_renewal_is_answered_only_by_who_is_confirmed_as_leader_meanwhile() -> None:
    async def test(node: PuppetNode, lessor: Lessor) -> None:
        node.grant(7, 100)
        node.lead(3)
        await node.commit(Kind.LEASE_TAKE_OVER)
        reads = node.reads
        renewal = asyncio.create_task(lessor.renew([7]))
        await asyncio.sleep(0)
        assert node.reads == reads + 1
        node.term = 4
        assert await renewal is None

    checked(test)


@pytest.mark.parametrize("unsure", [True, False])
def test_while_an_end_is_under_way_a_renewal_waits_for_what_comes_of_it(unsure: bool) -> None:
    async def test(node: PuppetNode, lessor: Lessor) -> None:
        node.lead(3)
        await node.commit(Kind.LEASE_TAKE_OVER)
        node.grant(7, 1)
        command, done = await node.proposed.get()
        assert (command[0], decode_expiry(command[2:])) == (Kind.LEASE_EXPIRE, (3, (7,)))
        renewal = asyncio.create_task(lessor.renew([7]))
        if unsure:
            # It may still be applied: then it must not have been renewed.
            done(Unknown("", cause="timeout"))
            _, done = await node.proposed.get()
            done(NotExecuted("", cause="leader_changed"))
            assert not renewal.done()
            await node.commit(Kind.LEASE_EXPIRE)
            assert await renewal == [0]
        else:
            done(NotExecuted("", cause="overloaded"))
            assert await renewal == [1]

    checked(test)


def test_a_lease_that_is_granted_again_under_its_old_number_is_another_one() -> None:
    async def test(node: PuppetNode, lessor: Lessor) -> None:
        node.lead(3)
        await node.commit(Kind.LEASE_TAKE_OVER)
        node.grant(7, 1)
        node.apply(encode_command(Kind.LEASE_REVOKE, b"", LeaseRevokeRequest(ID=7).SerializeToString()))
        node.grant(7, 100)
        node.grant(8, 1)
        command, done = await node.proposed.get()
        assert decode_expiry(command[2:]) == (3, (8,))
        done(node.apply(command))
        assert await lessor.renew([7, 8]) == [100, 0]

    checked(test)

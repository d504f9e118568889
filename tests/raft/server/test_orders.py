"""Orders: whoever gave one hears when it is done, and never that it is done when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onerack.errors import ApplicationError, CallError, NotExecuted, Unknown, UsageError
from onerack.raft.messages import NOBODY, Change, Configuration, Entry, Kind, Transfer
from onerack.raft.server.orders import Orders, changed

THREE = Configuration(("n1", "n2", "n3"))
FOUR = Configuration(("n1", "n2", "n3", "n4"))
JOINT = Configuration(FOUR.voters, THREE.voters)


class Core:
    """As much of one as orders look at."""

    def __init__(self) -> None:
        self.node = self.leader = "n1"
        self.role, self.term = "leader", 3
        self.configuration = Configuration(THREE.voters, (), ("n4",))
        self.applied_configuration = THREE

    def configuration_at(self, index: int) -> Configuration:
        return self.applied_configuration


class Elsewhere:
    """The leader, as another node reaches it."""

    def __init__(self, error: CallError | None) -> None:
        self.error = error
        self.heard: list[tuple[str, str]] = []

    async def manage(self, order: str, node: str) -> None:
        self.heard.append((order, node))
        if self.error is not None:
            raise self.error


class Desk:
    def __init__(self, elsewhere: Elsewhere | None = None) -> None:
        self.core = Core()
        self.stepped: list[Any] = []
        self.elsewhere = elsewhere
        core: Any = self.core
        stub: Callable[[], Awaitable[Any]] = self._stub
        self.orders = Orders(core, self.stepped.append, stub, 5.0)

    async def _stub(self) -> tuple[str, Elsewhere | None]:
        return ("n2" if self.elsewhere else NOBODY), self.elsewhere

    async def begin(self, order: str, node: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self.orders.carry_out(order, node))
        while not self.stepped and not task.done():
            await asyncio.sleep(0)
        return task

    def apply(self, term: int, index: int, configuration: Configuration) -> None:
        self.core.applied_configuration = configuration
        self.orders.applied(Entry(term, index, Kind.CONFIGURATION, b""))


async def is_done(task: asyncio.Task[None]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return task.done()


def test_a_change_is_done_when_the_joint_phase_is_over_and_that_is_committed() -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("voter", "n4")
        [change] = desk.stepped
        assert change == Change(change.number, FOUR)
        desk.orders.placed(change.number, 3, 7)
        desk.core.configuration = JOINT
        desk.apply(3, 6, THREE)
        assert not await is_done(task)
        desk.core.configuration = FOUR  # Appended, and not yet committed.
        desk.apply(3, 7, JOINT)
        assert not await is_done(task)
        desk.apply(3, 8, FOUR)
        assert await is_done(task)
        assert task.exception() is None

    asyncio.run(test())


def test_a_leader_that_is_not_ready_yet_is_asked_again_and_one_that_leads_no_more_is_not() -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("learner", "n5")
        for _ in range(3):
            [change] = desk.stepped
            desk.stepped.clear()
            desk.orders.refused(change.number, "not_ready")
            while not desk.stepped:
                await asyncio.sleep(0)
        desk.core.role = "follower"
        desk.orders.refused(desk.stepped[0].number, "not_ready")
        with pytest.raises(NotExecuted) as caught:
            await task
        assert caught.value.cause == "not_leader"

    asyncio.run(test())


def test_a_change_whose_place_another_leader_took_was_not_made() -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("voter", "n4")
        desk.orders.placed(desk.stepped[0].number, 3, 7)
        desk.apply(4, 7, THREE)
        assert await is_done(task)
        error = task.exception()
        assert isinstance(error, NotExecuted)
        assert error.cause == "leader_changed"

    asyncio.run(test())


@pytest.mark.parametrize(("leader", "error"), [("n2", None), ("n3", NotExecuted)])
def test_a_transfer_is_done_when_the_heir_leads_and_not_when_somebody_else_does(leader: str, error: Any) -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("transfer", "n2")
        assert isinstance(desk.stepped[0], Transfer)
        desk.core.term, desk.core.leader = 4, NOBODY
        desk.orders.role_changed()
        assert not await is_done(task)
        desk.core.leader = leader
        desk.orders.role_changed()
        assert await is_done(task)
        assert type(task.exception()) is (error or type(None))

    asyncio.run(test())


def test_what_is_not_done_in_time_may_still_be() -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("voter", "n4")
        desk.orders.expire(asyncio.get_running_loop().time() + 4)
        assert not await is_done(task)
        desk.orders.expire(asyncio.get_running_loop().time() + 6)
        assert await is_done(task)
        assert isinstance(task.exception(), Unknown)

    asyncio.run(test())


def test_a_refusal_gives_its_cause() -> None:
    async def test() -> None:
        desk = Desk()
        task = await desk.begin("voter", "n4")
        desk.orders.refused(desk.stepped[0].number, "pending")
        assert await is_done(task)
        error = task.exception()
        assert isinstance(error, NotExecuted)
        assert error.cause == "pending"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("NotExecuted", NotExecuted), ("UsageError", NotExecuted), ("Unknown", Unknown), ("RuntimeError", Unknown)],
)
def test_the_leader_s_error_keeps_its_certainty_on_its_way(kind: str, expected: type[CallError]) -> None:
    async def test() -> None:
        desk = Desk(Elsewhere(ApplicationError("n2 says no", cause="pending", type=kind)))
        desk.core.role = "follower"
        with pytest.raises(expected) as raised:
            await desk.orders.carry_out("voter", "n4")
        assert raised.value.cause == "pending"

    asyncio.run(test())


def test_an_order_is_passed_on_once_and_refused_where_nobody_leads() -> None:
    async def test() -> None:
        desk = Desk(Elsewhere(None))
        desk.core.role = "follower"
        await desk.orders.carry_out("remove", "n3")
        assert desk.elsewhere is not None
        assert desk.elsewhere.heard == [("remove", "n3")]
        with pytest.raises(NotExecuted, match="does not lead"):
            await desk.orders.carry_out_here("remove", "n3")
        desk.elsewhere = None
        with pytest.raises(NotExecuted, match="nobody leads"):
            await desk.orders.carry_out("remove", "n3")

    asyncio.run(test())


def test_nonsense_is_refused_before_anything_is_done() -> None:
    async def test() -> None:
        desk = Desk()
        with pytest.raises(UsageError, match="'abolish' is no order"):
            await desk.orders.carry_out("abolish", "n1")
        with pytest.raises(UsageError, match="remove whom"):
            await desk.orders.carry_out("remove", "")
        with pytest.raises(NotExecuted, match="no member 'n9'"):
            await desk.orders.carry_out("remove", "n9")
        assert desk.stepped == []

    asyncio.run(test())


def test_what_each_order_makes_of_a_configuration() -> None:
    now = Configuration(("n1", "n2", "w"), (), ("n3",), (), ("w",))
    assert changed(now, "voter", "n3") == Configuration(("n1", "n2", "n3", "w"), (), (), (), ("w",))
    assert changed(now, "learner", "n2") == Configuration(("n1", "w"), (), ("n2", "n3"), (), ("w",))
    assert changed(now, "witness", "x") == Configuration(("n1", "n2", "w", "x"), (), ("n3",), (), ("w", "x"))
    assert changed(now, "remove", "w") == Configuration(("n1", "n2"), (), ("n3",))
    assert changed(now, "remove", "n9") == now

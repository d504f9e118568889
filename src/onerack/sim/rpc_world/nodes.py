"""Nodes: machines of the world, each with a process that is started, crashes, and is started again.

The idea: a node counts the points that its process passes (a message about to be sent or heard, a handler about to run
or to return, the disk about to be changed). A crash is planned by the number of such a point; so every moment between
two of them, and all others are like one of these, can be hit, by chance or one after the other.

The rule: between a crash and the next start nothing of the node happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, Literal, Protocol

from onerack.sim.disk import SimDisk
from onerack.sim.rpc_world.disk import LifeDisk, Remains, disk_for
from onerack.sim.rpc_world.faults import Faults, Length, Plan
from onerack.sim.rpc_world.lives import Life, PowerLost
from onerack.sim.rpc_world.trace import Trace
from onerack.sim.rpc_world.weather import Weather

Role = Literal["server", "client"]
POWER_CUT_SHARE = 0.7
"""Of the crashes; in the others the process ends, and the machine goes on."""


class Ground(Protocol):
    """What all nodes of a world stand on."""

    loop: asyncio.AbstractEventLoop
    trace: Trace
    weather: Weather
    faults: Faults
    plan: Plan
    length: Length
    rehearsed: Length
    remains: Remains
    outside: Context
    """The world's own, which never dies."""
    lives: list[Life]
    """All that there were."""

    def stream(self, name: str) -> Random:
        """Chance, for one purpose."""

    def life_ended(self, life: Life) -> None:
        """Its links are lost."""

    def fail(self, reason: str, error: BaseException | None = None, *, call: int = 0) -> None:
        """The seed has found something."""


Boot = Callable[[Life, LifeDisk], Awaitable[None]]
Stop = Callable[[], Coroutine[Any, Any, None]]


class Node:
    """`boot` brings the process up; the node is up when it returns. `stop` closes it in good order."""

    def __init__(self, ground: Ground, name: str, role: Role, boot: Boot, stop: Stop) -> None:
        self.name = name
        self.role = role
        self.life: Life | None = None
        self.crashes = 0
        self.up = asyncio.Event()
        self._ground = ground
        self._boot = boot
        self._stop = stop
        self._chance = ground.stream(f"{name} fate")
        self.disk: SimDisk = disk_for(ground.remains, ground.stream(f"{name} disk"))
        self._lives = 0
        self._points = 0
        self._draws = 0
        self._spared = False
        fate = ground.stream(f"{name} crashes")
        ground.plan.take_in(name, ground.faults, ground.rehearsed, fate, is_server=role == "server")
        self._crash_points = list(ground.plan.crashes[name])
        self._restart_points = list(ground.plan.restarts[name])
        self._sync_failures = list(ground.plan.syncs[name])
        self._fail_a_sync()

    # ------------------------------------------------------------------------------------------------ lives

    async def start(self) -> BaseException | None:
        """Returns when the process is up, or has ended; gives what stopped it from coming up, if that was no crash."""
        self._lives += 1
        life = self.life = Life(self, self._lives, self._new_random)
        self._ground.lives.append(life)
        disk = LifeDisk(self.disk, life, self._syncs, self._cannot_sync)
        self._ground.trace.note(self.name, "starts")
        return await self._lived(life, self._come_up(life, disk))

    async def _come_up(self, life: Life, disk: LifeDisk) -> None:
        await self._boot(life, disk)
        self._ground.trace.note(self.name, "is up")
        self.up.set()

    async def _lived(self, life: Life, work: Coroutine[Any, Any, None]) -> BaseException | None:
        """Has it done in that life; returns when it is done, or the life has ended. Gives what it raised."""
        over: asyncio.Future[BaseException | None] = self._ground.loop.create_future()

        def ended(error: BaseException | None = None) -> None:
            if not over.done():
                over.set_result(None if isinstance(error, PowerLost) else error)

        life.ended[ended] = None
        task = self._ground.loop.create_task(work, context=life.context)
        task.add_done_callback(lambda done: ended(None if done.cancelled() else done.exception()))
        return await over

    def _new_random(self) -> Random:
        self._draws += 1
        return self._ground.stream(f"{self.name} dice {self._draws}")

    def reached(self, life: Life, what: str, detail: int, call: int) -> None:
        self._ground.trace.note(self.name, what, detail=detail, call=call)
        if self._spared:
            return
        self._points += 1
        self._ground.length.points[self.name] = self._points
        if self._restart_points and self._points >= self._restart_points[0] and self.up.is_set():
            del self._restart_points[0]
            self._ground.loop.create_task(self._restart_as_planned(), context=self._ground.outside)
        if self._crash_points and self._points >= self._crash_points[0]:
            self._crash_points = [point for point in self._crash_points if point > self._points]
            self.crash(why=f"at point {self._points}")
            raise PowerLost(life.name)

    def spare(self) -> None:
        """No more planned crashes."""
        self._spared = True
        self.disk.syncs_until_failure = -1

    # ------------------------------------------------------------------------------------------------ the end of a life

    async def restart(self) -> None:
        """Closes the process as its owner would, and plans its next start."""
        life = self.life
        if life is None or not self.up.is_set():
            return
        self.up.clear()
        self._ground.trace.note(self.name, "is stopped")
        error = await self._lived(life, self._stop())
        if error is not None:
            self._ground.fail(f"{self.name} cannot be closed: {type(error).__name__}: {error}", error)
        if self.life is life:
            self._end(life, "ENDS in good order")

    async def _restart_as_planned(self) -> None:
        if not self._spared:
            await self.restart()

    def crash(self, *, power: bool | None = None, why: str = "") -> None:
        """Ends the process now, and plans its next start. `power=False`: the machine goes on, with all its files."""
        if self.life is None:
            return
        if power is None:
            power = self._ground.remains != "some" or self._chance.random() < POWER_CUT_SHARE
        self.crashes += 1
        self._end(self.life, f"CRASHES {why} ({'power' if power else 'process'} lost)", power=power)

    def _end(self, life: Life, how: str, *, power: bool = False) -> None:
        self.life = None
        self.up.clear()
        life.alive = False
        if power:
            self.disk.crash()
        else:
            self.disk.kill()
        self._ground.trace.note(self.name, how)
        self._fail_a_sync()
        self._ground.life_ended(life)
        for told in list(life.ended):
            told()
        pause = self._chance.uniform(0.001, self._ground.faults.restart_s)
        self._ground.loop.call_later(pause, self._start_again, context=self._ground.outside)

    def _start_again(self) -> None:
        if self.life is None:
            self._ground.loop.create_task(self._restart(), context=self._ground.outside)

    async def _restart(self) -> None:
        error = await self.start()
        if error is not None:
            self._ground.fail(f"{self.name} does not come up again: {type(error).__name__}: {error}", error)

    def _syncs(self) -> None:
        syncs = self._ground.length.syncs
        syncs[self.name] = syncs.get(self.name, 0) + 1

    def _cannot_sync(self) -> None:
        self.crash(power=False, why="because its disk does not sync")

    def _fail_a_sync(self) -> None:
        if self.disk.syncs_until_failure < 0 and self._sync_failures and not self._spared:
            self.disk.syncs_until_failure = self._sync_failures.pop(0)

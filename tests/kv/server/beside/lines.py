"""Random locks and elections: several clients at a time, who wait, lead, resign, go away, or lose their lease.

The idea: who stands where is state that both sides have alike, so it is the same calls that wait, and the same ones
that return. After each step both are given time until the same have returned; then those answers are compared.
"""

from __future__ import annotations

import asyncio
import re
from random import Random
from typing import Any, Final

from tests.kv.server.beside.sides import Side, Sides, Step, plain
from tests.kv.server.client import ClientStream, StatusError

_NAMES: Final = (b"l", b"m")
_LEASES: Final = (1, 2, 3, 4)
_WAIT_S: Final = 3.0
_QUIET_S: Final = 0.03
_EXPIRED: Final = "2 mutex: session is expired"
"""Who waited without a lease at the end: etcd 3.4 tells him that he has the lock."""
_REVISION: Final = re.compile(r"revision: \d+")
_WAITING: Final = ("/v3lockpb.Lock/Lock", "Campaign")


class _Pending:
    """One call that waits, on one side."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self.answer: Any = None

    async def result(self) -> str:
        """Requires: it has returned."""
        try:
            self.answer = await self.stream.receive()
        except StatusError as error:
            return f"{error.code} {error.text}"
        return plain(self.answer)


class LineRound:
    """Draws what clients do, and does it on both sides."""

    def __init__(self, random: Random, sides: Sides) -> None:
        self._random = random
        self._sides = sides
        self._pending: dict[str, tuple[_Pending, _Pending]] = {}
        self._locks: list[bytes] = []
        self._leaders: list[Any] = []
        self._count = 0

    async def run(self, steps: int) -> None:
        for lease in _LEASES:
            await self._sides.ask(Step("LeaseGrant", {"ID": lease, "TTL": 5000}))
        for _ in range(steps):
            await self._step()
            await self._settle()
            if self._sides.diverged or len(self._sides.differences) > 10:
                break
        for lease in _LEASES:
            await self._sides.ask(Step("LeaseRevoke", {"ID": lease}))
        await self._settle()
        for pair in self._pending.values():
            for call in pair:
                call.stream.cancel()

    async def _step(self) -> None:
        random, member = self._random, self._random.randrange(3)
        kind = random.random()
        if kind < 0.4:
            await self._wait(member)
        elif kind < 0.55:
            key = random.choice((*self._locks, b"nothing")) if self._locks else b"nothing"
            await self._sides.ask(Step("/v3lockpb.Lock/Unlock", {"key": key}, member))
        elif kind < 0.65:
            lease = random.choice(_LEASES)
            await self._sides.ask(Step("LeaseRevoke", {"ID": lease}, member))
            await self._settle()
            await self._sides.ask(Step("LeaseGrant", {"ID": lease, "TTL": 5000}, member))
        elif kind < 0.75:
            await self._sides.ask(Step("Leader", {"name": random.choice(_NAMES)}, member))
        elif kind < 0.85 and self._leaders:
            fields = {"leader": random.choice(self._leaders), "value": b"v%d" % random.randrange(9)}
            await self._sides.ask(Step("Proclaim", fields, member))
        elif kind < 0.95 and self._leaders:
            await self._sides.ask(Step("Resign", {"leader": random.choice(self._leaders)}, member))
        elif self._pending:
            await self._go_away(random.choice(list(self._pending)))

    async def _wait(self, member: int) -> None:
        random = self._random
        method, lease = random.choice(_WAITING), random.choice((*_LEASES, 99))
        fields: dict[str, Any] = {"name": random.choice(_NAMES), "lease": lease}
        if method == "Campaign":
            fields["value"] = b"v%d" % random.randrange(9)
        self._count += 1
        step = Step(method, fields, member)
        sides = (self._sides.ours, self._sides.theirs)
        await asyncio.gather(*(side.catch_up(member) for side in sides))
        ours, theirs = [await self._opened(side, step) for side in sides]
        self._pending[f"{self._count}. {step}"] = (ours, theirs)
        key = b"%b/%x" % (fields["name"], lease)
        await asyncio.gather(
            *(self._has_come(side, key, call) for side, call in zip(sides, (ours, theirs), strict=True))
        )
        await self._alike_soon()

    async def _opened(self, side: Side, step: Step) -> _Pending:
        client = await side.client(step.member)
        stream = client.open(step.method)
        stream.send(**step.fields)
        stream.half_close()
        return _Pending(stream)

    async def _has_come(self, side: Side, key: bytes, call: _Pending) -> None:
        """It stands in line, or has been answered."""
        client = await side.client(0)
        while not call.stream.has_news and not (await client.call("Range", key=key)).count:
            await asyncio.sleep(_QUIET_S)

    async def _go_away(self, name: str) -> None:
        for call in self._pending.pop(name):
            call.stream.cancel()
        await self._alike_soon()
        self._sides.compare(f"gone away: {name}", str(self._sides.ours.revision), str(self._sides.theirs.revision))

    async def _alike_soon(self) -> None:
        """As soon as both have come equally far, as happens when nothing is under way."""
        end = asyncio.get_running_loop().time() + _WAIT_S
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_QUIET_S)
            for side in (self._sides.ours, self._sides.theirs):
                await side.catch_up(0)
            if self._sides.ours.revision == self._sides.theirs.revision:
                return

    async def _settle(self) -> None:
        """The same calls have returned."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _WAIT_S
        await asyncio.sleep(_QUIET_S)
        while loop.time() < end:
            if all(ours.stream.has_news == theirs.stream.has_news for ours, theirs in self._pending.values()):
                break
            await asyncio.sleep(_QUIET_S)
        for name, (ours, theirs) in list(self._pending.items()):
            if not (ours.stream.has_news or theirs.stream.has_news):
                continue
            told = [await call.result() if call.stream.has_news else "waits" for call in (ours, theirs)]
            self._sides.asked += 1
            if "Lock(" in name:
                told = [_REVISION.sub("", each) for each in told]  # That of the last look, which may come later.
            if told[0] != _EXPIRED or told[1] == "waits":
                self._sides.compare(name, *told)
            del self._pending[name]
            if ours.answer is not None and hasattr(ours.answer, "leader"):
                self._leaders.append(ours.answer.leader)
            elif ours.answer is not None:
                self._locks.append(ours.answer.key)

"""Random watches: streams on every member, each with several watches of all kinds, while keys change.

The idea: how events are cut into responses is a matter of time, so it is not compared. What one watch is told is: its
events in order, that it was created or cancelled, and from where on it could go on. Not asked is to begin before all
time: with etcd that ends now this way, now that.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

from tests.kv.server.beside.keys import KEYS, KeyRequests
from tests.kv.server.beside.sides import Side, Sides, plain
from tests.kv.server.client import ClientStream, StatusError

_STREAMS: Final = 3
_WAIT_S: Final = 2.0


class Ear:
    """One stream of one side, and what was heard on it, by watch."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self.heard: dict[int, list[str]] = {}
        self.progress = 0
        self._pieces: dict[int, list[Any]] = {}

    async def listen(self) -> None:
        """Takes what has arrived."""
        while self.stream.has_news:
            try:
                self._take(await self.stream.receive())
            except StatusError as error:
                self.heard.setdefault(-2, []).append(str(error))
                return

    def _take(self, response: Any) -> None:
        heard = self.heard.setdefault(response.watch_id, [])
        if response.events:
            heard.extend(f"{event}" for event in response.events)
            assert response.header.revision >= max(event.kv.mod_revision for event in response.events)
        elif response.created or response.canceled:
            heard.append(plain(response))
        else:
            self.progress += 1


class WatchRound:
    """Draws what clients say on their streams, and asks both sides."""

    def __init__(self, random: Random, sides: Sides) -> None:
        self._random = random
        self._sides = sides
        self._keys = KeyRequests(random)
        self._ears: list[tuple[Ear, Ear]] = []
        self._count = 0

    async def run(self, steps: int) -> None:
        for number in range(_STREAMS):
            ours, theirs = [await self._ear(side, number) for side in (self._sides.ours, self._sides.theirs)]
            self._ears.append((ours, theirs))
        for _ in range(steps):
            if self._random.random() < 0.3:
                await self._say()
            else:
                await self._sides.ask(self._keys.draw(self._sides.revision))
            if self._sides.diverged or len(self._sides.differences) > 10:
                return
        await self._settle()
        for pair in self._ears:
            for ear in pair:
                ear.stream.cancel()

    async def _ear(self, side: Side, member: int) -> Ear:
        client = await side.client(member)
        return Ear(client.open("Watch"))

    # ------------------------------------------------------------------------------------------------ what is said

    async def _say(self) -> None:
        random = self._random
        number = random.randrange(_STREAMS)
        kind = random.random()
        if kind < 0.7:
            request = {"create_request": self._create()}
        elif kind < 0.95:
            request = {"cancel_request": {"watch_id": random.randrange(-1, 6)}}
        else:
            request = {}
        # What has happened before belongs to the past on both sides, and what is said next does not.
        await self._settle()
        for ear in self._ears[number]:
            ear.stream.send(**request)
        await self._settle(str(request))

    def _create(self) -> dict[str, Any]:
        random, revision = self._random, self._sides.revision
        key = random.choice((b"", *KEYS, b"b", b"a"))
        fields: dict[str, Any] = {"key": key, "range_end": random.choice((b"", b"\0", b"b0", b"c", b"\xff", b"a"))}
        if random.random() < 0.6:
            back = random.choice((0, 1, 1, 2, 5, 20, 200))
            fields["start_revision"] = max(
                0, random.choice((revision - back, revision - back, revision + 1, revision + 3))
            )
        for name in ("prev_kv", "progress_notify", "fragment"):
            if random.random() < 0.3:
                fields[name] = True
        if random.random() < 0.3:
            fields["filters"] = random.choice(([0], [1], [0, 1], [1, 1]))
        if random.random() < 0.4:
            fields["watch_id"] = random.randrange(-1, 6)
        return fields

    # ------------------------------------------------------------------------------------------------ what is heard

    async def _settle(self, said: str = "") -> None:
        """Both have heard all that there is to be heard: a key of its own, which the whole group has."""
        await asyncio.gather(*(self._all_told(side) for side in (self._sides.ours, self._sides.theirs)))
        end = asyncio.get_running_loop().time() + _WAIT_S
        while True:
            for pair in self._ears:
                for ear in pair:
                    await ear.listen()
            if all(ours.heard == theirs.heard for ours, theirs in self._ears):
                break
            if asyncio.get_running_loop().time() > end:
                break
            await asyncio.sleep(0.01)
        for number, (ours, theirs) in enumerate(self._ears):
            for watch in sorted({*ours.heard, *theirs.heard}):
                self._sides.compare(
                    f"watch {watch} of stream {number} {said}",
                    "\n".join(ours.heard.get(watch, [])), "\n".join(theirs.heard.get(watch, [])),
                )  # fmt: skip
            ours.heard, theirs.heard = {}, {}

    async def _all_told(self, side: Side) -> None:
        for member in range(_STREAMS):
            await side.catch_up(member)
        await asyncio.sleep(0.02)

"""The network between nodes and clients: it drops, repeats, delays, reorders, and is cut in any direction.

The idea: a cut is a set of directed pairs with an end of its own, so that cuts may overlap and none ends another. What
is on its way when a cut begins is lost, too.

The rule: what arrives equals what was sent. With `codec` every message goes through its encoding, which shows one that
cannot be encoded and an object that two nodes share.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from onerack.raft.messages import PeerMessage
from onerack.sim.raft.options import Weather
from onerack.sim.world import NS, World

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(PeerMessage)

Pair = tuple[str, str]


class Network:
    def __init__(
        self,
        world: World,
        chance: random.Random,
        weather: Weather,
        deliver: Callable[[str, Any, str], None],
        *,
        codec: bool = False,
    ) -> None:
        self.weather = weather
        self.lost = self.repeated = 0
        self._world = world
        self._chance = chance
        self._deliver = deliver
        self._codec = codec
        self._cut_until: dict[Pair, int] = {}

    def cut(self, pairs: Iterable[Pair], seconds: float) -> None:
        """Nothing passes from the first to the second of each pair for so long."""
        until = self._world.now_ns + round(seconds * NS)
        for pair in pairs:
            self._cut_until[pair] = max(self._cut_until.get(pair, 0), until)

    def is_cut(self, sender: str, to: str) -> bool:
        return self._cut_until.get((sender, to), 0) > self._world.now_ns

    def heal(self) -> None:
        """No more faults from here on."""
        self._cut_until.clear()
        self.weather = Weather()

    def send(self, sender: str, to: str, message: Any) -> None:
        if self._codec and isinstance(message, PeerMessage):
            message = _DECODER.decode(_ENCODER.encode(message))
        weather, chance = self.weather, self._chance.random
        cut = self._cut_until and self.is_cut(sender, to)
        if cut or (weather.drop and chance() < weather.drop):
            self.lost += 1
            return
        if weather.duplicate and chance() < weather.duplicate:
            self.repeated += 1
            self._world.after(self._delay() + 0.3 * chance(), self._arrive, sender, to, message)
        self._world.after(self._delay(), self._arrive, sender, to, message)

    def _arrive(self, sender: str, to: str, message: Any) -> None:
        if self._cut_until and self.is_cut(sender, to):
            self.lost += 1
        else:
            self._deliver(to, message, sender)

    def _delay(self) -> float:
        weather = self.weather
        delay = weather.delay_min_s + (weather.delay_max_s - weather.delay_min_s) * self._chance.random()
        if weather.slow and self._chance.random() < weather.slow:
            delay += self._chance.expovariate(1.0 / weather.slow_s)
        return delay


def between(left: Iterable[str], right: Iterable[str]) -> list[Pair]:
    """All pairs from one side to the other, in both directions."""
    sides = sorted(left), sorted(right)
    return [pair for a in sides[0] for b in sides[1] for pair in ((a, b), (b, a))]

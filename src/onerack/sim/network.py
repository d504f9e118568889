"""The simulated network: whole messages between named nodes, as unreliable as the seed wants.

The idea: two kinds, since cores must live with both. A *rack* network drops, repeats, delays and reorders, and can
be cut between any node and the rest. An *ordered* one is what a socket gives: nothing is lost or repeated, and what
one node sends another arrives in order.

The rule: what arrives equals what was sent. With `codec` every message goes through the wire's own encoding, which
shows a message that cannot be encoded and an object that two nodes share.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from onerack.runtime.seam import NodeId
from onerack.sim.world import NS, World


class Weather(msgspec.Struct, frozen=True):
    """How a network treats messages: probabilities, and seconds."""

    ordered: bool = True
    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    """Share of messages that take `slow_s` longer on average."""
    slow_s: float = 0.1
    delay_min_s: float = 0.001
    delay_max_s: float = 0.005


CALM = Weather()
LATE_S = 0.4
"""A delay that a node may reasonably take for a loss."""


class Network:
    """`deliver(to, message, sender)` is called at each arrival, `disturbed(node)` for each node that a fault met."""

    def __init__(
        self,
        world: World,
        chance: random.Random,
        weather: Weather,
        deliver: Callable[[NodeId, Any, NodeId], None],
        disturbed: Callable[[NodeId], None],
        codec: tuple[msgspec.msgpack.Encoder, msgspec.msgpack.Decoder[Any]] | None = None,
    ) -> None:
        self.weather = weather
        self.lost = 0
        self.repeated = 0
        self._world = world
        self._chance = chance
        self._deliver = deliver
        self._disturbed = disturbed
        self._codec = codec
        self._cut: dict[NodeId, int] = {}
        self._arrived_ns: dict[tuple[NodeId, NodeId], int] = {}

    def cut(self, node: NodeId, seconds: float) -> None:
        """Nothing from or to the node arrives for so long. On an ordered network it arrives afterwards."""
        self._cut[node] = max(self._cut.get(node, 0), self._world.now_ns + round(seconds * NS))
        self._disturbed(node)

    def is_cut(self, node: NodeId) -> bool:
        return self._cut.get(node, 0) > self._world.now_ns

    def heal(self) -> None:
        """No more faults from here on."""
        self._cut.clear()
        self.weather = msgspec.structs.replace(self.weather, drop=0.0, duplicate=0.0, slow=0.0)

    def send(self, sender: NodeId, to: NodeId, message: Any) -> None:
        if self._codec is not None:
            encoder, decoder = self._codec
            message = decoder.decode(encoder.encode(message))
        if self.weather.ordered:
            self._send_ordered(sender, to, message)
            return
        chance = self._chance.random
        if self.is_cut(sender) or self.is_cut(to) or chance() < self.weather.drop:
            self._lose(sender, to)
            return
        if chance() < self.weather.duplicate:
            self.repeated += 1
            self._world.after(self._delay(sender, to) + chance(), self._deliver, to, message, sender)
        self._world.after(self._delay(sender, to), self._arrive, sender, to, message)

    def _arrive(self, sender: NodeId, to: NodeId, message: Any) -> None:
        # A cut that began while the message was on its way takes it too.
        if self.is_cut(sender) or self.is_cut(to):
            self._lose(sender, to)
        else:
            self._deliver(to, message, sender)

    def _send_ordered(self, sender: NodeId, to: NodeId, message: Any) -> None:
        pair = (sender, to)
        free_at = max(self._cut.get(sender, 0), self._cut.get(to, 0), self._arrived_ns.get(pair, 0))
        at = max(free_at, self._world.now_ns + round(self._delay(sender, to) * NS))
        self._arrived_ns[pair] = at
        self._world.at(at, self._deliver, to, message, sender)

    def _delay(self, sender: NodeId, to: NodeId) -> float:
        weather = self.weather
        delay = weather.delay_min_s + (weather.delay_max_s - weather.delay_min_s) * self._chance.random()
        if weather.slow and self._chance.random() < weather.slow:
            delay += self._chance.expovariate(1.0 / weather.slow_s)
            if delay > LATE_S:
                self._disturbed(sender)
                self._disturbed(to)
        return delay

    def _lose(self, sender: NodeId, to: NodeId) -> None:
        self.lost += 1
        self._disturbed(sender)
        self._disturbed(to)

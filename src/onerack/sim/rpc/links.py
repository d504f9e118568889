"""Simulated links: what clients and servers are connected by, and all that can befall a connection.

The idea: each link has two ends that open and close apart. A reliable link keeps order and loses nothing while it
lives; when it breaks, what is under way may be lost, or may arrive long after its client has gone on by another link:
bytes in a socket's buffer outlive the connection. An unreliable link loses, repeats and reorders, and does not know
that the server behind it has been replaced.

The rule: an end that is closed hears nothing, and each end is told of the link's end once.
"""

from __future__ import annotations

import random
from typing import Any, Final, Literal, Protocol

import msgspec

from onerack.rpc.messages import FromClient, FromServer
from onerack.sim.network import Network
from onerack.sim.rpc.options import Options
from onerack.sim.world import World

_END: Final = "the end of the link"
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {
    "<": msgspec.msgpack.Decoder(FromServer),
    ">": msgspec.msgpack.Decoder(FromClient),
}
"""By the end at which a message arrives."""
End = Literal["<", ">"]
"""The client's end, the server's end."""


class LinkEnd(Protocol):
    """Who sits at an end of a link."""

    def receive(self, link: SimLink, message: Any, attachment: bytes | None) -> None: ...

    def lose(self, link: SimLink) -> None:
        """The link has ended, seen from here."""


class SimLink:
    def __init__(self, name: str, client: LinkEnd, server: LinkEnd) -> None:
        self.name = name
        self._who: dict[End, LinkEnd] = {"<": client, ">": server}
        self.open: dict[End, bool] = {"<": True, ">": True}

    @property
    def server(self) -> LinkEnd:
        return self._who[">"]

    def at(self, end: End) -> LinkEnd:
        return self._who[end]


class Links:
    """All links of a world."""

    def __init__(self, world: World, chance: random.Random, options: Options) -> None:
        self._world = world
        self._chance = chance
        self._options = options
        self._links: dict[str, SimLink] = {}
        self._network = Network(world, chance, options.weather, self._arrive, lambda node: None)
        self._made = 0

    @property
    def lost(self) -> int:
        return self._network.lost

    @property
    def repeated(self) -> int:
        return self._network.repeated

    def live(self) -> list[SimLink]:
        return [link for link in self._links.values() if link.open["<"] and link.open[">"]]

    def connect(self, client_name: str, client: LinkEnd, server: LinkEnd) -> SimLink:
        self._made += 1
        link = self._links[f"{client_name}.{self._made}"] = SimLink(f"{client_name}.{self._made}", client, server)
        return link

    def heal(self) -> None:
        self._network.heal()

    # ------------------------------------------------------------------------------------------------ messages

    def send(self, link: SimLink, end: End, message: Any, attachment: Any = None) -> None:
        """From this end to the other."""
        if not link.open[end]:
            return
        other: End = ">" if end == "<" else "<"
        if self._options.codec:
            message = _DECODERS[other].decode(_ENCODER.encode(message))
        content = None if attachment is None else bytes(attachment)
        self._network.send(link.name + end, link.name + other, (message, content))

    def _arrive(self, to: str, content: Any, sender: str) -> None:
        link = self._links.get(to[:-1])
        end: End = "<" if to[-1] == "<" else ">"
        if link is None or not link.open[end]:
            return
        if content is _END:
            self._lose(link, end)
        else:
            link.at(end).receive(link, *content)

    # ------------------------------------------------------------------------------------------------ endings

    def close(self, link: SimLink, end: End) -> None:
        """One end closes, or its process dies: the other is told after all that was sent before."""
        if not link.open[end]:
            return
        link.open[end] = False
        other: End = ">" if end == "<" else "<"
        if self._options.reliable:
            self._network.send(link.name + end, link.name + other, _END)
        else:
            # No message of an unreliable link can be relied on: the other end finds out by silence.
            self._world.after(self._chance.uniform(0.05, 0.5), self._lose, link, other)
        self._forget(link)

    def reset(self, link: SimLink, end: End) -> None:
        """The connection breaks: this end is told at once, the other later. What is under way is lost, or not."""
        if self._chance.random() < 0.5:
            other: End = ">" if end == "<" else "<"
            self._world.after(self._chance.choice([0.0, 0.02, 0.3, 1.5]), self._lose, link, other)
            self._lose(link, end)
        else:
            who = link.at(end)
            was_open = link.open[end]
            self.close(link, end)
            if was_open:
                who.lose(link)

    def cut(self, link: SimLink, seconds: float) -> None:
        """Nothing passes for so long; on a reliable link it passes afterwards, even if the client has left."""
        self._network.cut(link.name + "<", seconds)

    def _lose(self, link: SimLink, end: End) -> None:
        if link.open[end]:
            link.open[end] = False
            self._forget(link)
            link.at(end).lose(link)

    def _forget(self, link: SimLink) -> None:
        if not link.open["<"] and not link.open[">"]:
            self._links.pop(link.name, None)

"""The sea: what lies between the nodes of a world. It is the transport behind `sim://name`.

The idea: nodes listen under names and dial names, as over any other transport; who is dialling follows from the life in
which the code runs. The sea keeps every link that is up, so that a crash, a break or a cut finds them.

The rule: whoever dials a dead node hears nothing good, soon or after the patience that it was given.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import Context
from random import Random

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Accept, Link, Owner, Peer
from onerack.rpc.transports import Address
from onerack.sim.rpc_world.faults import Plan
from onerack.sim.rpc_world.links import TOLD_LATE_S, Registrar, SimLink
from onerack.sim.rpc_world.lives import Life, current_life
from onerack.sim.rpc_world.trace import Trace
from onerack.sim.rpc_world.weather import Weather


class SimListener:
    """Takes links under a name, in the life in which it was made."""

    def __init__(self, sea: Sea, address: Address, accept: Accept, config: RpcConfig, life: Life) -> None:
        self.address = str(address)
        self.life = life
        self.config = config
        self._sea = sea
        self._name = address.host
        self._accept = accept
        self._links: list[SimLink] = []

    def take(self, link: SimLink) -> None:
        self._links = [each for each in self._links if each.is_open]
        self._links.append(link)
        link.owner = self._accept(link)

    async def close(self) -> None:
        self._sea.listeners.pop(self._name, None)
        for link in self._links:
            link.close("the server has stopped")
        await asyncio.sleep(0)


class Sea:
    def __init__(
        self, weather: Weather, trace: Trace, ledger: Registrar, plan: Plan, chance: Random, outside: Context,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.weather = weather
        self.trace = trace
        self.ledger = ledger
        self.chance = chance
        self.outside = outside
        self.in_flight = 0
        self.messages = 0
        self.listeners: dict[str, SimListener] = {}
        self._links: dict[str, SimLink] = {}
        self._numbers = 0
        self._breaks = list(plan.breaks)
        self._cuts = list(plan.cuts)
        self._loop = loop

    # ------------------------------------------------------------------------------------------------ the transport

    async def listen(
        self,
        address: Address,
        accept: Accept,
        *,
        config: RpcConfig,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
    ) -> SimListener:
        """Raises: UsageError: the name is taken."""
        before = self.listeners.get(address.host)
        if before is not None and before.life.alive:
            raise UsageError(f"{address}: {before.life.node} listens there already")
        listener = SimListener(self, address, accept, config, _life())
        self.listeners[address.host] = listener
        return listener

    async def dial(
        self,
        address: Address,
        owner: Owner,
        *,
        config: RpcConfig,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
    ) -> Link:
        """Raises: ConnectionError: nobody listens there now, or nobody can be heard."""
        life = _life()
        life.point(f"dials {address}")
        await asyncio.sleep(self.weather.delay_s())
        listener = self.listeners.get(address.host)
        if listener is None or not listener.life.alive:
            await asyncio.sleep(self.weather.delay_s())
            raise ConnectionError(f"{address}: nobody listens there")
        if self.weather.is_cut(life.node, listener.life.node) or self.weather.is_cut(listener.life.node, life.node):
            await asyncio.sleep(config.connect_timeout_s)
            raise ConnectionError(f"{address}: no answer")
        self._numbers += 1
        far_life = listener.life
        near = SimLink(self, f"{life.name}~{self._numbers}", Peer(str(address)), "client", life, config)
        far = SimLink(
            self, f"{far_life.name}~{self._numbers}", Peer(f"sim {life.node}"), "server", far_life, listener.config
        )
        near.other, far.other = far, near
        near.owner = owner
        self._links[near.name], self._links[far.name] = near, far
        self._loop.call_soon(listener.take, far, context=far_life.context)
        return near

    # ------------------------------------------------------------------------------------------------ faults

    def passing(self, link: SimLink) -> None:
        self.messages += 1
        if self._breaks and self.messages >= self._breaks[0]:
            del self._breaks[0]
            struck = self.chance.choice([link, *self._links.values()])
            self.trace.note("network", f"BREAKS the link {struck.name}")
            struck.sever()
        if self._cuts and self.messages >= self._cuts[0]:
            del self._cuts[0]
            seconds = self.chance.uniform(0.01, self.weather.faults.cut_s)
            both = self.chance.random() < 2 / 3
            self.cut(link.life.node, link.other.life.node, seconds, both_ways=both)

    def cut(self, one: str, other: str, seconds: float, *, both_ways: bool = True) -> None:
        ways = "and" if both_ways else "->"
        self.trace.note("network", f"CUTS {one} {ways} {other} for {seconds:.3f} s")
        self.weather.cut(one, other, seconds, both_ways=both_ways)
        if seconds > TOLD_LATE_S:  # Keepalive ends what is silent for so long.
            for link in list(self._links.values()):
                if {link.life.node, link.other.life.node} == {one, other}:
                    link.sever()

    def calm(self) -> None:
        self._breaks.clear()
        self._cuts.clear()
        self.weather.calm()

    def life_ended(self, life: Life) -> None:
        """The links of the dead are lost, and the other side learns of it."""
        for name, link in list(self._links.items()):
            if link.life is life:
                link.sever()
                del self._links[name]

    def gone(self, link: SimLink) -> None:
        self._links.pop(link.name, None)


def _life() -> Life:
    life = current_life.get()
    assert life is not None, "sim:// exists only inside a world"
    return life

"""The world of one seed, as a scenario sees it: servers, clients, faults, claims.

    async def transfers(world: World) -> None:
        world.serve(Account, Bank, durable=True)
        account = await world.connect(Account)
        ...
        world.assert_exactly_once(Account.transfer)

The idea: a scenario is an ordinary coroutine that makes ordinary calls. Around it the world's nodes crash and come
back, and messages fare as the weather will have it. When it returns, the faults end, what is on its way arrives,
durable services are recovered once more, and everything is judged.

The rule: in a scenario, chance comes from `world.random` and time from the event loop; nothing else is the same again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Protocol, TypeVar, cast

from onerack import rpc
from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.interface import interface_of
from onerack.rpc.messages import Mode
from onerack.sim.rpc_world.calls import Ledger
from onerack.sim.rpc_world.clients import SimClient
from onerack.sim.rpc_world.judge import Judge
from onerack.sim.rpc_world.nodes import Ground, Node
from onerack.sim.rpc_world.sea import Sea
from onerack.sim.rpc_world.servers import Factory, Holds, MakeLog, SimServer, logs_of_many_sizes

Service = TypeVar("Service")

SETTLING_S: Final = 600.0
"""In calm weather everything that was on its way has arrived long before."""
LOOK_S: Final = 0.05


class Stage(Ground, Protocol):
    """What a world is set up on."""

    ledger: Ledger
    sea: Sea
    seed: int


class World:
    def __init__(self, stage: Stage) -> None:
        self.seed = stage.seed
        self.random: Random = stage.stream("scenario")
        """For whatever the scenario draws."""
        self._stage = stage
        self._servers: dict[str, SimServer] = {}
        self._clients: dict[str, SimClient] = {}
        self._served: dict[type, SimServer] = {}
        self._methods: dict[Any, str] = {}
        self._starts: list[asyncio.Task[None]] = []
        self._judge = Judge(stage, stage.ledger, lambda: self._lives())

    # ------------------------------------------------------------------------------------------------ nodes

    def serve(
        self,
        protocol: type | Mapping[type, Factory],
        factory: Factory | None = None,
        *,
        durable: bool | MakeLog = False,
        name: str = "",
        config: RpcConfig | None = None,
        **options: Any,
    ) -> str:
        """Starts a server process; gives its address, `sim://name`.

        `factory` makes the implementation (the class will do, mostly) at each start of the process. `durable`: keep a
        LocalLog on the node's disk, or what a function of (disk, config) gives. `config` and `options`: of `rpc.serve`.
        """
        services = dict(protocol) if isinstance(protocol, Mapping) else {protocol: cast(Factory, factory)}
        if not all(map(callable, services.values())):
            raise UsageError("serve() needs a factory, which makes the implementation anew after each crash")
        interfaces = {each: interface_of(each) for each in services}
        name = name or next(iter(interfaces.values())).name.rpartition(".")[2].lower()
        if name in self._servers or name in self._clients:
            raise UsageError(f"there is a node {name!r} already; give another name=")
        fitted = config or logs_of_many_sizes(RpcConfig(), self._stage.stream(f"{name} config").random())
        server = SimServer(
            self._stage, self._stage.ledger, name, services, durable=durable, config=fitted, options=options
        )
        self._servers[name] = server
        for each in services:
            self._served[each] = server
            self._know(each)
        self._starts.append(self._stage.loop.create_task(self._first_start(server.node), context=self._stage.outside))
        return server.address

    async def connect(
        self,
        protocol: Callable[..., Service],
        *addresses: str,
        name: str = "",
        config: RpcConfig | None = None,
        **options: Any,
    ) -> Service:
        """Starts a client process, and gives a stub whose calls it makes. `config` and `options`: of `rpc.connect`.

        A call whose client crashes ends as Unknown, cause "crashed"; the next one waits for the client to come back.
        Raises: as `rpc.connect`.
        """
        interface = interface_of(cast(type, protocol))
        self._know(cast(type, protocol))
        server = self._served.get(cast(type, protocol))
        if not addresses and server is None:
            raise UsageError(f"nobody serves {interface.name} in this world; world.serve({interface.name}, ...)")
        where = addresses or (cast(SimServer, server).address,)
        name = name or f"client-{len(self._clients) + 1}"
        if name in self._servers or name in self._clients:
            raise UsageError(f"there is a node {name!r} already; give another name=")

        def connect() -> Any:
            settings: dict[str, Any] = {"connect_timeout": SETTLING_S, **options}
            return rpc.connect(protocol, *where, config=config, **settings)

        client = SimClient(self._stage, self._stage.ledger, self._judge, name, interface, connect)
        self._clients[name] = client
        await self._bring_up(client.node)
        return cast(Service, client.stub())

    def _know(self, protocol: type) -> None:
        interface = interface_of(protocol)
        for name, method in interface.methods.items():
            self._methods[getattr(protocol, name)] = method.full_name

    async def _first_start(self, node: Node) -> None:
        error = await node.start()
        if error is not None:
            self._stage.fail(f"{node.name} does not start: {type(error).__name__}: {error}", error)

    async def _bring_up(self, node: Node) -> None:
        error = await self._stage.loop.create_task(node.start(), context=self._stage.outside)
        if error is not None:
            raise error
        await node.up.wait()

    @property
    def nodes(self) -> list[Node]:
        servers = [server.node for server in self._servers.values()]
        return servers + [client.node for client in self._clients.values()]

    def service(self, protocol: type) -> Any:
        """The implementation that serves it now. Raises: UsageError: its server is down."""
        server = self._served[protocol]
        if server.node.life is None or not server.node.up.is_set():
            raise UsageError(f"the server of {protocol.__name__} is down now; await world.calm() first")
        return server.services[protocol]

    # ------------------------------------------------------------------------------------------------ faults

    def crash(self, node: str, *, power: bool = True) -> None:
        """Now. It comes back by itself. `power=False`: only the process ends, and its files stay as they are."""
        self._node(node).crash(power=power, why="as the scenario wants")

    async def restart(self, node: str) -> None:
        """Closes the node in good order: calls that run may end. It comes back by itself."""
        await self._stage.loop.create_task(self._node(node).restart(), context=self._stage.outside)

    def cut(self, one: str, other: str, seconds: float, *, both_ways: bool = True) -> None:
        """For so long nothing that `one` sends reaches `other`, nor the other way round."""
        self._stage.sea.cut(self._node(one).name, self._node(other).name, seconds, both_ways=both_ways)

    def _node(self, name: str) -> Node:
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise UsageError(f"no node is called {name!r}; there are {', '.join(node.name for node in self.nodes)}")
        return found

    async def calm(self) -> None:
        """Ends all faults, waits until every node is up and everything has arrived that was on its way."""
        self._stage.sea.calm()
        for node in self.nodes:
            node.spare()
        ends_at = self._stage.loop.time() + SETTLING_S
        for node in self.nodes:
            await node.up.wait()
        while self._stage.sea.in_flight or any(server.open_calls for server in self._servers.values()):
            if self._stage.loop.time() > ends_at:
                self._stage.fail(f"calls still run {SETTLING_S:g} s after all faults have ended")
                return
            await asyncio.sleep(LOOK_S)

    async def recover(self) -> None:
        """Power is lost once more everywhere where it does no harm, so that counts are those of what was kept."""
        durable = [server.node for server in self._servers.values() if server.is_durable]
        for node in durable:
            node.crash(power=True, why="to see what its disk holds")
        await self.calm()

    # ------------------------------------------------------------------------------------------------ claims

    def assert_exactly_once(self, method: Any) -> None:
        """Every call of it that was answered was executed once, and no call twice. Judged at the end of the seed."""
        self._judge.claim(self._called(method), Mode.EXACTLY_ONCE)

    def assert_at_most_once(self, method: Any) -> None:
        """No call of it was executed twice."""
        self._judge.claim(self._called(method), Mode.AT_MOST_ONCE)

    def assert_at_least_once(self, method: Any) -> None:
        """Every call of it that was answered was executed."""
        self._judge.claim(self._called(method), Mode.AT_LEAST_ONCE)

    def always(self, protocol: type, holds: Holds) -> None:
        """`holds(implementation)` asserts, or returns whether it is so: asked after every execution and recovery."""
        server = self._served.get(protocol)
        if server is None:
            raise UsageError(f"nobody serves {protocol.__name__} in this world")
        server.always(protocol, holds)

    def _called(self, method: Any) -> str:
        """Raises: UsageError: it is no method of this world, or was never called, so that nothing would be shown."""
        name = method if isinstance(method, str) else self._methods.get(method)
        if name not in self._methods.values():
            raise UsageError(f"{method!r:.80} is no method of an interface of this world; say Account.transfer")
        if not any(call.method == name for call in self._stage.ledger.calls.values()):
            raise UsageError(f"{name} was never called, so there is nothing to be shown of it")
        return cast(str, name)

    def _lives(self) -> Any:
        return [server.node.life for server in self._servers.values() if server.node.life is not None]

    def judge(self) -> None:
        """Everything that can be said now. Requires: it is calm."""
        self._judge.conclude()

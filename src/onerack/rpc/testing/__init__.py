"""Testing: shows that a service keeps what its methods declare, whatever is lost, doubled, overtaken or crashes.

    @rpc_sim(seeds=500, faults=Faults(drop=0.15, duplicate=0.15, reorder=True, server_crashes=3, client_crashes=1))
    async def test_transfers(world: World) -> None:
        world.serve(Account, Bank, durable=True)           # a factory: the service is made anew after each crash
        account = await world.connect(Account)
        for cents in range(20):
            with suppress(rpc.Unknown):                    # the client may crash while it waits
                await account.transfer("ann", "bob", cents)
        world.assert_exactly_once(Account.transfer)

The idea: production client and server, and your code as it is, on simulated time, network and disks. A seed decides
everything that happens, so what a seed has found can be looked at again. Executions are counted by call, in storage
that survives every crash, and compared with what each caller was told; the modes that methods declare are always
checked, without any assertion.

    prove(scenario, seeds=500)        the same without pytest; gives a Report in numbers
    every_crash_point(scenario)       instead of chance: a crash before and after each message, handler and disk write
    tell(scenario, seed=17)           everything that happened under a seed, line by line
    rpc_world                         a pytest fixture: an `async def` test that takes it runs under many seeds

The rule: a scenario draws chance from `world.random` and time from the event loop, and from nothing else.
"""

from onerack.rpc.testing.decorator import rpc_sim
from onerack.sim.rpc_world.faults import CALM, ROUGH, Faults
from onerack.sim.rpc_world.proof import Report, Violation, every_crash_point, prove, tell
from onerack.sim.rpc_world.world import World

__all__ = ["CALM", "ROUGH", "Faults", "Report", "Violation", "World", "every_crash_point", "prove", "rpc_sim", "tell"]

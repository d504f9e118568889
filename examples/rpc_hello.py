"""RPC in 25 lines: an interface, a server, a client.

python examples/rpc_hello.py
"""

import asyncio
from typing import Protocol

from onerack import rpc


class Greeter(Protocol):
    async def greet(self, name: str, times: int = 1) -> list[str]: ...


class English:
    def greet(self, name, times=1):
        return [f"Hello, {name}!"] * times


async def main():
    async with await rpc.serve(Greeter, English(), "tcp://127.0.0.1:0") as server:
        async with await rpc.connect(Greeter, server.address, deadline=5) as greeter:
            print(*await greeter.greet("world", times=2))
            try:
                await greeter.greet("world", times="often")
            except rpc.CallError as error:
                print({True: "executed", False: "not executed", None: "perhaps executed"}[error.executed], error.cause)


asyncio.run(main())

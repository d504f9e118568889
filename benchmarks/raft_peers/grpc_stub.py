"""The ceiling of our gRPC server: it answers Put and Range with the same few bytes, and does nothing.

python -m benchmarks.raft_peers.grpc_stub [PORT]
"""

from __future__ import annotations

import asyncio
import sys

from onerack.config import KvConfig
from onerack.kv.server.grpc import Call, Unary, serve

ANSWER = bytes.fromhex("0a0c08011002180320ffffffff0f")


def answer(call: Call, body: bytes) -> None:
    call.reply(ANSWER)


async def stand(port: int) -> None:
    handlers = {"/etcdserverpb.KV/Put": Unary(answer), "/etcdserverpb.KV/Range": Unary(answer)}
    listener = await serve(handlers, f"tcp://127.0.0.1:{port}", config=KvConfig())
    print(listener.address.removeprefix("tcp://"), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(stand(int(sys.argv[1]) if len(sys.argv) > 1 else 0))

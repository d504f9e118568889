"""Tests of the load generator: it counts what was answered, as what it was, and respects the server's windows."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from benchmarks.raft_peers.grpc_load import Load, main, put, range_one, range_serializable, run
from onerack.config import KvConfig
from onerack.kv.server.grpc import Call, Unary, serve
from onerack.kv.server.http2.limits import Limits
from tests.rpc import links

PATHS = ("/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range")


class Ledger:
    """Answers, and notes what it was asked."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {path: [] for path in PATHS}
        self.open: Counter[int] = Counter()
        self.most = 0
        self.fails = False

    def ask(self, call: Call, body: bytes) -> None:
        self.bodies[call.path].append(body)
        self.open[0] += 1
        self.most = max(self.most, self.open[0])
        asyncio.get_running_loop().call_soon(self.answer, call)

    def answer(self, call: Call) -> None:
        self.open[0] -= 1
        if self.fails:
            call.fail(14, "etcdserver: no leader")
        else:
            call.reply(b"an answer")


def loaded(ledger: Ledger, limits: Limits | None = None, **options: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def serving() -> None:
        handlers = {path: Unary(ledger.ask) for path in PATHS}
        listener = await serve(handlers, "tcp://127.0.0.1:0", config=KvConfig(), limits=limits)
        endpoint = listener.address.removeprefix("tcp://")
        load = Load((endpoint,), **{"seconds": 0.1, "warmup_s": 0.02, "keys": 50, **options})
        found.append(await asyncio.to_thread(run, load))
        await listener.close()

    links.run(serving())
    return found[0]


def test_requests_are_etcds() -> None:
    assert put(b"key", b"v" * 256) == b"\x0a\x03key\x12\x80\x02" + b"v" * 256
    assert range_one(b"key", b"") == b"\x0a\x03key"
    assert range_serializable(b"key", b"") == b"\x0a\x03key\x38\x01"


@pytest.mark.parametrize("op", ["put", "range", "serializable"])
def test_every_answer_counts_and_no_more_are_open_than_clients(op: str) -> None:
    ledger = Ledger()
    figures = loaded(ledger, op=op, clients=7, connections=3)
    asked = ledger.bodies[PATHS[op != "put"]]
    assert 0 < figures["ops"] <= len(asked)
    assert figures["errors"] == 0
    assert ledger.most <= 7
    assert {len(body) for body in asked} == {{"put": 269, "range": 10, "serializable": 12}[op]}
    assert len(set(asked)) > 1
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert ledger.open[0] == 0, "what was begun is waited for"


def test_failures_do_not_count_as_answers() -> None:
    ledger = Ledger()
    ledger.fails = True
    figures = loaded(ledger, clients=3)
    assert figures["ops"] == 0
    assert figures["errors"] > 0
    assert figures["first_error"] == "status 14 etcdserver: no leader"


def test_the_servers_windows_are_respected() -> None:
    ledger = Ledger()
    # The least that HTTP/2 has: more clients than fit into it must wait, and none is forgotten.
    figures = loaded(ledger, Limits(connection_window_bytes=65_535), clients=600, connections=1)
    assert figures["errors"] == 0
    assert figures["ops"] > 0


def test_a_server_that_goes_away_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        main(["--endpoint", f"127.0.0.1:{port}", "--seconds", "0.1"])
    assert capsys.readouterr().out == ""

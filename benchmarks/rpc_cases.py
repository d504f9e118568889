"""The cases of RPC: which library makes which calls, and what the issue demands of ours.

The idea: a case is plain data, and a row of the table is one command that can be repeated by hand. A row's name begins
with the library; `uvloop` or `asyncio` behind it names the loop of both sides. Where a peer runs on both, the better
one counts; ours is judged on the loop that the user chose, and shown on the other.

The rule: a bar is copied from the issue, and a peer has the fastest formulation we found.

Source: the issue's Figures.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canonical import nothing
from benchmarks.contest import Bar, Case, Contender

ROOT = Path(__file__).resolve().parents[1]
LOOPS = ("uvloop", "asyncio")
NEEDS = {"grpc_aio": "grpc", "grpc_sync": "grpc", "rpyc_peer": "rpyc"}
MIB = 1 << 20
IN_FLIGHT = 8
"""Pieces of 1 MiB on their way at once: few enough to stay in the processor's cache."""
GROWTH_MAX = 1.05


@dataclass(frozen=True)
class Setting:
    """What the user asked for on the command line."""

    quick: bool
    loop: str
    """On which ours is judged."""

    @property
    def ours(self) -> str:
        return f"onerack {self.loop}"

    def peer(self, name: str, program: str, case: str, loop: str = "asyncio", **options: object) -> Contender:
        # Beside the output, not in it: the results that are compared are files, and nobody here has any.
        words = {"seconds": 1 if self.quick else 3, "directory": "{output}-files", **options}
        given = [word for key, value in words.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        command = (sys.executable, "-m", f"benchmarks.rpc_peers.{program}", case, "--loop", loop, *given)
        needed = [module for module in (NEEDS.get(program), loop) if module and not installed(module)]
        missing = f"{needed[0]} is not installed" if needed else ""
        return Contender(name, command, {"PYTHONPATH": str(ROOT)}, missing=missing)

    def on_both_loops(self, name: str, program: str, case: str, **options: object) -> list[Contender]:
        return [self.peer(f"{name} {loop}", program, case, loop, **options) for loop in LOOPS]


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def echo(setting: Setting) -> list[Case]:
    return [echo_at(setting, callers, limit) for callers, limit in ((1, 6), (64, 20), (1000, 25))]


def echo_at(setting: Setting, callers: int, limit: float) -> Case:
    return Case(
        f"echo-{callers}",
        f"64 bytes there and back, typed and at most once in ours, {callers} at a time",
        (),
        (
            *setting.on_both_loops("onerack", "onerack_peer", "echo", callers=callers),
            *setting.on_both_loops("grpc.aio", "grpc_aio", "echo", callers=callers),
            setting.peer("grpcio", "grpc_sync", "echo", callers=callers),
            setting.peer("rpyc", "rpyc_peer", "echo", callers=callers),
            setting.peer("raw TCP", "raw_tcp", "echo", callers=callers),
        ),
        (
            Bar(f"at least {limit}x grpc.aio", limit, ("grpc.aio",), "calls_per_s", setting.ours, at_least=True),
            Bar("beside grpcio", None, ("grpcio",), "calls_per_s", setting.ours, at_least=True),
            Bar("beside rpyc", None, ("rpyc",), "calls_per_s", setting.ours, at_least=True),
        ),
        nothing,
        headline="calls_per_s",
        memory_sampled=False,
    )


def bulk(setting: Setting) -> list[Case]:
    ours, large = setting.ours, f"{setting.ours} 64 MiB"
    return [
        Case(
            "bulk",
            f"one-way attachments of 1 MiB, {IN_FLIGHT} at a time, unless the name says otherwise",
            (),
            (
                *setting.on_both_loops("onerack", "onerack_peer", "bulk", callers=IN_FLIGHT),
                setting.peer(large, "onerack_peer", "bulk", setting.loop, callers=2, size_bytes=64 * MIB),
                setting.peer("raw TCP, buffer of 1 MiB", "raw_tcp", "bulk", variant="1MiB"),
                setting.peer("raw TCP, buffer of 256 KiB", "raw_tcp", "bulk", variant="256KiB"),
                *setting.on_both_loops("grpc.aio", "grpc_aio", "bulk", callers=IN_FLIGHT),
                *setting.on_both_loops("streaming grpc.aio", "grpc_aio", "bulk", variant="stream"),
                setting.peer("grpcio", "grpc_sync", "bulk", callers=IN_FLIGHT),
                setting.peer("rpyc", "rpyc_peer", "bulk", callers=IN_FLIGHT),
            ),
            (
                Bar("at least 1.0x blocking sockets", 1.0, ("raw TCP",), "gb_per_s", ours, at_least=True),
                Bar("at least 2.5x unary calls of grpc.aio", 2.5, ("grpc.aio",), "gb_per_s", ours, at_least=True),
                Bar("64 MiB: at least 0.8x of 1 MiB", 0.8, (ours,), "gb_per_s", large, at_least=True),
                Bar("beside streams of grpc.aio", None, ("streaming",), "gb_per_s", ours, at_least=True),
            ),
            nothing,
            headline="gb_per_s",
            memory_sampled=False,
        )
    ]


def durable(setting: Setting) -> list[Case]:
    return [
        Case(
            "durable",
            "1,000 at a time; ours exactly once, on the disk before the reply leaves; grpc.aio without any of that",
            (),
            (
                *setting.on_both_loops("onerack", "onerack_peer", "durable", callers=1000),
                *setting.on_both_loops("grpc.aio", "grpc_aio", "echo", callers=1000),
                setting.peer("append and fdatasync", "raw_disk", "durable"),
            ),
            (Bar("at least 10x grpc.aio", 10, ("grpc.aio",), "calls_per_s", setting.ours, at_least=True),),
            nothing,
            headline="calls_per_s",
            memory_sampled=False,
        )
    ]


def memory(setting: Setting) -> list[Case]:
    phases = {
        "calls": {"callers": 64, "count": 300_000 if setting.quick else 10_000_000},
        "sessions": {"count": 2_500 if setting.quick else 10_000},
        "reader": {"count": 1_000_000 if setting.quick else 3_000_000, "seconds": 5 if setting.quick else 60},
    }
    return [
        Case(
            "memory",
            "highest resident memory after a rehearsal over the highest in it",
            (),
            tuple(
                setting.peer(phase, "onerack_memory", phase, setting.loop, **options)
                for phase, options in phases.items()
            ),
            tuple(
                Bar(f"{phase}: {side} grows by less than 5 %", GROWTH_MAX, (), f"{side}_growth", phase)
                for phase in phases
                for side in ("server", "client")
            ),
            nothing,
            headline="server_growth",
            memory_sampled=False,
        )
    ]


CASES: dict[str, Callable[[Setting], list[Case]]] = {"echo": echo, "bulk": bulk, "durable": durable, "memory": memory}

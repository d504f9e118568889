"""The cases of raft and the store: who serves, who asks, and what the issue demands of ours.

The idea: as in rpc_cases.py, a row is one command that can be repeated by hand; each starts three nodes of its own, and
ends them. Everybody syncs to the same disk.

The rule: a bar is copied from the issue, and a peer has the fastest formulation we found.

Source: the issue's Figures.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canonical import nothing
from benchmarks.contest import OURS, Bar, Case, Contender

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = (64, 256, 1000)


@dataclass(frozen=True)
class Setting:
    """What the user asked for on the command line."""

    quick: bool
    python: str
    """One that has aetcd."""
    python_etcd3: str
    """One that has etcd3 (and an old protobuf) and pysyncobj."""

    @property
    def seconds(self) -> int:
        return 2 if self.quick else 5

    def peer(self, name: str, program: str, *words: object, missing: str = "") -> Contender:
        command = (sys.executable, "-m", f"benchmarks.raft_peers.{program}", *map(str, words))
        return Contender(name, (*command, "--directory", "{output}-nodes"), {"PYTHONPATH": str(ROOT)}, missing=missing)

    def server(self, name: str, program: str, *words: object) -> Contender:
        """`name` is the kind of the servers."""
        missing = "" if name == OURS or shutil.which("etcd") else "etcd is not installed"
        return self.peer(name, program, *words, "--kind", name, missing=missing)


def has(python: str, module: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec(module) is not None
    return bool(python) and subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def servers(setting: Setting) -> list[Case]:
    """The same load through the etcd API against either."""
    return [
        Case(
            f"{op}-{clients}",
            f"{op} through the etcd API, {clients} clients, 256 byte values, three nodes that sync",
            (),
            tuple(
                setting.server(kind, "etcd_api", op, "--clients", clients, "--seconds", setting.seconds)
                for kind in (OURS, "etcd")
            ),
            (
                Bar("at least 1.0x etcd", 1.0, ("etcd",), "ops_per_s", at_least=True),
                Bar("no higher p99", 1.0, ("etcd",), "p99_ms"),
            ),
            nothing,
            headline="ops_per_s",
            memory_sampled=False,
        )
        for op in ("put", "range")
        for clients in CLIENTS
    ]


def python(setting: Setting) -> list[Case]:
    """What a Python program gets."""
    return [
        Case(
            f"python-{op}-{callers}",
            f"{op} by {callers} callers of one Python process: our client and servers, or a client of etcd's and etcd",
            (),
            (
                setting.peer(OURS, "onerack_native", op, "--callers", callers, "--seconds", setting.seconds),
                *(_etcd_client(setting, library, op, callers) for library in ("aetcd", "etcd3")),
            ),
            (Bar(f"at least {limit}x", limit, ("aetcd", "etcd3"), "ops_per_s", at_least=True),),
            nothing,
            headline="ops_per_s",
            memory_sampled=False,
        )
        for op in ("put", "get")
        for callers, limit in ((256, 5.0), (1, 1.5))
    ]


def _etcd_client(setting: Setting, library: str, op: str, callers: int) -> Contender:
    interpreter = setting.python if library == "aetcd" else setting.python_etcd3
    missing = "" if has(interpreter, library) else f"no Python that has {library} was named"
    words = (library, op, "--python", interpreter, "--callers", callers, "--seconds", setting.seconds)
    return setting.peer(library, "etcd_python", *words, missing=missing)


def pysyncobj(setting: Setting) -> list[Case]:
    """A machine of one's own, and its users inside the leader: so PySyncObj is used, and so it is fastest."""
    interpreter = setting.python_etcd3
    missing = "" if has(interpreter, "pysyncobj") else "no Python that has pysyncobj was named"
    program = str(ROOT / "benchmarks" / "raft_peers" / "pysyncobj_node.py")

    def case(callers: int) -> Case:
        words = ("--callers", str(callers), "--seconds", str(setting.seconds))
        command = (interpreter or sys.executable, program, *words, "--directory", "{output}-nodes")
        return Case(
            f"pysyncobj-{callers}",
            f"puts by {callers} callers inside the leader of three processes: our `Replica`, or PySyncObj made durable",
            (),
            (
                setting.peer(OURS, "onerack_replica", *words),
                setting.peer("our store, by a client", "onerack_native", "put", *words),
                Contender("PySyncObj, synced", command, missing=missing),
            ),
            (Bar("at least 20x", 20.0, ("PySyncObj",), "ops_per_s", at_least=True),),
            nothing,
            headline="ops_per_s",
            memory_sampled=False,
        )

    return [case(callers) for callers in (256, 1000)]


def failover(setting: Setting) -> list[Case]:
    kills = 5 if setting.quick else 20
    return [
        Case(
            "failover",
            f"SIGKILL of the leader until a write is answered: median of {kills}, default timeouts",
            (),
            tuple(setting.server(kind, "failover", "--kills", kills) for kind in (OURS, "etcd")),
            (Bar("under 1 s", 1.0, (), "failover_s"), Bar("beside etcd", None, ("etcd",), "failover_s")),
            nothing,
            headline="failover_s",
            memory_sampled=False,
        )
    ]


def restart(setting: Setting) -> list[Case]:
    size = 128 if setting.quick else 1024
    return [
        Case(
            "restart",
            f"a node with a snapshot and {size} MiB of log behind it, from its start to its first answer",
            (),
            (setting.peer(OURS, "restart", "--log-mib", size),),
            (Bar("under 10 s", 10.0, (), "restart_s"),),
            nothing,
            headline="restart_s",
            memory_sampled=False,
        )
    ]


def snapshot(setting: Setting) -> list[Case]:
    keys, seconds = (100_000, 20) if setting.quick else (1_000_000, 40)
    return [
        Case(
            "snapshot",
            f"the longest put while {keys:,} keys are saved",
            (),
            tuple(
                setting.server(kind, "snapshot_pause", "--keys", keys, "--seconds", seconds) for kind in (OURS, "etcd")
            ),
            (
                Bar("no put waits for more than 50 ms", 50.0, (), "max_ms"),
                Bar("beside etcd", None, ("etcd",), "max_ms"),
            ),
            nothing,
            headline="max_ms",
            memory_sampled=False,
        )
    ]


CASES: dict[str, Callable[[Setting], list[Case]]] = {
    "servers": servers,
    "python": python,
    "pysyncobj": pysyncobj,
    "failover": failover,
    "restart": restart,
    "snapshot": snapshot,
}

"""What a peer is asked to do, and the command line that says it: `PROGRAM CASE [--callers N] [--seconds S] ...`.

A program is two processes. Started plainly it is the client: it starts itself again with `--serve` as its server, makes
its calls, prints the figures and leaves them for measure.py. So each row of the table can be repeated by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.ours.marks import leave
from benchmarks.rpc_peers.server_process import ServerProcess, server_process

Result = TypeVar("Result")

NUMBER = 7
"""The integer argument of an echo; as eight bytes it makes the call 64 bytes together with TEXT."""
TEXT = "t" * 56
PAYLOAD = TEXT.encode() + NUMBER.to_bytes(8, "little")
"""What those send who have no types."""


@dataclass(frozen=True)
class Task:
    case: str
    """echo, bulk, durable; or a phase of onerack_memory."""
    callers: int = 1
    """Calls that are open at any time."""
    seconds: float = 3.0
    """Measured, after a warm-up of one second more."""
    size_bytes: int = 1 << 20
    """Of one bulk transfer."""
    loop: str = "asyncio"
    """asyncio or uvloop, for both sides."""
    variant: str = ""
    """One of several formulations of the same peer."""
    count: int = 0
    """Calls, sessions or items: see onerack_memory."""
    directory: Path = Path("rpc-benchmark")
    """For what must lie on a disk; absent before."""


Serve = Callable[[Task], None]
"""Announces its address, then serves until the client has gone."""
Drive = Callable[[Task, ServerProcess], dict[str, float]]
"""Makes the calls; gives the figures."""


def parse(words: list[str] | None = None) -> tuple[Task, bool]:
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("--callers", type=int, default=Task.callers)
    parser.add_argument("--seconds", type=float, default=Task.seconds)
    parser.add_argument("--size-bytes", type=int, default=Task.size_bytes)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default=Task.loop)
    parser.add_argument("--variant", default=Task.variant)
    parser.add_argument("--count", type=int, default=Task.count)
    parser.add_argument("--directory", type=Path, default=Task.directory)
    parser.add_argument("--serve", action="store_true")
    options = vars(parser.parse_args(words))
    serving = options.pop("serve")
    return Task(**options), serving


def main(serve: Serve, drive: Drive) -> None:
    task, serving = parse()
    if serving:
        serve(task)
        return
    module = sys.modules["__main__"].__spec__
    assert module is not None, "run it with python -m"
    with server_process([sys.executable, "-m", module.name, *sys.argv[1:], "--serve"]) as server:
        figures = drive(task, server)
    print(json.dumps(figures))
    leave(**figures)


def run(task: Task, procedure: Coroutine[Any, Any, Result]) -> Result:
    """Runs a procedure on the loop that the task names."""
    factory = None
    if task.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(procedure)

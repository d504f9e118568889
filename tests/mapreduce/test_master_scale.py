"""Twenty thousand map tasks: a message costs the same as with two hundred.

The idea: counting the master's steps in seconds would measure this machine. Counting the lines of Python that it runs
for one message measures the algorithm, and is the same everywhere.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from onerack.config import MapReduceConfig
from onerack.mapreduce.core import Master
from onerack.mapreduce.messages import Heartbeat, MapCompleted, Part, Register, RunMap, SubmitJob
from tests.mapreduce.master_bench import Bench, attempt_id, make_spec

WORKERS = 50


def lines_of(action: Any) -> int:
    """How many lines of Python run in `action()`."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def half_done(maps: int) -> Master:
    """A job in its middle, with every worker at work."""
    master = Master(MapReduceConfig())
    master.step(SubmitJob(make_spec(maps, reducers=0, backup_tasks=True)), "client", 0.0)
    for number in range(WORKERS):
        master.step(Register(f"w{number}", seen=0), "w", 0.0)
    for index in range(maps // 2):
        worker = next(w.name for w in master.workers if w.assignment and w.assignment.attempt.index == index)
        complete(master, worker, index)
    master.drain()
    return master


def complete(master: Master, worker: str, index: int) -> None:
    master.step(MapCompleted(worker, attempt_id(f"m{index}.1"), (), (Part("p", 1, 1, 1),)), worker, 1.0)


def cost(maps: int) -> dict[str, int]:
    master = half_done(maps)
    index = maps // 2
    worker = next(w for w in master.workers if w.assignment and w.assignment.attempt.index == index)
    running = attempt_id(f"m{index}.1")
    costs = {
        "heartbeat": lines_of(lambda: master.step(Heartbeat(worker.name, running, seen=10**9), "w", 1.0)),
        "completion": lines_of(lambda: complete(master, worker.name, index)),
        "status": lines_of(lambda: master.status("j1", 1.0)),
        "drain": lines_of(master.drain),
    }
    assert worker.assignment is not None
    assert isinstance(worker.assignment.message, RunMap), "the completion was followed by the next order"
    return costs


def test_a_message_costs_the_same_however_many_tasks_there_are() -> None:
    few, many = cost(200), cost(20_000)
    for name in few:
        assert many[name] <= few[name] + 20, f"{name}: {few[name]} lines with 200 tasks, {many[name]} with 20,000"


def test_the_end_of_a_worker_costs_what_it_held() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=4, reducers=1)
    bench.complete("w1", "m0.1")
    bench.complete("w1", "m2.1")
    worker = bench.master.workers.find("w1")
    assert worker is not None
    assert worker.holds == {"j1": [0, 2]}
    bench.lose("w1", "lost")
    assert bench.events.count("map_output_lost") == 2

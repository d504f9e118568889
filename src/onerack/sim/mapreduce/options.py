"""Options: what kind of world a seed lives in, drawn before anything else.

The idea: swarm testing. If every run had a little of every fault, no run would have much of any, and the rare pairs
would never meet. So each seed switches whole kinds of trouble off and others up.

The rule: a *calm* seed has slow tasks, late, repeated and reordered messages, but not one fault; in it no task may
run twice.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from onerack.config import MapReduceConfig
from onerack.sim.network import Weather

CONFIG = MapReduceConfig(
    heartbeat_interval_s=0.5,
    worker_timeout_s=2.5,
    order_resend_s=0.6,
    report_grace_s=1.2,
    task_stall_timeout_s=4.0,
    attempts_max=30,
    losses_max=60,
    backup_age_min_s=3.0,
    backup_phase_fraction=0.5,
)
"""Short timeouts keep runs short. Limits of attempts are far above what the faults of one run can use up, so that
every job that can be done must be done."""


class Options(msgspec.Struct, frozen=True):
    mode: Literal["embedded", "rack"]
    """embedded: ordered channels; a host kills, restarts and reports processes. rack: neither."""
    calm: bool
    workers: int
    weather: Weather
    codec: bool
    turn_s: float
    """The master's host gathers messages for so long before it steps them together."""
    keeps_output: bool
    counts_orders: bool
    """Workers tell the highest order they have seen. On a rack always."""
    keeps_name: bool
    """embedded: a restarted process bears the old name."""
    backup_tasks: bool
    jobs: int
    maps_max: int
    reduces_max: int
    slow: float
    """Share of attempts that take seconds."""
    faults: int
    """Crashes, pauses and cuts that strike."""
    fault_mean_s: float
    hang: float
    """Share of attempts that hang for no reason of the task's."""
    flaky: float
    """Share of attempts that fail for no reason of the task's."""
    fetch_fault: float
    corrupt: float
    bad_records: int
    skip_slack: int
    """How many more (or, below zero, fewer) bad records than there are the jobs allow."""
    cancel: bool
    stop_and_go: bool
    """The master's own process stands still for longer than the worker timeout."""


def draw(chance: random.Random) -> Options:
    """One world."""
    pick = chance.choice
    calm = chance.random() < 0.2
    mode: Literal["embedded", "rack"] = "embedded" if chance.random() < 0.4 else "rack"
    rack = mode == "rack"
    weather = Weather(
        ordered=not rack,
        drop=0.0 if calm or not rack else pick([0.0, 0.0, 0.02, 0.1]),
        duplicate=pick([0.0, 0.02, 0.2]) if rack else 0.0,
        slow=0.0 if calm else pick([0.0, 0.02, 0.1]),
        slow_s=pick([0.05, 0.2]),
        delay_max_s=pick([0.002, 0.005, 0.1]),
    )
    return Options(
        mode=mode,
        calm=calm,
        workers=pick([2, 3, 3, 4]),
        weather=weather,
        codec=chance.random() < 0.1,
        turn_s=pick([0.0, 0.0, 0.01]),
        keeps_output=chance.random() < 0.25 if rack else True,
        counts_orders=rack or chance.random() < 0.3,
        keeps_name=not rack and chance.random() < 0.5,
        backup_tasks=chance.random() < 0.4,
        jobs=pick([1, 1, 1, 2]),
        maps_max=pick([1, 4, 5, 6]),
        reduces_max=pick([0, 1, 2, 3, 3]),
        slow=pick([0.0, 0.05, 0.2]),
        faults=0 if calm else pick([0, 1, 2, 4]),
        fault_mean_s=pick([0.3, 1.0]),
        hang=0.0 if calm else pick([0.0, 0.0, 0.0, 0.05]),
        flaky=0.0 if calm else pick([0.0, 0.0, 0.1]),
        fetch_fault=0.0 if calm else pick([0.0, 0.0, 0.1]),
        corrupt=0.0 if calm else pick([0.0, 0.0, 0.1]),
        bad_records=0 if calm else pick([0, 0, 0, 1, 2]),
        skip_slack=pick([0, 0, 1, -1]),
        cancel=not calm and chance.random() < 0.05,
        stop_and_go=not calm and chance.random() < 0.05,
    )

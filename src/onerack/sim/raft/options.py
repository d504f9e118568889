"""Options: what kind of world a seed lives in, drawn before anything else.

The idea: swarm testing. If every run had a little of every fault, no run would have much of any, and the rare pairs
would never meet. So each seed switches whole kinds of trouble off and others up, makes limits so small that they are
met all the time or so large that they never are, and now and then lives by a theme that brings together what rarely
meets.

The rule: a *calm* seed has no fault and no loss; in it nobody but the first leader is ever elected.
"""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from onerack.config import KIB, MIB, RaftConfig

HEARTBEAT_S: Final = 0.09
ELECTION_S: Final = 0.3
DRIFT: Final = 0.1
"""Clocks never run apart by more than this on seeds that read by lease."""

Fault = Literal["crash", "crash_all", "crash_leader", "divide", "cut_one_way", "isolate_leader", "pause", "fail_sync",
                "slow_disk", "clock_jump", "clock_stop", "clock_rate", "minority"]  # fmt: skip

FAULTS: Final[tuple[Fault, ...]] = (
    "crash", "crash", "crash", "crash_all", "crash_leader", "divide", "divide", "cut_one_way", "isolate_leader",
    "pause", "pause", "fail_sync", "slow_disk", "clock_jump", "clock_stop", "clock_rate",
)  # fmt: skip


class Weather(msgspec.Struct, frozen=True):
    """How the network treats messages: probabilities, and seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    """Share of messages that take `slow_s` longer on average."""
    slow_s: float = 0.1
    delay_min_s: float = 0.001
    delay_max_s: float = 0.005


class Options(msgspec.Struct, frozen=True):
    calm: bool
    nodes: int
    """The first configuration has so many members."""
    spares: int
    """So many more may join."""
    learner: bool
    witness: bool
    weather: Weather
    codec: bool
    """Messages go through their encoding."""
    turn_s: float
    """A host gathers messages for so long before it drains."""
    spurious_ticks: bool
    files: bool
    """The production storage over simulated files; else a model of it."""
    sync_s: float
    """What an fsync takes, on average."""
    sync_fault: float
    crash_point: float
    """Chance at each crash point."""
    faults: int
    fault_mean_s: float
    fault_kinds: tuple[Fault, ...]
    fault_s: tuple[float, ...]
    """How long a cut or a pause lasts."""
    down_s: tuple[float, ...]
    """How long a node that died stays away."""
    clock_spread: float
    """Clocks run at rates of 1 plus or minus this."""
    snapshot_after: int
    """Entries after which a node takes a snapshot."""
    keep: int
    """Entries before a snapshot that stay."""
    pieces: int
    """In so many a snapshot travels."""
    snapshot_s: float
    """What it takes to make one durable."""
    clients: int
    operations: int
    """Of each client."""
    keys: int
    pause_s: float
    """Between two operations of a client, on average."""
    reads: float
    follower_reads: float
    """Share of reads that go to any node."""
    attempts_max: int
    """After so many a client gives up, and takes a new session."""
    change_mean_s: float
    """Between two changes of the configuration; 0: none."""
    transfer_mean_s: float
    config: RaftConfig


def draw(chance: random.Random) -> Options:
    """One world; a third have a theme."""
    options = _draw_any(chance)
    theme = chance.choice([*_THEMES, *(None for _ in range(2 * len(_THEMES)))])
    if options.calm:
        return options
    if theme is not None:
        options = theme(chance, options)
    # Drawn last, so that it leaves all other worlds as they are.
    return _witnesses(chance, options) if chance.random() > 0.95 else options


def small_world(nodes: int = 3) -> Options:
    """No fault and no client; for scenarios, which bring their own."""
    return Options(
        calm=False, nodes=nodes, spares=0, learner=False, witness=False, weather=Weather(), codec=False, turn_s=0.0,
        spurious_ticks=False, files=False, sync_s=0.0002, sync_fault=0.0, crash_point=0.0, faults=0, fault_mean_s=1.0,
        fault_kinds=(), fault_s=(0.5,), down_s=(0.2,), clock_spread=0.0, snapshot_after=1_000_000, keep=0, pieces=1,
        snapshot_s=0.001, clients=0, operations=0, keys=2, pause_s=0.05, reads=0.5, follower_reads=0.0,
        attempts_max=10, change_mean_s=0.0, transfer_mean_s=0.0,
        config=_config(entry_bytes_max=2 * KIB, segment_bytes=4 * KIB),
    )  # fmt: skip


def _config(**limits: object) -> RaftConfig:
    return RaftConfig(heartbeat_interval_s=HEARTBEAT_S, election_timeout_s=ELECTION_S, **limits)  # type: ignore[arg-type]


def _draw_any(chance: random.Random) -> Options:
    pick = chance.choice
    calm = chance.random() < 0.06
    lease_reads = chance.random() < 0.2
    kinds = () if calm else _draw_fault_kinds(chance, lease_reads=lease_reads)
    return Options(
        calm=calm,
        nodes=pick([1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5]),
        spares=pick([0, 1, 2]),
        learner=chance.random() < 0.15,
        witness=chance.random() < 0.1,
        weather=Weather() if calm else _draw_weather(chance),
        codec=chance.random() < 0.1,
        turn_s=pick([0.0, 0.0, 0.0, 0.002]),
        spurious_ticks=chance.random() < 0.2,
        files=chance.random() < 0.25,
        sync_s=pick([0.0002, 0.002, 0.02]),
        sync_fault=0.0 if calm else pick([0.0, 0.0, 0.002, 0.01]),
        crash_point=0.0 if calm else pick([0.0, 0.003, 0.02]),
        faults=pick([2, 5, 10]) if kinds else 0,
        fault_mean_s=pick([0.2, 0.4, 0.8]),
        fault_kinds=kinds,
        fault_s=pick([(0.1, 0.4, 1.5), (0.2, 0.5), (1.0, 2.0)]),
        down_s=pick([(0.01, 0.3), (0.01, 0.3, 1.5), (1.0,)]),
        clock_spread=0.0 if calm else pick([0.0, 0.04] if lease_reads else [0.0, 0.04, 0.3]),
        snapshot_after=pick([4, 10, 30, 1_000_000]),
        keep=pick([0, 2, 10]),
        pieces=pick([1, 3]),
        snapshot_s=pick([0.001, 0.05]),
        clients=pick([1, 2, 3, 4]),
        operations=pick([10, 20, 30]),
        keys=pick([1, 2, 2, 4]),
        pause_s=pick([0.0, 0.02, 0.1]),
        reads=pick([0.2, 0.5, 0.8]),
        follower_reads=pick([0.0, 0.3, 1.0]),
        attempts_max=pick([1, 3, 10]),
        change_mean_s=0.0 if calm else pick([0.0, 0.0, 0.0, 0.3, 1.0]),
        transfer_mean_s=0.0 if calm else pick([0.0, 0.0, 0.0, 0.5]),
        config=_draw_config(chance, lease_reads=lease_reads),
    )


def _draw_fault_kinds(chance: random.Random, *, lease_reads: bool) -> tuple[Fault, ...]:
    """Some kinds only, so that each has runs of its own."""
    kinds = [kind for kind in FAULTS if not (lease_reads and kind.startswith("clock"))]
    return tuple(sorted(chance.sample(kinds, chance.randint(1, 5))))


def _draw_weather(chance: random.Random) -> Weather:
    pick = chance.choice
    return Weather(
        drop=pick([0.0, 0.0, 0.01, 0.1]),
        duplicate=pick([0.0, 0.02, 0.1]),
        slow=pick([0.0, 0.02, 0.1]),
        slow_s=pick([0.1, 0.5]),
        delay_max_s=pick([0.002, 0.005, 0.04]),
    )


def _draw_config(chance: random.Random, *, lease_reads: bool) -> RaftConfig:
    """Small limits are met by everybody, large ones by nobody."""
    pick = chance.choice
    tight = chance.random() < 0.3
    return _config(
        in_flight_max=pick([1, 2, 256]),
        in_flight_bytes_max=pick([100, 16 * MIB]) if tight else 16 * MIB,
        append_bytes_max=pick([1, 1, 200, MIB]),
        entry_bytes_max=2 * KIB,
        uncommitted_bytes_max=pick([2 * KIB, 64 * MIB]) if tight else 64 * MIB,
        reads_max=pick([2, 100_000]) if tight else 100_000,
        segment_bytes=4 * KIB,
        snapshot_bytes=4 * KIB,
        kept_bytes=pick([1, 200, 16 * MIB]),
        lease_reads=lease_reads,
        clock_drift=DRIFT,
    )


# ------------------------------------------------------------------------------------------------ themes: what rarely
# meets by chance, brought together


def _figure_8(chance: random.Random, options: Options) -> Options:
    """Leaders die over and over, just after they have proposed, and entries travel alone."""
    config = replace(options.config, append_bytes_max=1, in_flight_max=1)
    return replace(
        options, config=config, nodes=chance.choice([3, 5]), crash_point=0.03, faults=10, fault_mean_s=0.2,
        fault_kinds=("crash_leader", "isolate_leader"), down_s=(0.01, 0.3), fault_s=(0.4, 0.8), pause_s=0.0,
    )  # fmt: skip


def _votes(chance: random.Random, options: Options) -> Options:
    """Nodes that die between a vote and its word, and are back at once."""
    return replace(
        options, crash_point=0.06, down_s=(0.001, 0.001, 0.05), fault_kinds=("crash_leader", "divide"), faults=10,
        fault_mean_s=0.3, nodes=chance.choice([3, 4, 5]), sync_s=0.002,
    )  # fmt: skip


def _late(chance: random.Random, options: Options) -> Options:
    """What was sent long ago arrives now, perhaps twice, at nodes that have changed meanwhile."""
    weather = Weather(drop=0.02, duplicate=0.2, slow=0.2, slow_s=0.6)
    return replace(options, weather=weather, fault_kinds=("crash_leader", "isolate_leader"), faults=8, fault_mean_s=0.4)


def _laggards(chance: random.Random, options: Options) -> Options:
    """Snapshots all the time, for nodes that were away; streams that are cut."""
    return replace(
        options, snapshot_after=chance.choice([3, 6]), keep=chance.choice([0, 1]), pieces=3, pause_s=0.0,
        fault_kinds=("crash", "divide", "pause"), faults=10, fault_mean_s=0.3, fault_s=(0.5, 1.0), down_s=(0.3, 0.8),
        config=replace(options.config, kept_bytes=1),
    )  # fmt: skip


def _changes(chance: random.Random, options: Options) -> Options:
    """The configuration is never at rest, and neither are its members."""
    return replace(
        options, change_mean_s=0.15, transfer_mean_s=chance.choice([0.0, 0.5]), spares=2, faults=6, fault_mean_s=0.5,
        fault_kinds=("crash_leader", "divide", "isolate_leader"),
    )  # fmt: skip


def _stale(chance: random.Random, options: Options) -> Options:
    """Reads from a leader that is none any more and does not know."""
    return replace(
        options, reads=0.7, keys=1, clients=4, pause_s=0.02, follower_reads=chance.choice([0.0, 0.5]), nodes=3,
        fault_kinds=("isolate_leader", "pause"), faults=10, fault_mean_s=0.4, fault_s=(0.6, 1.0), attempts_max=3,
    )  # fmt: skip


def _witnesses(chance: random.Random, options: Options) -> Options:
    """A witness among five is told of entries that are lost elsewhere, by leaders whose own disks are slow."""
    return replace(
        options, nodes=5, witness=True, learner=False, sync_s=0.02, change_mean_s=0.0, pause_s=0.0, faults=10,
        fault_mean_s=0.3, fault_kinds=("crash_leader", "minority", "minority", "minority"), fault_s=(0.3, 0.4, 0.5),
        down_s=(0.01, 0.3), reads=0.2,
    )  # fmt: skip


_THEMES: Final = (_figure_8, _votes, _late, _laggards, _changes, _stale)

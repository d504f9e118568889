"""Options: what kind of world a seed lives in, drawn before anything else.

The idea: swarm testing. If every run had a little of every fault, no run would have much of any, and the rare pairs
would never meet. So each seed switches whole kinds of trouble off and others up, and makes limits so small that they
are met all the time, or so large that they are never met.

The rule: a *calm* seed has late messages and full queues of its own making, but no fault, no loss and no limit that
refuses; in it every call must succeed, having been sent and run exactly once.
"""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from onerack.config import MIB, RpcConfig
from onerack.rpc.messages import Mode
from onerack.sim.network import Weather

LONG_LEASE_S: Final = 60.0
"""No fault of any run is as long."""
LONG_REPLY_BYTES: Final = 300
"""Replies of this size are too long to be remembered."""

Fault = Literal[
    "break_link", "cut_link", "crash_client", "close_client", "pause_client", "crash_server", "pause_server",
    "stop_server", "fail_log",
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    calm: bool
    reliable: bool
    """Links like TCP: in order, nothing lost while they live. Else like datagrams."""
    weather: Weather
    notices: bool
    """Unreliable links: clients are told (by keepalive, say) when their server has died."""
    codec: bool
    """Messages go through the wire's own encoding."""
    turn_s: float
    """A server gathers messages for so long before it steps them together."""
    spurious_ticks: bool
    servers: int
    """More than one: no durable log, and clients that reconnect may find another server."""
    clients: int
    calls: int
    """Of each client."""
    outstanding: int
    """Calls that a client has open at once."""
    pause_s: float
    """Between two calls, on average."""
    modes: tuple[Mode, ...]
    stronger: float
    """Share of calls that ask for more than their method was declared to need."""
    weaker: float
    """Share of calls of exactly-once methods that are content with less."""
    slow: float
    """Share of calls whose handler waits, of those that may."""
    slow_s: float
    heedless: float
    """Share of waiting handlers that go on when they are called off."""
    raising: float
    long: float
    """Share of calls whose reply is too long to be remembered."""
    attached: float
    """Share of calls with attachments."""
    deadline: float
    deadline_s: float
    abandon: float
    attempts_max: int
    closes: bool
    """A client that has had all its outcomes closes."""
    faults: int
    fault_mean_s: float
    fault_kinds: tuple[Fault, ...]
    down_s: tuple[float, ...]
    """How long a server that died stays away."""
    crash_point: float
    """Chance at each crash point of a server."""
    log_s: float
    """What an fsync takes, on average."""
    log_batch_max: int
    log_twice: float
    """Share of commands that the log holds twice."""
    log_room: int
    """Commands that may wait for an fsync; more are refused."""
    snapshot_after: int
    """Commands after which a snapshot is taken."""
    config: RpcConfig

    @property
    def durable(self) -> bool:
        return self.servers == 1

    @property
    def long_lease(self) -> bool:
        return self.config.session_lease_s == LONG_LEASE_S

    @property
    def may_refuse(self) -> bool:
        """Whether a server may have no room."""
        config = self.config
        small = config.running_max + config.waiting_max < 100 or config.replies_bytes_max < MIB
        return small or config.sessions_max < 100 or "stop_server" in self.fault_kinds or self.log_room < 100


def draw(chance: random.Random) -> Options:
    """One world; four in ten have a theme."""
    options = _draw_any(chance)
    theme = chance.choice([*_THEMES, *(None for _ in range(3 * len(_THEMES) // 2))])
    return options if theme is None or options.calm else theme(chance, options)


def small_world(chance: random.Random, calls: int) -> Options:
    """One client with a few calls of every mode and kind, and a server that takes snapshots; nothing goes wrong."""
    return replace(
        _draw_any(chance),
        calm=False, reliable=True, weather=Weather(delay_max_s=0.005), turn_s=0.0, spurious_ticks=False, servers=1,
        clients=1, calls=calls, outstanding=3, pause_s=0.0, modes=tuple(Mode), slow=0.5, slow_s=0.02, deadline=0.0,
        abandon=0.0, attempts_max=5, faults=0, fault_kinds=(), down_s=(0.02,), crash_point=0.0, log_s=0.003,
        log_twice=0.0, log_room=1000, snapshot_after=2, config=_draw_config(chance, calm=True),
    )  # fmt: skip


def _draw_any(chance: random.Random) -> Options:
    pick = chance.choice
    calm = chance.random() < 0.1
    reliable = calm or chance.random() < 0.6
    servers = 2 if chance.random() < 0.12 else 1
    faults: tuple[Fault, ...] = () if calm else _draw_fault_kinds(chance, durable=servers == 1)
    slow_s = pick([0.02, 0.2, 0.6])
    config = _draw_config(chance, calm=calm)
    return Options(
        calm=calm,
        reliable=reliable,
        weather=_draw_weather(chance, calm=calm, reliable=reliable),
        notices=chance.random() < 0.5,
        codec=chance.random() < 0.1,
        turn_s=pick([0.0, 0.0, 0.0, 0.003]),
        spurious_ticks=chance.random() < 0.2,
        servers=servers,
        clients=pick([1, 2, 3, 3]),
        calls=pick([24, 40, 48]),
        outstanding=pick([1, 4, 8, 16]),
        pause_s=pick([0.0, 0.01, 0.1]),
        modes=_draw_modes(chance, durable=servers == 1),
        stronger=pick([0.0, 0.0, 0.3]),
        weaker=0.0 if calm else pick([0.0, 0.0, 0.0, 0.2]),
        slow=pick([0.0, 0.3, 0.9]),
        slow_s=slow_s,
        heedless=pick([0.0, 0.5]),
        raising=pick([0.0, 0.1]),
        long=pick([0.0, 0.0, 0.2]),
        attached=pick([0.0, 0.0, 0.2]),
        deadline=0.0 if calm else pick([0.0, 0.0, 0.3]),
        deadline_s=pick([0.01, 0.1, 0.5]),
        abandon=0.0 if calm else pick([0.0, 0.0, 0.2]),
        attempts_max=pick([1, 2, 3, 5]),
        # Where few sessions may be open, who keeps one keeps out the others.
        closes=chance.random() < 0.7 or config.sessions_max < 1000,
        faults=pick([1, 2, 4, 8]) if faults else 0,
        fault_mean_s=pick([0.1, 0.4, 1.0]),
        fault_kinds=faults,
        down_s=pick([(0.02, 0.2), (0.02, 0.2), (0.3, 1.5), (3.0,)]),
        crash_point=0.0 if calm else pick([0.0, 0.0, 0.002, 0.01]),
        log_s=pick([0.0002, 0.003, 0.03]),
        log_batch_max=pick([1, 4, 4096]),
        log_twice=0.0 if calm else pick([0.0, 0.0, 0.1, 0.4]),
        log_room=pick([3, 1000, 1000, 1000]) if not calm else 1000,
        snapshot_after=pick([5, 20, 1000]),
        config=config,
    )


def _draw_fault_kinds(chance: random.Random, *, durable: bool) -> tuple[Fault, ...]:
    """Some kinds only, so that each has runs of its own."""
    kinds: list[Fault] = [
        "break_link", "break_link", "cut_link", "crash_client", "close_client", "pause_client", "crash_server",
        "crash_server", "pause_server", "stop_server",
    ]  # fmt: skip
    if durable:
        kinds.append("fail_log")
    if chance.random() < 0.15:
        return ()
    return tuple(sorted(chance.sample(kinds, chance.randint(1, 5))))


def _draw_weather(chance: random.Random, *, calm: bool, reliable: bool) -> Weather:
    pick = chance.choice
    if reliable:
        return Weather(
            ordered=True,
            slow=0.0 if calm else pick([0.0, 0.02, 0.1]),
            slow_s=pick([0.05, 0.2]),
            delay_max_s=pick([0.002, 0.005, 0.1]),
        )
    return Weather(
        ordered=False,
        drop=pick([0.0, 0.05, 0.15]),
        duplicate=pick([0.0, 0.05, 0.15]),
        slow=pick([0.0, 0.05]),
        slow_s=pick([0.1, 0.5]),
        delay_max_s=pick([0.002, 0.01, 0.05]),
    )


def _draw_modes(chance: random.Random, *, durable: bool) -> tuple[Mode, ...]:
    modes = [mode for mode in Mode if durable or mode != Mode.EXACTLY_ONCE]
    if chance.random() < 0.5:
        return tuple(modes)
    return tuple(sorted(chance.sample(modes, chance.randint(1, 2))))


def _draw_config(chance: random.Random, *, calm: bool) -> RpcConfig:
    """Small limits are met by everybody, large ones by nobody. Short times keep runs short."""
    pick = chance.choice
    tight = not calm and chance.random() < 0.3
    return RpcConfig(
        window=pick([1, 2, 4, 64]),
        # Where there is room for few, the dead must make room within a run.
        session_lease_s=pick([1.0, 2.0] if tight else [1.0, 2.0, LONG_LEASE_S, LONG_LEASE_S]),
        sessions_max=pick([1, 2, 1000]) if tight else 1000,
        reply_bytes_max=LONG_REPLY_BYTES - 1,
        replies_bytes_max=pick([300, 2000, 100 * MIB]) if tight else 100 * MIB,
        running_max=pick([1, 2, 1000]) if not calm else pick([1, 1000]),
        waiting_max=pick([1, 3, 1000]) if tight else 1000,
        attempt_timeout_s=0.3,
        backoff_min_s=0.02,
        backoff_max_s=0.3,
        retry_fraction=0.2,
        retry_per_s=pick([1.0, 10.0]),
        retry_memory_s=pick([1.0, 10.0]),
        in_flight_max=pick([4, 65536, 65536, 65536]) if not calm else 65536,
    )


# ------------------------------------------------------------------------------------------------ themes: what rarely
# meets by chance, brought together


def _crowd(chance: random.Random, options: Options) -> Options:
    """One handler at a time, a long queue before it, callers who lose interest, and copies that come late."""
    return replace(
        options,
        reliable=False,
        weather=Weather(ordered=False, drop=0.05, duplicate=0.3, slow=0.1, slow_s=0.5),
        modes=(Mode.AT_MOST_ONCE,),
        outstanding=16,
        pause_s=0.0,
        slow=0.9,
        slow_s=0.1,
        deadline=0.4,
        deadline_s=0.3,
        abandon=0.4,
        config=replace(options.config, running_max=1, waiting_max=1000, window=64, in_flight_max=65536),
    )


def _memory(chance: random.Random, options: Options) -> Options:
    """Replies fill what there is for them, and callers have patience."""
    config = replace(
        options.config,
        replies_bytes_max=chance.choice([300, 2000]),
        session_lease_s=chance.choice([1.0, 2.0]),
        retry_per_s=1000.0,
        running_max=1000,
        waiting_max=1000,
        sessions_max=1000,
    )
    modes = (Mode.AT_MOST_ONCE, Mode.EXACTLY_ONCE) if options.durable else (Mode.AT_MOST_ONCE,)
    return replace(options, modes=modes, attempts_max=1000, outstanding=chance.choice([4, 16]), config=config)


def _weak(chance: random.Random, options: Options) -> Options:
    """Calls of exactly-once methods, half of them without a session, and a log that repeats and refuses."""
    if not options.durable:
        return options
    return replace(
        options,
        modes=(Mode.EXACTLY_ONCE,),
        weaker=0.5,
        outstanding=16,
        log_twice=chance.choice([0.0, 0.4]),
        log_room=chance.choice([3, 1000]),
        crash_point=0.01,
    )


def _expiry(chance: random.Random, options: Options) -> Options:
    """Leases that end while their calls are under way."""
    return replace(
        options,
        pause_s=0.1,
        outstanding=4,
        faults=8,
        fault_mean_s=0.4,
        fault_kinds=("cut_link", "pause_client", "break_link"),
        config=replace(options.config, session_lease_s=1.0),
    )


def _deaths(chance: random.Random, options: Options) -> Options:
    """A server that dies again and again, at any point."""
    return replace(options, crash_point=0.02, down_s=(0.02, 0.1), log_s=0.003, snapshot_after=chance.choice([5, 20]))


_THEMES: Final = (_crowd, _memory, _weak, _expiry, _deaths)

"""What a Python program gets: so many coroutines, each with one put or get at a time, through one client object.

The rule: a warm-up comes first, what it does is not counted; times are of the calls that ended in the measured time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

WARMUP_S = 1.0
KEYS = 10_000
VALUE_BYTES = 256

Operation = Callable[[bytes, bytes], Awaitable[object]]


def keys(count: int = KEYS) -> list[bytes]:
    dice = random.Random(1)
    return [dice.randbytes(4).hex().encode() for _ in range(count)]


async def coroutine_load(operation: Operation, callers: int, seconds: float) -> dict[str, float]:
    names, value = keys(), b"v" * VALUE_BYTES
    begin = time.perf_counter() + WARMUP_S
    end = begin + seconds
    times: list[float] = []

    async def caller(number: int) -> None:
        dice = random.Random(number)
        while True:
            started = time.perf_counter()
            if started >= end:
                return
            await operation(names[dice.randrange(KEYS)], value)
            ended = time.perf_counter()
            if begin <= ended < end:
                times.append(ended - started)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return figures(times, seconds)


def figures(times: list[float], seconds: float) -> dict[str, float]:
    times.sort()
    if not times:
        return {"ops_per_s": 0.0}
    return {
        "ops_per_s": len(times) / seconds,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3,
    }

"""Random histories of registers: honest ones, and ones with a planted anomaly."""

from __future__ import annotations

import random

import msgspec

from onerack.sim.checker import Operation


def make_history(
    chance: random.Random, operations: int, *, clients: int = 5, keys: int = 10, pending: float = 0.0
) -> list[Operation]:
    """What clients of perfect registers see, if each operation takes effect at a random moment of its interval."""
    values: dict[str, int | None] = {}
    free_at = dict.fromkeys((f"c{number}" for number in range(clients)), 0)
    plans = []
    for number in range(operations):
        client = min(free_at, key=lambda name: (free_at[name], name))
        call = free_at[client] + chance.randint(1, 20)
        moment = call + chance.randint(0, 50)
        end = moment + chance.randint(0, 50)
        free_at[client] = end + 1
        plans.append((moment, number, f"k{chance.randrange(keys)}", chance.random() < 0.5, client, call, end))
    history = []
    for _, number, key, writes, client, call, end in sorted(plans):
        if writes:
            lost = chance.random() < pending
            if not lost or chance.random() < 0.5:
                values[key] = number
            history.append(Operation(client, key, "write", number, None, call, None if lost else end))
        else:
            history.append(Operation(client, key, "read", None, values.get(key), call, end))
    return sorted(history, key=lambda each: each.call)


def spoil(chance: random.Random, history: list[Operation]) -> list[Operation]:
    """One read shows another value of its key, which may or may not be possible."""
    reads = [place for place, each in enumerate(history) if each.kind == "read"]
    if not reads:
        return history
    place = chance.choice(reads)
    read = history[place]
    written = [each.argument for each in history if each.kind == "write" and each.key == read.key]
    spoiled = list(history)
    spoiled[place] = msgspec.structs.replace(read, result=chance.choice([*written, None]))
    return spoiled

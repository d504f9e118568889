"""Mutated frames: what a broken or hostile peer might send, from a seed.

The idea: start from frames that are right and spoil them a little, so that the damage gets past the first check and
reaches the later ones: bits flipped, ends cut off, bytes inserted, frames repeated, swapped or left out, and the sizes
at their front replaced by 0, 1, 2^31 and 2^32 - 1.

    mutants(frames, seed=1, count=10_000)       the spoiled streams
    hammer(address, frames, seed=1, count=100)  sends them to a server, each over a connection of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from onerack.config import RpcConfig
from onerack.rpc.link import Arrival, Buffer
from onerack.rpc.transports.address import Address
from onerack.rpc.transports.receiver import Receiver
from onerack.rpc.transports.sender import Sender

SIZES = (0, 1, 2, 3, 4, 5, 0xFF, 0xFFFF, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, 1 << 31, 3 << 30, (1 << 32) - 1)


def frames_of(messages: Iterable[tuple[Any, Buffer | None]], config: RpcConfig) -> list[bytes]:
    """The frames in which they are sent."""
    sender = Sender(config)
    for message, attachment in messages:
        sender.add(message, attachment)
    stream = b""
    while sender.has_output:
        stream += b"".join(sender.batch())
    return split(stream)


def split(stream: bytes) -> list[bytes]:
    """A stream of whole frames, cut into them."""
    frames = []
    while stream:
        end = 4 + (struct.unpack_from("<I", stream)[0] & ((1 << 30) - 1))
        frames.append(stream[:end])
        stream = stream[end:]
    return frames


def mutants(frames: Sequence[bytes], *, seed: int, count: int) -> Iterator[bytes]:
    """Spoiled streams; the same ones for the same seed."""
    chance = Random(seed)
    for _ in range(count):
        spoiled = list(frames)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            _spoil(spoiled, chance)
        yield b"".join(spoiled)


def _spoil(frames: list[bytes], chance: Random) -> None:
    place = chance.randrange(len(frames))
    frame = bytearray(frames[place])
    position = chance.randrange(len(frame) + 1)
    kind = chance.choice(("flip", "flip", "byte", "cut", "insert", "size", "inner", "repeat", "swap", "omit"))
    if kind == "flip" and frame:
        frame[position % len(frame)] ^= 1 << chance.randrange(8)
    elif kind == "byte" and frame:
        frame[position % len(frame)] = chance.choice((0, 0x7F, 0x80, 0xC1, 0xDD, 0xDF, 0xFF, chance.randrange(256)))
    elif kind == "cut":
        del frame[position:]
    elif kind == "insert":
        frame[position:position] = chance.randbytes(chance.choice((1, 4, 100)))
    elif kind == "size" and len(frame) >= 4:
        struct.pack_into("<I", frame, 0, chance.choice(SIZES))
    elif kind == "inner" and len(frame) >= 16:
        struct.pack_into("<I", frame, chance.choice((4, 8, 12)), chance.choice(SIZES))
    elif kind == "repeat":
        frame *= 2
    elif kind == "swap":
        other = chance.randrange(len(frames))
        frames[place], frames[other] = frames[other], frames[place]
        return
    elif kind == "omit":
        frame.clear()
    frames[place] = bytes(frame)


def feed(receiver: Receiver, stream: bytes, sizes: Iterator[int]) -> list[Arrival]:
    """Gives a receiver a stream in reads of these sizes, as a socket would."""
    arrivals: list[Arrival] = []
    rest = memoryview(stream)
    while rest:
        space = receiver.space()
        size = min(next(sizes), len(space), len(rest))
        space[:size] = rest[:size]
        rest = rest[size:]
        receiver.take(size, arrivals)
    return arrivals


async def hammer(address: str, frames: Sequence[bytes], *, seed: int, count: int) -> int:
    """Sends each mutant to a server over its own connection, and waits until the server has closed it.

    Returns how many bytes the server said in all. A server that does not close is a hang: the caller's timeout.
    """
    loop = asyncio.get_running_loop()
    parsed = Address.parse(address)
    family = socket.AF_UNIX if parsed.scheme == "unix" else socket.AF_INET
    said = 0
    for mutant in mutants(frames, seed=seed, count=count):
        with socket.socket(family, socket.SOCK_STREAM) as connected:
            connected.setblocking(False)
            await loop.sock_connect(connected, parsed.path or (parsed.host, parsed.port))
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(connected, mutant)
                connected.shutdown(socket.SHUT_WR)
                while heard := await loop.sock_recv(connected, 65536):
                    said += len(heard)
    return said

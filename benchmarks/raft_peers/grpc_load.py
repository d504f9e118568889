"""Load for anything that speaks the etcd v3 API: N clients, one request in flight each, over a few connections.

    python -m benchmarks.raft_peers.grpc_load --endpoint 127.0.0.1:2379 --op put --clients 64 --seconds 3

The idea: the load generator must cost less than the server. So there is no gRPC library, no event loop and no task, but
one `epoll`, requests prebuilt up to the stream's number, and a parser that looks at frame heads only. The clock is read
once for a batch. We announce that our dynamic table has no room, so that equal header blocks mean the same and
each is decoded once; and windows so large that servers need not wait for us. Their windows are respected.

The rule: a call counts only if its trailers say status 0. Times are from the write of the request to the read of the
trailers. What was begun before the end is waited for, but only answers within the measured time count.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from hpack import Decoder

CLIENT_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK = 1, 1
WINDOW: Final = 2**31 - 1
WIDEN_BYTES: Final = 1 << 30
TOGETHER: Final = 32
"""After so many answers the next requests leave, so that both sides work at the same time."""
READ_BYTES: Final = 1 << 18
LAST_WORDS_S: Final = 5.0
_HEAD: Final = Struct(">IBI")


# ---------------------------------------------------------------------------------------------- what is asked


def _field(number: int, content: bytes) -> bytes:
    size = len(content)
    assert size < 1 << 14
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + content


def put(key: bytes, value: bytes) -> bytes:
    """PutRequest: key = 1, value = 2."""
    return _field(1, key) + _field(2, value)


def range_one(key: bytes, value: bytes) -> bytes:
    """RangeRequest: key = 1; linearizable, because nothing else is said."""
    return _field(1, key)


def range_serializable(key: bytes, value: bytes) -> bytes:
    """RangeRequest: serializable = 7."""
    return _field(1, key) + b"\x38\x01"


OPS: Final[dict[str, tuple[bytes, Callable[[bytes, bytes], bytes]]]] = {
    "put": (b"/etcdserverpb.KV/Put", put),
    "range": (b"/etcdserverpb.KV/Range", range_one),
    "serializable": (b"/etcdserverpb.KV/Range", range_serializable),
}


def _literal(name: bytes, value: bytes) -> bytes:
    assert len(name) < 127
    assert len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def request_block(path: bytes, authority: bytes) -> bytes:
    """`:method POST` and `:scheme http` are 3 and 6 in HPACK's static table; the rest enters no table."""
    return (
        b"\x83\x86"
        + _literal(b":path", path)
        + _literal(b":authority", authority)
        + _literal(b"content-type", b"application/grpc")
        + _literal(b"te", b"trailers")
    )


class Requests:
    """Prebuilt requests to one endpoint, round and round; only the stream's number is filled in."""

    def __init__(self, op: str, authority: str, keys: int, value_bytes: int, seed: int) -> None:
        path, body_of = OPS[op]
        dice = random.Random(seed)
        value = dice.randbytes(value_bytes)
        self.keys = [dice.randbytes(8) for _ in range(keys)]
        block = request_block(path, authority.encode())
        size = len(body_of(self.keys[0], value))
        head = Struct(f">IBI{len(block)}sIBIBI")
        self.size = size + 5
        """Of the DATA, which counts against the server's window."""
        assert self.size <= 16384
        self._pack = head.pack
        self._fixed = (len(block) << 8 | HEADERS, 4, block, self.size << 8 | DATA, END_STREAM, size)
        order = [dice.choice(self.keys) for _ in range(keys)]
        self._bodies = [body_of(key, value) for key in order]
        self._next = 0

    def next(self, stream: int) -> bytes:
        headers_word, headers_flags, block, data_word, data_flags, size = self._fixed
        place = self._next = (self._next + 1) % len(self._bodies)
        return (
            self._pack(headers_word, headers_flags, stream, block, data_word, data_flags, stream, 0, size)
            + self._bodies[place]
        )


# ---------------------------------------------------------------------------------------------- what was answered


@dataclass
class Meter:
    """What came of it."""

    times_us: array[float] = field(default_factory=lambda: array("d"))
    errors: int = 0
    is_open: bool = False
    """Answers count."""
    first_error: str = ""

    def fail(self, count: int, why: str) -> None:
        self.errors += count
        self.first_error = self.first_error or why

    def figures(self, seconds: float) -> dict[str, float | int | str]:
        times = sorted(self.times_us)
        found: dict[str, float | int | str] = {
            "ops_per_s": round(len(times) / seconds, 1),
            "ops": len(times),
            "p50_ms": round(_quantile(times, 0.5) / 1e3, 4),
            "p99_ms": round(_quantile(times, 0.99) / 1e3, 4),
            "max_ms": round((times[-1] if times else 0.0) / 1e3, 4),
            "errors": self.errors,
        }
        if self.first_error:
            found["first_error"] = self.first_error
        return found


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


# ---------------------------------------------------------------------------------------------- one connection


class Lost(Exception):
    """The server has ended the connection."""


class Connection:
    """Some of the clients, who share a socket. Begins with all of their first requests."""

    def __init__(self, endpoint: str, clients: int, requests: Requests, meter: Meter) -> None:
        host, _, port = endpoint.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.endpoint = endpoint
        self.clients = clients
        self.in_flight: dict[int, float] = {}
        """Streams, and when they began."""
        self.is_stopping = False
        self._requests = requests
        self._meter = meter
        self._next_stream = 1
        self._room = 65_535
        self._idle = deque(range(clients))
        """Clients whose request waits for the server's window."""
        self._output: list[bytes] = []
        self._unsent = b""
        self._rest = b""
        self._received = 0
        self._verdicts: dict[bytes, str] = {}
        """What trailers say; empty: all is well."""
        self._put(CLIENT_PREFACE + self._settings())

    @staticmethod
    def _settings() -> bytes:
        values = Struct(">HIHI").pack(1, 0, 4, WINDOW)  # HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE
        widen = _HEAD.pack(4 << 8 | WINDOW_UPDATE, 0, 0) + (WINDOW - 65_535).to_bytes(4, "big")
        return _HEAD.pack(len(values) << 8 | SETTINGS, 0, 0) + values + widen

    @property
    def is_blocked(self) -> bool:
        return bool(self._unsent)

    def go(self) -> None:
        """Every client that may begins its next request."""
        now = time.perf_counter()
        requests, in_flight, output = self._requests, self.in_flight, self._output
        while self._idle and self._room >= requests.size and not self.is_stopping:
            self._idle.pop()
            stream, self._next_stream = self._next_stream, self._next_stream + 2
            self._room -= requests.size
            in_flight[stream] = now
            output.append(requests.next(stream))
        self.write()

    def write(self) -> None:
        """Raises: Lost."""
        content = self._unsent + b"".join(self._output)
        self._output.clear()
        if content:
            try:
                sent = self.socket.send(content)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise Lost(str(error)) from error
            self._unsent = content[sent:]

    def read(self) -> None:
        """Raises: Lost."""
        try:
            received = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(str(error)) from error
        if not received:
            raise Lost("the server has closed the connection")
        buffer = self._rest + received if self._rest else received
        self._rest = buffer[self._parse(buffer, time.perf_counter()) :]
        self.go()

    def _parse(self, buffer: bytes, now: float) -> int:
        position, end, unpack = 0, len(buffer), _HEAD.unpack_from
        in_flight, verdicts, idle = self.in_flight, self._verdicts, self._idle
        counted = self._meter.times_us if self._meter.is_open else array("d")
        together = 0
        while end - position >= 9:
            word, flags, stream = unpack(buffer, position)
            stop = position + 9 + (word >> 8)
            if stop > end:
                break
            kind = word & 0xFF
            if kind == HEADERS:
                if flags & END_STREAM:
                    began = in_flight.pop(stream)
                    idle.append(stream)
                    block = buffer[position + 9 : stop]
                    if not (verdicts[block] if block in verdicts else self._judge(block, flags)):
                        counted.append((now - began) * 1e6)
                    else:
                        self._meter.fail(1, verdicts[block])
                    together += 1
                    if together == TOGETHER:
                        together = 0
                        self.go()
            elif kind != DATA:
                self._on_other(kind, flags, stream, buffer[position + 9 : stop])
            else:
                self._received += stop - position - 9
            position = stop
        if self._received > WIDEN_BYTES:
            self._put(_HEAD.pack(4 << 8 | WINDOW_UPDATE, 0, 0) + self._received.to_bytes(4, "big"))
            self._received = 0
        return position

    def _judge(self, block: bytes, flags: int) -> str:
        """Decodes trailers seen for the first time."""
        assert flags & 4, "trailers in one frame"
        fields = {bytes(name): bytes(value).decode() for name, value in Decoder().decode(block, raw=True)}
        code, text = fields.get(b"grpc-status", "none"), fields.get(b"grpc-message", "")
        self._verdicts[block] = "" if code == "0" else f"status {code} {text}"
        return self._verdicts[block]

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            if not stream:
                self._room += int.from_bytes(payload, "big")
        elif kind == SETTINGS:
            if not flags & ACK:
                self._put(_HEAD.pack(SETTINGS, ACK, 0))
        elif kind == PING:
            if not flags & ACK:
                self._put(_HEAD.pack(8 << 8 | PING, ACK, 0) + payload)
        elif kind == RST_STREAM:
            if self.in_flight.pop(stream, None) is not None:
                self._meter.fail(1, f"RST_STREAM {int.from_bytes(payload, 'big')}")
                self._idle.append(stream)
        elif kind == GOAWAY:
            raise Lost(f"GOAWAY {int.from_bytes(payload[4:8], 'big')} {payload[8:].decode('latin-1')}")

    def _put(self, content: bytes) -> None:
        self._output.append(content)

    def close(self) -> None:
        self.socket.close()


# ---------------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Load:
    """What to do. `connections` 0: one for every 64 clients, but one for each endpoint."""

    endpoints: tuple[str, ...]
    op: str = "put"
    clients: int = 64
    connections: int = 0
    seconds: float = 3.0
    warmup_s: float = 0.5
    keys: int = 10_000
    value_bytes: int = 256
    seed: int = 1

    def shares(self) -> Iterator[tuple[str, int]]:
        """The endpoint of each connection, and how many clients share it."""
        count = self.connections or max(len(self.endpoints), -(-self.clients // 64))
        count = min(count, self.clients)
        for place in range(count):
            share = self.clients // count + (place < self.clients % count)
            yield self.endpoints[place % len(self.endpoints)], share


class Crowd:
    """All clients, on one epoll."""

    def __init__(self, load: Load) -> None:
        self.meter = Meter()
        self._load = load
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._later: list[tuple[float, str, int]] = []
        """Connections that were lost, and when to try again."""
        self._made = 0
        for endpoint, clients in load.shares():
            self._connect(endpoint, clients)

    def _connect(self, endpoint: str, clients: int) -> None:
        load = self._load
        self._made += 1
        requests = Requests(load.op, endpoint, load.keys, load.value_bytes, load.seed + self._made)
        connection = Connection(endpoint, clients, requests, self.meter)
        self._connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        self._step(connection, 0)

    def run(self) -> dict[str, float | int | str]:
        self._until(time.perf_counter() + self._load.warmup_s)
        self.meter.is_open = True
        began = time.perf_counter()
        self._until(began + self._load.seconds)
        self.meter.is_open = False
        seconds = time.perf_counter() - began
        self._stop()
        return self.meter.figures(seconds)

    def _until(self, end: float) -> None:
        while (now := time.perf_counter()) < end:
            self._try_again(now)
            self._turn(min(0.1, end - now))

    def _turn(self, timeout_s: float) -> None:
        for number, events in self._epoll.poll(timeout_s):
            connection = self._connections.get(number)
            if connection is not None:
                self._step(connection, events)

    def _step(self, connection: Connection, events: int) -> None:
        was_blocked = connection.is_blocked
        try:
            if events & ~select.EPOLLOUT:
                connection.read()
            else:
                connection.go()
        except Lost as error:
            self._lose(connection, str(error))
            return
        if was_blocked != connection.is_blocked:
            wanted = select.EPOLLIN | (select.EPOLLOUT if connection.is_blocked else 0)
            self._epoll.modify(connection.socket.fileno(), wanted)

    def _lose(self, connection: Connection, why: str) -> None:
        number = connection.socket.fileno()
        self._epoll.unregister(number)
        del self._connections[number]
        self.meter.fail(len(connection.in_flight), why)
        connection.close()
        self._later.append((time.perf_counter() + 0.1, connection.endpoint, connection.clients))

    def _try_again(self, now: float) -> None:
        due = [entry for entry in self._later if entry[0] <= now]
        for entry in due:
            self._later.remove(entry)
            _, endpoint, clients = entry
            try:
                self._connect(endpoint, clients)
            except OSError:
                self._later.append((now + 0.1, endpoint, clients))

    def _stop(self) -> None:
        """Waits for what was begun, so that the next run finds an idle server."""
        for connection in self._connections.values():
            connection.is_stopping = True
        end = time.perf_counter() + LAST_WORDS_S
        while any(one.in_flight for one in self._connections.values()) and time.perf_counter() < end:
            self._turn(0.05)
        for connection in self._connections.values():
            connection.close()
        self._epoll.close()


def run(load: Load) -> dict[str, float | int | str]:
    """One JSON line's worth."""
    figures: dict[str, float | int | str] = {"op": load.op, "clients": load.clients}
    before = time.process_time()
    figures |= Crowd(load).run()
    calls = max(1, int(figures["ops"])) * (load.seconds + load.warmup_s) / load.seconds
    figures["load_cpu_us_per_op"] = round((time.process_time() - before) / calls * 1e6, 2)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--endpoint", action="append", required=True, help="host:port; may be given several times")
    parser.add_argument("--op", choices=sorted(OPS), default="put")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--connections", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    load = Load(
        tuple(part for text in options.endpoint for part in text.split(",")),
        options.op,
        options.clients,
        options.connections,
        options.seconds,
        options.warmup,
        options.keys,
        options.value_bytes,
        options.seed,
    )
    print(json.dumps(run(load)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Hostile callers at both ports of a store of real processes: whatever they send, the node lives and others are served.

    etcd port   conversations damaged in their bytes; header bombs, floods, false lengths; for each method of etcd's API
                bytes that are no message, and messages whose every field is absurd
    rpc port    conversations damaged in their bytes and in their fields; another cluster, strangers, a node's namesake;
                absurd messages of raft; calls of the native interface with anything for arguments

The idea: an offender is a coroutine that gets a seed and says how many frames it has sent. The rule for what is sent:
not what an administrator may order (members, alarms, leadership), since whoever may say that may do harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable
from random import Random
from typing import Any, Final, Protocol

import msgspec
from hpack import Encoder

from onerack import rpc
from onerack.config import RpcConfig
from onerack.errors import CallError, OnerackError
from onerack.kv.client import Kv
from onerack.kv.messages import METHODS, Method
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    frame,
    rst_stream,
)
from onerack.raft.commands import USER, pack_command
from onerack.raft.server.peers import RaftPeer
from onerack.rpc.messages import CloseSession, Hello, OpenSession, Request, Welcome
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.receiver import Receiver
from tests.faults.nodes import Nodes
from tests.faults.patience import patiently
from tests.kv.server.client import Client, ClientStream, StatusError
from tests.kv.server.http2.raw import HELLO, block, message
from tests.kv.server.http2.test_mutations import damaged
from tests.raft.server.test_door import HUGE, NONSENSE, absurd
from tests.rpc.mutations import feed, frames_of, mutants
from tests.rpc.test_hostile_server import spoil

ABSURD: Final = (0, 1, -1, 2, 3, 2**31 - 1, 2**31, -(2**31), 2**53, 2**62, 2**63 - 1, -(2**63), 2**64 - 1, 2**32)
ORDERS: Final = frozenset(
    {"Alarm", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote", "MoveLeader", "AuthEnable", "Defragment"}
)
"""An administrator's, which are left out; but for bytes that are no message at all."""
LASTING: Final = frozenset({"Watch", "LeaseKeepAlive", "Snapshot", "Lock", "Campaign", "Observe"})
"""Methods that may have no answer for long."""
CONFIG: Final = RpcConfig()


class Offender(Protocol):
    """Against one node, by a seed; gives how many frames it has sent."""

    __name__: str

    def __call__(self, nodes: Nodes, name: str, seed: int, /) -> Awaitable[int]: ...


def place_of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition("/")[2].rpartition(":")
    return host, int(port)


async def throw(where: tuple[str, int], content: bytes) -> bytes:
    """Sends it all, and hears what there is to be heard until the node has closed the connection."""
    loop, heard = asyncio.get_running_loop(), bytearray()
    with socket.socket() as thrown:
        thrown.setblocking(False)
        await loop.sock_connect(thrown, where)
        with contextlib.suppress(OSError):
            await loop.sock_sendall(thrown, content)
            thrown.shutdown(socket.SHUT_WR)
            while more := await loop.sock_recv(thrown, 1 << 16):
                heard += more[: max(0, 100_000 - len(heard))]
    return bytes(heard)


# ------------------------------------------------------------------------------------------------ the etcd port


def value_of(field: Any, chance: Random, depth: int) -> Any:
    """Anything that the field can hold."""
    match field.cpp_type:
        case field.CPPTYPE_INT32 | field.CPPTYPE_ENUM:
            return chance.choice([each for each in ABSURD if -(2**31) <= each < 2**31])
        case field.CPPTYPE_INT64:
            return chance.choice([each for each in ABSURD if -(2**63) <= each < 2**63])
        case field.CPPTYPE_UINT32:
            return chance.choice([each for each in ABSURD if 0 <= each < 2**32])
        case field.CPPTYPE_UINT64:
            return chance.choice([each for each in ABSURD if each >= 0])
        case field.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case field.CPPTYPE_STRING if field.type == field.TYPE_STRING:
            return chance.choice(["", "a", "root", "\0", "ü" * 100, "x" * 5000, "http://[", "tcp://a:1"])
        case field.CPPTYPE_MESSAGE:
            return absurd_fields(field.message_type, chance, depth + 1)
        case _:
            size = chance.choice([0, 1, 2, 100, 5000, 100_000 if chance.random() < 0.1 else 10])
            return chance.choice([b"", b"\0", b"k", b"\xff" * 9, chance.randbytes(size)])


def absurd_fields(descriptor: Any, chance: Random, depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in descriptor.fields:
        if chance.random() < 0.4 or (depth > 3 and field.cpp_type == field.CPPTYPE_MESSAGE):
            continue
        is_list = field.is_repeated
        count = chance.choice([1, 2, 3, 200 if depth == 0 else 5]) if is_list else 1
        values = [value_of(field, chance, depth) for _ in range(count)]
        found[field.name] = values if is_list else values[0]
    return found


def deep_txn(depth: int) -> bytes:
    """Transactions within transactions, by hand: a library would run out of its stack."""
    body = b""
    for _ in range(depth):
        request = b"\x22" + varint(len(body)) + body  # RequestOp.request_txn
        body = b"\x12" + varint(len(request)) + request  # TxnRequest.success
    return body


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes((*found, number))


def body_for(method: Method, chance: Random) -> bytes:
    if chance.random() < 0.3 or method.name in ORDERS:
        return b"\xff" + chance.randbytes(chance.choice([1, 10, 100, 10_000]))
    if method.name == "Txn" and chance.random() < 0.2:
        return deep_txn(chance.choice([2, 99, 101, 1000, 20_000]))
    body = method.request_class(**absurd_fields(method.request_class.DESCRIPTOR, chance)).SerializeToString()
    kind = chance.randrange(4)
    if kind == 0 and body:  # Cut off.
        return bytes(body[: chance.randrange(len(body))])
    return bytes(body) + (chance.randbytes(5) if kind == 1 else b"")


async def wondering() -> str:
    return "no answer came"


async def outcome_of(stream: ClientStream) -> tuple[int, str]:
    try:
        await patiently(stream.receive(3600), wondering)
    except StatusError as error:
        return error.code, error.text
    return 0, ""


async def absurd_calls(nodes: Nodes, name: str, seed: int) -> int:
    """Each method, with anything for a request. A call is answered, or refused with a code that says why."""
    chance = Random(seed)
    client = Client(*await asyncio.open_connection(*place_of(nodes.etcd[name])))
    count = 0
    try:
        for method in METHODS.values():
            stream = client.open(method.path)
            content = message(body_for(method, chance))
            for begin in range(0, len(content), frames.FRAME_BYTES_MAX):
                client.write(frame(DATA, 0, stream.number, content[begin : begin + frames.FRAME_BYTES_MAX]))
                count += 1
            if method.name in LASTING:
                stream.cancel()
                continue
            stream.half_close()
            count += 3
            code, text = await outcome_of(stream)
            assert text != "internal error", f"{method.path}: {content[:200]!r}"
            assert code >= 0, f"{method.path} has ended the connection: {content[:200]!r}"
    finally:
        await client.close()
    return count


def good_conversation(chance: Random) -> list[bytes]:
    """Calls as any client makes them, in the frames of one connection."""
    encoder = Encoder()
    said = [HELLO, frames.window_update(0, 1 << 20)]
    for number in range(chance.randrange(2, 12)):
        method = chance.choice([each for each in METHODS.values() if each.name not in ORDERS])
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", method.path), ("content-type", "application/grpc"),
            ("te", "trailers"), ("grpc-timeout", f"{chance.randrange(1000)}m"), ("token", "x"),
        ]  # fmt: skip
        stream, content = 1 + 2 * number, message(body_for(method, chance))
        said.append(frame(HEADERS, END_HEADERS, stream, bytes(encoder.encode(fields))))
        pieces = [content[at : at + 16_000] for at in range(0, len(content), 16_000)]
        said += [frame(DATA, 0, stream, piece) for piece in pieces]
        said.append(chance.choice([frame(DATA, END_STREAM, stream, b""), rst_stream(stream, CANCEL)]))
    return said


async def damaged_conversations(nodes: Nodes, name: str, seed: int) -> int:
    chance = Random(seed)
    said = good_conversation(chance)
    await throw(place_of(nodes.etcd[name]), damaged(chance, said))
    return len(said)


def header_bomb() -> bytes:
    """A long field goes into the table, and is then meant a hundred thousand times with one byte each."""
    entry = b"\x40" + b"\x01x" + b"\x7f" + varint(3900 - 127) + b"a" * 3900
    return frame(HEADERS, END_HEADERS, 1, block("/etcdserverpb.KV/Range") + entry + b"\xbe" * 12_000)


def endless_headers() -> bytes:
    return frame(HEADERS, 0, 1, block("/etcdserverpb.KV/Range")) + frame(CONTINUATION, 0, 1, b"\x00" * 1000) * 2000


def floods() -> dict[str, bytes]:
    """What is cheap to send and may be dear to hear."""
    path = "/etcdserverpb.KV/Range"
    opened = frame(HEADERS, END_HEADERS, 1, block(path))
    return {
        "garbage": Random(1).randbytes(50_000), "http/1": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 1000,
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        "header bomb": HELLO + header_bomb(), "endless headers": HELLO + endless_headers(),
        "false length": HELLO + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(100_000),
        "pings": HELLO + frame(PING, 0, 0, bytes(8)) * 50_000, "settings": HELLO + frame(SETTINGS, 0, 0, b"") * 50_000,
        "windows": HELLO + frames.window_update(0, 1) * 50_000 + frames.window_update(0, 2**31 - 1) * 2,
        "rapid reset": HELLO + b"".join(
            frame(HEADERS, END_HEADERS, number, block(path)) + rst_stream(number, CANCEL)
            for number in range(1, 20_001, 2)
        ),
        "empty data": HELLO + opened + frame(DATA, 0, 1, b"") * 50_000,
        "huge message": HELLO + opened + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + bytes(16_000)) * 4,
        "compressed": HELLO + opened + frame(DATA, END_STREAM, 1, message(b"x" * 100, flag=1)),
        "too large": HELLO + opened + b"".join(
            frame(DATA, 0, 1, piece) for piece in itertools.repeat(bytes(16_384), 400)
        ),
    }  # fmt: skip


async def flooding(nodes: Nodes, name: str, seed: int) -> int:
    flood = list(floods().values())[seed % len(floods())]
    await throw(place_of(nodes.etcd[name]), flood)
    return 1  # However many frames it has, it is one thing.


# ------------------------------------------------------------------------------------------------ the rpc port


async def methods_of(where: tuple[str, int]) -> dict[str, int]:
    """The numbers under which the node knows its methods, as it tells whoever greets it."""
    loop = asyncio.get_running_loop()
    receiver = Receiver("client", CONFIG, Budget(CONFIG))
    with socket.socket() as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, where)
        await loop.sock_sendall(asking, b"".join(frames_of([(Hello(1, "", ""), None)], CONFIG)))
        while True:
            content = await loop.sock_recv(asking, 1 << 16)
            for said, _ in feed(receiver, content, itertools.repeat(1 << 16)):
                if isinstance(said, Welcome):
                    return {method: number for number, method in enumerate(said.methods)}


def arguments_for(method: str, chance: Random) -> bytes:
    """What a caller might mean, or anything."""
    anything: tuple[Any, ...] = (
        0, -1, 2**64 - 1, b"k", b"", b"x" * 10_000, "n1", "ü", None, True, [], {}, [[]], 1.5, float("nan"), [1] * 100,
        {"type": "Txn", "compare": [], "success": []}, {"type": "Get", "key": b"k", "limit": -1},
    )  # fmt: skip
    good: dict[str, tuple[Any, ...]] = {
        "onerack.Kv.put": (b"k", b"v"), "onerack.Kv.get": (b"k",), "onerack.Kv.grant": (5,),
        "onerack.RaftPeer.deliver": ("n9", "n1", b""), "onerack.RaftPeer.forward": (pack_command(USER, 1, b"x"),),
    }  # fmt: skip
    if method in good and chance.random() < 0.3:
        return msgspec.msgpack.encode(good[method])
    if chance.random() < 0.1:
        return chance.choice([b"", b"\xc1", b"\x91" * 9000, b"\xdd\xff\xff\xff\xff", chance.randbytes(50)])
    return msgspec.msgpack.encode([chance.choice(anything) for _ in range(chance.randrange(6))])


def requests_for(methods: dict[str, int], chance: Random) -> list[Any]:
    """Of the whole interface, but for what only an administrator may order."""
    allowed = sorted(
        name for name in methods if name.rpartition(".")[2] not in ("manage", "add_member", "alarm", "compact")
    )
    said: list[Any] = [OpenSession(1, False)]
    for call in range(2, 40):
        name = chance.choice(allowed)
        said.append(
            Request(
                call=call, method=methods[name], arguments=arguments_for(name, chance), mode=chance.randrange(4),
                timeout_ms=chance.choice([0, 1, 500]), session=chance.choice([0, 0, 1, 2**63]),
                seq=chance.choice([0, 1, 2]), ack=0,
            )
        )  # fmt: skip
    return [*said, CloseSession(1)]


async def absurd_requests(nodes: Nodes, name: str, seed: int) -> int:
    """Right frames; the fields, and what is in them, are not."""
    chance, where = Random(seed), place_of(nodes.rpc[name])
    said = requests_for(await methods_of(where), chance)
    spoil(said, chance)
    told = [(each, None) for each in (Hello(1, "", ""), *said)]
    with contextlib.suppress(OverflowError, msgspec.EncodeError, ValueError):  # What cannot even be said.
        await throw(where, b"".join(frames_of(told, CONFIG)))
    return len(said)


async def damaged_requests(nodes: Nodes, name: str, seed: int) -> int:
    chance, where = Random(seed), place_of(nodes.rpc[name])
    said = [(each, None) for each in (Hello(1, "", ""), *requests_for(await methods_of(where), chance))]
    whole = frames_of(said, CONFIG)
    for content in mutants(whole, seed=seed, count=10):
        await throw(where, content)
    return 10 * len(whole)


async def strangers(nodes: Nodes, name: str, seed: int) -> int:
    """Nodes of nobody's group, and namesakes of this one.

    Without TLS, who says that he is another member is believed; so nobody does.
    """
    chance = Random(seed)
    sent = 0
    how: dict[str, Any] = {"insecure": True, "connect_timeout": 60.0, "deadline": 60.0}
    async with await rpc.connect(RaftPeer, nodes.rpc[name], cluster="onerack", **how) as peer:
        term = chance.randrange(5)
        messages = [msgspec.msgpack.encode([each]) for each in absurd(term).values()]
        for sender in ("x1", "", name, "x" * 5000, f"{name} "):
            for content in (*messages, *NONSENSE, chance.randbytes(100)):
                with contextlib.suppress(CallError):
                    await peer.deliver(sender, chance.choice([name, name, "n9"]), content)
                sent += 1
        for commands in (b"\x01", b"\xff" * 13, pack_command(99, HUGE, b"x"), chance.randbytes(60)):
            with contextlib.suppress(CallError):
                await peer.forward(commands)
            sent += 1
    return sent


async def refusal_of(interface: Any, address: str) -> str:
    """Why a node of another cluster is not let in. Being late is no reason: it is tried again."""
    while True:
        try:
            client = await rpc.connect(interface, address, cluster="another", insecure=True, connect_timeout=10.0)
        except OnerackError as error:
            if "in time" not in str(error):
                return str(error)
        else:
            await client.close()
            return "it was let in"


async def another_cluster(nodes: Nodes, name: str, seed: int) -> int:
    for interface in (RaftPeer, Kv):
        words = await patiently(refusal_of(interface, nodes.rpc[name]), wondering)
        assert "another" in words, words
    return 2


OFFENDERS: Final = (
    absurd_calls, damaged_conversations, flooding, absurd_requests, damaged_requests, strangers, another_cluster,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ holding on


async def hold_on(nodes: Nodes, name: str, count: int) -> list[socket.socket]:
    """Connections that say nothing, or begin something and never end it. The caller closes them."""
    begun = frame(HEADERS, END_HEADERS, 1, block("/etcdserverpb.KV/Put"))
    beginnings = {
        nodes.etcd[name]: (b"", HELLO[:20], HELLO, HELLO + begun),
        nodes.rpc[name]: (b"", b"\x10", b"".join(frames_of([(Hello(1, "", ""), None)], CONFIG))),
    }  # fmt: skip
    loop, held = asyncio.get_running_loop(), []
    for number in range(count):
        address = list(beginnings)[number % 2]
        held.append(socket.socket())
        held[-1].setblocking(False)
        await loop.sock_connect(held[-1], place_of(address))
        with contextlib.suppress(OSError):
            await loop.sock_sendall(held[-1], beginnings[address][number // 2 % len(beginnings[address])])
    return held

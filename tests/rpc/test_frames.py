"""Tests of frames: what one end writes the other reads, however it is cut; what is wrong is refused before it costs."""

from __future__ import annotations

import itertools
import os
import re
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.config import GIB, KIB, MIB, RpcConfig
from onerack.errors import ProtocolError, UsageError
from onerack.rpc.link import Arrival, Buffer
from onerack.rpc.messages import (
    Cancel,
    Credit,
    FromClient,
    FromServer,
    Hello,
    KeepSession,
    Ping,
    Pong,
    Request,
    StreamItem,
    Welcome,
)
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.frames import LARGE_BYTES, TOGETHER_BYTES_MAX, TRANSFERS_MAX, Side, check_limits
from onerack.rpc.transports.receiver import BUFFER_BYTES, Receiver
from onerack.rpc.transports.sender import Sender
from tests.rpc.mutations import feed, frames_of, mutants, split

CONFIG = RpcConfig()
TINY = RpcConfig(
    head_bytes_max=1000, reply_bytes_max=1000, piece_bytes_max=50, attachment_bytes_max=1000, unfinished_bytes_max=1000
)
"""So small that everything happens within a few hundred bytes."""
REQUEST = Request(7, 3, 2, 2000, 1 << 60, 42, 41, b"arguments", {"traceparent": "00-1-2-03"})
MESSAGES = [Hello(1, "rack", "Bank"), REQUEST, Cancel(7), KeepSession(5, 4), StreamItem(9, b"x" * 100), Credit(9, 100)]
STORY: list[tuple[Any, Buffer | None]] = [
    (MESSAGES[0], None),
    (REQUEST, b"inline"),
    (Cancel(1), b""),
    (REQUEST, bytes(range(200))),
    (Cancel(2), None),
    (REQUEST, b"z" * 51),
    (Credit(1, 2), None),
]
"""Every kind of frame of TINY, and two transfers at once."""

messages = st.sampled_from(MESSAGES)
attachments = st.none() | st.binary(max_size=250)


def receiver(config: RpcConfig = CONFIG, side: Side = "server") -> Receiver:
    return Receiver(side, config, Budget(config))


def forever(size: int) -> Iterator[int]:
    return itertools.repeat(size)


def plain(arrivals: list[Arrival]) -> list[tuple[Any, bytes | None]]:
    return [(message, None if attachment is None else bytes(attachment)) for message, attachment in arrivals]


def said(arrivals: list[Arrival], *, config: RpcConfig, side: Side = "server") -> list[tuple[Any, bytes | None]]:
    """What is heard when these are sent, in one read each as far as they fit."""
    return plain(feed(receiver(config, side), b"".join(frames_of(arrivals, config)), forever(BUFFER_BYTES)))


def by_content(arrivals: list[tuple[Any, bytes | None]]) -> list[str]:
    return sorted(map(repr, arrivals))


# ---------------------------------------------------------------------------------------------- there and back


def test_every_message_arrives_as_it_was_sent() -> None:
    assert said([(message, None) for message in MESSAGES], config=CONFIG) == [(message, None) for message in MESSAGES]


def test_a_client_hears_what_servers_say() -> None:
    welcome = Welcome(1, "rack", 99, ("Bank.balance", "Bank.transfer"), True, 1000)
    assert said([(welcome, None)], config=CONFIG, side="client") == [(welcome, None)]


def test_messages_without_large_attachments_arrive_in_order() -> None:
    sent: list[Arrival] = [(Cancel(number), None if number % 3 else b"x" * number) for number in range(2000)]
    assert said(sent, config=CONFIG) == plain(sent)


@pytest.mark.parametrize(
    "size",
    [0, 1, LARGE_BYTES - 1, LARGE_BYTES, BUFFER_BYTES - 4, BUFFER_BYTES, MIB - 1, MIB, MIB + 1, 3 * MIB + 17],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_attachments_of_every_size_and_kind_arrive(size: int, kind: type) -> None:
    content = Random(size).randbytes(size)
    assert said([(REQUEST, kind(content)), (Cancel(1), None)], config=CONFIG) in (
        [(REQUEST, content), (Cancel(1), None)],
        [(Cancel(1), None), (REQUEST, content)],
    )


def test_an_array_is_attached_as_its_bytes() -> None:
    numbers = memoryview(bytearray(range(120))).cast("Q", (3, 5))
    assert said([(Cancel(1), numbers)], config=CONFIG) == [(Cancel(1), bytes(range(120)))]


def test_a_large_message_without_attachment_arrives() -> None:
    item = StreamItem(1, os.urandom(3 * MIB))
    assert said([(item, None), (Cancel(1), None)], config=CONFIG) == [(item, None), (Cancel(1), None)]


@settings(max_examples=300, deadline=None)
@given(
    said_by_hand=st.lists(st.tuples(messages, attachments), max_size=8),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_any_split_into_reads_gives_the_same_arrivals(said_by_hand: list[Arrival], sizes: list[int]) -> None:
    stream = b"".join(frames_of(said_by_hand, TINY))
    at_once = plain(feed(receiver(TINY), stream, forever(BUFFER_BYTES)))
    in_parts = plain(feed(receiver(TINY), stream, itertools.cycle(sizes)))
    assert in_parts == at_once
    assert by_content(at_once) == by_content(plain(said_by_hand))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([None, 10, LARGE_BYTES, 99 * KIB, 100 * KIB, 101 * KIB, 250 * KIB]), max_size=4),
    sizes=st.lists(st.integers(1, 150 * KIB), min_size=1, max_size=10).filter(lambda sizes: max(sizes) > 1000),
)
def test_any_split_of_large_frames_gives_the_same_arrivals(lengths: list[int | None], sizes: list[int]) -> None:
    chance, config = Random(1), RpcConfig(piece_bytes_max=100 * KIB)
    story = [(Cancel(n), None if length is None else chance.randbytes(length)) for n, length in enumerate(lengths)]
    stream = b"".join(frames_of(story, config))
    at_once = plain(feed(receiver(config), stream, forever(BUFFER_BYTES)))
    assert plain(feed(receiver(config), stream, itertools.cycle(sizes))) == at_once
    assert by_content(at_once) == by_content(plain([*story]))


def test_nothing_that_was_delivered_lies_in_the_buffer_of_the_next_read() -> None:
    story: list[Arrival] = [(REQUEST, b"a" * 1000), (StreamItem(1, b"b" * 1000), None), (Cancel(2), b"c" * 100_000)]
    hearing = receiver()
    arrivals = feed(hearing, b"".join(frames_of(story, CONFIG)), forever(BUFFER_BYTES))
    hearing.space()[:] = b"\xff" * BUFFER_BYTES
    assert by_content(plain(arrivals)) == by_content(plain(story))


def test_receivers_do_not_disturb_each_other_though_they_share_a_buffer() -> None:
    streams = [b"".join(frames_of([(StreamItem(n, bytes([n]) * 90), None)] * 3, CONFIG)) for n in range(4)]
    hearing = [receiver() for _ in streams]
    heard: list[list[Arrival]] = [[] for _ in streams]
    for position in range(0, len(streams[0]), 7):
        for each, stream, arrivals in zip(hearing, streams, heard, strict=True):
            arrivals += feed(each, stream[position : position + 7], forever(7))
    for number, arrivals in enumerate(heard):
        assert plain(arrivals) == [(StreamItem(number, bytes([number]) * 90), None)] * 3


def test_pings_and_pongs_are_kept_from_the_owner() -> None:
    hearing = receiver()
    story: list[Arrival] = [(Ping(3), None), (Cancel(1), None), (Pong(9), None), (Ping(1 << 63), None)]
    assert feed(hearing, b"".join(frames_of(story, CONFIG)), forever(BUFFER_BYTES)) == [(Cancel(1), None)]
    assert hearing.pings == [3, 1 << 63]


# ---------------------------------------------------------------------------------------------- the sender's order


def test_small_messages_go_between_the_pieces_of_a_large_attachment() -> None:
    sender = Sender(CONFIG)
    sender.add(REQUEST, bytes(64 * MIB))
    sizes = []
    number = 0
    while sender.has_output:
        number += 1
        sender.add(Cancel(number), None)
        parts = sender.batch()
        assert parts[0][4:] == msgspec.msgpack.encode(Cancel(number)), "what is sent now leaves with the next batch"
        sizes.append(sum(map(len, parts[1:])))
    assert len(sizes) == 64
    assert max(sizes) < MIB + 200


def test_transfers_share_the_connection() -> None:
    sender = Sender(TINY)
    for number in (1, 2, 3):
        sender.add(Cancel(number), bytes([number]) * 140)
    frames = split(b"".join(sender.batch()))
    pieces = [frame[-1] for frame in frames if frame[3] >> 6 == 3]
    assert pieces == [1, 2, 3, 1, 2, 3, 1, 2, 3]


def test_no_more_is_begun_than_a_receiver_allows() -> None:
    config = RpcConfig()
    sender = Sender(config)
    for number in range(TRANSFERS_MAX + 3):
        sender.add(Cancel(number), bytes(2 * MIB))
    sender.add(Cancel(97), bytes(TOGETHER_BYTES_MAX))
    sender.add(Cancel(98), bytes(2 * TOGETHER_BYTES_MAX))
    sender.add(Cancel(99), bytes(2 * MIB))
    hearing, arrivals = receiver(config), []
    while sender.has_output:
        arrivals += feed(hearing, b"".join(sender.batch()), forever(MIB))
    assert [message.call for message, _ in arrivals] == [*range(TRANSFERS_MAX + 3), 97, 98, 99]


@pytest.mark.parametrize(
    ("message", "attachment", "complaint"),
    [
        (StreamItem(1, bytes(1000)), None, "a StreamItem of 1006 bytes; at most 1000 are allowed"),
        (Cancel(1), bytes(1001), "an attachment of 1001 bytes; at most 1000 are allowed"),
        (Cancel(1), memoryview(b"0123456789")[::2], "a view with gaps"),
    ],
)
def test_what_the_limits_forbid_is_the_callers_error_and_leaves_no_trace(
    message: Any, attachment: Buffer | None, complaint: str
) -> None:
    sender = Sender(TINY)
    sender.add(Cancel(1), None)
    with pytest.raises(UsageError, match=complaint):
        sender.add(message, attachment)
    with pytest.raises(TypeError):
        sender.add(Cancel(object()), None)  # type: ignore[arg-type]
    sender.add(Cancel(2), None)
    assert feed(receiver(TINY), b"".join(sender.batch()), forever(1000)) == [(Cancel(1), None), (Cancel(2), None)]


# ---------------------------------------------------------------------------------------------- what is wrong


def frame(kind: int, *parts: bytes, size: int | None = None) -> bytes:
    content = b"".join(parts)
    return struct.pack("<I", kind << 30 | (len(content) if size is None else size)) + content


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


HEAD = msgspec.msgpack.encode(Cancel(7))
BEGUN = frame(2, struct.pack("<IQ", 1, 100), HEAD)
NESTED = b"\x93\x05\x07" + b"\x91" * 100_000 + b"\x00"


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (frame(0, size=0), "bytes that are no message: Input data was truncated"),
        (frame(0, size=1001), "a message of 1001 bytes"),
        (frame(1, size=4), "a message with its attachment of 4 bytes; expected 5 to 1054"),
        (frame(1, size=1055), "a message with its attachment of 1055 bytes"),
        (frame(1, words(0), HEAD), "with a message of 0 and an attachment of"),
        (frame(1, words(len(HEAD) + 1), HEAD), "an attachment of -1"),
        (frame(1, words(2**32 - 1), HEAD), "a message of 4294967295"),
        (frame(1, words(len(HEAD)), HEAD, bytes(51)), "an attachment of 51; messages have 1 to 1000"),
        (frame(1, words(1001), bytes(8), size=1040), "with a message of 1001"),
        (frame(2, size=12), "a message whose attachment follows of 12 bytes; expected 13 to 1012"),
        (frame(2, size=1013), "a message whose attachment follows of 1013 bytes"),
        (frame(2, struct.pack("<IQ", 1, 0), HEAD), "an attachment of 0 bytes"),
        (frame(2, struct.pack("<IQ", 1, 1001), HEAD), "an attachment of 1001 bytes; at most 1000 are taken here"),
        (frame(2, struct.pack("<IQ", 1, 2**64 - 1), HEAD), "an attachment of 18446744073709551615 bytes"),
        (BEGUN + BEGUN, "transfer 1 is begun again before it has ended"),
        (frame(3, size=4), "a piece of 4 bytes; expected 5 to 54"),
        (frame(3, size=55), "a piece of 55 bytes"),
        (frame(3, words(1), b"x"), "a piece of transfer 1, which was not begun"),
        (BEGUN + frame(3, words(2), b"x"), "a piece of transfer 2, which was not begun"),
        (BEGUN + frame(3, words(1), bytes(50)) * 2 + frame(3, words(1), b"x"), "transfer 1, which was not begun"),
        (BEGUN + frame(3, words(1), bytes(40)) * 3, "a piece of 40 bytes where only 20 of the attachment are missing"),
        (frame(0, b"\xc1"), "bytes that are no message"),
        (frame(0, HEAD[:-1]), "bytes that are no message: Input data was truncated"),
        (frame(0, HEAD + b"\0"), "bytes that are no message"),
        (frame(0, b"\x92\x63\x07"), "bytes that are no message: Invalid value 99"),
        (frame(0, b"\x92\x05\xa1x"), "bytes that are no message: Expected `int`, got `str`"),
        (frame(0, b"\x94\x00\x01\xa2\xff\xfe\xa0"), "bytes that are no message: 'utf-8' codec"),
        (frame(1, words(len(HEAD) - 1), HEAD), "bytes that are no message"),
        (frame(2, struct.pack("<IQ", 1, 100), b"\xc1"), "bytes that are no message"),
        (frame(0, msgspec.msgpack.encode(Welcome(1, "", 1, ()))), "bytes that are no message: Invalid value 1"),
        (b"GET / HTTP/1.1\r\n\r\n", "speak HTTP"),
    ],
)
def test_what_no_frame_may_be_is_refused_by_its_name(stream: bytes, complaint: str) -> None:
    for size in (1, 3, 1000):
        with pytest.raises(ProtocolError) as refusal:
            feed(receiver(TINY), stream, forever(size))
        assert complaint in str(refusal.value)


@pytest.mark.parametrize("length", [b"\x00\xf0", b"\x02\x00"])
def test_tls_is_recognised_though_it_may_begin_like_a_frame(length: bytes) -> None:
    with pytest.raises(ProtocolError, match="speak TLS"):
        feed(receiver(), b"\x16\x03\x01" + length + b"\x01\x00\x00\xec\x03\x03\x01\x02\x03", forever(100))


def test_a_first_message_as_long_as_tls_would_have_it_is_heard() -> None:
    (size,) = struct.unpack("<I", b"\x16\x03\x01\x00")
    rest = size - len(msgspec.msgpack.encode(Hello(1, "", "", "", bytes(1 << 16))))
    hello = Hello(1, "", "", "", bytes((1 << 16) + rest))
    (frame,) = frames_of([(hello, None)], CONFIG)
    assert frame[:4] == b"\x16\x03\x01\x00"
    assert feed(receiver(), frame, forever(20)) == [(hello, None)]


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ProtocolError, match="recursion"):
        feed(receiver(), frame(0, NESTED), forever(BUFFER_BYTES))


def test_too_many_transfers_at_once_are_refused() -> None:
    begun = [frame(2, struct.pack("<IQ", number, MIB + 1), HEAD) for number in range(TRANSFERS_MAX + 1)]
    with pytest.raises(ProtocolError, match=f"{TRANSFERS_MAX + 1} attachments"):
        feed(receiver(), b"".join(begun), forever(1000))
    large = [frame(2, struct.pack("<IQ", number, TOGETHER_BYTES_MAX), HEAD) for number in range(2)]
    with pytest.raises(ProtocolError, match=f"2 attachments of together {2 * TOGETHER_BYTES_MAX} bytes"):
        feed(receiver(), b"".join(large), forever(1000))


def test_what_came_before_the_error_is_not_lost() -> None:
    hearing, arrivals = receiver(), list[Arrival]()
    stream = b"".join(frames_of([(Cancel(1), None), (Cancel(2), None)], CONFIG)) + frame(0, b"\xc1")
    hearing.space()[: len(stream)] = stream
    with pytest.raises(ProtocolError):
        hearing.take(len(stream), arrivals)
    assert arrivals == [(Cancel(1), None), (Cancel(2), None)]


@pytest.mark.parametrize(
    "stream",
    [
        frame(0, size=(1 << 30) - 1),
        frame(1, words(1 << 29), bytes(8), size=(1 << 30) - 1),
        frame(2, struct.pack("<IQ", 1, GIB), HEAD),
        frame(3, words(1), bytes(8), size=(1 << 30) - 1),
        frame(0, b"\xdd\xff\xff\xff\xff" + HEAD),
        frame(0, b"\x92\x05\xc6\xff\xff\xff\xff"),
        frame(0, msgspec.msgpack.encode(REQUEST).replace(b"\xc4\x09arguments", b"\xc6\xff\xff\xff\xff123456")),
    ],
)
def test_no_memory_is_taken_for_what_is_only_claimed(stream: bytes) -> None:
    hearing = receiver()
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            feed(hearing, stream, forever(1000))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_claimed_element_count_costs_nothing_at_the_client() -> None:
    claimed = b"\x95\x01\x01\xa0\x01\xdd\x7f\xff\xff\xff\xa1x"
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            feed(receiver(side="client"), frame(0, claimed), forever(1000))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_transfer_of_which_one_byte_came_costs_next_to_nothing() -> None:
    begun = frame(2, struct.pack("<IQ", 1, 256 * MIB), HEAD) + frame(3, words(1), b"x")
    before = resident_bytes()
    hearing = [receiver() for _ in range(4)]
    for each in hearing:
        feed(each, begun, forever(1000))
    assert resident_bytes() - before < 16 * MIB, "a GiB was announced, four bytes have come"


def test_limits_that_do_not_fit_a_frame_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 1073741823 are possible"):
        check_limits(RpcConfig(head_bytes_max=GIB, output_bytes_max=GIB))
    check_limits(CONFIG)


# ---------------------------------------------------------------------------------------------- the document

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "rpc-wire.md"


def test_the_example_in_the_document_is_what_is_sent() -> None:
    example = DOCUMENT.read_text(encoding="utf-8").rpartition("## Example")[2]
    written = re.findall(r"^ *((?:[0-9a-f]{2} )+[0-9a-f]{2})", example, re.MULTILINE)
    assert bytes.fromhex(" ".join(written)) == b"".join(frames_of([(Cancel(7), None), (Cancel(7), b"hi")], CONFIG))


def test_the_document_lists_every_message_by_its_tag() -> None:
    listed = re.findall(r"^\| (\d+) \| (\w+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    known = {member for side in (FromClient, FromServer) for member in get_args(side)}
    assert {(int(tag), name) for tag, name in listed} == {
        (member.__struct_config__.tag, member.__name__) for member in known
    }


def test_the_document_knows_the_bounds() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for figure in (CONFIG.head_bytes_max, CONFIG.piece_bytes_max, CONFIG.attachment_bytes_max, TOGETHER_BYTES_MAX):
        assert f"| {figure // MIB} MiB |" in text
    assert f"in one direction | {TRANSFERS_MAX} |" in text
    assert f"shorter than {LARGE_BYTES // KIB} KiB" in text


# ---------------------------------------------------------------------------------------------- damage


def outcome(stream: bytes, size: int) -> tuple[list[tuple[Any, bytes | None]], str]:
    """What is heard of a stream, and what is wrong with it. Any other exception is the test's end."""
    hearing, arrivals, position = receiver(TINY), list[Arrival](), 0
    while position < len(stream):
        space = hearing.space()
        part = stream[position : position + min(size, len(space))]
        space[: len(part)] = part
        position += len(part)
        try:
            hearing.take(len(part), arrivals)
        except ProtocolError as error:
            return plain(arrivals), str(error)
    return plain(arrivals), ""


def test_every_truncation_gives_a_beginning_of_what_was_said() -> None:
    stream = b"".join(frames_of(STORY, TINY))
    whole, _ = outcome(stream, 1000)
    assert len(whole) == len(STORY)
    for end in range(len(stream)):
        heard, complaint = outcome(stream[:end], 1000)
        assert not complaint
        assert heard == whole[: len(heard)]
        assert len(heard) < len(whole)


def test_every_flipped_bit_gives_messages_or_a_protocol_error_in_every_split() -> None:
    stream = b"".join(frames_of(STORY, TINY))
    complaints = 0
    for position in range(len(stream) * 8):
        spoiled = bytearray(stream)
        spoiled[position // 8] ^= 1 << position % 8
        at_once = outcome(bytes(spoiled), 1000)
        assert outcome(bytes(spoiled), 37) == at_once
        complaints += bool(at_once[1])
    assert complaints > len(stream), "most flips of a size or a type are noticed"


def test_ten_thousand_mutants() -> None:
    assert check_mutants(seed=1, count=10_000) > 3000


@pytest.mark.soak
def test_a_million_mutants() -> None:
    assert check_mutants(seed=2, count=1_000_000) > 300_000


def check_mutants(*, seed: int, count: int) -> int:
    """How many of them were refused."""
    frames = frames_of(STORY, TINY)
    return sum(bool(outcome(mutant, 1000)[1]) for mutant in mutants(frames, seed=seed, count=count))

"""Frames: whole or not at all, on a wire and on a disk, whatever the bytes."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.codec import HEADER, FrameDecoder, as_utf8, decode_file, encode_frame, frame_checksum
from onerack.errors import Corruption, ProtocolError

PAYLOADS = st.lists(st.binary(max_size=200), max_size=6)


def test_the_format_is_what_the_docs_say() -> None:
    frame = encode_frame(b"hello")
    assert frame == struct.pack("<II", 5, frame_checksum(b"hello")) + b"hello"
    assert frame.hex() == "05000000" + frame[4:8].hex() + "68656c6c6f"


@given(PAYLOADS, st.integers(1, 50))
def test_a_stream_may_be_cut_anywhere(payloads: list[bytes], step: int) -> None:
    wire = b"".join(map(encode_frame, payloads))
    decoder = FrameDecoder()
    received = [payload for at in range(0, len(wire), step) for payload in decoder.feed(wire[at : at + step])]
    assert received == payloads
    assert decoder.pending_bytes == 0


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(0, 7))
def test_no_damaged_bit_goes_unnoticed(payload: bytes, position: int, bit: int) -> None:
    wire = bytearray(encode_frame(payload))
    wire[position % len(wire)] ^= 1 << bit
    with contextlib.suppress(ProtocolError):
        assert FrameDecoder().feed(bytes(wire)) == [], "a longer length may wait for bytes that never come"


@given(st.binary(max_size=400))
def test_only_declared_errors_leave_the_decoder(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        FrameDecoder().feed(noise)
    with contextlib.suppress(Corruption):
        list(decode_file(noise, "log"))


def test_a_length_over_the_cap_is_refused_before_memory_is_taken() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="at most 1000 are allowed"):
            FrameDecoder(frame_bytes_max=1000).feed(HEADER.pack(2**31, 0))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_payload_over_the_cap_is_not_sent() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return 2**40

    with pytest.raises(ProtocolError, match="are allowed"):
        encode_frame(Long())


@given(PAYLOADS, st.integers(0, 1000))
def test_a_torn_tail_ends_a_log_silently(payloads: list[bytes], cut: int) -> None:
    frames = list(map(encode_frame, payloads))
    content = b"".join(frames)
    kept = content[: cut % (len(content) + 1)]
    read = list(decode_file(kept, "log"))
    assert read == payloads[: len(read)]
    assert sum(map(len, frames[: len(read)])) <= len(kept)
    if len(read) < len(payloads):
        assert len(kept) < sum(map(len, frames[: len(read) + 1])), "a whole frame was dropped"


def test_damage_before_a_good_frame_is_corruption() -> None:
    content = bytearray(encode_frame(b"first") + encode_frame(b"second"))
    content[9] ^= 1
    with pytest.raises(Corruption, match=r"log is damaged at byte 0: expected crc32 \w{8}, found \w{8}"):
        list(decode_file(bytes(content), "log"))


def test_damage_in_the_last_frame_is_a_torn_tail() -> None:
    content = bytearray(encode_frame(b"first") + encode_frame(b"second"))
    content[-1] ^= 1
    assert list(decode_file(bytes(content), "log")) == [b"first"]


def test_text_that_utf8_cannot_hold_is_written_as_escapes() -> None:
    assert as_utf8("a\udc80é\ud800") == "a\\udc80é\\ud800"
    assert as_utf8("ordinary — text") == "ordinary — text"

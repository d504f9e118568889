"""Tests of request heads: timeouts, percent encoding, binary metadata, and that what is remembered is bounded."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest

from onerack.kv.server.grpc_head import Head, Refusal, head_reader, percent_encoded, timeout_of

FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t/Echo"),
    (b"content-type", b"application/grpc+proto"),
]


def read(*fields: tuple[bytes, bytes]) -> Head:
    return head_reader({"/t/Echo": ("unary", print)}, 1000, b"")([*FIELDS, *fields])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"99999999H", 359999996400),
    ],
)
def test_timeouts_have_units(text: bytes, seconds: float) -> None:
    assert timeout_of(text) == pytest.approx(seconds)
    assert read((b"grpc-timeout", text)).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b"1S ", b"\xb2S"])
def test_what_is_no_timeout_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal):
        timeout_of(text)


@pytest.mark.parametrize(
    "text", ["", "plain text, with ~", "100%", "etcdserver: näh", "a\r\nb\0", "\U0001f600", "\ud800"]
)
def test_messages_are_percent_encoded(text: str) -> None:
    encoded = percent_encoded(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote_to_bytes(encoded) == text.encode("utf-8", "replace")


def test_a_long_message_is_cut() -> None:
    assert len(percent_encoded("x" * 10_000)) == 1024
    assert percent_encoded("é" * 1000) == b"%C3%A9" * 512


@pytest.mark.parametrize(
    ("value", "content"), [(b"", b""), (b"AA", b"\0"), (b"AA==", b"\0"), (b"AAE=", b"\0\1"), (b"AA,AQ", b"\0,\1")]
)
def test_binary_metadata_come_with_and_without_padding(value: bytes, content: bytes) -> None:
    assert read((b"x-bin", value)).binary_metadata == {"x-bin": content}


def test_heads_that_differ_in_their_timeout_only_share_the_rest() -> None:
    reader = head_reader({"/t/Echo": ("unary", print)}, 1000, b"")
    first = reader([*FIELDS, (b"token", b"t"), (b"grpc-timeout", b"1S")])
    second = reader([*FIELDS, (b"grpc-timeout", b"2S"), (b"token", b"t")])
    third = reader([*FIELDS, (b"token", b"t")])
    other = reader([*FIELDS, (b"token", b"u")])
    assert [one.timeout_s for one in (first, second, third, other)] == [1, 2, None, None]
    assert first.metadata is second.metadata is third.metadata
    assert [one.token for one in (first, second, third, other)] == ["t", "t", "t", "u"]


def test_identity_is_no_compression() -> None:
    assert read((b"grpc-encoding", b"identity")).refusal is None


@pytest.mark.parametrize(
    ("value", "is_grpc"),
    [(b"application/grpc", True), (b"application/grpc+proto", True), (b"application/grpc;x=y", True),
     (b"application/grpc-web", False), (b"application/json", False)],
)  # fmt: skip
def test_only_grpc_is_grpc(value: bytes, is_grpc: bool) -> None:
    fields = [*FIELDS[:3], (b"content-type", value)]
    assert (head_reader({"/t/Echo": ("unary", print)}, 1000, b"")(fields).refusal is None) == is_grpc

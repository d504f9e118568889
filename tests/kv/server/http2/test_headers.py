"""Tests of HPACK: our decoder says what the library's says, and a remembered meaning never outlives its table."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hpack import Decoder, Encoder, HPACKError

from onerack.kv.server.http2.frames import ConnectionFailure
from onerack.kv.server.http2.headers import Field, HeaderReader, literal, status

LIST_BYTES_MAX = 4096


def reader() -> HeaderReader[tuple[Field, ...]]:
    return HeaderReader(tuple, LIST_BYTES_MAX)


def drawn(dice: random.Random) -> list[tuple[str, str]]:
    names = [":method", ":path", "te", "content-type", "grpc-timeout", "user-agent", "x-own", "y" * 200]
    values = ["POST", "/", "trailers", "", "5000m", "grpc-go/1.26.0", "z" * 150, str(dice.random())]
    return [(dice.choice(names), dice.choice(values)) for _ in range(dice.randrange(8))]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_an_encoder_writes_is_read_as_the_library_reads_it(seed: int) -> None:
    dice = random.Random(seed)
    encoder, theirs, ours = Encoder(), Decoder(), reader()
    for _ in range(200):
        if dice.random() < 0.05:
            encoder.header_table_size = dice.choice([0, 100, 1000, 4096])
        block = bytes(encoder.encode(drawn(dice), huffman=dice.random() < 0.7))
        assert ours.read(block) == tuple((bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_no_hpack_is_refused_as_the_library_refuses_it(seed: int) -> None:
    dice = random.Random(seed)
    refused = 0
    for _ in range(200):
        block = bytearray(Encoder().encode([*drawn(dice), ("a", "b")], huffman=dice.random() < 0.7))
        for _ in range(dice.randrange(1, 3)):
            block[dice.randrange(len(block))] = dice.randrange(256)
        try:
            expected: Sequence[Field] | None = [
                (bytes(n), bytes(v)) for n, v in Decoder(LIST_BYTES_MAX).decode(bytes(block), raw=True)
            ]
        except (HPACKError, IndexError):
            expected = None
        try:
            found: Sequence[Field] | None = list(reader().read(bytes(block)))
        except ConnectionFailure:
            found = None
            refused += 1
        assert found == expected
    assert refused > 10


def test_a_block_that_does_not_change_the_table_is_decoded_once() -> None:
    meanings: list[Sequence[Field]] = []

    def meaning_of(fields: Sequence[Field]) -> int:
        meanings.append(fields)
        return len(meanings)

    ours = HeaderReader(meaning_of, LIST_BYTES_MAX)
    static, changing = b"\x83" + literal(b"a", b"b"), b"\x83\x40\x01a\x01b"
    assert [ours.read(static), ours.read(static)] == [1, 1]
    assert [ours.read(changing), ours.read(changing)] == [2, 3]
    assert [ours.read(static), ours.read(static)] == [4, 4]


@pytest.mark.parametrize("change", [b"\x40\x01a\x03new", b"\x20\x3f\xe1\x1f"])
def test_a_remembered_meaning_ends_with_its_table(change: bytes) -> None:
    ours = reader()
    ours.read(b"\x40\x01a\x03old")
    newest = b"\xbe"
    assert ours.read(newest) == ours.read(newest) == ((b"a", b"old"),)
    assert newest in ours.cache
    ours.read(change)
    assert newest not in ours.cache
    if change[0] == 0x40:
        assert ours.read(newest) == ((b"a", b"new"),)
    else:
        with pytest.raises(ConnectionFailure):
            ours.read(newest)


def test_a_list_with_an_indexed_change_in_its_middle_is_not_remembered() -> None:
    ours = reader()
    ours.read(b"\x40\x01a\x03old")
    mixed = b"\xbe\x40\x01a\x03new"
    assert ours.read(mixed) == ((b"a", b"old"), (b"a", b"new"))
    assert ours.read(mixed) == ((b"a", b"new"), (b"a", b"new"))


def test_the_cache_is_bounded() -> None:
    ours: HeaderReader[tuple[Field, ...]] = HeaderReader(tuple, 1 << 16)
    for number in range(1000):
        ours.read(literal(b"number", b"%d" % number))
    assert 0 < len(ours.cache) <= 64
    ours.read(literal(b"long", bytes(2000)))
    ours.read(b"\x40\x01a\x7f\x81\x06" + b"v" * 896)
    assert ours.cache == {}
    ours.read(b"\xbe" * 5)
    assert ours.cache == {}, "five values of 900 bytes"
    ours.read(b"\xbe" * 4)
    assert list(ours.cache) == [b"\xbe" * 4]


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 300, 20_000])
def test_what_we_write_is_hpack(size: int) -> None:
    block = status(200) + status(415) + literal(b"n" * size, b"v" * size)
    fields = [(bytes(name), bytes(value)) for name, value in Decoder(1 << 20).decode(block, raw=True)]
    assert fields == [(b":status", b"200"), (b":status", b"415"), (b"n" * size, b"v" * size)]

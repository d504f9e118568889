"""Each kernel, compiled and not, against the plain Python that says what it must give."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerack.mapreduce.kernels import available, crc32_of, fold_sum, sort_order
from onerack.mapreduce.kernels.buffers import bytes_list, list_array, rows_of
from onerack.mapreduce.kernels.finding import hits_in
from onerack.mapreduce.kernels.folding import number_keys
from onerack.mapreduce.kernels.postings import posting_table
from onerack.mapreduce.kernels.words import word_table

FORMS = [
    pytest.param(True, id="compiled", marks=pytest.mark.skipif(not available(), reason="numba is not installed")),
    pytest.param(False, id="plain"),
]
ALPHABETS = [b"a\x00", b"ab\xff", b" \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85a\x00", bytes(range(256))]
ODD_TEXTS = [
    b"",
    b" ",
    b"word",
    b"\x00",
    b" \x00 \x00\x00 ",
    b"a\x1cb\x1db\x1eb\x1fb",
    b"one\r\ntwo\rthree\n\nfour",
    b"\xff\xfe caf\xe9 \xc3\xa9\x85\xa0",
    b"x" * 100_000 + b" " + b"x" * 100_001,
    b" " * 1000 + b"end",
    b"a" * 63 + b" " + b"b" * 64 + b" " + b"c" * 65,
    b"\t\n\x0b\x0c\r ".join([b"a", b"bb", b"ccc", b""]),
]


def odd_keys(seed: int) -> list[bytes]:
    """Keys that are hard to tell apart: common prefixes of awkward lengths, zero bytes, few letters."""
    dice = random.Random(seed)
    alphabet = dice.choice(ALPHABETS)
    prefix = bytes(dice.choices(alphabet, k=dice.choice([0, 0, 7, 8, 9, 16, 30])))
    longest = dice.choice([1, 4, 12, 40])
    return [
        prefix + bytes(dice.choices(alphabet, k=dice.randrange(longest))) for _ in range(dice.choice([0, 1, 40, 900]))
    ]


def binary(keys: list[bytes]) -> Any:
    return pa.array(keys, pa.binary())


@pytest.mark.parametrize("accelerate", FORMS)
class TestOrder:
    @pytest.mark.parametrize("seed", range(40))
    def test_it_is_the_stable_order_of_the_bytes(self, seed: int, accelerate: bool) -> None:
        keys = odd_keys(seed)
        assert sort_order(binary(keys), accelerate).tolist() == sorted(range(len(keys)), key=keys.__getitem__)

    def test_a_slice_is_ordered_by_itself(self, accelerate: bool) -> None:
        keys = odd_keys(7) or [b"b", b"a"]
        part = binary([b"zz", *keys, b"aa"]).slice(1, len(keys))
        assert sort_order(part, accelerate).tolist() == sorted(range(len(keys)), key=keys.__getitem__)

    def test_equal_keys_keep_their_order_in_large_groups(self, accelerate: bool) -> None:
        keys = [b"the same long key"] * 500 + [b"the same long kex"] * 500
        assert sort_order(binary(keys), accelerate).tolist() == [*range(500, 1000), *range(500)]

    def test_padding_is_no_part_of_a_key(self, accelerate: bool) -> None:
        keys = [
            b"a\x00" * 4 + b"\x00",
            b"a",
            b"a\x00",
            b"",
            b"\x00",
            b"a\x00\x00",
            b"a\x00\x00\x00\x00\x00\x00\x00",
        ] * 30
        assert sort_order(binary(keys), accelerate).tolist() == sorted(range(len(keys)), key=keys.__getitem__)

    def test_strings_and_chunks_are_taken_too(self, accelerate: bool) -> None:
        assert sort_order(pa.array(["b", "ä", "a"]), accelerate).tolist() == [2, 0, 1]
        assert sort_order(pa.chunked_array([["b"], ["a"]]), accelerate).tolist() == [1, 0]


@pytest.mark.parametrize("accelerate", FORMS)
class TestHash:
    def test_it_is_the_crc32_of_zlib(self, accelerate: bool) -> None:
        keys = [b"", b"\x00", *ODD_TEXTS, *odd_keys(3), *(bytes(range(length)) for length in range(40))]
        assert crc32_of(binary(keys), accelerate).tolist() == [zlib.crc32(key) for key in keys]

    def test_golden_vectors(self, accelerate: bool) -> None:
        # The check value of the CRC catalogue: this hash must never change, files depend on it.
        found = crc32_of(binary([b"123456789", b"onerack", b""]), accelerate)
        assert found.tolist() == [0xCBF43926, 0x9F2D3CD1, 0]
        assert found.dtype == np.uint32

    def test_a_slice_is_hashed_by_itself(self, accelerate: bool) -> None:
        keys = [b"one", b"two", b"three"]
        assert crc32_of(binary(keys).slice(1), accelerate).tolist() == [zlib.crc32(b"two"), zlib.crc32(b"three")]


@pytest.mark.parametrize("accelerate", FORMS)
class TestSums:
    @pytest.mark.parametrize("seed", range(25))
    def test_integers_are_added_by_key(self, seed: int, accelerate: bool) -> None:
        keys = odd_keys(seed)
        values = np.array([random.Random(seed).randrange(-1000, 1000) for _ in keys], np.int64)
        expected: dict[bytes, int] = {}
        for key, value in zip(keys, values.tolist(), strict=True):
            expected[key] = expected.get(key, 0) + value
        found, sums = fold_sum(binary(keys), values, accelerate)
        assert bytes_list(found) == list(expected)
        assert sums.tolist() == list(expected.values())
        assert sums.dtype == np.int64

    @pytest.mark.parametrize("seed", range(25))
    def test_floats_are_added_in_row_order_bit_for_bit(self, seed: int, accelerate: bool) -> None:
        keys = odd_keys(seed)
        dice = random.Random(seed)
        values = np.array([dice.choice([-0.0, 1e300, 1e-300, dice.uniform(-1, 1), 1e17]) for _ in keys], np.float64)
        expected: dict[bytes, float] = {}
        for key, value in zip(keys, values.tolist(), strict=True):
            expected[key] = expected.get(key, 0.0) + value
        found, sums = fold_sum(binary(keys), values, accelerate)
        assert bytes_list(found) == list(expected)
        assert sums.tobytes() == np.array(list(expected.values()), np.float64).tobytes()

    def test_an_overflow_is_no_silent_wrap(self, accelerate: bool) -> None:
        large = np.array([2**62, 2**62], np.int64)
        with pytest.raises(OverflowError, match="64 bits"):
            fold_sum(binary([b"a", b"a"]), large, accelerate)
        assert fold_sum(binary([b"a", b"b"]), large, accelerate)[1].tolist() == [2**62, 2**62]
        lowest = np.array([-(2**63), 2**63 - 1], np.int64)
        assert fold_sum(binary([b"a", b"a"]), lowest, accelerate)[1].tolist() == [-1]

    def test_keys_are_numbered_in_order_of_first_appearance(self, accelerate: bool) -> None:
        distinct, numbers = number_keys(binary([b"b", b"a", b"b", b"", b"a"]), accelerate)
        assert bytes_list(distinct) == [b"b", b"a", b""]
        assert numbers.tolist() == [0, 1, 0, 2, 1]

    def test_a_table_grows_as_far_as_it_must(self, accelerate: bool) -> None:
        keys = [b"%d" % (number % 70_000) for number in range(140_000)] + [b"long" * 50_000]
        found, sums = fold_sum(binary(keys), np.ones(len(keys), np.int64), accelerate)
        assert bytes_list(found) == keys[:70_000] + keys[-1:]
        assert set(sums.tolist()) == {1, 2}


@pytest.mark.parametrize("accelerate", FORMS)
class TestWords:
    @pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
    def test_a_word_is_what_split_gives(self, text: bytes, accelerate: bool) -> None:
        assert counted([text], accelerate) == Counter(text.split())

    @pytest.mark.parametrize("seed", range(30))
    def test_any_bytes_are_counted_alike(self, seed: int, accelerate: bool) -> None:
        dice = random.Random(seed)
        blocks = [
            bytes(dice.choices(dice.choice(ALPHABETS), k=dice.choice([1, 62, 63, 64, 65, 129, 20_000]))) + b"\n"
            for _ in range(dice.randrange(1, 5))
        ]
        assert counted(blocks, accelerate) == Counter(b"".join(blocks).split())

    def test_views_of_mapped_files_are_taken_too(self, accelerate: bool) -> None:
        assert counted([memoryview(b"two words\n")[4:]], accelerate) == {b"words": 1}

    def test_taking_empties_the_table(self, accelerate: bool) -> None:
        table = word_table(accelerate)
        table.add(b"some words")
        assert table.memory_bytes > 0
        table.take()
        assert [len(column) for column in table.take()] == [0, 0]


def counted(blocks: list[Any], accelerate: bool) -> dict[bytes, int]:
    table = word_table(accelerate)
    for block in blocks:
        table.add(block)
    words, counts = table.take()
    listed = bytes_list(words)
    assert len(set(listed)) == len(listed)
    return dict(zip(listed, counts.tolist(), strict=True))


@pytest.mark.parametrize("accelerate", FORMS)
class TestPostings:
    @pytest.mark.parametrize("seed", range(20))
    def test_each_word_is_posted_once_for_each_of_its_documents(self, seed: int, accelerate: bool) -> None:
        dice = random.Random(seed)
        size = dice.choice([0, 3, 70, 3000])
        documents = [bytes(dice.choices(dice.choice(ALPHABETS), k=size)) for _ in range(20)]
        table = posting_table(accelerate)
        table.add(0, documents[:7])
        table.add(6, [b"cont inued"])  # A document may come in several stretches.
        table.add(7, documents[7:])
        words, starts, numbers = table.take()
        expected: dict[bytes, list[int]] = {}
        for number, document in enumerate(documents):
            for word in {*document.split(), *([b"cont", b"inued"] if number == 6 else [])}:
                expected.setdefault(word, []).append(number)
        bounds = starts.tolist()
        found = {word: numbers[bounds[row] : bounds[row + 1]].tolist() for row, word in enumerate(bytes_list(words))}
        assert found == expected

    def test_taking_empties_the_table(self, accelerate: bool) -> None:
        table = posting_table(accelerate)
        table.add(0, [b"some words"])
        assert len(table.take().words) == 2
        table.add(0, [])
        assert len(table.take().words) == 0

    def test_more_words_than_it_began_with(self, accelerate: bool) -> None:
        table = posting_table(accelerate)
        for document in range(4):
            table.add(document, [b" ".join(b"%d" % number for number in range(30_000))])
        words, starts, _ = table.take()
        assert len(words) == 30_000
        assert set(np.diff(starts).tolist()) == {4}


def test_buffers_of_empty_and_sliced_arrays() -> None:
    assert len(rows_of(binary([]))) == 0
    assert bytes_list(binary([])) == []
    assert bytes_list(binary([b"a", b"", b"bc"]).slice(1)) == [b"", b"bc"]
    assert bytes_list(pa.array([b"large"], pa.large_binary())) == [b"large"]
    assert list_array(np.array([0, 2, 2]), pa.array([7, 8])).to_pylist() == [[7, 8], []]


@given(st.text("ab\n", max_size=60), st.text("ab", min_size=1, max_size=7), st.integers(0, 60))
def test_finding_gives_what_find_gives(text: str, wanted: str, size: int) -> None:
    data, string = text.encode(), wanted.encode()
    size = min(size, len(data))
    next_hit = hits_in(data, size, string)
    assert [next_hit(at) for at in range(size + 1)] == [data.find(string, at, size) for at in range(size + 1)]

"""The builtin jobs, task by task in this process, against plain Python over the same bytes."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import UsageError
from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.job import normalise
from onerack.mapreduce.jobs import BUILTINS, make
from onerack.mapreduce.jobs.literals import required_literal, stays_in_line
from onerack.mapreduce.kernels import available
from onerack.mapreduce.messages import Fragment, InputFormat, OutputFormat, Split
from onerack.mapreduce.outputs.tsv import escape
from tests.mapreduce.sequential_run import SequentialRun

FORMS = [
    pytest.param(True, id="compiled", marks=pytest.mark.skipif(not available(), reason="numba is not installed")),
    pytest.param(False, id="plain"),
]
ODD_FILES = (
    b"",
    b"to be or not to be\nthat is the question",
    b"\n\n\r\n \t\x0b\x0c\n",
    b"a\x00b \x00 c\x1cd e\x1fe\x85f\r\nlone\rcarriage return\r\n",
    b"caf\xe9 \xff\xfe \xc3\xa9 back\\slash \\n to\n",
    b"l" * 300 + b" " + b"l" * 301 + b"\nto be\n",
)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files that are not what a text file should be."""
    folder = tmp_path / "input"
    folder.mkdir()
    paths = [folder / f"{number}.txt" for number in range(len(ODD_FILES))]
    for path, content in zip(paths, ODD_FILES, strict=True):
        path.write_bytes(content)
    return paths


def cut(paths: Sequence[Path], size: int) -> tuple[Split, ...]:
    """Splits of `size` bytes, wherever that falls."""
    pieces = [
        Fragment(str(path), start, min(size, path.stat().st_size - start))
        for path in paths
        for start in range(0, path.stat().st_size, size)
    ]
    return tuple(Split(index, (piece,)) for index, piece in enumerate(pieces))


def packed(paths: Sequence[Path]) -> tuple[Split, ...]:
    """One split with all files."""
    return (Split(0, tuple(Fragment(str(path), 0, path.stat().st_size) for path in paths)),)


def parts_of(folder: Path, job: Any, splits: tuple[Split, ...], **settings: Any) -> list[bytes]:
    """The contents of the parts, in order."""
    folder.mkdir(exist_ok=True)
    run = SequentialRun(job, folder, [], splits=splits, **settings)
    maps = run.maps()
    if run.spec.reducers:
        parts = [part for each in run.reduces(maps) for part in each.parts]
    else:
        parts = [part for each in maps for part in each.parts]
    return [(folder / "staging" / part.path).read_bytes() for part in parts]


def lines_without_end(content: bytes) -> list[bytes]:
    return [line.removesuffix(b"\n").removesuffix(b"\r") for line in kept_lines(content)]


def kept_lines(content: bytes) -> list[bytes]:
    """The lines as they are, each with a newline at its end."""
    lines = content.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1] + b"\n"] if lines[-1] else [])


class TestMake:
    def test_every_builtin_is_a_job_in_order(self) -> None:
        arguments = {"grep": ["pattern"], "teragen": ["10"]}
        for name in BUILTINS:
            job = make(name, arguments.get(name, []))
            assert normalise(job).door == "map_split"
            assert len(arguments.get(name, [])) == job.arguments_count
            assert name in job.usage

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("wordcont", [], "wordcount"),
            ("wordcount", ["surplus"], "takes 0 arguments and got 1; usage: onerack run wordcount"),
            ("grep", [], "usage: onerack run grep PATTERN"),
            ("grep", ["("], "cannot use the pattern '\\('"),
            ("grep", ["-x", "a"], "does not know -x; options are -i"),
            ("teragen", ["many"], "cannot make 'many' rows"),
            ("teragen", ["-1"], "cannot make '-1' rows"),
            ("teragen", [""], "cannot make '' rows"),
            ("teragen", ["999999g"], "cannot make"),
        ],
    )
    def test_wrong_arguments_are_told_with_the_usage(self, name: str, arguments: list[str], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            make(name, arguments)


@pytest.mark.parametrize("accelerate", FORMS)
class TestWordCount:
    @pytest.mark.parametrize("size", [1, 7, 64, 100_000])
    def test_it_counts_what_split_gives(self, files: list[Path], tmp_path: Path, size: int, accelerate: bool) -> None:
        paths = files if size > 1 else files[:5]
        parts = parts_of(tmp_path / "job", make("wordcount"), cut(paths, size), accelerate=accelerate)
        assert counts_of(parts) == counts_in(paths)
        for part in parts:
            words = [line.partition(b"\t")[0] for line in part.splitlines(keepends=True)]
            assert words == sorted(words)

    def test_little_memory_means_several_tables(self, files: list[Path], tmp_path: Path, accelerate: bool) -> None:
        job = make("wordcount")
        parts = parts_of(tmp_path / "job", job, packed(files), accelerate=accelerate, memory_bytes=1000)
        assert counts_of(parts) == counts_in(files)

    def test_the_native_form_gives_what_the_plain_one_gives(
        self, files: list[Path], tmp_path: Path, accelerate: bool
    ) -> None:
        class Plain:
            """The same job, by the record door."""

            encoding = "bytes"
            reduce = "sum"

            def map(self, key: Any, line: bytes) -> Iterable[tuple[bytes, int]]:
                return [(word, 1) for word in line.split()]

        native = parts_of(tmp_path / "native", make("wordcount"), packed(files), accelerate=accelerate)
        assert native == parts_of(tmp_path / "plain", Plain, packed(files), accelerate=accelerate)

    def test_another_encoding_is_counted_as_utf8(self, tmp_path: Path, accelerate: bool) -> None:
        path = tmp_path / "wide.txt"
        path.write_text("größer als größer\nals", encoding="utf-16")
        parts = parts_of(
            tmp_path / "job",
            make("wordcount"),
            packed([path]),
            input=InputFormat("text", encoding="utf-16"),
            accelerate=accelerate,
        )
        assert counts_of(parts) == {"größer".encode(): 2, b"als": 2}


def counts_of(parts: list[bytes]) -> dict[bytes, int]:
    """word TAB count of all parts; no word may come twice."""
    counts: dict[bytes, int] = {}
    for line in b"".join(parts).split(b"\n")[:-1]:
        word, _, count = line.partition(b"\t")
        assert word not in counts
        counts[word] = int(count)
    return counts


def counts_in(paths: Sequence[Path]) -> dict[bytes, int]:
    return {
        escape(word): n for word, n in Counter(word for path in paths for word in path.read_bytes().split()).items()
    }


PATTERNS = [
    "to",
    "be",
    "t.*b",
    "^a",
    "o$",
    r"\bbe\b",
    "",
    "x*",
    r"[^a-z]",
    r"\s",
    "(?i)TO BE",
    "e|zzz",
    r"\x00",
    "\\\\",
    "é",
]


class TestGrep:
    @pytest.mark.parametrize("options", [[], ["-v"], ["-i"], ["-F"], ["-i", "-v"]], ids=" ".join)
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_it_finds_the_lines_that_re_finds(
        self, files: list[Path], tmp_path: Path, pattern: str, options: list[str]
    ) -> None:
        raw = pattern.encode("utf-8")
        wanted = re.compile(re.escape(raw) if "-F" in options else raw, re.IGNORECASE if "-i" in options else 0)
        expected = [
            line
            for path in files
            for line, bare in zip(kept_lines(path.read_bytes()), lines_without_end(path.read_bytes()), strict=True)
            if bool(wanted.search(bare)) != ("-v" in options)
        ]
        job = make("grep", [*options, pattern])
        for number, splits in enumerate((packed(files), cut(files, 43))):
            assert b"".join(parts_of(tmp_path / f"job{number}", job, splits)) == b"".join(expected)

    @pytest.mark.parametrize("pattern", ["line 7+$", "(?i)LINE 12", "^$"])
    def test_a_file_large_enough_to_be_mapped(self, tmp_path: Path, pattern: str) -> None:
        path = tmp_path / "large"
        path.write_bytes(b"".join(b"this is line %d\n" % number for number in range(150_000)) + b"the end")
        expected = [line for line in kept_lines(path.read_bytes()) if re.search(pattern.encode(), line[:-1])]
        parts = parts_of(tmp_path / "job", make("grep", [pattern]), cut([path], 1_300_000))
        assert b"".join(parts) == b"".join(expected)

    def test_it_counts_what_it_found(self, files: list[Path], tmp_path: Path) -> None:
        run = SequentialRun(make("grep", ["to"]), tmp_path, files)
        reports = run.maps()
        assert sum(report.counters["lines found"] for report in reports) == 3
        assert sum(part.rows for report in reports for part in report.parts) == 3


class TestLiterals:
    @pytest.mark.parametrize(
        ("pattern", "literal"),
        [
            (b"spin_lock_irqsave\\(&[a-z_]+->lock", b"spin_lock_irqsave(&"),
            (b"^error: [0-9]+", b"error: "),
            (b"(?:abc)+d", b"abc"),
            (b"(ab(cde)?)x", b"ab"),
            (b"ab?c", b"a"),
            (b"one|two", b""),
            (b"[xyz]{3}", b""),
            (b"a\\.b", b"a.b"),
            (b"(?x) a b c # comment", b"abc"),
            (b"", b""),
        ],
    )
    def test_a_literal_is_part_of_every_match(self, pattern: bytes, literal: bytes) -> None:
        assert required_literal(pattern) == (literal, False)

    def test_case_is_folded_where_it_is_ignored(self) -> None:
        assert required_literal(b"(?i)ErRor") == (b"error", True)
        assert required_literal(b"error", re.IGNORECASE) == (b"error", True)
        assert required_literal(b"(?i:ab)cde") == (b"cde", False)
        assert required_literal(b"(?i)1234") == (b"1234", False)
        assert required_literal(b"(?i)\xe9") == (b"", False)

    @pytest.mark.parametrize(
        ("pattern", "stays"),
        [
            (b"[a-z]+.*x", True),
            (b"(ab|cd){2}\\b", True),
            (b"[^\n]x", True),
            (b"[^x]", False),
            (b"\\s", False),
            (b"\\W", False),
            (b"(?s).", False),
            (b"^a", False),
            (b"a$", False),
            (b"(?=a)b", False),
            (b"\n", False),
            (b"(?s:.)a", False),
        ],
    )
    def test_only_patterns_that_cannot_leave_a_line_search_blocks(self, pattern: bytes, stays: bool) -> None:
        assert stays_in_line(pattern) is stays

    @pytest.mark.parametrize("seed", range(30))
    def test_random_patterns_find_the_same_lines_in_every_way(self, seed: int, tmp_path: Path) -> None:
        dice = random.Random(seed)
        atoms = ["a", "b", "ab", ".", "[ab]", "[^a]", "a?", "b*", "(?:ab|c)", "^", "$", r"\b", r"\w", r"\s", r"\r"]
        pattern = "".join(dice.choices(atoms, k=dice.randrange(1, 5)))
        path = tmp_path / "text"
        path.write_bytes(bytes(dice.choices(b"abcd \r\n", k=400)))
        expected = [
            line for line in kept_lines(path.read_bytes()) if re.search(pattern.encode(), lines_without_end(line)[0])
        ]
        assert b"".join(parts_of(tmp_path / "job", make("grep", [pattern]), packed([path]))) == b"".join(expected)


@pytest.mark.parametrize("accelerate", FORMS)
class TestInvertedIndex:
    @pytest.mark.parametrize("splits", [packed, lambda paths: cut(paths, 13), lambda paths: cut(paths, 10**6)])
    def test_each_word_has_the_files_that_hold_it(
        self, files: list[Path], tmp_path: Path, splits: Any, accelerate: bool
    ) -> None:
        parts = parts_of(tmp_path / "job", make("invertedindex"), splits(files), accelerate=accelerate)
        assert index_of(parts) == index_over(files)

    @pytest.mark.parametrize("memory_bytes", [1, 20_000])
    def test_little_memory_changes_nothing(
        self, files: list[Path], tmp_path: Path, memory_bytes: int, accelerate: bool
    ) -> None:
        job = make("invertedindex")
        parts = parts_of(
            tmp_path / "job", job, packed(files), accelerate=accelerate, memory_bytes=memory_bytes, reducers=3
        )
        assert index_of(parts) == index_over(files)

    def test_names_that_need_quotes(self, tmp_path: Path, accelerate: bool) -> None:
        paths = [tmp_path / name for name in ('quo"te.txt', "back\\slash.txt", "größe.txt", "tab\t.txt")]
        for path in paths:
            path.write_bytes(b"word\n")
        parts = parts_of(tmp_path / "job", make("invertedindex"), packed(paths), accelerate=accelerate)
        assert index_of(parts) == {b"word": sorted(map(str, paths))}

    def test_other_formats_get_pairs(self, files: list[Path], tmp_path: Path, accelerate: bool) -> None:
        parts = parts_of(
            tmp_path / "job",
            make("invertedindex"),
            packed(files[1:2]),
            output=OutputFormat("jsonl"),
            accelerate=accelerate,
        )
        rows = [json.loads(line) for part in parts for line in part.splitlines()]
        assert {row["key"] for row in rows} == {"to", "be", "or", "not", "that", "is", "the", "question"}
        assert all(row["value"] == [str(files[1])] for row in rows)


def index_of(parts: list[bytes]) -> dict[bytes, list[str]]:
    index: dict[bytes, list[str]] = {}
    for part in parts:
        words = []
        for line in part.split(b"\n")[:-1]:
            word, _, names = line.partition(b"\t")
            assert word not in index
            index[word] = json.loads(names.replace(b"\\\\", b"\\"))
            words.append(word.replace(b"\\\\", b"\\"))
        assert words == sorted(words)
    return index


def index_over(paths: Sequence[Path]) -> dict[bytes, list[str]]:
    index: dict[bytes, set[str]] = {}
    for path in paths:
        for word in path.read_bytes().split():
            index.setdefault(escape(word), set()).add(str(path))
    return {word: sorted(names) for word, names in index.items()}


class TestSort:
    @pytest.mark.parametrize("splits", [packed, lambda paths: cut(paths, 5)])
    @pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
    def test_lines_come_in_order_of_their_bytes(
        self, files: list[Path], tmp_path: Path, splits: Any, memory_bytes: int
    ) -> None:
        # Splitters as a sample would give them: anything in order will do.
        parts = parts_of(
            tmp_path / "job",
            make("sort"),
            splits(files),
            reducers=3,
            splitters=(b"be", b"m"),
            memory_bytes=memory_bytes,
        )
        lines = [line for content in ODD_FILES for line in kept_lines(content)]
        assert b"".join(parts) == b"\n".join([*sorted(line[:-1] for line in lines), b""])

    def test_the_sample_is_made_of_lines(self, files: list[Path]) -> None:
        job: Any = make("sort")
        sampled = job.sample(open_split(packed(files)[0], InputFormat(encoding="bytes")), 1000)
        lines = {line[:-1] for content in ODD_FILES for line in kept_lines(content)}
        assert {b"", b"to be or not to be", b"to be"} <= set(sampled) <= lines

    def test_tsv_is_written_as_tsv(self, files: list[Path], tmp_path: Path) -> None:
        parts = parts_of(tmp_path / "job", make("sort"), packed(files[1:2]), reducers=1, output=OutputFormat("tsv"))
        assert [line.partition(b"\t")[0] for line in parts[0].splitlines()] == [
            b"that is the question",
            b"to be or not to be",
        ]

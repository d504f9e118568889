"""The referee must be sound before anybody trusts its figures: equality, bars, corpora and measuring, on small inputs.

Each test here is one way in which a benchmark lies: a wrong result that is timed, a bar judged against the slowest
rival, memory counted for the parent alone, a process left behind that nobody saw.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.canonical import as_index, as_is, as_sorted_lines
from benchmarks.contest import Bar, Case, Contender, Series, compare, judge, run_case
from benchmarks.corpora import Corpora, cut, fill, plain
from benchmarks.measure import Run, RunFailed, measure
from benchmarks.packages import CorpusError, require_room
from benchmarks.peers.arguments import read_span, spans
from benchmarks.records import KEY_BYTES, RECORD_BYTES, write_records

ROOT = Path(__file__).resolve().parents[1]


def series(name: str, *walls: float, result: str = "x", peak: int = 1) -> Series:
    return Series(Contender(name, ()), [Run(wall, wall, peak, 0) for wall in walls], result)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_contender_whose_result_differs_has_no_times() -> None:
    contest = [series("onerack", 1.0, result="a"), series("A", 2.0, result="b"), series("B", 3.0, result="b")]
    compare(contest)
    assert "differs" in contest[0].trouble
    assert judge(Bar("", 1.0, ("A", "B")), contest).met is None


def test_of_two_that_differ_neither_has_times() -> None:
    contest = [series("onerack", 1.0, result="a"), series("A", 2.0, result="b")]
    compare(contest)
    assert all("differs" in one.trouble for one in contest)


def test_a_bar_is_judged_against_the_fastest_formulation_by_medians() -> None:
    contest = [
        series("onerack", 3.0, 2.0, 9.0),
        series("Polars a", 4.0),
        series("Polars b", 2.0),
        series("sorted Polars", 1),
    ]
    verdict = judge(Bar("", 1.3, ("Polars",)), contest)
    assert (verdict.figure, verdict.rival, verdict.met) == (1.5, "Polars b", False)


def test_a_figure_without_a_limit_is_neither_met_nor_missed() -> None:
    verdict = judge(Bar("", None, ("A",)), [series("onerack", 3.0), series("A", 1.0)])
    assert (verdict.figure, verdict.met) == (3.0, None)


def test_results_are_equal_whatever_the_order_of_rows_and_files(tmp_path: Path) -> None:
    one = write(tmp_path / "one", **{"part-0": "b\t2\na\t1\n", "_SUCCESS": "{}"})
    two = write(tmp_path / "two", **{"part-0": "a\t1\n", "part-1": "b\t2\n"})
    other = write(tmp_path / "other", **{"part-0": "a\t1\nb\t3\n"})
    assert as_sorted_lines(one, False) == as_sorted_lines(two, False) != as_sorted_lines(other, False)
    assert as_is(one, False) != as_is(two, False)


def test_escapes_of_our_tsv_are_undone_and_nobody_elses(tmp_path: Path) -> None:
    plainly = write(tmp_path / "plainly", part="a\\nb\t1\nc\\\\d\t1\n")
    escaped = write(tmp_path / "escaped", part="a\\\\nb\t1\nc\\\\\\\\d\t1\n")
    assert as_sorted_lines(plainly, False) == as_sorted_lines(escaped, True) != as_sorted_lines(escaped, False)


def test_an_index_as_json_equals_one_with_spaces(tmp_path: Path) -> None:
    spaces = write(tmp_path / "spaces", index='["x",]\t/a /b\ny\t/b\n')
    json = write(tmp_path / "json", index='y\t["/b"]\n["x",]\t["/a", "/b"]\n')
    other = write(tmp_path / "other", index='y\t["/b"]\n["x",]\t["/a"]\n')
    assert as_index(spaces, False) == as_index(json, True) != as_index(other, True)


def test_measuring_sees_children_and_their_memory(tmp_path: Path) -> None:
    hold = "import time; block = bytearray(64 << 20); time.sleep(0.4)"
    run = measure(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"],
        directory=tmp_path,
        environment={},
    )
    assert run.peak_bytes >= 64 << 20
    assert run.wall_s >= 0.4
    assert run.cpu_s > 0


def test_a_failing_command_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no luck"):
        measure([sys.executable, "-c", "raise SystemExit('no luck')"], directory=tmp_path, environment={})


def test_marks_are_relative_to_the_start(tmp_path: Path) -> None:
    program = (
        "import os, time; open(os.environ['BENCH_MARKS'], 'w').write('{\"first_at\": %f, \"rows\": 3}' % time.time())"
    )
    run = measure([sys.executable, "-c", program], directory=tmp_path, environment={})
    assert 0 <= run.marks["first_s"] <= run.wall_s
    assert run.marks["rows"] == 3


def test_rounds_are_interleaved_and_failures_drop_out(tmp_path: Path) -> None:
    order: list[str] = []
    writer = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); (p / 'x').write_text('1\\n')"
    contenders = (
        Contender("A", (sys.executable, "-c", writer, "{output}")),
        Contender("B", (sys.executable, "-c", "raise SystemExit(1)")),
        Contender("C", (), missing="not installed"),
        Contender("D", (sys.executable, "-c", writer, "{output}")),
    )
    case = Case("case", "", (), contenders, (), as_sorted_lines)
    contest = run_case(case, tmp_path, 2, lambda line: order.append(line.split(": ")[1]))
    assert order == ["A", "B", "D", "A", "D"]
    assert [len(one.runs) for one in contest] == [2, 0, 0, 2]


def test_only_documents_on_whose_words_all_agree_enter() -> None:
    assert plain(b"a b") == b"a b\n"
    for refused in (b"a\0b\n", b"a\r\n", b"\xff\n", "a\u2028b\n".encode(), "a\u00a0 b\n".encode(), b"a\x1cb\n"):
        assert plain(refused) == b""


def test_corpora_are_cut_at_line_ends(tmp_path: Path) -> None:
    fill(tmp_path / "text", 10, iter([b"aa\n", b"bb\nccccc\n", b"dd\n"]))
    assert (tmp_path / "text").read_bytes() == b"aa\nbb\n"
    (tmp_path / "text").write_bytes(b"line of twenty bytes\n" * 2000)
    cut(tmp_path / "text", tmp_path / "small", 3)
    pieces = [path.read_bytes() for path in sorted((tmp_path / "small").iterdir())]
    assert b"".join(pieces) == (tmp_path / "text").read_bytes()[: sum(map(len, pieces))]
    assert all(piece.endswith(b"\n") and 5000 <= len(piece) < 5100 for piece in pieces)


def test_records_are_lines_with_distinct_keys(tmp_path: Path) -> None:
    write_records(tmp_path / "records", 1000)
    lines = (tmp_path / "records").read_bytes().splitlines(keepends=True)
    assert {len(line) for line in lines} == {RECORD_BYTES}
    assert len({line[:KEY_BYTES] for line in lines}) == len(lines) == 1000
    assert lines[999].split()[-2:] == [b"000000000999", b"L" * 72]


def test_a_disk_that_is_too_small_is_named_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="--corpora"):
        require_room(tmp_path, 1 << 60, "a test")


def test_a_built_corpus_is_not_built_again(tmp_path: Path) -> None:
    reports: list[str] = []
    corpora = Corpora(tmp_path, reports.append)
    assert corpora.records(1) == corpora.records(1)
    assert len(reports) == 1
    assert corpora.records(1).stat().st_size == 1_000_000


def test_spans_cover_a_file_once(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"".join(b"%d\n" % number for number in range(5000)))
    assert b"".join(map(read_span, spans(text, 1000))) == text.read_bytes()


def test_a_process_left_behind_is_counted_and_ended(tmp_path: Path) -> None:
    # Being a subreaper cannot be undone, so a process of its own tries it.
    daemon = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    program = (
        "import pathlib, sys; from benchmarks import measure as m; m.ORPHAN_GRACE_S = 0.1; m.become_subreaper();"
        f"command = [sys.executable, '-c', {daemon!r}]; folder = pathlib.Path({str(tmp_path)!r});"
        "run = m.measure(command, directory=folder, environment={});"
        "print(run.orphans, m.children_of(m.os.getpid()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "1 []"

"""Planning: what names mean, how files become splits, and what is refused with a clear word."""

from __future__ import annotations

import math
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.errors import InputError, UsageError
from onerack.mapreduce.inputs import plan as planning
from onerack.mapreduce.inputs.listing import Found
from onerack.mapreduce.inputs.plan import Plan, plan
from onerack.mapreduce.messages import Fragment, InputFormat

TEXT = InputFormat()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """in/{a.txt, b/c.txt, b/.hidden, b/_draft.txt, _SUCCESS, _quarantine/records.jsonl, e.txt (empty)}"""
    root = tmp_path / "in"
    for name in ("a.txt", "b/c.txt", "b/.hidden", "b/_draft.txt", "_SUCCESS", "_quarantine/records.jsonl"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "e.txt").touch()
    return root


def names(planned: Plan, root: Path) -> list[str]:
    found = [fragment.path for split in planned.splits for fragment in split.fragments]
    return [os.path.relpath(path, root) for path in found]


def small_plan(*inputs: str | Path, format: InputFormat = TEXT) -> Plan:
    return plan([str(name) for name in inputs], format, split_bytes=1 << 20, slots=1)


def test_a_directory_means_its_files_without_marks(tree: Path) -> None:
    planned = small_plan(tree)
    assert names(planned, tree) == ["a.txt", "b/c.txt"]
    assert planned.files == 3
    assert len(planned.warnings) == 1
    assert "1 files were left out" in planned.warnings[0]
    assert "b/_draft.txt" in planned.warnings[0]


def test_patterns_mean_what_a_shell_means(tree: Path) -> None:
    assert names(small_plan(tree / "*.txt"), tree) == ["a.txt"]
    assert names(small_plan(tree / "*"), tree) == ["a.txt", "b/c.txt"]
    assert names(small_plan(tree / "**" / "*.txt"), tree) == ["a.txt", "b/_draft.txt", "b/c.txt"]
    assert names(small_plan(tree / "**"), tree) == ["a.txt", "b/_draft.txt", "b/c.txt"]
    assert names(small_plan(tree / "[ab].tx?"), tree) == ["a.txt"]


def test_a_name_with_pattern_letters_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("x")
    (tmp_path / "a1.txt").write_text("y")
    assert names(small_plan(tmp_path / "a[1].txt"), tmp_path) == ["a[1].txt"]


def test_a_name_with_colons_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "File::Spec.3pm").write_text("perl")
    monkeypatch.chdir(tmp_path)
    for name in ("File::Spec.3pm", tmp_path / "File::Spec.3pm", tmp_path, "File*"):
        assert names(small_plan(name), tmp_path) == ["File::Spec.3pm"]


def test_a_tilde_is_the_home_directory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert names(small_plan("~/b/c*"), tree) == ["b/c.txt"]


def test_a_name_that_no_message_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    for name in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(InputError, match="not valid UTF-8; rename it"):
            small_plan(name)


def test_a_file_named_twice_is_read_once_and_order_is_by_path(tree: Path) -> None:
    assert names(small_plan(tree / "b", tree / "a.txt", tree / "*.txt", f"file://{tree}/a.txt"), tree) == [
        "a.txt",
        "b/c.txt",
    ]


def test_relative_names_become_absolute(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert small_plan("a.txt").splits[0].fragments == (Fragment(str(tree / "a.txt"), 0, 5),)


def test_links(tree: Path, tmp_path: Path) -> None:
    (tree / "b" / "link.txt").symlink_to(tree / "a.txt")
    (tree / "b" / "round").symlink_to(tree)
    assert names(small_plan(tree), tree) == ["a.txt", "b/c.txt", "b/link.txt"]
    (tree / "b" / "dangling").symlink_to(tree / "none")
    with pytest.raises(InputError, match="dangling: is a link to nothing"):
        small_plan(tree)


def test_what_is_missing_is_named(tree: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.txt: no such file or directory"):
        small_plan(tree / "nothing.txt")
    with pytest.raises(InputError, match=r"\*\.csv: no file matches this pattern"):
        small_plan(tree / "*.csv")
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match="empty: is a directory without input files"):
        small_plan(tree / "empty")
    with pytest.raises(InputError, match="an empty name is no input"):
        small_plan("")


def test_what_cannot_be_read_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(InputError, match="pipe: is no regular file"):
        small_plan(tree)
    (tree / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tree)
        server.bind("door")
        with pytest.raises(InputError, match="door: is no regular file"):
            small_plan(tree / "door")
    (tree / "door").unlink()
    # Root may read everything, so the answer of the system is given here.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("c.txt"))
    with pytest.raises(InputError, match=r"c\.txt: permission denied"):
        small_plan(tree)


@given(
    sizes=st.lists(st.integers(0, 1000), max_size=30),
    split_bytes=st.integers(1, 300),
    slots=st.integers(1, 5),
    compressed=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_splits_cover_every_byte_once_in_order(
    sizes: list[int], split_bytes: int, slots: int, compressed: bool
) -> None:
    files = [Found(f"/in/{i:02d}.txt{'.gz' if compressed else ''}", size) for i, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "list_files", lambda inputs: planning_listing(files))
        patch.setattr(planning, "_CUT_BYTES_MIN", 8)
        planned = plan(["in"], TEXT, split_bytes=split_bytes, slots=slots)
    assert [split.index for split in planned.splits] == list(range(len(planned.splits)))
    position = dict.fromkeys([file.path for file in files], 0)
    seen = [fragment for split in planned.splits for fragment in split.fragments]
    for fragment in seen:
        assert fragment.start == position[fragment.path]
        assert fragment.length > 0
        position[fragment.path] += fragment.length
        assert compressed or fragment.length <= split_bytes
    assert position == {file.path: file.size for file in files}
    assert [fragment.path for fragment in seen] == sorted(fragment.path for fragment in seen)
    total = sum(sizes)
    assert planned.total_bytes == total
    for split in planned.splits:
        assert len(split.fragments) == 1 or split.size_bytes <= min(split_bytes, math.ceil(total / (4 * slots)))


def planning_listing(files: list[Found]) -> object:
    from onerack.mapreduce.inputs.listing import Listing

    return Listing(files, [])


def test_all_slots_get_work_from_one_middling_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(50 << 20)
    assert len(plan([str(path)], TEXT, split_bytes=64 << 20, slots=2).splits) == 8
    assert len(plan([str(path)], TEXT, split_bytes=1 << 20, slots=2).splits) == 50
    assert len(plan([str(path)], TEXT, split_bytes=64 << 20, slots=500).splits) == 50


def test_what_cannot_be_cut_is_warned_of(tmp_path: Path) -> None:
    def warned(name: str, format: InputFormat) -> str:
        path = tmp_path / name
        path.write_bytes(b"x" * 100)
        planned = plan([str(path)], format, split_bytes=10, slots=1)
        assert len(planned.splits) == 1
        assert str(path) in planned.warnings[0]
        return planned.warnings[0]

    assert "gzip files cannot be cut" in warned("a.txt.gz", TEXT)
    assert "xz files cannot be cut" in warned("a.txt", InputFormat(compression="xz"))
    assert "utf-16 cannot be cut" in warned("b.txt", InputFormat(encoding="utf-16"))
    assert "newlines_in_values" in warned("c.csv", InputFormat("csv"))
    path = tmp_path / "d.csv"
    path.write_bytes(b"x" * 100)
    cut = plan([str(path)], InputFormat("csv", options={"newlines_in_values": False}), split_bytes=10, slots=1)
    assert (len(cut.splits), cut.warnings) == (1, ()) or len(cut.splits) == 10
    assert plan([str(path)], InputFormat("file"), split_bytes=10, slots=1).warnings == ()


def test_formats_that_make_no_sense_are_refused(tree: Path) -> None:
    for format, message in [
        (InputFormat("fixed"), "needs record_bytes"),
        (InputFormat(encoding="klingon"), "klingon"),
        (InputFormat("csv", options={"sep": ","}), "no option 'sep'"),
        (InputFormat("parquet", options={"columns": {1: 2}}), "options that no format takes"),  # type: ignore[dict-item]
    ]:
        with pytest.raises(UsageError, match=message):
            small_plan(tree, format=format)
    with pytest.raises(UsageError, match="split_bytes=0"):
        plan([str(tree)], TEXT, split_bytes=0, slots=1)


def test_many_small_files_are_planned_at_once(tmp_path: Path) -> None:
    """No bound on wall time, which is the machine's; CPU time of 1,000 files, tenfold what it takes."""
    for folder in range(10):
        (tmp_path / f"{folder}").mkdir()
        for number in range(100):
            (tmp_path / f"{folder}" / f"{number}").write_bytes(b"x\n")
    before = time.process_time()
    planned = plan([str(tmp_path)], TEXT, split_bytes=64 << 20, slots=2)
    assert time.process_time() - before < 0.3
    assert planned.files == 1000
    assert 8 <= len(planned.splits) <= 9

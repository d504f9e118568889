"""Where compiled kernels are kept: beside the source, else in the user's cache, else nowhere; by many at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onerack.mapreduce.kernels import available

pytestmark = pytest.mark.skipif(not available(), reason="numba is not installed")

KERNEL = """
from numba import types
from onerack.mapreduce.kernels.compiled import compiled

@compiled(types.int64(types.int64))
def twice(number):
    return 2 * number

print(twice(21))
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A small kernel in a folder of its own, and a home of its own."""
    (tmp_path / "package").mkdir()
    path = tmp_path / "package" / "kernel.py"
    path.write_text(KERNEL)
    return path


def start(kernel: Path, home: Path) -> subprocess.Popen[str]:
    """Imports the kernel in another process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(kernel.parent)!r}); import kernel"],
        env={**environment, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def cached(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.rglob("*.nb?"))


def test_two_processes_may_compile_at_once(kernel: Path, tmp_path: Path) -> None:
    for _ in range(2):  # The second time both find it compiled.
        processes = [start(kernel, tmp_path / "home") for _ in range(2)]
        assert [process.communicate()[0] for process in processes] == ["42\n", "42\n"]
        assert cached(kernel.parent) == [".nbc", ".nbi"]


def test_a_folder_that_cannot_be_written_leaves_the_users_cache(kernel: Path, tmp_path: Path) -> None:
    # A file in the cache's place refuses even root, whom permissions would not stop.
    (kernel.parent / "__pycache__").write_text("")
    assert start(kernel, tmp_path / "home").communicate()[0] == "42\n"
    assert cached(tmp_path / "home") == [".nbc", ".nbi"]


def test_without_any_place_it_is_compiled_all_the_same(kernel: Path, tmp_path: Path) -> None:
    (kernel.parent / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    assert start(kernel, tmp_path / "home").communicate()[0] == "42\n"
    assert cached(tmp_path) == []

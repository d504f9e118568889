"""Debian packages as a source of real data: fetch one by its name, unpack it into the cache, never install it.

The idea: everybody with a Debian machine can build the same corpora without our hosting a byte, because text worth
counting (kernel sources, dictionaries, manuals) already lies in the archive. The rule: a folder that exists is
complete. Unpacking goes to a temporary name first, so an interrupted run leaves nothing that looks finished.

Source: notes on real data from Debian packages; the exact versions are kept in each folder's `VERSION`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


class CorpusError(Exception):
    """A corpus cannot be built here; the message says what the user can do."""


def require_room(directory: Path, size_bytes: int, purpose: str) -> None:
    """Raises `CorpusError` unless the disk of `directory` has `size_bytes` and a tenth more."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    needed = size_bytes + size_bytes // 10
    if free < needed:
        raise CorpusError(
            f"{purpose} needs {needed / 1e9:.1f} GB in {directory}, which has {free / 1e9:.1f} GB free: "
            "free some space or name another disk with --corpora DIR"
        )


def run_tool(arguments: list[str], directory: Path, remedy: str) -> None:
    """Runs one tool in `directory`; on failure the message carries the tool's last words and `remedy`."""
    if shutil.which(arguments[0]) is None:
        raise CorpusError(f"{arguments[0]} is not installed, and corpora are built from Debian packages: {remedy}")
    done = subprocess.run(arguments, cwd=directory, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise CorpusError(f"`{' '.join(arguments)}` failed: {words[-1]} ({remedy})")


def unpacked(package: str, cache: Path) -> Path:
    """The folder with the package's files; downloads and unpacks it when it is not there yet."""
    folder = cache / "packages" / package
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{package}.") as name:
        scratch = Path(name)
        # As root apt-get would drop to the user _apt, who may not write here; the option keeps it quiet about that.
        download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
        run_tool(download, scratch, "run `apt-get update` first, or copy a built corpora folder from another machine")
        archives = sorted(scratch.glob("*.deb"))
        if len(archives) != 1:
            raise CorpusError(f"apt-get download {package} left {len(archives)} archives, expected 1")
        tree = scratch / "tree"
        tree.mkdir()
        run_tool(["dpkg-deb", "-x", str(archives[0]), str(tree)], scratch, "install dpkg")
        (tree / "VERSION").write_text(archives[0].name + "\n")
        tree.rename(folder)
    return folder

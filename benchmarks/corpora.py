"""The corpora: real text from Debian packages, cut to the sizes that the figures are stated for.

The idea: a corpus is a file (or folder) with a name and a size, built once into a cache outside git and found there
ever after. Order is by crc32 of each document's path, so that every stretch of the file mixes drivers, headers and
manuals, and the same package version gives the same bytes.

The rule: every engine must mean the same by "word" and "line", or no equality can be checked. So only documents
enter whose words are the same for `bytes.split` and `str.split`, without NUL and without carriage returns; that
drops about one document in a hundred, none of them prose.

MB is 10^6 bytes here, as in the issue; 500 MB is then just under fifteen splits of 32 MiB.
"""

from __future__ import annotations

import gzip
import html
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.packages import CorpusError, require_room, run_tool, unpacked
from benchmarks.records import write_records

MB = 1_000_000
SOURCE_SUFFIXES = frozenset({".c", ".h", ".s", ".rst", ".txt", ".dts", ".dtsi", ".yaml", ".sh", ".py", ".html"})
PROSE_PACKAGES = ("dict-gcide", "dict-wn", "dict-foldoc", "dict-jargon", "dict-devil", "perl-doc", "postgresql-doc-15")
DOCUMENTS = 27_000
SMALL_FILES = 20_000
SMALL_FILE_BYTES = 5_000
EXOTIC_BLANK = re.compile(r"[^\S \t\n\x0b\x0c]")


class Corpora:
    """All inputs of the benchmarks under one folder; each method returns a path and builds it when it is missing."""

    def __init__(self, directory: Path, report: Callable[[str], None] = print) -> None:
        self.directory = directory.resolve()
        self.report = report

    def source(self, megabytes: int) -> Path:
        """C sources and kernel documentation, one file: many distinct words, no repetition."""
        return self._file(f"source-{megabytes}mb.txt", megabytes * MB, lambda: self._source_documents())

    def prose(self, megabytes: int) -> Path:
        """Dictionaries and manuals in English, one file. There are 86 MB of it; beyond that it repeats."""
        return self._file(f"prose-{megabytes}mb.txt", megabytes * MB, lambda: repeated(self._prose_documents()))

    def source_repeated(self, times: int, megabytes: int) -> Path:
        """The source text several times over, one file: grep's input."""
        path = self.directory / f"source-{megabytes}mb-x{times}.txt"
        once = self.source(megabytes)
        size = once.stat().st_size * times

        def build(target: Path) -> None:
            with target.open("wb") as file:
                for _ in range(times):
                    with once.open("rb") as part:
                        shutil.copyfileobj(part, file, 1 << 20)

        return self._built(path, size, build)

    def records(self, megabytes: int) -> Path:
        """Sort input: records of 100 bytes with a key of 10, one text line each."""
        path = self.directory / f"records-{megabytes}mb.txt"
        return self._built(path, megabytes * MB, lambda target: write_records(target, megabytes * MB // 100))

    def documents(self, megabytes: int) -> Path:
        """A folder of separate documents: 27,000 for 200 MB, fewer in proportion for less."""
        count = DOCUMENTS * megabytes // 200

        def build(target: Path) -> None:
            # Kernel files average 16 KB: long ones are left out, more strictly the less room is left for the others.
            budget = megabytes * MB
            chosen: list[bytes] = []
            for document in self._source_documents():
                if len(chosen) == count:
                    break
                if len(document) <= 6 * (budget // (count - len(chosen))):
                    chosen.append(document)
                    budget -= len(document)
            target.mkdir()
            for number, document in enumerate(chosen):
                (target / f"{number:05d}.txt").write_bytes(document)

        return self._built(self.directory / f"documents-{megabytes}mb", megabytes * MB, build)

    def small_files(self, count: int = SMALL_FILES) -> tuple[Path, Path]:
        """A folder of `count` files of about 5 KB, and one file with the same bytes."""
        megabytes = max(50, count * SMALL_FILE_BYTES * 11 // 10 // MB)
        text = self._file(f"source-{megabytes}mb.txt", megabytes * MB, lambda: self._source_documents())
        folder = self.directory / f"small-{count}"
        size = count * SMALL_FILE_BYTES
        return self._built(folder, size, lambda target: cut(text, target, count)), self._joined(folder, size)

    def _joined(self, folder: Path, size: int) -> Path:
        def build(target: Path) -> None:
            with target.open("wb") as file:
                for piece in sorted(folder.iterdir()):
                    file.write(piece.read_bytes())

        return self._built(folder.with_name(folder.name + "-joined.txt"), size, build)

    def _file(self, name: str, size: int, documents: Callable[[], Iterable[bytes]]) -> Path:
        return self._built(self.directory / name, size, lambda target: fill(target, size, documents()))

    def _built(self, path: Path, size: int, build: Callable[[Path], None]) -> Path:
        """`path`, built under a temporary name first; a finished one is trusted, so building twice costs nothing."""
        if path.exists():
            return path
        require_room(self.directory, size, f"the corpus {path.name}")
        self.report(f"building {path.name} ({size / MB:.0f} MB)")
        unfinished = path.with_name(f".{path.name}.unfinished")
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        build(unfinished)
        written = size_of(unfinished)
        if not 0.97 * size <= written <= 1.03 * size:
            raise CorpusError(
                f"{path.name} came out as {written / MB:.1f} MB, expected {size / MB:.0f}: have the packages changed?"
            )
        unfinished.rename(path)
        return path

    def _source_documents(self) -> Iterator[bytes]:
        tree = self._kernel_tree()
        manual = unpacked("linux-doc-6.1", self.directory)
        paths = [path for root in (tree, manual) for path in root.rglob("*") if path.suffix.lower() in SOURCE_SUFFIXES]
        for path in sorted(paths, key=lambda path: mixed(path.relative_to(self.directory))):
            if path.is_file() and not path.is_symlink() and (text := plain(path.read_bytes())):
                yield text

    def _kernel_tree(self) -> Path:
        tree = self.directory / "packages" / "linux-tree"
        if not tree.is_dir():
            package = unpacked("linux-source-6.1", self.directory)
            require_room(self.directory, 1_500 * MB, "the unpacked kernel source")
            unfinished = tree.with_name(".linux-tree.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            archive = next((package / "usr" / "src").glob("linux-source-*.tar.xz"))
            run_tool(["tar", "-xJf", str(archive)], unfinished, "install tar and xz-utils")
            unfinished.rename(tree)
        return tree

    def _prose_documents(self) -> Iterator[bytes]:
        for package in PROSE_PACKAGES:
            for path in sorted(unpacked(package, self.directory).rglob("*")):
                if path.is_file() and not path.is_symlink() and (text := prose_of(path)):
                    yield text


def mixed(path: Path) -> tuple[int, str]:
    """A sort key that scatters neighbours: same bytes on every machine with the same packages."""
    return zlib.crc32(str(path).encode("utf-8", "replace")), str(path)


def plain(document: bytes) -> bytes:
    """The document with a line end at its end, or nothing when engines would not agree on its words."""
    if b"\0" in document or b"\r" in document:
        return b""
    try:
        text = document.decode()
    except UnicodeDecodeError:
        return b""
    # What only `str` takes for white space: the no-break space above all, which kernel manuals draw trees with.
    if EXOTIC_BLANK.search(text):
        return b""
    return document if document.endswith(b"\n") else document + b"\n"


def prose_of(path: Path) -> bytes:
    """Readable English of one packaged file: a dictionary, a manual page in POD, or HTML without its tags."""
    if path.name.endswith(".dict.dz"):
        # A dictzip file is an ordinary gzip file with an index in its header.
        return plain_utf8(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
    if path.suffix == ".pod":
        return plain_utf8(path.read_text(errors="replace"))
    if path.suffix == ".html":
        return plain_utf8(html.unescape(re.sub(r"<[^>]*>", " ", path.read_text(errors="replace"))))
    return b""


def plain_utf8(text: str) -> bytes:
    """Text whose only white space is ASCII's, so that every engine splits it alike."""
    return plain(re.sub(r"[^\S\n]+", " ", text).encode())


def repeated(documents: Iterable[bytes]) -> Iterator[bytes]:
    kept = list(documents)
    if not kept:
        raise CorpusError("no prose was found in the packages: have their contents changed?")
    while True:
        yield from kept


def fill(target: Path, size: int, documents: Iterable[bytes]) -> None:
    """Writes documents until `size` is reached; the last one is cut at a line end."""
    room = size
    with target.open("wb") as file:
        for document in documents:
            if len(document) > room:
                file.write(document[: document.rfind(b"\n", 0, room) + 1])
                return
            file.write(document)
            room -= len(document)


def cut(text: Path, folder: Path, count: int) -> None:
    """The beginning of `text` as `count` files of about 5 KB, each ending with a whole line."""
    folder.mkdir()
    with text.open("rb") as file:
        for number in range(count):
            block = file.read(SMALL_FILE_BYTES)
            block += file.readline()
            # What a long last line took too much, the next file has less; so the total stays near count x 5 KB.
            (folder / f"{number:05d}.txt").write_bytes(block)


def size_of(path: Path) -> int:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size


def write_lines(path: Path, count: int) -> Path:
    """`count` numbered lines of the same length."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"line-{number:06d}\n" for number in range(count)))
    return path

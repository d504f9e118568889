"""grep PATTERN: the lines in which a regular expression is found, as they are, in the order of the input.

The idea: no line is cut out unless it may match. When every match must contain a fixed string (literals.py), blocks
are scanned for it, and only the lines around hits meet the regular expression; else the expression itself searches
the block, if it cannot stray over the end of a line; else every line is tried.

The rule: a line matches if the expression (Python's `re`, on bytes) is found in the line without its line end
(newline, or CR and newline). Each way of searching gives the same lines; a line that lacks its newline gets one.

Source: Dean & Ghemawat, OSDI 2004, sections 2.3 and 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import BuiltinJob, Out, Reader, text_blocks
from onerack.mapreduce.jobs.literals import required_literal, stays_in_line
from onerack.mapreduce.kernels.finding import NextHit, hits_in

_BLOCK_BYTES = 1 << 19
"""So much is searched at once: it stays in the cache."""
_OPTIONS = {"-i": "ignore the case of ASCII letters", "-v": "the lines that do not match", "-F": "a fixed string"}

Stretches = Iterator[tuple[int, int]]
"""(start, end) of whole lines, `end` behind the last newline, in order."""


class Grep(BuiltinJob):
    """The matching lines."""

    usage: ClassVar[str] = "onerack run grep PATTERN INPUT... --out DIR [-i] [-v] [-F]"
    arguments_count: ClassVar[int] = 1
    writes: ClassVar[str] = "text"
    uses_kernels = False
    encoding = "bytes"
    output_format = "text"
    reducers = 0
    counters = ("lines found",)

    def __init__(self, *arguments: str) -> None:
        options = arguments[:-1]
        super().__init__(*arguments[-1:])
        self.arguments = arguments
        unknown = [option for option in options if option not in _OPTIONS]
        if unknown:
            known = ", ".join(f"{option} ({meaning})" for option, meaning in _OPTIONS.items())
            raise self.misused(f"does not know {' '.join(unknown)}; options are {known}")
        self._inverted = "-v" in options
        text = arguments[-1].encode("utf-8", "surrogateescape")
        pattern = re.escape(text) if "-F" in options else text
        flags = re.IGNORECASE if "-i" in options else 0
        try:
            self._expression = re.compile(pattern, flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise self.misused(f"cannot use the pattern {arguments[-1]!r}: {error}") from None
        self._literal = required_literal(pattern, flags)
        self._is_literal = self._literal == (text, False) and not {*b"\r\n"} & {*text}
        self._is_local = stays_in_line(pattern, flags)

    def map(self, key: Any, line: bytes) -> Iterator[tuple[None, bytes]]:
        if bool(self._expression.search(line)) != self._inverted:
            yield None, line

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """The same as `map`, for a whole split."""
        for block in text_blocks(reader, context, _BLOCK_BYTES, count=False):
            rows = self._write_matching(_content(block.data), len(block.data), out)
            context.count("lines found", rows)

    def _write_matching(self, data: bytes, size: int, out: Out) -> int:
        """Writes the matching lines of a block, the first `size` bytes; returns how many they are."""
        matching = self._matching(data, size)
        found = [data[start:end] for start, end in (_gaps(size, matching) if self._inverted else matching)]
        if not found:
            return 0
        rows = sum(map(_count_lines, found)) if self._inverted else len(found)
        if not found[-1].endswith(b"\n"):
            found[-1] += b"\n"
        out.write_raw(b"".join(found), rows)
        return rows

    def _matching(self, data: bytes, size: int) -> Stretches:
        """The lines in which the expression is found, one by one."""
        if self._literal.string:
            searched = data.lower() if self._literal.folded else data
            return self._checked(data, size, hits_in(searched, size, self._literal.string))
        if self._is_local:
            search = self._expression.search
            return self._checked(data, size, lambda position: _start(search(data, position, size)))
        return self._each(data[:size])

    def _checked(self, data: bytes, size: int, next_hit: NextHit) -> Stretches:
        """The lines around hits, those in which the expression is found."""
        search = None if self._is_literal else self._expression.search
        hit = next_hit(0)
        while hit >= 0:
            start = data.rfind(b"\n", 0, hit) + 1
            end = data.find(b"\n", hit, size) + 1 or size
            if search is None or search(_without_end(data[start:end])):
                yield start, end
            hit = next_hit(end) if end < size else -1

    def _each(self, data: bytes) -> Stretches:
        """Every line, tried."""
        search = self._expression.search
        start = 0
        for line in _split_lines(data):
            end = start + len(line)
            if search(_without_end(line)):
                yield start, end
            start = end


def _content(data: bytes | memoryview) -> bytes:
    """The `bytes` behind a block, whose `find` is the fast one. A block that was read is the beginning of them."""
    return data.obj if isinstance(data, memoryview) and isinstance(data.obj, bytes) else bytes(data)


def _start(match: re.Match[bytes] | None) -> int:
    return -1 if match is None else match.start()


def _without_end(line: bytes) -> bytes:
    """The line without newline, or CR and newline."""
    if not line.endswith(b"\n"):
        return line
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def _split_lines(data: bytes) -> list[bytes]:
    """The lines with their newlines. (`bytes.splitlines` also splits at a lone CR.)"""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _gaps(size: int, matching: Stretches) -> Stretches:
    """What lies between the matching lines of a block."""
    position = 0
    for start, end in matching:
        if position < start:
            yield position, start
        position = end
    if position < size:
        yield position, size

"""The list of files in ARCHITECTURE.md, read off the files' own opening lines: `make docs` writes it anew.

The idea: a list that people keep by hand is wrong within a week, and every file opens by saying what it is anyway.
The rule: all that stands between the two markers is ours; the words around them belong to people.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "onerack"
DOCUMENT = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- written by `make docs` from the opening line of each file -->"
END = "<!-- so far -->"


def opening_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")


def file_list(source: Path) -> str:
    """One table for each folder, the folder's own words above it."""
    return "\n".join(_lines(source)) + "\n"


def _lines(source: Path) -> Iterator[str]:
    paths = sorted(source.rglob("*.py"), key=lambda path: (path.parent.parts, path.name))
    for folder, found in groupby(paths, key=lambda path: path.parent):
        files = {path.stem: opening_line(path) for path in found}
        yield f"\n### `{(folder.relative_to(source.parent)).as_posix()}/`\n\n{files.pop('__init__', '')}.\n"
        if files:
            yield "| file | what it is |\n|---|---|"
            yield from (f"| `{name}` | {words} |" for name, words in files.items())


def with_list(document: str, listed: str) -> str:
    """The document with `listed` between the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document lacks the markers {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{listed}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_list(DOCUMENT.read_text(encoding="utf-8"), file_list(SOURCE)), encoding="utf-8")

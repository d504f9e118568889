"""The house rules, held by a machine: floors, purity, opening docstrings, no import cycles, no long functions.

The idea: of all questions of style only a few decide whether the whole stays a whole, and a reader cannot see them
in one file. So they are read off the syntax trees of `src/onerack`:

    floors       imports go down only, and never sideways to another system of the same floor; a system's room
                 `testing` stands on the top floor, above `sim`
    purity       `messages`, `core`, `invariants` and the seam have no clock, socket, file, thread or dice; what
                 they may import is an allow list, so that a module nobody thought of is refused too
    order        a pure room never asks `id()` or `hash()`, and never iterates over a set that it has just made
    docstring    every file opens by saying what it is
    cycles       no two modules of a package import each other, however long the way round
    length       no function is longer than one can read at once

The rule for this file: each check has a test below that plants the violation and sees it caught; a check that
catches nothing is worse than none.
"""

from __future__ import annotations

import ast
import functools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "onerack"
CORPORA = ROOT / "benchmarks" / "corpora"
"""What the benchmarks unpack there is other people's text."""

FLOORS: list[set[str]] = [
    {"errors"},
    {"config"},
    {"codec"},
    {"runtime"},
    {"rpc"},
    {"raft"},
    {"kv", "gfs"},
    {"mapreduce", "ft"},
    {"cluster"},
    {"sim"},
    {"cli", "web"},
]
"""From the ground up. The ground floor is three steps: errors, the limits that raise them, the frames in limits."""

TESTING_ROOM = "testing"
"""What users test their own code with: it puts a system into the simulator, so it stands above it."""

PURE_ROOMS = {"messages", "core", "invariants"}
PURE_FILES = {"onerack.errors", "onerack.config", "onerack.runtime.seam"}
PURE_MODULES = {
    "__future__", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "errno", "fractions",
    "functools", "heapq", "itertools", "math", "operator", "re", "statistics", "string", "struct", "types", "typing",
    "zlib", "hashlib", "msgspec", "typing_extensions", "sortedcontainers", "google",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "input", "print", "breakpoint", "__import__", "eval", "exec", "compile"}
UNSTABLE_BUILTINS = {"id", "hash"}
SET_READERS = {"list", "tuple", "iter", "enumerate", "next", "zip", "map", "filter"}
FUNCTION_LINES_MAX = 64


class Imported(NamedTuple):
    """One imported module: `import a.b` and `from a import b` both give a.b when that is a module."""

    module: str
    names: tuple[str, ...]
    line: int


class Module(NamedTuple):
    """One source file, parsed."""

    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """`onerack.mapreduce.core.tasks` is in the room `core`; a file of the ground floor has none."""
        steps = self.name.split(".")
        return steps[2] if len(steps) > 2 else ""

    @property
    def is_testing(self) -> bool:
        return self.room == TESTING_ROOM

    @property
    def is_pure(self) -> bool:
        return self.room in PURE_ROOMS or self.name in PURE_FILES


def parse(name: str, source: str) -> Module:
    return Module(name, ast.parse(textwrap.dedent(source)))


@functools.cache
def modules_under(folder: Path, package: str) -> dict[str, Module]:
    """All modules of a folder by dotted name; a package goes by its own name, without `__init__`."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        if CORPORA in path.parents:
            continue
        steps = [package, *path.relative_to(folder).with_suffix("").parts]
        name = ".".join(steps[:-1] if steps[-1] == "__init__" else steps)
        found[name] = parse(name, path.read_text(encoding="utf-8"))
    return found


def imports_of(module: Module, known: set[str]) -> Iterator[Imported]:
    """Every import of a module, also those inside functions and under TYPE_CHECKING, relative ones resolved."""
    is_package = any(name.startswith(module.name + ".") for name in known)
    package = module.name if is_package else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            names = tuple(alias.name for alias in node.names)
            submodules = [f"{base}.{name}" for name in names if f"{base}.{name}" in known]
            for submodule in submodules:
                yield Imported(submodule, (), node.lineno)
            if len(submodules) < len(names):
                yield Imported(base, names, node.lineno)


def floor_of(name: str) -> int | None:
    """The floor a module stands on; None for the package `onerack` itself, which holds only the version."""
    steps = name.split(".")
    if len(steps) < 2 or steps[1] == "__init__":
        return None
    for height, systems in enumerate(FLOORS):
        if steps[1] in systems:
            return len(FLOORS) - 1 if steps[2:3] == [TESTING_ROOM] else height
    raise AssertionError(f"{name}: the system {steps[1]!r} stands on no floor; add it to FLOORS in {__file__}")


# ---------------------------------------------------------------------------------------------- the checks


def floor_violations(module: Module, known: set[str]) -> Iterator[str]:
    own_floor = floor_of(module.name)
    for imported in imports_of(module, known):
        if not imported.module.startswith("onerack.") or own_floor is None:
            continue
        floor = floor_of(imported.module)
        assert floor is not None
        system = imported.module.split(".")[1]
        same_system = system == module.name.split(".")[1]
        if floor > own_floor:
            yield f"{module.name}:{imported.line} imports upward: {imported.module}"
        elif floor == own_floor and not same_system:
            yield f"{module.name}:{imported.line} imports sideways: {imported.module}"


def purity_violations(module: Module, known: set[str]) -> Iterator[str]:
    if not module.is_pure:
        return
    for imported in imports_of(module, known):
        if not _may_be_imported_by_pure_room(imported):
            yield f"{module.name}:{imported.line} is a pure room and imports {imported.module}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in IMPURE_BUILTINS:
                yield f"{module.name}:{node.lineno} is a pure room and uses {node.id}()"
            elif node.id in UNSTABLE_BUILTINS:
                yield f"{module.name}:{node.lineno} uses {node.id}(), which differs from process to process"
        elif _iterates_over_set(node):
            yield f"{module.name}:{getattr(node, 'lineno', 0)} iterates over a set without sorted()"


def _may_be_imported_by_pure_room(imported: Imported) -> bool:
    if imported.module == "random":
        return imported.names == ("Random",)  # the type; a seeded one is given at construction
    if not imported.module.startswith("onerack"):
        return imported.module.split(".")[0] in PURE_MODULES
    return imported.module in PURE_FILES or parse(imported.module, "").room in PURE_ROOMS


def _iterates_over_set(node: ast.AST) -> bool:
    if isinstance(node, ast.For | ast.comprehension):
        return _is_set(node.iter)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SET_READERS:
        return any(_is_set(argument) for argument in node.args)
    return isinstance(node, ast.Starred) and _is_set(node.value)


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left) or _is_set(node.right)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}


def docstring_violations(module: Module) -> Iterator[str]:
    docstring = ast.get_docstring(module.tree) or ""
    if len(docstring.split()) < 3:
        yield f"{module.name} does not open by saying what it is (a docstring)"


def length_violations(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{module.name}:{node.lineno} {node.name}() has {lines} lines; at most {FUNCTION_LINES_MAX}"


def cycles(modules: dict[str, Module]) -> list[list[str]]:
    """Every import cycle, as the modules on it (strongly connected components by Tarjan, 1972)."""
    known = set(modules)
    graph = {
        name: sorted({imported.module for imported in imports_of(module, known)} & known)
        for name, module in modules.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1 or name in graph[name]:
                found.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    return found


# ---------------------------------------------------------------------------------------------- the house is tidy

MODULES = modules_under(SOURCE, "onerack")
KNOWN = set(MODULES)


def test_the_checks_see_the_whole_house() -> None:
    assert {"onerack.errors", "onerack.runtime.seam", "onerack.mapreduce.core.master", "onerack.cli.main"} <= KNOWN
    for room in sorted(PURE_ROOMS):
        assert any(module.room == room for module in MODULES.values()), f"no file is in a pure room {room}"


def test_imports_go_down_only() -> None:
    assert [complaint for module in MODULES.values() for complaint in floor_violations(module, KNOWN)] == []


def test_pure_rooms_are_pure() -> None:
    assert [complaint for module in MODULES.values() for complaint in purity_violations(module, KNOWN)] == []


@pytest.mark.parametrize("folder", ["src", "tests", "examples", "benchmarks"])
def test_every_file_opens_with_a_docstring(folder: str) -> None:
    modules = modules_under(ROOT / folder, folder)
    assert [complaint for module in modules.values() for complaint in docstring_violations(module)] == []


def test_no_import_cycle() -> None:
    assert cycles(MODULES) == []


@pytest.mark.parametrize("folder", ["src", "tests", "examples", "benchmarks"])
def test_no_function_is_too_long_to_read_at_once(folder: str) -> None:
    modules = modules_under(ROOT / folder, folder)
    assert [complaint for module in modules.values() for complaint in length_violations(module)] == []


# ---------------------------------------------------------------------------------------------- the checks bite

PLANTED_KNOWN = {
    "onerack", "onerack.errors", "onerack.config", "onerack.runtime", "onerack.runtime.seam", "onerack.runtime.host",
    "onerack.kv", "onerack.kv.core", "onerack.kv.client", "onerack.gfs", "onerack.gfs.core", "onerack.gfs.core.lease",
    "onerack.gfs.client", "onerack.mapreduce", "onerack.mapreduce.client", "onerack.cli", "onerack.sim",
    "onerack.gfs.testing", "onerack.gfs.testing.decorator", "onerack.kv.testing",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("onerack.kv.core", "from onerack.mapreduce import client", "upward: onerack.mapreduce.client"),
        ("onerack.kv.core", "import onerack.gfs.core", "sideways: onerack.gfs.core"),
        ("onerack.kv.core", "from ..gfs import core", "sideways: onerack.gfs.core"),
        ("onerack.kv.core", "def f():\n    from onerack.cli import main", "upward: onerack.cli"),
        ("onerack.runtime.host", "import onerack.kv.client as c", "upward: onerack.kv.client"),
        ("onerack.errors", "from onerack.config import MIB", "upward: onerack.config"),
        ("onerack.sim", "import onerack.cli", "upward: onerack.cli"),
        ("onerack.gfs.client", "import onerack.sim", "upward: onerack.sim"),
        ("onerack.gfs.client", "from onerack.gfs import testing", "upward: onerack.gfs.testing"),
        ("onerack.gfs", "from onerack.gfs.testing.decorator import f", "upward: onerack.gfs.testing.decorator"),
        ("onerack.mapreduce.client", "import onerack.gfs.testing", "upward: onerack.gfs.testing"),
        ("onerack.sim", "import onerack.gfs.testing", "upward: onerack.gfs.testing"),
        ("onerack.cli", "import onerack.gfs.testing", "sideways: onerack.gfs.testing"),
        ("onerack.gfs.testing", "import onerack.kv.testing", "sideways: onerack.kv.testing"),
        ("onerack.gfs.testing.decorator", "from onerack.cli import main", "sideways: onerack.cli"),
    ],
)
def test_an_import_up_or_sideways_is_caught(name: str, source: str, complaint: str) -> None:
    (found,) = floor_violations(parse(name, source), PLANTED_KNOWN)
    assert found.endswith(complaint)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("onerack.mapreduce.client", "from onerack.gfs import client"),
        ("onerack.gfs.client", "from .core import lease"),
        ("onerack.cli", "from onerack import __version__"),
        ("onerack.cli", "import onerack.mapreduce.client"),
        ("onerack.gfs.testing", "import onerack.sim"),
        ("onerack.gfs.testing", "from onerack.gfs.testing.decorator import f"),
        ("onerack.gfs.testing.decorator", "from onerack.gfs import client"),
        ("onerack.gfs.testing.decorator", "import onerack.kv.client"),
    ],
)
def test_an_import_down_or_within_a_system_passes(name: str, source: str) -> None:
    assert list(floor_violations(parse(name, source), PLANTED_KNOWN)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as t",
        "from time import time as t",
        "from time import monotonic",
        "def f():\n    import socket",
        "import asyncio",
        "import threading",
        "import os.path",
        "from pathlib import Path",
        "import logging",
        "import datetime",
        "import uuid",
        "import secrets",
        "import random",
        "from random import choice",
        "from random import Random, choice",
        "import importlib",
        "import numpy",
        "from onerack.runtime import host",
        "from onerack.kv import client",
        "from onerack import codec",
        "handle = open('x')",
        "print(1)",
        "key = id(object())",
        "slot = hash('key') % 8",
        "names = sorted(tasks, key=hash)",
        "for task in {1, 2}: pass",
        "for task in set(tasks): pass",
        "names = [task for task in idle | set(late)]",
        "names = list({task for task in tasks})",
        "names = [*set(tasks)]",
    ],
)
def test_an_impure_room_is_caught(source: str) -> None:
    assert len(list(purity_violations(parse("onerack.kv.core", source), PLANTED_KNOWN | {"onerack.codec"}))) == 1


@pytest.mark.parametrize("name", ["onerack.gfs.core.lease", "onerack.kv.messages", "onerack.kv.invariants"])
def test_every_pure_room_is_looked_at(name: str) -> None:
    assert list(purity_violations(parse(name, "from time import time as t"), PLANTED_KNOWN | {name}))


@pytest.mark.parametrize(
    "source",
    [
        "from random import Random",
        "import msgspec",
        "from onerack.runtime.seam import Output",
        "from onerack.kv.core import Store",
        "for task in sorted({1, 2}): pass",
        "present = task in set(tasks)",
    ],
)
def test_a_pure_room_passes(source: str) -> None:
    assert list(purity_violations(parse("onerack.gfs.core", source), PLANTED_KNOWN)) == []


def test_an_impure_room_may_have_a_clock() -> None:
    assert list(purity_violations(parse("onerack.kv.client", "import time"), PLANTED_KNOWN)) == []


@pytest.mark.parametrize("source", ["", "import time", "'''Short.'''", "x = 1\n'''Said too late, after the code.'''"])
def test_a_file_without_an_opening_docstring_is_caught(source: str) -> None:
    assert list(docstring_violations(parse("onerack.kv.core", source)))


def test_a_cycle_is_caught() -> None:
    planted = {
        "p": parse("p", "'''Empty.'''"),
        "p.a": parse("p.a", "from p import b"),
        "p.b": parse("p.b", "def later():\n    from .c import name"),
        "p.c": parse("p.c", "import p.a"),
        "p.d": parse("p.d", "import p.a"),
    }
    assert cycles(planted) == [["p.a", "p.b", "p.c"]]


def test_a_long_function_is_caught() -> None:
    body = "\n".join(["    x = 1"] * FUNCTION_LINES_MAX)
    assert list(length_violations(parse("p", "def f():\n" + body)))
    assert not list(length_violations(parse("p", "def f():\n" + body[len("    x = 1\n") :])))


def test_a_system_without_a_floor_is_caught() -> None:
    with pytest.raises(AssertionError, match="stands on no floor"):
        floor_of("onerack.newcomer.core")

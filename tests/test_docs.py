"""Documents that cannot lie: what they list exists, what exists they list, and what they show runs.

The idea: README's examples are executed in the order in which a reader meets them, in an empty folder with a few
books in it; the command reference is compared with the commands; the guides with the attributes of `Job` and with what
modes promise. A block that cannot be run here says so in its first line (```sh no-run), and so does one that another
must be run before (after=script.sh).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

import onerack
from onerack.cli import main, reference
from onerack.mapreduce import Job
from onerack.mapreduce.jobs import BUILTINS
from onerack.rpc.promises import PROMISES, survival_table
from tests import file_list

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BOOKS = ["textwrap.py", "string.py", "argparse.py", "this.py"]
"""The standard library's own files serve as books."""


class Block(NamedTuple):
    """One fenced block of a document."""

    language: str
    attributes: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S):
        yield Block(found[1], found[2].strip(), found[3])


# ---------------------------------------------------------------------------------------------- lists are complete


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == reference.reference(), "run: make docs"


def test_a_new_command_or_option_changes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(hard: bool = typer.Option(False, "--hard", help="How.")) -> None:
        """Pack things."""

    planted = typer.Typer()
    planted.command(name="pack", epilog="\b\nExamples:\n  onerack pack --hard\n")(pack)
    planted.command(name="rest", epilog="")(pack)
    monkeypatch.setattr(reference, "app", planted)
    page = reference.reference()
    assert "## onerack pack" in page
    assert "`--hard`" in page
    assert "\nonerack pack --hard\n" in page


def test_every_option_has_a_help_text() -> None:
    group = typer.main.get_command(main.app)
    silent = [
        f"{name} {parameter.name}"
        for name, command in reference.commands_of(group)
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


def attributes_of_a_job() -> list[str]:
    described = re.findall(r"^    (\w+)\(", sys.modules[Job.__module__].__doc__ or "", re.M)
    return sorted({name for name in vars(Job) if not name.startswith("_")} | set(described))


def test_the_guide_names_every_attribute_of_a_job() -> None:
    names = attributes_of_a_job()
    assert {"map", "map_block", "map_batch", "reduce", "sort_key", "then", "on_error"} <= set(names)
    guide = (ROOT / "docs/mapreduce.md").read_text(encoding="utf-8")
    assert [name for name in names if not re.search(rf"`{name}[`(]", guide)] == []


def test_guide_help_and_builtin_jobs_agree() -> None:
    guide = (ROOT / "docs/mapreduce.md").read_text(encoding="utf-8")
    table = guide.partition("## Builtin jobs")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)", table, re.M)
    assert sorted(listed) == sorted(BUILTINS)
    reference_page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"\| `JOB` \| A builtin \(([^)]*)\)", reference_page)
    assert sorted(named.split(", ")) == sorted(BUILTINS)


def test_the_guide_says_what_each_mode_promises() -> None:
    guide = (ROOT / "docs/rpc.md").read_text(encoding="utf-8")
    assert survival_table() in guide, "from onerack.rpc.promises"
    for mode, promise in PROMISES.items():
        assert f"| `{mode.name.lower()}` | {promise} |" in guide


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[><=\[;]", requirement)[0] for requirement in wanted}
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if not re.search(rf"^\| `?{re.escape(name)}\b", architecture, re.M)] == []


def test_architecture_lists_every_file() -> None:
    document = file_list.DOCUMENT.read_text(encoding="utf-8")
    assert document == file_list.with_list(document, file_list.file_list(file_list.SOURCE)), "run: make docs"


def test_a_new_file_changes_the_list(tmp_path: Path) -> None:
    (tmp_path / "rooms" / "attic").mkdir(parents=True)
    (tmp_path / "rooms" / "__init__.py").write_text('"""Rooms: there are some."""')
    (tmp_path / "rooms" / "attic" / "trunk.py").write_text('"""A trunk: what is kept.\n\nMore of it."""')
    listed = file_list.file_list(tmp_path / "rooms")
    assert "### `rooms/`\n\nRooms: there are some.\n" in listed
    assert "### `rooms/attic/`" in listed
    assert "| `trunk` | A trunk: what is kept |" in listed


def test_the_changelog_knows_this_version() -> None:
    assert f"## {onerack.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
        assert (document.parent / target).exists(), f"{document.name}: {target}"
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", text):
        aimed = (document.parent / target if target else document).read_text(encoding="utf-8")
        headings = [
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.+)$", aimed, re.M)
        ]
        assert anchor in headings, f"{document.name}: #{anchor}"


# ---------------------------------------------------------------------------------------------- what is shown runs

SHOWN = [
    pytest.param(block, id=f"{document}-{number}")
    for document in ("README.md", "docs/mapreduce.md", "docs/rpc.md", "docs/raft.md", "docs/kv.md")
    for number, block in enumerate(blocks(ROOT / document))
    if block.language in ("sh", "python") and "no-run" not in block.attributes and "file=" not in block.attributes
]


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """The folder of somebody who tries out what he reads: some books, and the files that the documents show."""
    (tmp_path / "books").mkdir()
    for book in BOOKS:
        shutil.copy(Path(sysconfig.get_path("stdlib"), book), tmp_path / "books" / book.replace(".py", ".txt"))
    for document in DOCUMENTS:
        for block in blocks(document):
            if named := re.search(r"file=(\S+)", block.attributes):
                (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
    return tmp_path


def run_block(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Shell blocks run as a script that ends at the first failure, Python blocks as a script file."""
    environment = {
        **os.environ,
        "ONERACK_HOME": str(folder / "home"),
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
    }
    if block.language == "sh":
        command = ["sh", "-e", "-c", block.text]
    else:
        (folder / "block.py").write_text(block.text, encoding="utf-8")
        command = [sys.executable, "block.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("block", SHOWN)
def test_what_a_document_shows_runs(block: Block, reader: Path) -> None:
    if before := re.search(r"after=(\S+)", block.attributes):
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        subprocess.run(["sh", "-e", before[1]], cwd=reader, capture_output=True, check=True)
    done = run_block(block, reader)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


def test_the_documents_show_something() -> None:
    assert len(SHOWN) >= 12


def test_a_block_that_fails_is_caught(tmp_path: Path) -> None:
    assert run_block(Block("sh", "", "false\ntrue\n"), tmp_path).returncode != 0
    assert run_block(Block("python", "", "raise SystemExit(3)"), tmp_path).returncode == 3

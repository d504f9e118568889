"""docs/cli.md, written from the commands themselves: `make docs`, or `python -m onerack.cli.reference docs/cli.md`.

The idea: the help texts are the documentation, so the page is made from them and a test compares the two; an option
without a word in the documents cannot exist. The page depends on names and help texts only, not on how the installed
typer lays them out.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from onerack.cli.main import app

_OPENING = """\
# The command line

Written by `make docs` from the help texts of the commands; do not edit.

Standard output carries what was asked for: a summary, or with `--json` exactly one JSON object, also when something
went wrong (`error`, `kind`, `exit_code`). Progress and errors go to standard error; progress is live on a terminal
and an occasional line elsewhere.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the job ran and failed, a call ended without a result, a disk was full, or stored bytes were damaged |
| 2 | usage: the command line, the job or its inputs are wrong; nothing was started |
| 130 | interrupted with Ctrl-C; no process and no half output is left |

Jobs are remembered in `$ONERACK_HOME/jobs`, by default `~/.local/state/onerack/jobs`.
"""


def reference() -> str:
    """The whole page."""
    named = commands_of(typer.main.get_command(app))
    return "\n".join([_OPENING, *(line for name, command in named for line in _section(name, command))])


def commands_of(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups within the group too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    chosen = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    names = " ".join(param.metavar + ("..." if param.nargs == -1 else "") for param in arguments)
    yield f"## onerack {name}\n"
    yield f"    onerack {name} [OPTIONS] {names}".rstrip() + "\n"
    yield inspect.cleandoc(command.help) + "\n"
    yield "| | |\n|---|---|"
    for param in arguments:
        yield f"| `{param.metavar}` | {param.help} |"
    for param in chosen:
        yield f"| {_option_names(param)} | {param.help} |"
    yield "\n" + _examples(command.epilog)


def _option_names(param: Any) -> str:
    names = [*param.opts, *param.secondary_opts]
    value = f" {param.metavar}" if param.metavar else ""
    return ", ".join(f"`{name}{value}`" for name in names)


def _examples(epilog: str) -> str:
    """The examples of a help text as a block of shell."""
    lines = [line.strip() for line in epilog.splitlines() if line.startswith("  ")]
    return "\n".join(["```sh", *lines, "```", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")

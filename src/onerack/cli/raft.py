"""`onerack raft`: a node's data directory, while nobody runs on it.

The idea: what a node would find at its start can be looked at beforehand; and when a majority is lost for ever, one of
those that are left can be made a group of its own. The rule: what may lose acknowledged writes is done only when it was
asked for by its whole name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from onerack.cli.failures import FAILED
from onerack.errors import UsageError

VERIFY_EXAMPLES = """\b
Examples:
  onerack raft verify n1
  onerack raft verify n1 --json | jq .damage
"""
RECOVER_EXAMPLES = """\b
Examples:
  onerack raft verify n2
  onerack raft recover n2 --force-new-cluster
"""

app = typer.Typer(
    name="raft",
    help="Look after the data directory of a node that does not run.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="The data directory of a node.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, also for an error.")]


@app.command(name="verify", epilog=VERIFY_EXAMPLES)
def verify(directory: DataDirectory, as_json: AsJson = False) -> int | None:
    """Read every record and every snapshot of a data directory, and say whether all is right.

    The exit code is 1 if something is damaged. Nothing is changed.
    """
    import msgspec

    from onerack.raft.storage import verify as verify_directory

    report = verify_directory(str(directory))
    if as_json:
        print(json.dumps({**msgspec.to_builtins(report), "is_right": report.is_right}))
    else:
        print(report)
    return None if report.is_right else FAILED


@app.command(name="recover", epilog=RECOVER_EXAMPLES)
def recover(
    directory: DataDirectory,
    force_new_cluster: Annotated[
        bool,
        typer.Option("--force-new-cluster", help="Yes: this node alone shall be the cluster, with what it knows."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make one surviving node a cluster of its own, when a majority of the nodes is lost for ever.

    Writes that only the lost nodes knew are lost, even if they were acknowledged. Choose the survivor with the highest
    term and last entry (`onerack raft verify`). Start it, then add new nodes with `onerack kv member add`; never start
    the old ones again.
    """
    from onerack.raft.messages import Configuration
    from onerack.raft.storage import rewrite_membership
    from onerack.raft.storage import verify as verify_directory

    report = verify_directory(str(directory))
    if not report.is_right:
        raise UsageError(f"{directory} is damaged; see `onerack raft verify {directory}`")
    if not force_new_cluster:
        raise UsageError(
            f"{directory}: {report.node} would become a cluster of its own, and writes that it has not seen would be "
            "lost; if a majority of the nodes is lost for ever, say --force-new-cluster"
        )
    done = rewrite_membership(str(directory), Configuration(voters=(report.node,)))
    if as_json:
        print(json.dumps({"node": done.node, "term": done.term, "index": done.index}))
    else:
        print(
            f"{done.node} is the only member from entry {done.index} of term {done.term} on; start it, then add others"
        )

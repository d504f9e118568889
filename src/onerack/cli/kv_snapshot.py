"""`onerack kv snapshot`: the whole store in a file, and nodes made from one."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onerack.cli import kv_options as options
from onerack.cli.kv_options import with_store
from onerack.errors import InputError, UsageError, storing

if TYPE_CHECKING:
    from onerack.kv.client import KvClient

SAVE_EXAMPLES = """\b
Examples:
  onerack kv snapshot save backup.db
  onerack kv snapshot save backup.db --endpoint 10.0.0.1:7001 --json
"""
RESTORE_EXAMPLES = """\b
Examples:
  onerack kv snapshot restore backup.db --name n1 --data n1 --peers n1=127.0.0.1:7001
  onerack kv snapshot restore backup.db --name n2 --data n2 --peers n1=10.0.0.1:7001,n2=10.0.0.2:7001,n3=10.0.0.3:7001
"""

app = typer.Typer(
    name="snapshot",
    help="The whole store in a file, and back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SavedFile = Annotated[Path, typer.Argument(metavar="FILE", help="The saved store.")]


async def save(
    store: KvClient,
    file: SavedFile,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it is there.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write the whole store into a file, as of one moment, while it serves.

    It is the file that `etcdctl snapshot save` gets from a node. It has its name only when it is complete.
    """
    from onerack.kv.server.saved import blobs

    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists; choose another name, or say --overwrite")
    unfinished = file.with_name(file.name + ".part")
    pieces = [piece async for piece in store.snapshot()]
    size = 0
    try:
        with storing(str(file)), unfinished.open("wb") as output:
            for blob in blobs(pieces):
                size += output.write(blob)
            output.flush()
            os.fsync(output.fileno())
        unfinished.replace(file)
    except OSError as error:
        raise InputError(str(file), f"cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    print(json.dumps({"file": str(file), "bytes": size}) if as_json else f"{file}: {size} bytes")


def restore(
    file: SavedFile,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The node that is made.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Its directory; it must be new or empty.")],
    peers: Annotated[
        str, typer.Option("--peers", metavar="N=ADDR,...", help="The new group, as for `onerack kv serve`.")
    ],
    cluster: Annotated[str, typer.Option("--cluster", metavar="ID", help="The new cluster.")] = "onerack",
    as_json: options.AsJson = False,
) -> None:
    """Make a node's directory from a saved store. Do it for every node of the new group, then start them.

    The nodes begin with all keys, revisions, leases and users of the file, as a group of their own.
    """
    from onerack.cluster.restoring import restore as restore_into

    members = options.members_of(peers, "--peers")
    made = restore_into(file, data, node=name, members=list(members), cluster=cluster)
    if as_json:
        described = {"data": made.directory, "name": made.node, "members": list(made.members)}
        print(json.dumps({**described, "revision": made.revision, "keys": made.keys}))
    else:
        print(f"{made.directory}: {made.node} of {', '.join(made.members)}, {made.keys} keys, revision {made.revision}")


app.command(name="save", epilog=SAVE_EXAMPLES)(with_store(save))
app.command(name="restore", epilog=RESTORE_EXAMPLES)(restore)

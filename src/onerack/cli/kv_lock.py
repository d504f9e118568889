"""`onerack kv lock`: run a command while nobody else holds the lock."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.errors import UsageError

if TYPE_CHECKING:
    from onerack.kv.client import KvClient, Lock

EXAMPLES = """\b
Examples:
  onerack kv lock backup ./backup.sh
  onerack kv lock --ttl 30 deploy make -j2 deploy
  onerack kv lock maintenance
"""


async def lock(
    store: KvClient,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lock.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="What to run. Without: hold it until Ctrl-C.")
    ] = None,
    ttl: Annotated[
        int, typer.Option("--ttl", metavar="S", min=1, help="If this process dies, the lock is free after so long.")
    ] = 10,
    as_json: options.AsJson = False,
) -> int | None:
    """Wait for a lock, run a command while it is held, and let it go.

    The exit code is the command's. The command finds the lock's key and token in ONERACK_LOCK_KEY and
    ONERACK_LOCK_TOKEN; the token grows with each holder, so that others can refuse a holder that came too late. If the
    lock is lost, the command is ended with SIGTERM and the exit code is 1.
    """
    async with store.lock(os.fsencode(name), ttl_s=ttl) as held:
        if command:
            # What stands before a command is often told from it by a `--`, which the shell hands on.
            return await _run(held, command[1:] if command[0] == "--" and len(command) > 1 else command)
        key = options.to_text(held.key, "text")
        print(json.dumps({"key": key, "token": held.token}) if as_json else f"{key} {held.token}", flush=True)
        await held.lease.lost.wait()
    return _lost(name)


async def _run(held: Lock, command: list[str]) -> int:
    import asyncio

    environment = {
        **os.environ, "ONERACK_LOCK_KEY": os.fsdecode(held.key), "ONERACK_LOCK_TOKEN": str(held.token),
    }  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
    except OSError as error:
        raise UsageError(f"{command[0]}: cannot be run: {error.strerror or error}") from None
    ended, lost = asyncio.ensure_future(process.wait()), asyncio.ensure_future(held.lease.lost.wait())
    try:
        await asyncio.wait([ended, lost], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            code = ended.result()
            return code if code >= 0 else 128 - code
        return _lost(os.fsdecode(held.key))
    finally:
        lost.cancel()
        if not ended.done():
            process.terminate()
            await ended


def _lost(name: str) -> int:
    print(f"onerack: {name}: the lock was lost: its lease could not be renewed in time", file=sys.stderr)
    return FAILED

"""`onerack kv lease`: leases, with which keys end."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.cli.kv_options import with_store

if TYPE_CHECKING:
    from onerack.kv.client import KvClient

GRANT_EXAMPLES = """\b
Examples:
  onerack kv lease grant 30
  lease=$(onerack kv lease grant 30) && onerack kv put session alive --lease $lease
"""
REVOKE_EXAMPLES = """\b
Examples:
  onerack kv lease revoke 32695410dcc0ca06
"""
KEEP_EXAMPLES = """\b
Examples:
  onerack kv lease keep-alive 32695410dcc0ca06
  onerack kv lease keep-alive 32695410dcc0ca06 --once
"""
SHOW_EXAMPLES = """\b
Examples:
  onerack kv lease show 32695410dcc0ca06 --json
"""
LIST_EXAMPLES = """\b
Examples:
  onerack kv lease list
"""

app = typer.Typer(
    name="lease",
    help="Leases: keys that end unless somebody renews them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LeaseId = Annotated[str, typer.Argument(metavar="ID", help="The lease, as `lease grant` has printed it.")]


async def grant(
    store: KvClient,
    ttl: Annotated[int, typer.Argument(metavar="SECONDS", min=1, help="After so long without renewal it ends.")],
    as_json: options.AsJson = False,
) -> None:
    """Make a lease; print its number."""
    granted = await store.grant(ttl)
    shown = f"{granted.lease:x}"
    print(json.dumps({"lease": shown, "ttl_s": granted.ttl_s}) if as_json else shown)


async def revoke(store: KvClient, lease: LeaseId, as_json: options.AsJson = False) -> None:
    """End a lease, and take away its keys."""
    await store.revoke(options.lease_number(lease))
    if as_json:
        print(json.dumps({"lease": lease, "revoked": True}))


async def keep_alive(
    store: KvClient,
    lease: LeaseId,
    once: Annotated[bool, typer.Option("--once", help="Renew it once, and end.")] = False,
    as_json: options.AsJson = False,
) -> int | None:
    """Renew a lease, again and again until Ctrl-C; the exit code is 1 when it is no more."""
    import asyncio

    number = options.lease_number(lease)
    while ttl_s := await store.renew(number):
        print(json.dumps({"lease": lease, "ttl_s": ttl_s}) if as_json else f"{lease} has {ttl_s} s", flush=True)
        if once:
            return None
        await asyncio.sleep(ttl_s / 3)
    return _gone(lease, as_json=as_json)


async def show(store: KvClient, lease: LeaseId, as_json: options.AsJson = False) -> int | None:
    """Say how long a lease has left, and which keys it has; the exit code is 1 if there is no such lease."""
    found = await store.remaining(options.lease_number(lease), keys=True)
    if found.ttl_s < 0:
        return _gone(lease, as_json=as_json)
    keys = [options.to_text(key, "text") for key in found.keys]
    if as_json:
        print(json.dumps({"lease": lease, "ttl_s": found.ttl_s, "granted_s": found.granted_s, "keys": keys}))
    else:
        print(f"{lease} has {found.ttl_s} s of {found.granted_s} s left, {len(keys)} keys", *keys, sep="\n")
    return None


async def list_leases(store: KvClient, as_json: options.AsJson = False) -> None:
    """List all leases."""
    found = [f"{number:x}" for number in await store.leases()]
    print(json.dumps({"leases": found}) if as_json else "\n".join(found))


def _gone(lease: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"lease": lease, "ttl_s": 0}))
    else:
        print(f"onerack: {lease}: there is no such lease", file=sys.stderr)
    return FAILED


app.command(name="grant", epilog=GRANT_EXAMPLES)(with_store(grant))
app.command(name="revoke", epilog=REVOKE_EXAMPLES)(with_store(revoke))
app.command(name="keep-alive", epilog=KEEP_EXAMPLES)(with_store(keep_alive))
app.command(name="show", epilog=SHOW_EXAMPLES)(with_store(show))
app.command(name="list", epilog=LIST_EXAMPLES)(with_store(list_leases))

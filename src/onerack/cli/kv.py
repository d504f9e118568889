"""`onerack kv`: keys, values and what happens to them, from a shell.

The idea: one command for each thing that the store can do, over the native client. The rule: a key that is not there
is an answer, and its exit code is 1; so is a comparison that does not hold. What was refused, not executed or is
unknown, says so as every call does.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onerack.cli import kv_care, kv_group, kv_lease, kv_lock, kv_serve, kv_snapshot, kv_txn, kv_users
from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.cli.kv_limits import with_limits
from onerack.cli.kv_options import with_store
from onerack.errors import InputError, UsageError

if TYPE_CHECKING:
    from onerack.kv.client import Event, Found, KvClient

GET_EXAMPLES = """\b
Examples:
  onerack kv get greeting
  onerack kv get config/ --prefix --json | jq -r '.kvs[].key'
  onerack kv get greeting --revision 7
  onerack kv get image --raw > image.png
"""
PUT_EXAMPLES = """\b
Examples:
  onerack kv put greeting hello
  onerack kv put leader n1 --if-revision 0
  onerack kv put image - < image.png
  onerack kv put session alive --lease 32695410dcc0ca06
"""
DELETE_EXAMPLES = """\b
Examples:
  onerack kv del greeting
  onerack kv del config/ --prefix --json
"""
WATCH_EXAMPLES = """\b
Examples:
  onerack kv watch greeting
  onerack kv watch config/ --prefix --revision 1 --json
  onerack kv watch ready --count 1
"""
app = options.group("kv", "A replicated key-value store: run its nodes, use it, look after it.")

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]


async def get(
    store: KvClient,
    key: Key,
    range_end: options.RangeEnd = "",
    prefix: options.Prefix = False,
    revision: Annotated[
        int, typer.Option("--revision", "--rev", "-r", metavar="N", min=0, help="As of this revision.")
    ] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="At most so many keys.")] = 0,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Without the values.")] = False,
    serializable: Annotated[
        bool, typer.Option("--serializable", help="As the node asked knows it, which may be out of date.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes of the value, and nothing else.")] = False,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> int | None:
    """Print the value of a key, or the keys and values of a range.

    The exit code is 1 if the key is not there. A range prints a line for each key: key, tab, value.
    """
    if raw and (prefix or range_end or as_json):
        raise UsageError("--raw prints one value as it is; leave out --prefix, --to and --json")
    first, end = options.to_bytes(key, encoding, "KEY"), options.to_bytes(range_end, encoding, "--to")
    found = await store.find(
        first, end, prefix=prefix, limit=limit, revision=revision, serializable=serializable, keys_only=keys_only
    )
    is_range = prefix or bool(end)
    if as_json:
        print(json.dumps(_described(found, encoding)))
    elif raw and found.kvs:
        sys.stdout.buffer.write(found.kvs[0].value)
    else:
        _print_found(found, encoding, is_range=is_range, keys_only=keys_only)
    if is_range or found.kvs:
        return None
    if not as_json:
        print(f"onerack: {options.to_text(first, encoding)}: there is no such key", file=sys.stderr)
    return FAILED


def _described(found: Found, encoding: str) -> dict[str, Any]:
    kvs = [options.described_kv(kv, encoding) for kv in found.kvs]
    return {"revision": found.revision, "count": found.count, "more": found.more, "kvs": kvs}


def _print_found(found: Found, encoding: str, *, is_range: bool, keys_only: bool) -> None:
    for kv in found.kvs:
        shown = [kv.key] if keys_only else [kv.key, kv.value] if is_range else [kv.value]
        print("\t".join(options.to_text(each, encoding) for each in shown))


async def put(
    store: KvClient,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The value; - reads it from standard input.")],
    lease: Annotated[str, typer.Option("--lease", metavar="ID", help="The key ends with this lease.")] = "0",
    if_revision: Annotated[
        int | None,
        typer.Option(
            "--if-revision", metavar="N", min=0, help="Only if the key was last changed there; 0: if it is not there."
        ),
    ] = None,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> int | None:
    """Give a key a value; print the revision that this made.

    With --if-revision the exit code is 1 if the key has changed meanwhile. Then nothing was written.
    """
    from onerack.kv.client import Compare, Put

    name = options.to_bytes(key, encoding, "KEY")
    content = _content() if value == "-" else options.to_bytes(value, encoding, "VALUE")
    number = options.lease_number(lease)
    if if_revision is None:
        revision = (await store.put(name, content, lease=number)).revision
    else:
        done = await store.txn([Compare(name, "mod", "=", if_revision)], [Put(name, content, number)])
        if not done.succeeded:
            if as_json:
                print(json.dumps({"revision": done.revision, "written": False}))
            else:
                print(f"onerack: not written: {key} was not last changed at {if_revision}", file=sys.stderr)
            return FAILED
        revision = done.revision
    print(json.dumps({"revision": revision, "written": True}) if as_json else revision)
    return None


def _content() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise InputError("-", error.strerror or str(error)) from None


async def delete(
    store: KvClient,
    key: Key,
    range_end: options.RangeEnd = "",
    prefix: options.Prefix = False,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> None:
    """Take away a key, or a range; print how many keys there were.

    A key that is not there is no error.
    """
    first, end = options.to_bytes(key, encoding, "KEY"), options.to_bytes(range_end, encoding, "--to")
    gone = await store.delete(first, end, prefix=prefix)
    print(json.dumps({"revision": gone.revision, "deleted": gone.deleted}) if as_json else gone.deleted)


async def watch(
    store: KvClient,
    key: Key,
    range_end: options.RangeEnd = "",
    prefix: options.Prefix = False,
    revision: Annotated[
        int,
        typer.Option("--revision", "--rev", "-r", metavar="N", min=0, help="From this revision on. Default: from now."),
    ] = 0,
    previous: Annotated[bool, typer.Option("--previous", help="Also what was there before.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=0, help="End after N events.")] = 0,
    encoding: options.Encoding = "text",
    as_json: options.AsJson = False,
) -> None:
    """Print what happens to a key, or in a range, until Ctrl-C.

    A line for each event: put or delete, key, value, with tabs between; with --json an object for each. A connection
    that is lost is made anew; no event is left out, none is told twice.
    """
    first, end = options.to_bytes(key, encoding, "KEY"), options.to_bytes(range_end, encoding, "--to")
    seen = 0
    async for event in store.watch(first, end, prefix=prefix, revision=revision, previous=previous):
        print(_event_line(event, encoding, as_json=as_json), flush=True)
        seen += 1
        if seen == count:
            return


def _event_line(event: Event, encoding: str, *, as_json: bool) -> str:
    if not as_json:
        shown = [event.kv.key] if event.kind == "delete" else [event.kv.key, event.kv.value]
        return "\t".join([event.kind, *(options.to_text(each, encoding) for each in shown)])
    described: dict[str, Any] = {"event": event.kind, **options.described_kv(event.kv, encoding)}
    if event.previous is not None:
        described["previous"] = options.described_kv(event.previous, encoding)
    return json.dumps(described)


app.command(name="serve", epilog=kv_serve.EXAMPLES)(with_limits(kv_serve.serve))
app.command(name="get", epilog=GET_EXAMPLES)(with_store(get))
app.command(name="put", epilog=PUT_EXAMPLES)(with_store(put))
app.command(name="del", epilog=DELETE_EXAMPLES)(with_store(delete))
app.command(name="watch", epilog=WATCH_EXAMPLES)(with_store(watch))
app.command(name="txn", epilog=kv_txn.EXAMPLES)(with_store(kv_txn.txn))
app.add_typer(kv_lease.app, name="lease")
# What follows the command of a lock is that command's, whatever it looks like.
app.command(name="lock", epilog=kv_lock.EXAMPLES, context_settings={"allow_interspersed_args": False})(
    with_store(kv_lock.lock)
)
app.command(name="compact", epilog=kv_care.COMPACT_EXAMPLES)(with_store(kv_care.compact))
app.command(name="defrag", epilog=kv_care.DEFRAG_EXAMPLES)(kv_care.defrag)
app.add_typer(kv_care.alarm_app, name="alarm")
app.add_typer(kv_care.endpoint_app, name="endpoint")
app.command(name="status", epilog=kv_group.STATUS_EXAMPLES)(kv_group.status)
app.add_typer(kv_group.app, name="member")
app.add_typer(kv_users.user_app, name="user")
app.add_typer(kv_users.role_app, name="role")
app.add_typer(kv_users.auth_app, name="auth")
app.add_typer(kv_snapshot.app, name="snapshot")

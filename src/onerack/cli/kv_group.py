"""`onerack kv status` and `onerack kv member`: the nodes of a store, and who belongs to it.

The idea: members are changed while the store serves, one step at a time: a node that is added is a learner, which has
no vote, until it knows what the others know; then it is promoted. The rule: a group is never without a majority because
of a node that was only announced.

Source: Ongaro's dissertation 2014, chapter 4.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.cli.kv_options import with_store
from onerack.errors import CallError, NotExecuted, OnerackError, UsageError

if TYPE_CHECKING:
    from onerack.kv.client import KvClient, MemberStatus, NodeStatus

STATUS_EXAMPLES = """\b
Examples:
  onerack kv status
  onerack kv status --endpoint 10.0.0.1:7001 --json
"""
LIST_EXAMPLES = """\b
Examples:
  onerack kv member list
  onerack kv member list --json | jq -r '.members[] | select(.leads).name'
"""
ADD_EXAMPLES = """\b
Examples:
  onerack kv member add n4=10.0.0.4:7001
  onerack kv member add n4=10.0.0.4:7001 --role voter --wait 300
  onerack kv member add n4=10.0.0.4:7001 --role witness
"""
REMOVE_EXAMPLES = """\b
Examples:
  onerack kv member remove n2
"""
PROMOTE_EXAMPLES = """\b
Examples:
  onerack kv member promote n4
  onerack kv member promote n4 --wait 60
"""
REPLACE_EXAMPLES = """\b
Examples:
  onerack kv member replace n2 n4=10.0.0.4:7001 --wait 120
"""
MOVE_EXAMPLES = """\b
Examples:
  onerack kv member move-leader n3
"""

app = options.group("member", "Who belongs to the group; changed while it serves.")

_PAUSE_S: Final = 0.2
_ANSWERS_S: Final = 2.0
_FOR_A_WHILE: Final = frozenset({"pending", "not_ready", "not_caught_up", "transferring", "no_leader", "not_leader"})
"""Causes for which the group refuses now what it will take later."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node.")]
NewNode = Annotated[
    str, typer.Argument(metavar="NAME=ADDR", help="The new node, and host:port where the others reach it.")
]
Wait = Annotated[float, typer.Option("--wait", metavar="S", min=0, help="Wait so long until the node is ready.")]


# ------------------------------------------------------------------------------------------------ status


def status(
    endpoint: options.Endpoint = None,
    directory: options.Directory = Path(options.DIRECTORY),
    timeout: options.Timeout = 10.0,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    as_json: options.AsJson = False,
) -> int | None:
    """Say of each endpoint how it is: role, term, revision, size. The exit code is 1 if one does not answer."""
    import asyncio

    import msgspec

    from onerack.cli.rpc_options import reach

    options.require_timeout(timeout)
    how = reach(tls_ca, tls_cert, tls_key, insecure, min(timeout, 5.0))
    addresses = options.endpoints_of(endpoint, directory, is_tls=how["tls"] is not None)
    found = asyncio.run(_asked_all(addresses, how, timeout))
    if as_json:
        nodes = [
            {"endpoint": address, **(msgspec.to_builtins(each) if not isinstance(each, str) else {"error": each})}
            for address, each in found
        ]
        print(json.dumps({"nodes": nodes}))
    else:
        rows = [_status_row(address, each) for address, each in found if not isinstance(each, str)]
        if rows:
            print_table([_STATUS_HEADINGS, *rows])
        for address, each in found:
            if isinstance(each, str):
                print(f"{address}  no answer: {each}")
    return FAILED if any(isinstance(each, str) for _, each in found) else None


_STATUS_HEADINGS: Final = (
    "endpoint",
    "node",
    "role",
    "leader",
    "term",
    "applied",
    "revision",
    "size",
    "alarms",
    "version",
)


def _status_row(address: str, found: NodeStatus) -> tuple[str, ...]:
    from onerack.mapreduce.sizes import format_size

    return (
        address, found.name, found.role, found.leader or "none", str(found.term), str(found.applied),
        str(found.revision), format_size(found.size_bytes), _alarms(found), found.version,
    )  # fmt: skip


def _alarms(found: NodeStatus) -> str:
    words = [f"{each.alarm} of {each.node}" for each in found.alarms]
    return ", ".join([*words, *(["disk full"] if found.storage_full else [])]) or "none"


async def _asked_all(addresses: list[str], how: dict[str, Any], timeout_s: float) -> list[tuple[str, NodeStatus | str]]:
    import asyncio

    return list(
        zip(addresses, await asyncio.gather(*(_asked(each, how, timeout_s) for each in addresses)), strict=True)
    )


async def _asked(address: str, how: dict[str, Any], timeout_s: float) -> NodeStatus | str:
    """This very node, whoever leads."""
    from onerack import rpc
    from onerack.kv.client import Kv

    try:
        client = await rpc.connect(Kv, address, deadline=timeout_s, **how)
    except OnerackError as error:
        return str(error)
    try:
        return await client.stub.status()
    except OnerackError as error:
        return str(error)
    finally:
        await client.close()


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# ------------------------------------------------------------------------------------------------ members


async def list_members(store: KvClient, as_json: options.AsJson = False) -> None:
    """List the members, with their roles and addresses."""
    import msgspec

    members = await store.members()
    if as_json:
        print(json.dumps({"members": msgspec.to_builtins(members)}))
        return
    rows = [
        (each.name, "leader" if each.leads else each.role, each.address, " ".join(each.endpoints)) for each in members
    ]
    print_table([("name", "role", "rpc", "etcd"), *rows])


async def add(
    store: KvClient,
    node: NewNode,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="learner (promote it later), voter, or witness.")
    ] = "learner",
    wait: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="With --role voter: wait so long until it caught up.")
    ] = 60.0,
    as_json: options.AsJson = False,
) -> None:
    """Announce a new node. Then start it: `onerack kv serve --join`.

    As a learner it copies the store and has no vote; `member promote` makes it a voter once it has caught up. With
    --role voter this command does both, and waits in between: start the node meanwhile. A witness votes and has no
    data. A group of one takes a witness only when that runs already, for from then on it can do nothing without it.
    """
    if role not in ("learner", "voter", "witness"):
        raise UsageError(f"--role {role!r}: expected learner, voter or witness")
    members = await store.members()
    name, address = _new_node(node, members)
    if any(member.name == name for member in members):
        raise UsageError(f"{name} is a member already")
    if role == "witness" and sum(member.role != "learner" for member in members) == 1:
        await _require_started(name, address, members)
    await store.add_member(name, address, "learner" if role == "voter" else role)
    if role == "voter":
        print(f"onerack: {name} is a learner; waiting until it runs and has caught up", file=sys.stderr, flush=True)
        await _promote_new(store, name, wait)
    _say({"name": name, "address": address, "role": role}, f"{name} at {address} is a {role}", as_json=as_json)


async def _promote_new(store: KvClient, name: str, wait_s: float) -> None:
    try:
        await _manage_patiently(store, "voter", name, wait_s)
    except NotExecuted as error:
        words = f"{name} is a learner, and no voter yet ({error}); start it, then `onerack kv member promote {name}`"
        raise NotExecuted(words, cause=error.cause) from error


async def _require_started(name: str, address: str, members: list[MemberStatus]) -> None:
    """Of two voters both are needed: one that is not there would stop the other."""
    import asyncio

    from onerack.rpc.transports.address import Address

    where = Address.parse(address)
    try:
        async with asyncio.timeout(_ANSWERS_S):
            _, writer = await asyncio.open_connection(where.host, where.port)
    except (OSError, TimeoutError):
        known = ",".join(f"{member.name}={member.address.partition('://')[2]}" for member in members)
        raise UsageError(
            f"{name} at {address} does not answer, and a group of two can do nothing while one is away: start it "
            f"first, with `onerack kv serve --name {name} --peers {known},{name}={where.host}:{where.port} --join ...`"
        ) from None
    writer.close()


def _new_node(text: str, members: list[MemberStatus]) -> tuple[str, str]:
    """Its name, and its address as those of the others are."""
    is_tls = any(member.address.startswith("tls://") for member in members)
    named = options.members_of(text, "NAME=ADDR", is_tls=is_tls)
    if len(named) != 1:
        raise UsageError(f"{text!r}: one node at a time")
    ((name, address),) = named.items()
    return name, address


async def remove(store: KvClient, name: Name, as_json: options.AsJson = False) -> None:
    """Take a node out of the group; a leader is replaced first. Stop its process afterwards."""
    await _require_member(store, name)
    await store.manage("remove", name)
    _say({"name": name, "removed": True}, f"{name} is no member any more", as_json=as_json)


async def promote(store: KvClient, name: Name, wait: Wait = 0.0, as_json: options.AsJson = False) -> None:
    """Give a learner its vote. Refused as long as it has not caught up, unless --wait is given."""
    await _require_member(store, name)
    await _manage_patiently(store, "voter", name, wait)
    _say({"name": name, "role": "voter"}, f"{name} is a voter", as_json=as_json)


async def replace(
    store: KvClient,
    name: Name,
    node: NewNode,
    wait: Wait = 60.0,
    as_json: options.AsJson = False,
) -> None:
    """Put a new node in the place of an old one: add it, wait until it has caught up, promote it, remove the old one.

    The new node must be started with `onerack kv serve --join` before, or while this waits. The old one may be dead.
    """
    await _require_member(store, name)
    members = await store.members()
    new, address = _new_node(node, members)
    if all(member.name != new for member in members):
        await store.add_member(new, address)
    await _manage_patiently(store, "voter", new, wait)
    await _manage_patiently(store, "remove", name, wait)
    _say({"name": new, "replaces": name}, f"{new} has taken the place of {name}", as_json=as_json)


async def move_leader(store: KvClient, name: Name, as_json: options.AsJson = False) -> None:
    """Hand the leadership to another node, without a pause that anybody would notice."""
    await _require_member(store, name)
    (member,) = [each for each in await store.members() if each.name == name]
    if member.role != "voter":
        raise UsageError(f"{name} is a {member.role}, which cannot lead")
    if not member.leads:
        await store.manage("transfer", name)
    _say({"leader": name}, f"{name} leads", as_json=as_json)


async def _require_member(store: KvClient, name: str) -> None:
    members = [member.name for member in await store.members()]
    if name not in members:
        raise UsageError(f"{name!r} is no member; members are {', '.join(members)}")


async def _manage_patiently(store: KvClient, order: str, name: str, wait_s: float) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + wait_s
    while True:
        try:
            await store.manage(order, name)
            return
        except CallError as error:
            if not isinstance(error, NotExecuted) or error.cause not in _FOR_A_WHILE or loop.time() >= give_up_at:
                raise
        await asyncio.sleep(_PAUSE_S)


def _say(described: dict[str, Any], words: str, *, as_json: bool) -> None:
    print(json.dumps(described) if as_json else words)


app.command(name="list", epilog=LIST_EXAMPLES)(with_store(list_members))
app.command(name="add", epilog=ADD_EXAMPLES)(with_store(add))
app.command(name="remove", epilog=REMOVE_EXAMPLES)(with_store(remove))
app.command(name="promote", epilog=PROMOTE_EXAMPLES)(with_store(promote))
app.command(name="replace", epilog=REPLACE_EXAMPLES)(with_store(replace))
app.command(name="move-leader", epilog=MOVE_EXAMPLES)(with_store(move_leader))

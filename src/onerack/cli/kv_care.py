"""`onerack kv alarm`, `compact`, `defrag`, `endpoint`: what keeps a store well, and says whether it is.

The idea: what etcdctl calls so does here what people expect of it. The rule: what concerns the whole store is asked
once, what concerns a node is asked of each node that was named, and of no other in its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onerack.cli import kv_group
from onerack.cli import kv_options as options
from onerack.cli.failures import FAILED
from onerack.cli.kv_options import with_store
from onerack.errors import OnerackError

if TYPE_CHECKING:
    from onerack.kv.client import AlarmStatus, KvClient

COMPACT_EXAMPLES = """\b
Examples:
  onerack kv compact 1200
  onerack kv compact 1200 --physical
"""
DEFRAG_EXAMPLES = """\b
Examples:
  onerack kv defrag
  onerack kv defrag --endpoint 10.0.0.1:7001
"""
ALARMS_EXAMPLES = """\b
Examples:
  onerack kv alarm list
  onerack kv alarm list --json | jq .alarms
"""
DISARM_EXAMPLES = """\b
Examples:
  onerack kv compact 1200 && onerack kv alarm disarm
"""
HEALTH_EXAMPLES = """\b
Examples:
  onerack kv endpoint health
  onerack kv endpoint health --endpoint 10.0.0.1:7001 --json
"""
STATUS_EXAMPLES = """\b
Examples:
  onerack kv endpoint status
  onerack kv endpoint status --endpoint 10.0.0.1:7001 --json
"""

alarm_app = options.group("alarm", "Alarms: no room is left, or data is damaged, and nobody may write.")
endpoint_app = options.group("endpoint", "The nodes, each asked by itself.")


# ------------------------------------------------------------------------------------------------ compaction


async def compact(
    store: KvClient,
    revision: Annotated[int, typer.Argument(metavar="REVISION", min=1, help="What is older is forgotten.")],
    physical: Annotated[
        bool, typer.Option("--physical", help="Return when it has also gone from the memory of the node asked.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Forget the history before a revision; values as they are now stay."""
    now = await store.compact(revision, physical=physical)
    print(json.dumps({"compacted": revision, "revision": now}) if as_json else f"compacted up to {revision}")


# ------------------------------------------------------------------------------------------------ alarms


async def list_alarms(store: KvClient, as_json: options.AsJson = False) -> None:
    """Print the alarms that were raised, one in a line: node, tab, nospace or corrupt. None: nothing."""
    _print_alarms(await store.alarms(), as_json=as_json)


async def disarm(store: KvClient, as_json: options.AsJson = False) -> None:
    """Take all alarms back, and print them. Make room first (compact), or the next write raises one again."""
    _print_alarms(await store.disarm(), as_json=as_json)


def _print_alarms(alarms: list[AlarmStatus], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"alarms": [{"node": each.node, "alarm": each.alarm} for each in alarms]}))
        return
    for each in alarms:
        print(f"{each.node}\t{each.alarm}")


# ------------------------------------------------------------------------------------------------ each node

Work = Callable[["KvClient"], Awaitable[dict[str, Any]]]


def defrag(
    endpoint: options.Endpoint = None,
    directory: options.Directory = Path(options.DIRECTORY),
    user: options.User = None,
    timeout: options.Timeout = 60.0,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    as_json: options.AsJson = False,
) -> int | None:
    """Have each endpoint free what is compacted, and cut its log by a snapshot; it goes on serving meanwhile.

    Nodes do both by themselves, as the log grows: this is for who wants it now. The exit code is 1 if one could not.
    """
    reach = _reach(endpoint, directory, user, timeout, tls_ca, tls_cert, tls_key, insecure)

    async def work(store: KvClient) -> dict[str, Any]:
        await store.defragment()
        return {}

    return _print_each(_of_each(reach, work), "done", as_json=as_json)


def health(
    endpoint: options.Endpoint = None,
    directory: options.Directory = Path(options.DIRECTORY),
    user: options.User = None,
    timeout: options.Timeout = 5.0,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    as_json: options.AsJson = False,
) -> int | None:
    """Say of each endpoint whether the store can be read through it, and how long that took.

    Reading needs a majority of the nodes. With an alarm nobody is healthy. The exit code is 1 unless all are.
    """
    reach = _reach(endpoint, directory, user, timeout, tls_ca, tls_cert, tls_key, insecure)
    return _print_each(_of_each(reach, _examined), "healthy", as_json=as_json)


async def _examined(store: KvClient) -> dict[str, Any]:
    from onerack.kv.client import KvRefused

    status = await store.status()
    try:
        if status.role != "witness" or not status.leader:  # Who follows a leader, and has no data, is well.
            await store.get("health")
    except KvRefused as error:
        # Who may not read it was told so by a node that knows what is committed.
        if error.cause != "permission_denied" and not str(error).endswith("user name is empty"):
            raise
    alarms = status.alarms
    if alarms:
        raise OnerackError(f"alarm: {', '.join(f'{each.alarm} of {each.node}' for each in alarms)}")
    return {}


def _reach(
    endpoint: list[str] | None,
    directory: Path,
    user: str | None,
    timeout: float,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    insecure: bool,
) -> dict[str, Any]:
    """Where each node is, and how it is reached. Raises: UsageError, InputError."""
    from onerack.cli.kv_password import credentials_of
    from onerack.cli.rpc_options import reach

    options.require_timeout(timeout)
    tls = reach(tls_ca, tls_cert, tls_key, insecure, None)["tls"]
    name, password = credentials_of(user)
    return {
        "addresses": options.endpoints_of(endpoint, directory, is_tls=tls is not None),
        "tls": tls, "insecure": insecure, "user": name, "password": password, "timeout_s": timeout,
        "connect_timeout_s": min(timeout, 5.0), "follow_leader": False,
    }  # fmt: skip


def _of_each(reach: dict[str, Any], work: Work) -> list[dict[str, Any]]:
    import asyncio

    addresses = reach.pop("addresses")

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(_of_one(address, reach, work) for address in addresses))

    return asyncio.run(all_of_them())


async def _of_one(address: str, reach: dict[str, Any], work: Work) -> dict[str, Any]:
    from onerack.kv.client import connect

    began_at = time.monotonic()
    try:
        async with await connect(address, **reach) as store:
            found = await work(store)
    except OnerackError as error:
        return {"endpoint": address, "ok": False, "took_s": _since(began_at), "error": str(error)}
    return {"endpoint": address, "ok": True, "took_s": _since(began_at), **found}


def _since(began_at: float) -> float:
    return round(time.monotonic() - began_at, 4)


def _print_each(found: list[dict[str, Any]], word: str, *, as_json: bool) -> int | None:
    if as_json:
        print(json.dumps({"nodes": found}))
    else:
        for each in found:
            how = f"{word} after {each['took_s'] * 1000:.1f} ms" if each["ok"] else f"not {word}: {each['error']}"
            print(f"{each['endpoint']}  {how}")
    return None if all(each["ok"] for each in found) else FAILED


alarm_app.command(name="list", epilog=ALARMS_EXAMPLES)(with_store(list_alarms))
alarm_app.command(name="disarm", epilog=DISARM_EXAMPLES)(with_store(disarm))
endpoint_app.command(name="health", epilog=HEALTH_EXAMPLES)(health)
endpoint_app.command(name="status", epilog=STATUS_EXAMPLES)(kv_group.status)

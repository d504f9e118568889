"""`onerack kv serve`: one node of the store, in the foreground.

The idea: it says in one line where it can be reached, then serves until it is told to stop. The rule: SIGTERM and
Ctrl-C end it in order (a leader hands on its office first), and the exit code is 0; a second Ctrl-C ends it at once,
which is safe, too: what was acknowledged is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onerack.cli import kv_options as options
from onerack.cli.failures import INTERRUPTED
from onerack.cli.kv_limits import Limits
from onerack.errors import InputError, UsageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from onerack.cluster.control import ControlNode

EXAMPLES = """\b
Examples:
  onerack kv serve --name n1 --data n1 --peers n1=127.0.0.1:7001
  onerack kv serve --name n2 --data n2 --peers n1=10.0.0.1:7001,n2=10.0.0.2:7001,n3=10.0.0.3:7001 --insecure
  onerack kv serve --name n4 --data n4 --peers n1=10.0.0.1:7001,n4=10.0.0.4:7001 --join --insecure
  onerack kv serve --name n1 --data n1 --peers n1=a:7001,n2=b:7001,n3=c:7001 --tls-ca ca.pem --tls-cert n1.pem
  onerack kv serve --name n1 --data n1 --peers n1=127.0.0.1:7001 --quota-bytes 8GB --auto-compaction-retention 12h
"""


Listen = Annotated[
    str, typer.Option("--listen", metavar="ADDR", help="Where rpc listens, if not where the peers dial.")
]
ListenEtcd = Annotated[
    str, typer.Option("--listen-etcd", metavar="ADDR", help="Where etcd clients connect; port 0: any.")
]
AdvertiseEtcd = Annotated[
    str,
    typer.Option(
        "--advertise-etcd", metavar="ADDR", help="What etcd clients are told, if it is not --listen-etcd. Default "
        "for 0.0.0.0: the host of this node in --peers.",
    ),
]  # fmt: skip
ListenHttp = Annotated[
    str,
    typer.Option(
        "--listen-http", metavar="ADDR", help="Where /health, /metrics and /status.json are; tls://host:port: with "
        "the node's certificate.",
    ),
]  # fmt: skip


def serve(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What this node is called; it keeps the name.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Where its log and snapshots are.")],
    peers: Annotated[
        str,
        typer.Option(
            "--peers",
            metavar="N=ADDR,...",
            help="The group as it is founded: name=host:port of each node's rpc address, this one among them. With "
            "--join: this node, and some that are there already.",
        ),
    ],
    listen: Listen = "",
    listen_etcd: ListenEtcd = "127.0.0.1:2379",
    advertise_etcd: AdvertiseEtcd = "",
    listen_http: ListenHttp = "127.0.0.1:0",
    join: Annotated[
        bool, typer.Option("--join", help="The group is there already, and has been told: `onerack kv member add`.")
    ] = False,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="ID", help="Nodes and clients of another cluster are refused.")
    ] = "onerack",
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    insecure: options.Insecure = False,
    as_json: options.AsJson = False,
    *,
    limits: Limits,
) -> int | None:
    """Run one node of the replicated store, until SIGTERM or Ctrl-C.

    Prints a line when it serves, with its endpoints: `rpc` (onerack clients and the other nodes), `etcd` (etcdctl and
    etcd's client libraries) and `http`. A node that leads hands the leadership on before it ends; a second Ctrl-C ends
    it at once.
    """
    is_tls = bool(tls_ca or tls_cert or tls_key)
    members = options.members_of(peers, "--peers", is_tls=is_tls)
    if name not in members:
        raise UsageError(f"--name {name}: --peers does not say where it is; it names {', '.join(members)}")
    if data.exists() and not data.is_dir():
        raise UsageError(f"--data {data}: is no directory")
    kv_config, raft_config = limits.configs()
    server, client = _contexts(tls_ca, tls_cert, tls_key) if is_tls else (None, None)
    how: dict[str, Any] = {
        "members": members,
        "address": options.address_of(listen, is_tls=is_tls) if listen else "",
        "etcd": options.address_of(listen_etcd, is_tls=is_tls),
        "http": options.address_of(listen_http),
        "advertise_etcd": options.address_of(advertise_etcd, is_tls=is_tls) if advertise_etcd else "",
        "kv_config": kv_config, "raft_config": raft_config,
        "joins": join, "cluster": cluster, "tls": server, "client_tls": client, "insecure": insecure,
    }  # fmt: skip
    return _run(_serve(name, data, how, as_json=as_json))


def _run(procedure: Coroutine[Any, Any, int | None]) -> int | None:
    """On uvloop, if it is there: it makes a node a good deal faster."""
    import asyncio

    loop_factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(procedure)


async def _serve(name: str, data: Path, how: dict[str, Any], *, as_json: bool) -> int | None:
    import asyncio

    from onerack.cluster.collector import spare_old_objects
    from onerack.cluster.control import ControlNode

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, asked, number)
    node = ControlNode(name, data, **how)
    spare_old_objects()
    await node.start()
    try:
        print(_first_line(node, as_json=as_json), flush=True)
        ended = asyncio.ensure_future(node.wait())
        stopped = asyncio.ensure_future(asked.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if ended.done():
            ended.result()
        ended.cancel()
    finally:
        await node.close()
    return None


def _on_signal(asked: asyncio.Event, number: signal.Signals) -> None:
    if asked.is_set() and number == signal.SIGINT:
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    asked.set()


def _first_line(node: ControlNode, *, as_json: bool) -> str:
    where, status = node.endpoints, node.status()
    if as_json:
        endpoints = {"rpc": where.rpc, "etcd": where.etcd, "http": where.http}
        return json.dumps({"name": status.name, "cluster": status.cluster, "pid": os.getpid(), "endpoints": endpoints})
    return f"{status.name} of cluster {status.cluster} serves: rpc {where.rpc}  etcd {where.etcd}  http {where.http}"


def _contexts(ca: str | None, certificate: str | None, key: str | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For what listens and for what dials; both sides show a certificate. Raises: UsageError, InputError."""
    from onerack.cli.rpc_options import reach

    client = reach(ca, certificate, key, False, None)["tls"]
    assert ca is not None
    assert certificate is not None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.verify_mode = ssl.CERT_REQUIRED
    try:
        server.load_verify_locations(ca)
        server.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        raise InputError(certificate, f"cannot serve with it: {error.strerror or error}") from None
    return server, client

"""A control node: one member of the group that keeps a rack's state, with every door that it has.

    rpc     raft between the nodes, the native store (`onerack.Kv`) for clients: one address
    etcd    the etcd v3 API
    http    health, metrics and status, for people and monitors

The idea: everything that knows how the parts fit together is here, so that `kv serve`, `up`, tests and users' own
programs start the same node. The rule: it starts as a whole or not at all, and it ends in the reverse order: doors
first, the disk last. A node that leads hands the leadership on before it goes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import msgspec

from onerack.cluster.http import HttpDoor
from onerack.cluster.record import NodeEndpoints
from onerack.config import KvConfig, RaftConfig
from onerack.errors import CallError, OnerackError
from onerack.kv.client import Kv
from onerack.kv.client.values import NodeStatus
from onerack.kv.core import KvMachine
from onerack.kv.server.door import KvDoor
from onerack.kv.server.identity import url_of
from onerack.kv.server.native import NativeKv
from onerack.kv.server.server import KvServer
from onerack.raft import RaftNode
from onerack.raft.commands import KV

_HAND_OVER_S: Final = 1.5
"""A node that leads and is to end looks for another leader for so long."""
_HEALTHY_S: Final = 1.0


class ControlNode:
    """Open with `start`, end with `close`; or `async with ControlNode(...) as node`."""

    def __init__(
        self,
        name: str,
        directory: str | os.PathLike[str],
        *,
        members: Mapping[str, str],
        address: str = "",
        etcd: str = "tcp://127.0.0.1:0",
        http: str = "tcp://127.0.0.1:0",
        advertise_etcd: str = "",
        joins: bool = False,
        cluster: str = "onerack",
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        raft_config: RaftConfig | None = None,
        kv_config: KvConfig | None = None,
    ) -> None:
        """`members`, `address`, `joins`: as for RaftNode. `tls` is for what listens, `client_tls` for what dials.

        `advertise_etcd`: where etcd's clients shall connect, if that is not where the node listens; by default, if it
        listens everywhere, at the host by which the members dial it.
        """
        self.machine = KvMachine(kv_config)
        self._door = KvDoor(tls=client_tls or tls, insecure=insecure)
        self._native = NativeKv(self.machine, leases=self._door, user_of=self._user_of)
        self.node = self._native.node = RaftNode(
            name, directory, members=members, machines={KV: self.machine}, address=address, joins=joins,
            cluster=cluster, tls=tls, client_tls=client_tls, insecure=insecure,
            services={**self._door.services, Kv: self._native}, config=raft_config,
        )  # fmt: skip
        self._etcd = KvServer(
            self.node, self.machine, etcd, door=self._door, tls=tls, insecure=insecure,
            advertise=(advertise_etcd,) if advertise_etcd else (),
        )  # fmt: skip
        pages = {"/health": self._health, "/status.json": self._status, "/metrics": self._metrics}
        self._http = HttpDoor(http, pages, tls=tls, insecure=insecure)
        self._stack = AsyncExitStack()

    # ------------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Returns when all doors are open. Raises: UsageError: an address, a directory. Corruption. OSError."""
        async with AsyncExitStack() as stack:
            await self.node.start()
            stack.push_async_callback(self.node.close)
            await self._etcd.start()
            stack.push_async_callback(self._etcd.close)
            await self._http.start()
            stack.push_async_callback(self._http.close)
            self._stack = stack.pop_all()

    async def close(self, *, hand_over: bool = True) -> None:
        """May be called again. `hand_over`: if it leads, another node shall first."""
        if hand_over and self.node.is_leader:
            await self._hand_over()
        await self._stack.aclose()

    def _user_of(self, token: str) -> str | None:
        return self._etcd.user_of(token)

    async def _hand_over(self) -> None:
        """To the first that takes it; if nobody does, the others will find out by themselves."""
        group = self.node.status().configuration
        candidates = [name for name in group.voters if name != self.node.name and name not in group.witnesses]
        try:
            async with asyncio.timeout(_HAND_OVER_S):
                for name in candidates:
                    try:
                        await self.node.manage("transfer", name)
                        return
                    except CallError:
                        continue
        except TimeoutError:
            return

    async def wait(self) -> None:
        """Until it cannot go on. Raises: what halted it."""
        await self.node.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def endpoints(self) -> NodeEndpoints:
        return NodeEndpoints(self.node.address, url_of(self._etcd.advertised[0]), self._http.address)

    def status(self) -> NodeStatus:
        return self._native.status()

    async def _health(self) -> tuple[int, str, bytes]:
        """Healthy is a node by which the store can be read."""
        reason = "no leader has confirmed a read in time"
        try:
            async with asyncio.timeout(_HEALTHY_S):
                await self.node.catch_up()
        except OnerackError as error:
            reason = str(error)
        except TimeoutError:
            pass
        else:
            return 200, "application/json", b'{"health":"true"}\n'
        return 503, "application/json", msgspec.json.encode({"health": "false", "reason": reason}) + b"\n"

    async def _status(self) -> tuple[int, str, bytes]:
        described: dict[str, Any] = {
            "node": self.status(), "endpoints": self.endpoints, "members": self._native.members(),
        }  # fmt: skip
        return 200, "application/json", msgspec.json.encode(described) + b"\n"

    async def _metrics(self) -> tuple[int, str, bytes]:
        return 200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(self.status()).encode()


def metrics_text(status: NodeStatus) -> str:
    """The text format of Prometheus."""
    figures = {
        "is_leader": ("Whether this node leads.", int(status.leader == status.name)),
        "has_leader": ("Whether this node knows a leader.", int(bool(status.leader))),
        "raft_term": ("The term of raft.", status.term),
        "raft_commit_index": ("Up to here entries are committed.", status.commit),
        "raft_applied_index": ("Up to here entries are applied.", status.applied),
        "kv_revision": ("The revision of the store.", status.revision),
        "kv_compacted_revision": ("Up to here history is compacted; -1: never.", status.compacted),
        "kv_size_bytes": ("What keys, values and history take, estimated.", status.size_bytes),
        "storage_full": ("Whether the disk has no room for more of the log.", int(status.storage_full)),
    }
    lines = []
    for name, (words, value) in figures.items():
        lines += [f"# HELP onerack_{name} {words}", f"# TYPE onerack_{name} gauge"]
        lines.append(f'onerack_{name}{{node="{_label(status.name)}",cluster="{_label(status.cluster)}"}} {value}')
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

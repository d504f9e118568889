"""A control node: all its doors open together, and end together."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from onerack.cluster.control import ControlNode, metrics_text
from onerack.errors import UsageError
from onerack.kv import client as kv
from tests.cluster.rack_thread import QUICK, free_address
from tests.kv.server.client import connected


def node_at(tmp_path: Path, name: str = "n1", **settings: Any) -> ControlNode:
    members = settings.pop("members", None) or {name: free_address()}
    return ControlNode(name, tmp_path / name, members=members, raft_config=QUICK, **settings)


async def fetched(url: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


def test_a_node_serves_rpc_etcd_and_http_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    async def test() -> None:
        node = node_at(tmp_path)
        async with node:
            async with await kv.connect(node.endpoints.rpc) as store:
                await store.put("a", "1")
                lease = await store.grant(30)
                assert await store.renew(lease.lease) == 30
                assert 0 < (await store.remaining(lease.lease)).ttl_s <= 30
                while not (await store.members())[0].endpoints:
                    await asyncio.sleep(0.01)
                assert (await store.members())[0].endpoints == (node.endpoints.etcd,)
            host, _, port = node.endpoints.etcd.partition("://")[2].rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
            assert await fetched(node.endpoints.http + "/health") == (200, '{"health":"true"}\n')
            code, text = await fetched(node.endpoints.http + "/status.json?pretty")
            described = json.loads(text)
            assert (code, described["node"]["role"], described["members"][0]["name"]) == (200, "leader", "n1")
            assert (
                'onerack_kv_revision{node="n1",cluster="onerack"} 2\n'
                in (await fetched(node.endpoints.http + "/metrics"))[1]
            )
            assert (await fetched(node.endpoints.http + "/nothing"))[0] == 404
        async with node_at(tmp_path) as again, await kv.connect(again.endpoints.rpc) as store:
            found = await store.get("a")
            assert found is not None
            assert found.text == "1"

    asyncio.run(test())


def test_a_node_without_a_majority_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerack.cluster.control._HEALTHY_S", 0.05)

    async def test() -> None:
        async with node_at(tmp_path, members={"n1": free_address(), "n2": free_address()}) as node:
            code, text = await fetched(node.endpoints.http + "/health")
            assert (code, json.loads(text)["health"]) == (503, "false")

    asyncio.run(test())


def test_an_address_that_is_taken_leaves_nothing_open(tmp_path: Path) -> None:
    async def test() -> None:
        async with node_at(tmp_path) as first:
            taken = first.endpoints.http.replace("http://", "tcp://")
            for settings in ({"etcd": taken}, {"http": taken}):
                with pytest.raises(UsageError, match="listen"):
                    await node_at(tmp_path, "n2", **settings).start()
            async with node_at(tmp_path, "n2"):  # its directory was let go
                pass

    asyncio.run(test())


def test_a_leader_that_ends_hands_over_first(tmp_path: Path) -> None:
    async def test() -> None:
        members = {f"n{number}": free_address() for number in range(1, 4)}
        nodes = {name: node_at(tmp_path, name, members=members) for name in members}
        await asyncio.gather(*(node.start() for node in nodes.values()))
        try:
            await asyncio.gather(*(node.node.catch_up() for node in nodes.values()))
            leader = next(name for name, node in nodes.items() if node.node.is_leader)
            term = nodes[leader].node.term
            await nodes.pop(leader).close()
            successor = next(iter(nodes.values())).node
            await successor.catch_up()
            assert successor.leader in nodes
            assert successor.term == term + 1  # an office handed on, and no election beside
        finally:
            await asyncio.gather(*(node.close(hand_over=False) for node in nodes.values()))

    asyncio.run(test())


def test_metrics_escape_what_a_name_may_hold(tmp_path: Path) -> None:
    status = kv.NodeStatus('n"1\\', "leader", "", "", "c\n", 1, 2, 3, 4, -1, 5, False, "0")
    assert 'node="n\\"1\\\\",cluster="c\\n"' in metrics_text(status)


def test_clients_are_told_where_they_find_a_node_that_listens_everywhere(tmp_path: Path) -> None:
    async def test() -> None:
        async with node_at(tmp_path, etcd="tcp://0.0.0.0:0", insecure=True) as node:
            host, _, port = node.endpoints.etcd.partition("://")[2].rpartition(":")
            assert (host, int(port) > 0) == ("127.0.0.1", True)
        async with node_at(tmp_path, "n2", advertise_etcd="tcp://store.example:2379") as node:
            while not (known := node.node.book.get("n2")) or not known.endpoints:
                await asyncio.sleep(0.01)
            assert known.endpoints == ("tcp://store.example:2379",)
            assert node.endpoints.etcd == "http://store.example:2379"  # as etcd's clients write it

    asyncio.run(test())


def test_both_doors_have_the_same_users_and_tokens(tmp_path: Path) -> None:
    async def test() -> None:
        async with node_at(tmp_path) as node:
            async with await kv.connect(node.endpoints.rpc) as store:
                await store.auth.add_user("root", "secret")
                await store.auth.grant_role("root", "root")
                await store.auth.enable()
            async with await kv.connect(node.endpoints.rpc, user="root", password="secret") as store:
                await store.put("a", "native")
                (token,) = node.machine.auth.state.tokens
                async with connected(node.endpoints.etcd, token=token) as client:
                    assert (await client.call("Range", key=b"a")).kvs[0].value == b"native"
                    await client.call("UserChangePassword", name="root", password="new")
                with pytest.raises(kv.KvRefused, match="authentication failed"):
                    await store.put("a", "again")
            async with await kv.connect(node.endpoints.rpc, user="root", password="new") as store:
                assert await store.auth.users() == ["root"]

    asyncio.run(test())

"""The same calls, byte for byte, to us and to the real etcd: what comes back must be equal but for ids and terms.

etcdctl asks only what makes sense; here is the rest: empty requests, strange ranges, watches of all kinds, and the
services that it does not use.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.kv.messages import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from tests.kv.server.client import Client, StatusError, connected
from tests.kv.server.group import group
from tests.kv.server.theirs import etcd, needs_etcd, needs_etcdctl
from tests.rpc.links import run

pytestmark = [pytest.mark.etcd, needs_etcdctl, needs_etcd]


def put(key: bytes, value: bytes = b"", **fields: Any) -> Any:
    return RequestOp(request_put=PutRequest(key=key, value=value, **fields))


def get(key: bytes, **fields: Any) -> Any:
    return RequestOp(request_range=RangeRequest(key=key, **fields))


def delete(key: bytes, **fields: Any) -> Any:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, **fields))


def txn(**fields: Any) -> Any:
    return RequestOp(request_txn=TxnRequest(**fields))


def plain(message: Any) -> str:
    """As text, without what is a cluster's own."""
    message = type(message).FromString(message.SerializeToString())
    if message.DESCRIPTOR.name == "AlarmResponse":
        message.ClearField("header")  # etcd forgets it.
    elif "header" in message.DESCRIPTOR.fields_by_name and message.HasField("header"):
        message.header.cluster_id = message.header.member_id = message.header.raft_term = 0
        if message.DESCRIPTOR.name == "WatchResponse" and message.compact_revision:
            message.header.revision = 0  # So says etcd.
    return str(message)


async def outcome(client: Client, method: str, **fields: Any) -> str:
    try:
        return plain(await client.call(method, **fields))
    except StatusError as error:
        return f"{error.code} {error.text}"


KEY_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("Range", {}),
    ("Range", {"key": b"\0", "range_end": b"\0"}),
    ("Put", {}),
    ("Put", {"key": b"a", "value": b"1", "prev_kv": True}),
    ("Put", {"key": b"a", "value": b"2", "prev_kv": True}),
    ("Put", {"key": b"a", "value": b"2", "ignore_value": True}),
    ("Put", {"key": b"a", "lease": 5, "ignore_lease": True}),
    ("Put", {"key": b"b", "ignore_lease": True}),
    ("Put", {"key": b"b", "lease": 99}),
    ("LeaseGrant", {"ID": 5, "TTL": 500}),
    ("LeaseGrant", {"ID": 5, "TTL": 500}),
    ("LeaseGrant", {"TTL": 9_000_000_001}),
    ("Put", {"key": b"b", "value": b"x", "lease": 5}),
    ("Put", {"key": b"b", "value": b"y", "ignore_lease": True}),
    ("Range", {"key": b"a", "range_end": b"c"}),
    ("Range", {"key": b"c", "range_end": b"a"}),
    ("Range", {"key": b"a", "range_end": b"a"}),
    ("Range", {"key": b"a", "range_end": b"\0", "keys_only": True}),
    ("Range", {"key": b"a", "range_end": b"\0", "count_only": True}),
    ("Range", {"key": b"a", "range_end": b"\0", "limit": 1}),
    ("Range", {"key": b"a", "range_end": b"\0", "limit": -1}),
    ("Range", {"key": b"a", "range_end": b"\0", "min_mod_revision": 3, "limit": 1}),
    ("Range", {"key": b"a", "range_end": b"\0", "max_mod_revision": 3}),
    ("Range", {"key": b"a", "range_end": b"\0", "min_create_revision": 4}),
    ("Range", {"key": b"a", "range_end": b"\0", "max_create_revision": 2}),
    ("Range", {"key": b"a", "range_end": b"\0", "sort_order": 2, "sort_target": 3}),
    ("Range", {"key": b"a", "range_end": b"\0", "sort_target": 4}),
    ("Range", {"key": b"a", "range_end": b"\0", "sort_order": 9, "sort_target": 9}),
    ("Range", {"key": b"a", "revision": -3}),
    ("Range", {"key": b"a", "revision": 2}),
    ("Range", {"key": b"a", "revision": 1000, "serializable": True}),
    ("Txn", {}),
    ("Txn", {"success": [put(b"")]}),
    ("Txn", {"success": [get(b"")]}),
    ("Txn", {"success": [RequestOp()]}),
    ("Txn", {"compare": [Compare()]}),
    ("Txn", {"success": [get(b"a")] * 128}),
    ("Txn", {"success": [get(b"a")] * 129}),
    ("Txn", {"success": [put(b"t", b"1"), get(b"t"), delete(b"u"), get(b"a", revision=2)]}),
    ("Txn", {"success": [put(b"t"), put(b"t")]}),
    ("Txn", {"success": [put(b"t"), delete(b"a", range_end=b"z")]}),
    ("Txn", {"success": [delete(b"t"), delete(b"t")]}),
    ("Txn", {"success": [get(b"a", revision=999), put(b"t")]}),
    ("Txn", {"success": [put(b"t", ignore_value=True), put(b"none", ignore_value=True)]}),
    ("Txn", {"success": [put(b"t", lease=98)]}),
    ("Txn", {"success": [txn(success=[put(b"n", b"1"), get(b"n")], failure=[put(b"n", b"2")]), get(b"n")]}),
    ("Txn", {"success": [txn(success=[put(b"n")]), put(b"n")]}),
    ("Txn", {"compare": [Compare(key=b"a", target=3, value=b"2")], "failure": [put(b"f")], "success": [get(b"a")]}),
    ("Txn", {"compare": [Compare(key=b"none", target=3, value=b"")], "success": [get(b"a")], "failure": [get(b"b")]}),
    ("Txn", {"compare": [Compare(key=b"none", target=0, version=0)], "success": [get(b"a")]}),
    ("Txn", {"compare": [Compare(key=b"a", range_end=b"c", target=0, result=1, version=0)], "success": [get(b"a")]}),
    ("Txn", {"compare": [Compare(key=b"b", target=4, lease=5)], "success": [get(b"a")]}),
    ("Txn", {"success": [delete(b"t", prev_kv=True), delete(b"x", range_end=b"z")]}),
    ("DeleteRange", {}),
    ("DeleteRange", {"key": b"n", "prev_kv": True}),
    ("DeleteRange", {"key": b"n"}),
    ("DeleteRange", {"key": b"z", "range_end": b"a"}),
    ("Compact", {"revision": 0}),
    ("Compact", {"revision": 4}),
    ("Compact", {"revision": 4}),
    ("Compact", {"revision": -1}),
    ("Range", {"key": b"a", "revision": 3}),
    ("Range", {"key": b"a", "revision": 4}),
    ("Txn", {"success": [get(b"a", revision=3)]}),
    ("Txn", {"success": [get(b"a", revision=3), put(b"t")]}),
    ("LeaseTimeToLive", {"ID": 1}),
    ("LeaseTimeToLive", {"ID": 1, "keys": True}),
    ("LeaseLeases", {}),
    ("LeaseRevoke", {}),
    ("LeaseRevoke", {"ID": 5}),
    ("Range", {"key": b"b"}),
    ("HashKV", {"revision": 2}),
    ("HashKV", {"revision": 999}),
    ("Alarm", {}),
    ("Alarm", {"action": 1, "memberID": 7, "alarm": 1}),
    ("Alarm", {"action": 1, "memberID": 7, "alarm": 1}),
    ("Put", {"key": b"full"}),
    ("LeaseGrant", {"TTL": 500, "ID": 6}),
    ("Txn", {"success": [put(b"full")]}),
    ("Txn", {"success": [get(b"a")]}),
    ("DeleteRange", {"key": b"a"}),
    ("Alarm", {"action": 0, "alarm": 1}),
    ("Alarm", {"action": 2, "memberID": 7, "alarm": 1}),
    ("Alarm", {"action": 2, "memberID": 7, "alarm": 1}),
    ("Put", {"key": b"last"}),
    ("MemberAdd", {}),
    ("MemberAdd", {"peerURLs": ["nonsense"]}),
    ("MemberRemove", {"ID": 1}),
    ("MemberUpdate", {"ID": 1, "peerURLs": ["http://127.0.0.1:1"]}),
    ("MemberUpdate", {"ID": 1}),
    ("MemberPromote", {"ID": 1}),
    ("MoveLeader", {"targetID": 1}),
    ("UserAdd", {}),
    ("UserGet", {}),
    ("UserDelete", {}),
    ("UserChangePassword", {"name": "x", "password": "y"}),
    ("RoleAdd", {}),
    ("RoleGet", {}),
    ("RoleDelete", {}),
    ("RoleAdd", {"name": "r"}),
    ("RoleGrantPermission", {"name": "r", "perm": {"key": b""}}),
    ("RoleGrantPermission", {"name": "r", "perm": {"key": b"k", "range_end": b"a"}}),
    ("RoleGet", {"role": "r"}),
    ("Authenticate", {"name": "x", "password": "y"}),
    ("/v3lockpb.Lock/Lock", {"name": b"l", "lease": 99}),
    ("LeaseGrant", {"TTL": 500, "ID": 11}),
    ("/v3lockpb.Lock/Lock", {"name": b"l", "lease": 11}),
    ("/v3lockpb.Lock/Lock", {"name": b"l", "lease": 11}),
    ("/v3lockpb.Lock/Unlock", {"key": b"l/b"}),
    ("/v3lockpb.Lock/Unlock", {"key": b"l/b"}),
    ("/v3lockpb.Lock/Unlock", {}),
    ("Leader", {"name": b"e"}),
    ("Proclaim", {"value": b"v"}),
    ("Resign", {}),
    ("Campaign", {"name": b"e", "lease": 11, "value": b"v"}),
    ("Campaign", {"name": b"e", "lease": 11, "value": b"w"}),
    ("Leader", {"name": b"e"}),
    ("Proclaim", {"leader": {"name": b"e", "key": b"e/b", "rev": 1, "lease": 11}, "value": b"x"}),
    ("Resign", {"leader": {"name": b"e", "key": b"e/b", "rev": 1, "lease": 11}}),
    ("Leader", {"name": b"e"}),
    ("AuthStatus", {}),
    ("Downgrade", {}),
]


def call_name(method: str, fields: dict[str, Any]) -> str:
    return f"{method} {fields}"


OTHERWISE = {
    call_name("/v3lockpb.Lock/Lock", {"name": b"l", "lease": 99}): "the same text, but etcd has lost its code (5)",
    call_name("/v3lockpb.Lock/Unlock", {}): "the same text, but etcd has lost its code (3)",
    call_name("AuthStatus", {}): "newer than 3.4",
}
"""Where we are not as etcd, and why. Not asked: to grant a role no permission, of which every node of etcd 3.4 dies."""


def test_every_call_has_the_same_outcome(tmp_path: Path) -> None:
    async def outcomes(address: str) -> list[str]:
        async with connected(address) as client:
            return [
                f"{call_name(method, fields)}: {await outcome(client, method, **fields)}"
                for method, fields in KEY_CALLS
            ]

    async def main() -> None:
        async with group(tmp_path) as found, etcd(tmp_path) as there:
            ours, theirs = await asyncio.gather(outcomes(found.places["n1"].address), outcomes(f"tcp://{there}"))
            pairs = [
                pair
                for pair, (method, fields) in zip(zip(ours, theirs, strict=True), KEY_CALLS, strict=True)
                if call_name(method, fields) not in OTHERWISE
            ]
            assert [one for one, _ in pairs] == [other for _, other in pairs]

    run(main())


WATCHES: list[dict[str, Any]] = [
    {"create_request": {"key": b"w"}},
    {"create_request": {"key": b"w", "range_end": b"x", "prev_kv": True}},
    {"create_request": {"key": b"w", "range_end": b"\0", "start_revision": 3, "filters": [1]}},
    {"create_request": {"start_revision": 4}},
    {"create_request": {"key": b"w", "range_end": b"a"}},
    {"create_request": {"key": b"w", "watch_id": 9, "start_revision": 1000}},
    {"create_request": {"key": b"w", "watch_id": 9}},
    {"create_request": {"key": b"w1", "start_revision": 2}},
    {"create_request": {"key": b"w", "watch_id": -5}},
    {"progress_request": {}},
    {"cancel_request": {"watch_id": 1234}},
    {"cancel_request": {"watch_id": 9}},
    {"create_request": {"key": b"w", "watch_id": 9}},
    {},
]


def test_watches_hear_the_same(tmp_path: Path) -> None:
    async def heard(address: str) -> list[str]:
        found: dict[int, list[str]] = {}
        async with connected(address) as client:
            for n in range(3):
                await client.call("Put", key=b"w%d" % n, value=b"before")
            await client.call("Compact", revision=3)
            watch = client.open("Watch")
            for request in WATCHES:
                watch.send(**request)
                await asyncio.sleep(0.05)
            await client.call("Put", key=b"w", value=b"1")
            await client.call("Txn", success=[put(b"w", b"2"), put(b"w5", b"3"), delete(b"w1")])
            await client.call("DeleteRange", key=b"w")
            await client.call("Put", key=b"w9", value=b"end")
            while not any("end" in one for one in found.get(1, [])):
                response = await watch.receive()
                for event in response.events:
                    # Whether two revisions come in one answer is a matter of time.
                    found.setdefault(response.watch_id, []).append(str(event))
                if not response.events:
                    found.setdefault(response.watch_id, []).append(plain(response))
            await asyncio.sleep(0.3)
            while watch.has_news:
                response = await watch.receive()
                found.setdefault(response.watch_id, []).extend(map(str, response.events))
        return [f"{number}: {told}" for number in sorted(found) for told in found[number]]

    async def main() -> None:
        async with group(tmp_path) as found, etcd(tmp_path) as there:
            ours, theirs = await asyncio.gather(heard(found.places["n1"].address), heard(f"tcp://{there}"))
            assert ours == theirs

    run(main())

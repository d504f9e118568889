"""Alarms: what is let through while one is raised, and how room is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onerack.config import KvConfig
from onerack.kv import messages
from onerack.kv.core import Kind, errors
from onerack.kv.messages import CORRUPT, NONE, NOSPACE, AlarmRequest
from tests.kv.core.client import Client, delete_op, put_op, range_op, refused, txn_op

GET, ACTIVATE, DEACTIVATE = AlarmRequest.GET, AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE


@pytest.fixture
def client() -> Client:
    client = Client()
    client.grant(7)
    client.put(b"a", lease=7)
    return client


def test_an_alarm_is_raised_listed_and_taken_back(client: Client) -> None:
    raised = client.command(Kind.ALARM_BY_NODE, action=ACTIVATE, memberID=1, alarm=NOSPACE)
    assert [(alarm.memberID, alarm.alarm) for alarm in raised.alarms] == [(1, NOSPACE)]
    client.command(Kind.ALARM, action=ACTIVATE, memberID=2, alarm=NOSPACE)
    assert len(client.command(Kind.ALARM, action=GET, alarm=NONE).alarms) == 2
    assert len(client.command(Kind.ALARM, action=GET, alarm=CORRUPT).alarms) == 0
    client.command(Kind.ALARM, action=DEACTIVATE, memberID=1, alarm=NOSPACE)
    with refused(errors.NO_SPACE):
        client.put(b"b")
    client.command(Kind.ALARM, action=DEACTIVATE, memberID=2, alarm=NOSPACE)
    client.put(b"b")
    assert len(client.command(Kind.ALARM, action=DEACTIVATE, memberID=2, alarm=NOSPACE).alarms) == 0


def test_without_space_only_what_makes_room_is_taken(client: Client) -> None:
    client.command(Kind.ALARM, action=ACTIVATE, memberID=1, alarm=NOSPACE)
    with refused(errors.NO_SPACE):
        client.put(b"b")
    with refused(errors.NO_SPACE):
        client.grant(8)
    for ops in ([put_op(b"b")], [txn_op([], [], [put_op(b"b")])]):
        with refused(errors.NO_SPACE):
            client.txn([], [], ops)
    client.txn([], [delete_op(b"b"), range_op(b"a")])
    client.delete(b"b")
    assert client.get(b"a") == b""
    client.revoke(7)
    client.compact(client.revision)


def test_a_request_without_sense_is_told_so_rather_than_that_the_disk_is_full(client: Client) -> None:
    client.command(Kind.ALARM, action=ACTIVATE, memberID=1, alarm=NOSPACE)
    with refused(errors.EMPTY_KEY):
        client.put(b"")


def test_with_damaged_data_nothing_is_answered(client: Client) -> None:
    client.command(Kind.ALARM, action=ACTIVATE, memberID=1, alarm=CORRUPT)
    calls: list[Callable[[], object]] = [
        lambda: client.put(b"b"),
        lambda: client.delete(b"a"),
        lambda: client.range(b"a"),
        lambda: client.txn([], [range_op(b"a")]),
        lambda: client.compact(1),
        lambda: client.grant(8),
        lambda: client.revoke(7),
    ]
    for call in calls:
        with refused(errors.CORRUPT_CLUSTER):
            call()
    client.command(Kind.ALARM, action=DEACTIVATE, memberID=1, alarm=CORRUPT)
    client.put(b"b")


def test_room_is_what_the_quota_leaves() -> None:
    client = Client(KvConfig(quota_bytes=1000))
    put = messages.PutRequest(key=b"a", value=b"v" * 100).SerializeToString()
    assert not client.machine.lacks_room(Kind.PUT, put)
    for _ in range(2):
        client.put(b"a", b"v" * 100)
    assert client.machine.lacks_room(Kind.PUT, put)
    reads = messages.TxnRequest(success=[range_op(b"a"), delete_op(b"a")]).SerializeToString()
    writes = messages.TxnRequest(failure=[txn_op([], [put_op(b"a", b"v" * 100)])]).SerializeToString()
    assert not client.machine.lacks_room(Kind.TXN, reads)
    assert client.machine.lacks_room(Kind.TXN, writes)
    assert not client.machine.lacks_room(Kind.TXN, b"\xff")
    assert not client.machine.lacks_room(Kind.DELETE_RANGE, put)
    client.compact(3)
    client.delete(b"nothing")
    assert not client.machine.lacks_room(Kind.PUT, put)

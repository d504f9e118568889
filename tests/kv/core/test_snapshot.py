"""Snapshots: whole, consistent although puts go on, in small steps; and checksums, which tell equal stores."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from onerack.kv import messages
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.core.commands import log_in
from onerack.kv.core.snapshot import PIECE_BYTES
from onerack.kv.core.store import SLICE
from onerack.kv.invariants import check_state, moment_of
from onerack.kv.messages import AlarmRequest, Permission
from tests.kv.core.client import Client, delete_op, put_op


def put(key: bytes, value: bytes = b"") -> bytes:
    return encode_command(Kind.PUT, b"", messages.PutRequest(key=key, value=value).SerializeToString())


def everything() -> Client:
    """A store with something of all there is."""
    client = Client()
    client.grant(7, 60)
    client.grant(0, 60)
    client.take_over(3)
    for number in range(40):
        client.put(b"%d" % (number % 7), b"v%d" % number, lease=7 if number % 5 == 0 else 0)
    client.txn([], [delete_op(b"1", b"3"), put_op(b"new")])
    client.compact(20)
    client.command(Kind.ALARM, action=AlarmRequest.ACTIVATE, memberID=5, alarm=messages.NOSPACE)
    client.command(Kind.USER_ADD, name="root", hashedPassword="hash")
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    client.command(Kind.ROLE_ADD, name="r")
    client.command(Kind.ROLE_GRANT_PERMISSION, name="r", perm=Permission(key=b"a", range_end=b"b", permType=2))
    client.command(Kind.AUTH_ENABLE)
    client.apply(Kind.LOG_IN, log_in("root", "token"))
    return client


def restored(pieces: Iterator[bytes] | list[bytes]) -> KvMachine:
    machine = KvMachine()
    machine.restore(iter(pieces))
    check_state(machine)
    return machine


def test_a_restored_store_is_the_same_and_stays_the_same() -> None:
    client = everything()
    machine = restored(client.machine.snapshot())
    assert moment_of(machine) == moment_of(client.machine)
    assert b"".join(machine.snapshot()) == b"".join(client.machine.snapshot())
    client.twin = machine  # From here on both get the same commands, and are compared after each.
    client.user = "root"
    client.command(Kind.ALARM, action=AlarmRequest.DEACTIVATE, memberID=5, alarm=messages.NOSPACE)
    client.grant(0)
    client.put(b"6", lease=7)
    client.compact(30)
    client.expire(7, term=2)
    client.expire(7, term=3)
    client.put(b"x")
    assert client.range(b"5", revision=35).kvs == client.range(b"5", revision=35).kvs


def test_a_snapshot_is_as_of_its_call_whatever_is_done_meanwhile() -> None:
    random = Random(1)
    machine = KvMachine()
    for number in range(3 * SLICE):
        machine.apply(put(b"%d" % random.randrange(2 * SLICE), b"%d" % number), False)
    machine.apply(
        encode_command(Kind.COMPACT, b"", messages.CompactionRequest(revision=SLICE).SerializeToString()), False
    )
    while not machine.store.sweep():
        pass
    expected = moment_of(machine)
    pieces = []
    for number, piece in enumerate(machine.snapshot()):
        pieces.append(piece)
        for _ in range(50):
            machine.apply(put(b"%d" % random.randrange(3 * SLICE), b"new"), False)
        gone = messages.DeleteRangeRequest(key=b"%d" % number, range_end=b"%d~" % number)
        machine.apply(encode_command(Kind.DELETE_RANGE, b"", gone.SerializeToString()), False)
        now = messages.CompactionRequest(revision=machine.revision)
        machine.apply(encode_command(Kind.COMPACT, b"", now.SerializeToString()), False)
    assert len(pieces) > 6
    assert moment_of(restored(pieces)) == expected
    machine.apply(put(b"after"), False)
    assert machine.store.unswept > SLICE, "the walk is over, the sweeper works again"
    check_state(machine)


def test_the_sweeper_waits_for_a_snapshot_that_was_not_begun_to_be_read_and_not_for_one_that_is_forgotten() -> None:
    machine = KvMachine()
    for _ in range(10):
        machine.apply(put(b"a"), False)
    pieces = machine.snapshot()
    machine.store.compact(11)
    machine.apply(put(b"a"), False)
    assert len(machine.store.versions_of(b"a")) == 11
    del pieces
    machine.apply(put(b"a"), False)
    assert len(machine.store.versions_of(b"a")) < 11


def test_pieces_are_small_also_when_a_value_is_large() -> None:
    machine = KvMachine()
    machine.apply(put(b"large", b"v" * (PIECE_BYTES + 5)), False)
    for number in range(10):
        machine.apply(put(b"%d" % number, b"v" * 200_000), False)
    pieces = list(machine.snapshot())
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    assert moment_of(restored(pieces)) == moment_of(machine)


def test_pieces_may_be_cut_anywhere_on_their_way() -> None:
    machine = everything().machine
    whole = b"".join(machine.snapshot())
    for size in (1, 7, 1000):
        pieces = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
        assert moment_of(restored(pieces)) == moment_of(machine)


def test_a_snapshot_that_is_cut_short_is_refused_and_changes_nothing() -> None:
    whole = b"".join(everything().machine.snapshot())
    machine = KvMachine()
    machine.apply(put(b"a"), False)
    before = moment_of(machine)
    for size in range(0, len(whole), 13):
        with pytest.raises(AssertionError):
            machine.restore(iter([whole[:size]]))
        assert moment_of(machine) == before


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    for nonsense in (b"\xff" * 100, b"\x01\x00\x00\x00\xc0", b"\x05\x00\x00\x00hello"):
        with pytest.raises(AssertionError):
            KvMachine().restore(iter([nonsense]))


# ------------------------------------------------------------------------------------------------ checksums


def test_the_checksum_does_not_know_what_is_swept_away() -> None:
    client = everything()
    twin = restored(client.machine.snapshot())
    while not client.machine.store.sweep():
        pass
    assert client.machine.hash_kv() == twin.hash_kv()
    assert client.machine.hash_kv(30) == twin.hash_kv(30)


def test_the_checksum_does_not_know_a_compacted_deletion() -> None:
    client = Client()
    client.put(b"a")
    client.delete(b"a")
    client.compact(3)
    before = client.machine.hash_kv()
    while not client.machine.store.sweep():
        pass
    assert client.machine.hash_kv() == before


def test_a_restored_store_never_draws_the_id_of_a_lease_that_is_over() -> None:
    client = Client()
    over = client.grant(0).ID
    client.revoke(over)
    machine = restored(client.machine.snapshot())
    client.twin = machine
    assert over != client.grant(0).ID


def test_the_checksum_knows_every_field_that_can_be_read() -> None:
    def hash_of(*commands: bytes) -> int:
        machine = KvMachine()
        for command in (encode_command(5, b"", messages.LeaseGrantRequest(ID=7, TTL=9).SerializeToString()), *commands):
            machine.apply(command, False)
        return machine.hash_kv()

    leased = encode_command(1, b"", messages.PutRequest(key=b"a", value=b"1", lease=7).SerializeToString())
    deleted = encode_command(2, b"", messages.DeleteRangeRequest(key=b"a").SerializeToString())
    hashes = [
        hash_of(),
        hash_of(put(b"a", b"1")),
        hash_of(put(b"a", b"2")),
        hash_of(put(b"b", b"1")),
        hash_of(leased),
        hash_of(put(b"a", b"1"), put(b"a", b"1")),
        hash_of(put(b"b", b"1"), put(b"a", b"1")),
        hash_of(put(b"a", b"1"), deleted),
    ]
    assert len(set(hashes)) == len(hashes)


def test_a_checksum_is_made_in_steps_and_does_not_see_what_comes_meanwhile() -> None:
    machine = KvMachine()
    for number in range(3 * SLICE):
        machine.apply(put(b"%d" % number), False)
    expected = machine.hash_kv()
    walk = machine.hash_walk()
    steps = 0
    while walk.step():
        steps += 1
        machine.apply(put(b"%d" % steps, b"new"), False)
    assert steps == 3
    assert walk.value == expected
    assert machine.hash_kv(walk.revision) == expected
    assert machine.hash_kv() != expected

"""Bugs that etcd has had in its store and its watches, each by its number: this store must not have them.

Each test is the story of the report, told to this store; they are the ones that do not need a disk or a network. The
others are in tests/kv/server/test_known_bugs_on_disk.py.
"""

from __future__ import annotations

from onerack.kv import messages
from onerack.kv.core import Kind, KvMachine, encode_command, errors
from onerack.kv.core.watch import PASS_REVISIONS
from tests.kv.core.client import Client, compare, put_op, range_op, refused, txn_op
from tests.kv.core.test_watch import Watching


def test_13766_the_revision_is_the_same_wherever_a_member_has_crashed() -> None:
    """What was applied and how far it was applied were written apart: after a crash in between a command ran twice."""
    client = Client()
    client.command(Kind.LEASE_GRANT, ID=7, TTL=100)
    for number in range(12):
        client.put(b"k%d" % (number % 5), b"v%d" % number, lease=7 if number % 3 == 0 else 0)
        client.delete(b"k%d" % (number % 7))  # Some of them change nothing.
        client.txn([compare(b"k1", "EQUAL", "VERSION", version=1)], [put_op(b"t"), put_op(b"u")])
        with refused(errors.LEASE_NOT_FOUND):
            client.put(b"k", lease=99)
    client.compact(9)
    client.command(Kind.LEASE_REVOKE, ID=7)
    for crashed_at in range(len(client.log) + 1):
        before, after = KvMachine(), KvMachine()
        for command in client.log[:crashed_at]:
            before.apply(command, False)
        after.restore(before.snapshot())
        for command in client.log[crashed_at:]:
            after.apply(command, False)
        assert after.revision == client.revision, crashed_at
        assert after.hash_kv() == client.machine.hash_kv(), crashed_at


def test_14571_enabling_authentication_lets_no_two_members_diverge() -> None:
    """The permission was looked at when a request arrived, on one member with old knowledge and on another with new."""
    client = Client()
    client.command(Kind.USER_ADD, name="root")
    client.command(Kind.USER_GRANT_ROLE, user="root", role="root")
    client.command(Kind.AUTH_ENABLE)
    client.user = "root"
    client.command(Kind.USER_ADD, name="u")
    client.user = "u"
    with refused(errors.PERMISSION_REFUSED):
        client.put(b"a")
    restored = KvMachine()
    restored.restore(client.machine.snapshot())
    put = encode_command(Kind.PUT, b"u", messages.PutRequest(key=b"a").SerializeToString())
    answers = [machine.apply(put, True) for machine in (client.machine, client.twin, restored)]
    assert answers == [errors.PERMISSION_REFUSED] * 3
    assert len({machine.hash_kv() for machine in (client.machine, client.twin, restored)}) == 1


def test_15220_a_progress_notice_is_not_ahead_of_the_streams_events() -> None:
    watching = Watching()
    for _ in range(PASS_REVISIONS * 2):
        watching.client.machine.apply(b"\x01\x00\x0a\x01a", False)
    watching.hub.advance()
    watching.create(b"a", start_revision=2)
    watching.hub.ask_progress(1)
    told = 0
    for response in watching.told():
        if response.watch_id == -1:
            assert told >= response.header.revision
        told = max([told, *(event.kv.mod_revision for event in response.events)])
    assert told == watching.client.revision


def test_15220_progress_waits_for_what_was_applied_but_not_told() -> None:
    watching = Watching()
    watching.create(b"a")
    watching.told()
    watching.client.put(b"a")
    watching.hub.ask_progress(1)
    event, progress = watching.told()
    assert (event.events[0].kv.mod_revision, progress.watch_id, progress.header.revision) == (2, -1, 2)


def test_15271_a_watch_does_not_go_back_in_time_after_a_partition() -> None:
    """A member that was cut off gets a snapshot; its watchers had been told part of what is in it."""
    watching = Watching()
    watching.create(b"a", b"\0")
    for number in range(5):
        watching.client.put(b"%c" % (97 + number))
    seen = [revision for *_, revision in watching.events()]
    ahead = Client()
    ahead.machine.restore(watching.client.machine.snapshot())
    ahead.twin.restore(watching.client.machine.snapshot())
    ahead.put(b"a")
    ahead.compact(4)
    watching.client.machine.restore(ahead.machine.snapshot())
    seen += [revision for *_, revision in watching.events()]
    assert seen == [2, 3, 4, 5, 6, 7]


def test_17247_no_duplicate_event_comes_from_a_transaction() -> None:
    watching = Watching()
    watching.create(b"a")
    watching.create(b"a", b"c")
    watching.client.txn([], [put_op(b"a"), txn_op([], [put_op(b"b"), range_op(b"a")]), range_op(b"a")])
    assert watching.events() == [(0, "PUT", b"a", 2), (1, "PUT", b"a", 2), (1, "PUT", b"b", 2)]


def test_17529_a_starved_stream_loses_no_events() -> None:
    """Compaction came while the event waited for a slow stream, which then skipped it in silence."""
    watching = Watching()
    watching.create(b"a", b"\0")
    watching.told()
    for _ in range(3):
        watching.client.put(b"a")
    watching.client.compact(4)
    for _ in range(5):
        watching.client.put(b"a")  # Each of them may sweep.
    assert [revision for *_, revision in watching.events()] == list(range(2, 10))


def test_17780_the_revision_does_not_fall_when_a_compacted_store_is_restored() -> None:
    """The last revision was a deletion, and compaction took it away."""
    client = Client()
    client.put(b"a")
    client.delete(b"a")
    client.compact(3)
    while not client.machine.store.sweep():
        pass
    restored = KvMachine()
    restored.restore(client.machine.snapshot())
    assert restored.revision == 3
    assert restored.store.compacted == 3


def test_18089_compaction_at_a_deletion_does_not_drop_its_event() -> None:
    watching = Watching()
    watching.client.put(b"a")
    watching.client.delete(b"a")
    watching.client.put(b"b")
    watching.client.compact(3)
    while not watching.client.machine.store.sweep():
        pass
    watching.create(b"a", start_revision=3)
    assert watching.events() == [(0, "DELETE", b"a", 3)]


def test_18667_a_compacted_revision_read_in_a_transaction_refuses_it_whole() -> None:
    client = Client()
    for _ in range(4):
        client.put(b"a")
    client.compact(4)
    for ops in ([put_op(b"b"), range_op(b"a", revision=3)], [txn_op([], [put_op(b"b"), range_op(b"a", revision=2)])]):
        with refused(errors.COMPACTED):
            client.txn([], ops)
    with refused(errors.COMPACTED):
        client.read_txn([compare(b"a", "EQUAL", "VERSION", version=4)], [range_op(b"a", revision=3)])
    assert client.get(b"b") is None


def test_19179_a_watch_opened_at_the_compacted_revision_does_not_miss_a_deletion() -> None:
    """Also when the store has come by a snapshot since."""
    watching = Watching()
    watching.client.put(b"a")
    watching.client.put(b"b")
    watching.client.txn([], [put_op(b"c")])
    watching.client.delete(b"a", b"c")
    watching.client.compact(5)
    while not watching.client.machine.store.sweep():
        pass
    other = Watching()
    other.client.machine.restore(watching.client.machine.snapshot())
    for each in (watching, other):
        each.create(b"a", b"\0", start_revision=5)
        assert each.events() == [(0, "DELETE", b"a", 5), (0, "DELETE", b"b", 5)]


def test_20221_a_watch_on_a_future_revision_gets_no_old_events() -> None:
    watching = Watching()
    watching.client.put(b"a")
    watching.create(b"a", start_revision=5)
    for _ in range(2):
        watching.client.put(b"a")
    ahead = Client()
    for _ in range(3):
        ahead.put(b"a")
    assert watching.events() == []
    watching.client.machine.restore(ahead.machine.snapshot())
    assert watching.events() == []
    watching.client.machine.apply(b"\x01\x00\x0a\x01a", False)
    assert watching.events() == [(0, "PUT", b"a", 5)]

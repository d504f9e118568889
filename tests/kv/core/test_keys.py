"""One test per sentence of what etcd promises of keys: revisions, ranges, puts, deletions, compaction.

Whatever is said here was also seen from a real etcd 3.4.23: thousands of random requests were given to it and to this
store, and every response was the same, field by field.
"""

from __future__ import annotations

import pytest

from onerack.kv import messages
from onerack.kv.core import errors
from onerack.kv.messages import RangeRequest
from tests.kv.core.client import Client, put_op, refused


@pytest.fixture
def client() -> Client:
    return Client()


# ------------------------------------------------------------------------------------------------ revisions


def test_the_revision_of_an_empty_store_is_one(client: Client) -> None:
    assert client.range(b"k").header.revision == 1


def test_a_writing_command_adds_exactly_one(client: Client) -> None:
    assert client.put(b"a").header.revision == 2
    assert client.txn([], [put_op(b"b"), put_op(b"c"), put_op(b"d")]).header.revision == 3
    assert client.delete(b"a", b"\0").header.revision == 4


def test_a_command_that_changes_nothing_adds_none(client: Client) -> None:
    client.put(b"a")
    assert client.delete(b"z").header.revision == 2
    assert client.txn([], []).header.revision == 2
    assert client.compact(2).header.revision == 2


def test_a_put_of_the_same_value_is_a_change_too(client: Client) -> None:
    client.put(b"a", b"v")
    assert client.put(b"a", b"v").header.revision == 3


def test_a_key_has_the_revisions_of_its_creation_and_of_its_last_change_and_counts_versions(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"other")
    client.put(b"a", b"2")
    (kv,) = client.range(b"a").kvs
    assert (kv.create_revision, kv.mod_revision, kv.version, kv.value) == (2, 4, 2, b"2")


def test_a_key_that_was_deleted_begins_anew(client: Client) -> None:
    client.put(b"a")
    client.put(b"a")
    client.delete(b"a")
    client.put(b"a")
    (kv,) = client.range(b"a").kvs
    assert (kv.create_revision, kv.mod_revision, kv.version) == (5, 5, 1)


def test_the_header_says_who_answers(client: Client) -> None:
    client.machine.cluster_id, client.machine.member_id, client.machine.raft_term = 7, 1 << 63, 3
    for response in (client.put(b"a"), client.range(b"a"), client.delete(b"a"), client.txn([], [])):
        assert (response.header.cluster_id, response.header.member_id, response.header.raft_term) == (7, 1 << 63, 3)


# ------------------------------------------------------------------------------------------------ ranges


@pytest.fixture
def alphabet(client: Client) -> Client:
    """a b c d, put in the order c a d b, so that revisions have another order than keys."""
    for key in (b"c", b"a", b"d", b"b"):
        client.put(key, b"value of " + key)
    return client


def test_an_empty_range_end_means_one_key(alphabet: Client) -> None:
    assert alphabet.keys(b"b") == [b"b"]
    assert alphabet.keys(b"bb") == []


def test_a_range_does_not_hold_its_end(alphabet: Client) -> None:
    assert alphabet.keys(b"b", b"d") == [b"b", b"c"]


def test_a_range_end_of_one_zero_byte_means_all_from_the_key_on(alphabet: Client) -> None:
    assert alphabet.keys(b"b", b"\0") == [b"b", b"c", b"d"]
    assert alphabet.keys(b"\0", b"\0") == [b"a", b"b", b"c", b"d"]


def test_a_range_whose_end_is_not_behind_its_key_is_empty(alphabet: Client) -> None:
    assert alphabet.range(b"c", b"a").count == 0
    assert alphabet.range(b"c", b"c", revision=3).count == 0


def test_a_range_without_key_is_refused(client: Client) -> None:
    with refused(errors.EMPTY_KEY):
        client.range(b"", b"\0")


def test_count_ignores_the_limit_and_more_tells_of_it(alphabet: Client) -> None:
    response = alphabet.range(b"a", b"\0", limit=3)
    assert (len(response.kvs), response.count, response.more) == (3, 4, True)
    response = alphabet.range(b"a", b"\0", limit=4)
    assert (len(response.kvs), response.count, response.more) == (4, 4, False)


def test_keys_only_leaves_the_values_out(alphabet: Client) -> None:
    (kv,) = alphabet.range(b"a", keys_only=True).kvs
    assert (kv.value, kv.mod_revision) == (b"", 3)


def test_count_only_gives_no_keys_and_is_not_filtered(alphabet: Client) -> None:
    response = alphabet.range(b"a", b"\0", count_only=True, min_mod_revision=5)
    assert (list(response.kvs), response.count, response.more) == ([], 4, False)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"min_mod_revision": 4}, [b"b", b"d"]),
        ({"max_mod_revision": 3}, [b"a", b"c"]),
        ({"min_create_revision": 3, "max_create_revision": 4}, [b"a", b"d"]),
    ],
)
def test_filters_look_at_revisions(alphabet: Client, filters: dict[str, int], expected: list[bytes]) -> None:
    response = alphabet.range(b"a", b"\0", **filters)
    assert [kv.key for kv in response.kvs] == expected
    assert response.count == 4, "count is that of the range"


@pytest.mark.parametrize(
    ("target", "order", "expected"),
    [
        ("KEY", "DESCEND", b"dcba"),
        ("MOD", "ASCEND", b"cadb"),
        ("CREATE", "DESCEND", b"bdac"),
        ("VALUE", "ASCEND", b"abcd"),
        ("VERSION", "ASCEND", b"abcd"),
    ],
)
def test_an_order_by_a_target(alphabet: Client, target: str, order: str, expected: bytes) -> None:
    found = alphabet.keys(
        b"a",
        b"\0",
        sort_target=RangeRequest.SortTarget.Value(target),
        sort_order=RangeRequest.SortOrder.Value(order),
    )
    assert b"".join(found) == expected


def test_an_order_that_is_none_of_the_three_is_no_order(alphabet: Client) -> None:
    assert alphabet.keys(b"a", b"\0", sort_target=RangeRequest.MOD, sort_order=3) == [b"a", b"b", b"c", b"d"]


def test_with_an_order_or_a_filter_the_limit_comes_last(alphabet: Client) -> None:
    order = {"sort_target": RangeRequest.MOD, "sort_order": RangeRequest.DESCEND}
    assert alphabet.keys(b"a", b"\0", limit=1, **order) == [b"b"]
    response = alphabet.range(b"a", b"\0", limit=1, min_mod_revision=4)
    assert ([kv.key for kv in response.kvs], response.more) == ([b"b"], True)


def test_a_target_without_an_order_means_ascending_among_the_limit_and_one_more(alphabet: Client) -> None:
    assert alphabet.keys(b"a", b"\0", sort_target=RangeRequest.MOD) == [b"c", b"a", b"d", b"b"]
    # Of a and b, and c, which is the one more, c has the lowest revision.
    assert alphabet.keys(b"a", b"\0", sort_target=RangeRequest.MOD, limit=2) == [b"c", b"a"]


def test_an_old_revision_is_read_as_it_was(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"b", b"1")
    client.put(b"a", b"2")
    client.delete(b"b")
    assert client.get(b"a", 2) == b"1"
    assert client.get(b"b", 2) is None
    assert client.keys(b"a", b"\0", revision=4) == [b"a", b"b"]
    assert client.keys(b"a", b"\0", revision=5) == [b"a"]
    response = client.range(b"a", b"\0", revision=3, limit=1)
    assert (response.count, response.more, response.header.revision) == (2, True, 5)


def test_a_read_at_the_revision_of_a_change_sees_it(client: Client) -> None:
    client.put(b"a", b"1")
    client.put(b"a", b"2")
    client.put(b"b")
    assert [client.get(b"a", revision) for revision in (2, 3, 4)] == [b"1", b"2", b"2"]
    assert [kv.value for kv in client.range(b"a", b"\0", revision=3).kvs] == [b"2"]


def test_revision_zero_and_below_mean_now(client: Client) -> None:
    client.put(b"a", b"1")
    assert client.get(b"a", -5) == b"1"


def test_a_revision_of_the_future_is_refused(client: Client) -> None:
    client.put(b"a")
    with refused(errors.FUTURE_REVISION):
        client.range(b"a", revision=3)


# ------------------------------------------------------------------------------------------------ puts


def test_a_put_gives_the_previous_pair_if_asked(client: Client) -> None:
    assert not client.put(b"a", b"1", prev_kv=True).HasField("prev_kv")
    assert client.put(b"a", b"2", prev_kv=True).prev_kv.value == b"1"
    assert not client.put(b"a", b"3").HasField("prev_kv")


def test_ignore_value_keeps_the_value_and_needs_the_key(client: Client) -> None:
    with refused(errors.KEY_NOT_FOUND):
        client.put(b"a", ignore_value=True)
    client.put(b"a", b"1")
    client.put(b"a", ignore_value=True)
    (kv,) = client.range(b"a").kvs
    assert (kv.value, kv.version) == (b"1", 2)
    with refused(errors.VALUE_PROVIDED):
        client.put(b"a", b"2", ignore_value=True)


def test_ignore_lease_keeps_the_lease_and_needs_the_key(client: Client) -> None:
    client.grant(5)
    with refused(errors.KEY_NOT_FOUND):
        client.put(b"a", ignore_lease=True)
    client.put(b"a", lease=5)
    client.put(b"a", b"2", ignore_lease=True)
    assert client.range(b"a").kvs[0].lease == 5
    with refused(errors.LEASE_PROVIDED):
        client.put(b"a", lease=5, ignore_lease=True)


def test_a_put_without_lease_detaches_the_old_one(client: Client) -> None:
    client.grant(5)
    client.put(b"a", b"1", lease=5)
    client.put(b"a", b"2")
    client.revoke(5)
    assert client.get(b"a") == b"2"


def test_a_put_without_key_is_refused(client: Client) -> None:
    with refused(errors.EMPTY_KEY):
        client.put(b"", b"v")
    assert client.machine.apply(b"\x01\x00\x0a\x00\x12\x01v", True) == errors.EMPTY_KEY


# ------------------------------------------------------------------------------------------------ deletions


def test_a_deletion_counts_and_gives_the_previous_pairs_if_asked(alphabet: Client) -> None:
    response = alphabet.delete(b"a", b"c", prev_kv=True)
    assert (response.deleted, [kv.key for kv in response.prev_kvs]) == (2, [b"a", b"b"])
    response = alphabet.delete(b"c", b"\0")
    assert (response.deleted, len(response.prev_kvs)) == (2, 0)
    assert alphabet.range(b"\0", b"\0").count == 0


def test_a_deletion_without_key_is_refused(client: Client) -> None:
    with refused(errors.EMPTY_KEY):
        client.delete(b"")


# ------------------------------------------------------------------------------------------------ compaction


@pytest.fixture
def compacted(client: Client) -> Client:
    """a was 1 at revision 2, 2 at 3, deleted at 5; b came at 4; compacted at 4."""
    client.put(b"a", b"1")
    client.put(b"a", b"2")
    client.put(b"b", b"1")
    client.delete(b"a")
    client.compact(4)
    return client


def test_what_lies_before_the_compacted_revision_cannot_be_read(compacted: Client) -> None:
    with refused(errors.COMPACTED):
        compacted.range(b"b", revision=3)


def test_a_read_at_the_compacted_revision_works(compacted: Client) -> None:
    assert compacted.get(b"a", 4) == b"2"


def test_a_compaction_at_or_before_the_last_one_is_refused(compacted: Client) -> None:
    for revision in (4, 3, 0):
        with refused(errors.COMPACTED):
            compacted.compact(revision)


def test_a_compaction_of_the_future_is_refused(compacted: Client) -> None:
    with refused(errors.FUTURE_REVISION):
        compacted.compact(6)


def test_the_first_compaction_may_be_at_zero_as_in_etcd(client: Client) -> None:
    client.compact(0)
    with refused(errors.COMPACTED):
        client.compact(0)


def test_what_is_compacted_is_swept_away_with_the_next_commands(compacted: Client) -> None:
    before = compacted.machine.size_bytes
    compacted.compact(5)
    compacted.put(b"c")
    assert b"a" not in compacted.machine.store.current
    assert compacted.machine.size_bytes < before


def test_a_long_compaction_is_swept_away_a_little_with_each_command(client: Client) -> None:
    for round_number in range(300):
        request = messages.PutRequest(key=b"%d" % (round_number % 150))
        client.machine.apply(b"\x01\x00" + request.SerializeToString(), False)
    client.twin.restore(client.machine.snapshot())
    client.compact(client.revision)
    sizes = []
    for _ in range(8):
        client.delete(b"nothing")
        sizes.append(client.machine.size_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2, "it was swept in one go"
    assert client.machine.store.versions_of(b"1") == [client.machine.store.now(b"1")]


# ------------------------------------------------------------------------------------------------ damaged commands


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"\x01",
        b"\x01\x05ab",
        b"\x01\x00\xff\xff",
        b"\x03\x00\x0a\x05x",
        b"\x07\x00abc",
        b"\x16\x00",
        b"\x01\x01\xff",
    ],
)
def test_a_damaged_command_is_refused_and_changes_nothing(client: Client, command: bytes) -> None:
    assert client.machine.apply(command, True) == errors.MALFORMED
    assert client.machine.apply(command, False) is None
    assert client.revision == 1


def test_a_command_of_an_unknown_kind_is_refused(client: Client) -> None:
    assert client.machine.apply(b"\xc8\x00", True) == errors.UNKNOWN_METHOD

"""One test per sentence of what etcd promises of transactions. Seen from a real etcd 3.4.23, too, at random."""

from __future__ import annotations

from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv import messages
from onerack.kv.core import KvMachine, errors
from tests.kv.core.client import Client, compare, delete_op, put_op, range_op, refused, txn_op


@pytest.fixture
def client() -> Client:
    """a is "x", put twice (revisions 2 and 3); b is "y", with lease 9 (revision 4)."""
    client = Client()
    client.grant(9)
    client.put(b"a", b"w")
    client.put(b"a", b"x")
    client.put(b"b", b"y", lease=9)
    return client


# ------------------------------------------------------------------------------------------------ comparisons


@pytest.mark.parametrize(
    ("key", "target", "field", "equal"),
    [
        (b"a", "VERSION", "version", 2),
        (b"a", "CREATE", "create_revision", 2),
        (b"a", "MOD", "mod_revision", 3),
        (b"a", "VALUE", "value", b"x"),
        (b"b", "LEASE", "lease", 9),
        (b"missing", "VERSION", "version", 0),
        (b"missing", "CREATE", "create_revision", 0),
        (b"missing", "MOD", "mod_revision", 0),
        (b"missing", "LEASE", "lease", 0),
    ],
)
def test_each_target_is_compared_with_each_result(
    client: Client, key: bytes, target: str, field: str, equal: Any
) -> None:
    def holds(result: str, given: Any) -> bool:
        return bool(client.read_txn([compare(key, result, target, **{field: given})], []).succeeded)

    more = equal + 1 if isinstance(equal, int) else equal + b"0"
    less = equal - 1 if isinstance(equal, int) else equal[:-1]
    assert [holds(result, equal) for result in ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")] == [True, False, False, False]
    assert [holds(result, more) for result in ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")] == [False, False, True, True]
    assert [holds(result, less) for result in ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")] == [False, True, False, True]


@pytest.mark.parametrize("result", ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])
def test_a_missing_key_fails_any_comparison_of_its_value(client: Client, result: str) -> None:
    assert not client.read_txn([compare(b"missing", result, "VALUE", value=b"")], []).succeeded
    assert not client.read_txn([compare(b"m", result, "VALUE", range_end=b"n", value=b"")], []).succeeded


def test_a_comparison_over_a_range_must_hold_for_all_its_keys(client: Client) -> None:
    assert client.read_txn([compare(b"a", "GREATER", "MOD", b"c", mod_revision=2)], []).succeeded
    assert not client.read_txn([compare(b"a", "GREATER", "MOD", b"\0", mod_revision=3)], []).succeeded


def test_all_comparisons_must_hold_and_none_always_do(client: Client) -> None:
    true, false = compare(b"a", "EQUAL", "VALUE", value=b"x"), compare(b"a", "EQUAL", "VALUE", value=b"?")
    assert client.read_txn([], []).succeeded
    assert client.read_txn([true, true], []).succeeded
    assert not client.read_txn([true, false], []).succeeded


def test_what_is_not_given_is_compared_as_zero_or_empty(client: Client) -> None:
    assert client.read_txn([compare(b"missing", "EQUAL", "VERSION")], []).succeeded
    assert not client.read_txn([compare(b"a", "EQUAL", "VERSION", mod_revision=2)], []).succeeded


# ------------------------------------------------------------------------------------------------ what it does


def test_then_or_else_is_done_and_answered_in_order(client: Client) -> None:
    held = [compare(b"a", "EQUAL", "VALUE", value=b"x")]
    response = client.txn(held, [put_op(b"c", b"1"), range_op(b"c"), delete_op(b"b")], [put_op(b"d")])
    assert response.succeeded
    put, found, deleted = response.responses
    assert put.WhichOneof("response") == "response_put"
    assert found.response_range.kvs[0].value == b"1"
    assert deleted.response_delete_range.deleted == 1
    assert client.get(b"d") is None
    response = client.txn([compare(b"a", "EQUAL", "VALUE", value=b"?")], [put_op(b"e")], [put_op(b"d", b"2")])
    assert (response.succeeded, client.get(b"d"), client.get(b"e")) == (False, b"2", None)


def test_reads_see_earlier_writes_of_the_same_transaction(client: Client) -> None:
    response = client.txn([], [range_op(b"c"), put_op(b"c", b"1"), range_op(b"c"), range_op(b"a", b"\0")])
    before, _, after, everything = (op.response_range for op in response.responses)
    assert (len(before.kvs), after.kvs[0].value, everything.count) == (0, b"1", 3)
    assert (before.header.revision, after.header.revision, response.header.revision) == (4, 5, 5)


def test_a_read_of_an_old_revision_inside_a_transaction_does_not_see_its_writes(client: Client) -> None:
    response = client.txn([], [put_op(b"a", b"z"), range_op(b"a", revision=4), range_op(b"a", revision=2)])
    assert [op.response_range.kvs[0].value for op in response.responses[1:]] == [b"x", b"w"]


def test_comparisons_of_an_inner_transaction_see_the_store_before_the_outer_one(client: Client) -> None:
    inner = txn_op([compare(b"c", "EQUAL", "VERSION", version=0)], [put_op(b"d", b"then")], [put_op(b"d", b"else")])
    response = client.txn([], [put_op(b"c"), inner])
    assert response.responses[1].response_txn.succeeded
    assert client.get(b"d") == b"then"


def test_the_header_of_an_inner_transaction_is_empty(client: Client) -> None:
    response = client.txn([], [txn_op([], [put_op(b"c")])])
    inner = response.responses[0].response_txn
    assert inner.HasField("header")
    assert inner.header.revision == 0
    assert inner.responses[0].response_put.header.revision == 5


def test_all_changes_are_one_revision(client: Client) -> None:
    client.txn([], [put_op(b"c"), txn_op([], [put_op(b"d"), txn_op([], [delete_op(b"a")])])])
    assert [version.key for version in client.machine.store.changes_of(5)] == [b"c", b"d", b"a"]


def test_a_transaction_that_only_reads_need_not_enter_the_log() -> None:
    def reads_only(*ops: Any) -> bool:
        return KvMachine.is_read_only(messages.TxnRequest(success=ops).SerializeToString())

    assert reads_only()
    assert reads_only(range_op(b"a"), range_op(b"b"))
    assert not reads_only(range_op(b"a"), put_op(b"b"))
    assert not reads_only(txn_op([], [range_op(b"a")])), "as etcd: one inside another goes through the log"


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_refused_transaction_has_done_nothing_although_its_first_operation_could(client: Client) -> None:
    for op, error in (
        (put_op(b"z", ignore_value=True), errors.KEY_NOT_FOUND),
        (put_op(b"z", lease=77), errors.LEASE_NOT_FOUND),
        (range_op(b"z", revision=99), errors.FUTURE_REVISION),
        (txn_op([], [range_op(b"z", revision=99)]), errors.FUTURE_REVISION),
    ):
        with refused(error):
            client.txn([], [put_op(b"c"), op])
    assert client.get(b"c") is None


def test_only_the_path_that_is_taken_must_be_possible(client: Client) -> None:
    client.txn([], [put_op(b"c")], [put_op(b"z", lease=77)])
    assert client.revision == 5


def test_puts_are_looked_at_before_reads(client: Client) -> None:
    with refused(errors.LEASE_NOT_FOUND):
        client.txn([], [range_op(b"z", revision=99), put_op(b"z", lease=77)])


def test_an_empty_operation_answers_key_not_found(client: Client) -> None:
    with refused(errors.KEY_NOT_FOUND):
        client.txn([], [messages.RequestOp()])


def test_each_list_may_hold_128_operations(client: Client) -> None:
    ops = [put_op(b"%d" % number) for number in range(129)]
    client.txn([], ops[:128], ops[:128])
    for lists in ([[], ops], [[], [], ops], [[compare(b"a", "EQUAL", "VERSION")] * 129, []]):
        with refused(errors.TOO_MANY_OPS):
            client.txn(*lists)


def test_an_inner_transaction_shares_the_allowance() -> None:
    client = Client(KvConfig(txn_ops_max=4))
    client.txn([], [put_op(b"a"), txn_op([], [put_op(b"b"), put_op(b"c")])])
    with refused(errors.TOO_MANY_OPS):
        client.txn([], [put_op(b"a"), txn_op([], [put_op(b"b"), put_op(b"c"), put_op(b"d")])])


def test_a_key_put_twice_is_refused(client: Client) -> None:
    for ops in (
        [put_op(b"c"), put_op(b"c")],
        [put_op(b"c"), txn_op([], [put_op(b"c")])],
        [txn_op([], [put_op(b"c")]), txn_op([], [], [put_op(b"c")])],
    ):
        with refused(errors.DUPLICATE_KEY):
            client.txn([], ops)
        with refused(errors.DUPLICATE_KEY):
            client.txn([], [], ops)


def test_a_key_put_inside_a_deleted_range_is_refused(client: Client) -> None:
    for ops in (
        [put_op(b"c"), delete_op(b"a", b"d")],
        [delete_op(b"c"), put_op(b"c")],
        [put_op(b"c"), txn_op([], [delete_op(b"c")])],
        [delete_op(b"a", b"d"), txn_op([], [], [put_op(b"c")])],
    ):
        with refused(errors.DUPLICATE_KEY):
            client.txn([], ops)
    client.txn([], [put_op(b"d"), delete_op(b"a", b"d")])


def test_a_deletion_of_all_keys_from_one_on_overlaps_with_nothing_as_in_etcd(client: Client) -> None:
    client.txn([], [delete_op(b"a", b"\0"), put_op(b"b", b"new")])
    (kv,) = client.range(b"\0", b"\0").kvs
    assert (kv.key, kv.create_revision, kv.version) == (b"b", 5, 1)
    client.txn([], [put_op(b"c"), delete_op(b"a", b"\0")])
    assert client.range(b"\0", b"\0").count == 0


def test_then_and_else_of_an_inner_transaction_may_put_the_same_key(client: Client) -> None:
    client.txn([], [txn_op([], [put_op(b"c", b"then")], [put_op(b"c", b"else")])])
    assert client.get(b"c") == b"then"


def test_a_later_inner_transaction_may_delete_what_an_earlier_one_has_put_as_in_etcd(client: Client) -> None:
    client.txn([], [txn_op([], [put_op(b"c")]), txn_op([], [delete_op(b"c")])])
    assert client.get(b"c") is None
    assert [version.version for version in client.machine.store.changes_of(5)] == [1, 0]


def test_checks_come_in_the_order_counts_then_compared_keys_then_operations_then_overlaps(client: Client) -> None:
    no_key, overlap = [compare(b"", "EQUAL", "VERSION")], [put_op(b"c"), put_op(b"c")]
    with refused(errors.TOO_MANY_OPS):
        client.txn(no_key, overlap * 65)
    with refused(errors.EMPTY_KEY):
        client.txn(no_key, [messages.RequestOp()])
    with refused(errors.KEY_NOT_FOUND):
        client.txn([], [messages.RequestOp(), *overlap])
    with refused(errors.VALUE_PROVIDED):
        client.txn([], [*overlap, put_op(b"d", b"v", ignore_value=True)])

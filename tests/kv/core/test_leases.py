"""One test per sentence of what etcd promises of leases."""

from __future__ import annotations

import pytest

from onerack.config import KvConfig
from onerack.kv.core import errors
from tests.kv.core.client import Client, put_op, refused


@pytest.fixture
def client() -> Client:
    return Client(KvConfig(lease_ttl_s_min=2))


def test_a_lease_has_the_id_and_the_time_that_were_asked_for(client: Client) -> None:
    response = client.grant(7, 60)
    assert (response.ID, response.TTL, response.error) == (7, 60, "")


def test_a_grant_is_no_revision(client: Client) -> None:
    assert client.grant(7).header.revision == 1


def test_id_zero_lets_the_store_choose_and_every_node_chooses_the_same(client: Client) -> None:
    one, other = client.grant(0).ID, client.grant(0).ID
    assert one > 0
    assert other > 0
    assert one != other
    assert list(client.twin.leases.by_id) == [one, other]


def test_a_chosen_id_is_never_one_that_is_taken(client: Client) -> None:
    chosen = client.grant(0).ID
    other = Client()
    other.grant(chosen)
    assert chosen != other.grant(0).ID


def test_an_id_that_is_taken_is_refused(client: Client) -> None:
    client.grant(7)
    with refused(errors.LEASE_EXISTS):
        client.grant(7)


@pytest.mark.parametrize(("asked", "granted"), [(0, 2), (-5, 2), (1, 2), (3, 3), (9_000_000_000, 9_000_000_000)])
def test_a_time_that_is_too_short_becomes_the_shortest(client: Client, asked: int, granted: int) -> None:
    assert granted == client.grant(7, asked).TTL


def test_a_time_that_is_too_long_is_refused(client: Client) -> None:
    with refused(errors.LEASE_TTL_TOO_LARGE):
        client.grant(7, 9_000_000_001)


def test_a_revoked_lease_takes_its_keys_along_in_one_revision_in_order(client: Client) -> None:
    client.grant(7)
    for key in (b"c", b"a", b"b"):
        client.put(key, lease=7)
    client.put(b"d")
    assert client.revoke(7).header.revision == 6
    assert [version.key for version in client.machine.store.changes_of(6)] == [b"a", b"b", b"c"]
    assert client.keys(b"\0", b"\0") == [b"d"]


def test_a_revoked_lease_without_keys_is_no_revision(client: Client) -> None:
    client.grant(7)
    assert client.revoke(7).header.revision == 1


def test_a_lease_that_is_not_there_cannot_be_revoked_or_attached_to(client: Client) -> None:
    with refused(errors.LEASE_NOT_FOUND):
        client.revoke(7)
    with refused(errors.LEASE_NOT_FOUND):
        client.put(b"a", lease=7)
    with refused(errors.LEASE_NOT_FOUND):
        client.txn([], [put_op(b"a", lease=7)])


def test_a_put_with_another_lease_moves_the_key(client: Client) -> None:
    client.grant(7)
    client.grant(8)
    client.put(b"a", lease=7)
    client.put(b"a", lease=8)
    client.revoke(7)
    assert client.get(b"a") == b""
    client.revoke(8)
    assert client.get(b"a") is None


def test_a_deleted_key_is_detached(client: Client) -> None:
    client.grant(7)
    client.put(b"a", lease=7)
    client.delete(b"a")
    client.put(b"a", b"again")
    client.revoke(7)
    assert client.get(b"a") == b"again"


def test_leases_that_expire_together_are_one_revision(client: Client) -> None:
    for lease in (7, 8):
        client.grant(lease)
        client.put(b"%d" % lease, lease=lease)
    client.expire(7, 8, 99)
    assert client.revision == 4
    assert client.range(b"\0", b"\0").count == 0
    client.expire(7)
    assert client.revision == 4, "an expiry that comes twice is nothing"


def test_expiry_that_an_earlier_leader_has_decided_is_void(client: Client) -> None:
    client.grant(7)
    client.take_over(5)
    client.expire(7, term=4)
    assert 7 in client.machine.leases
    client.take_over(3)
    client.expire(7, term=4)
    assert 7 in client.machine.leases, "an old leader does not take over from a new one"
    client.expire(7, term=5)
    assert 7 not in client.machine.leases


def test_time_to_live_tells_both_times_and_the_keys_if_asked(client: Client) -> None:
    client.grant(7, 60)
    client.put(b"b", lease=7)
    client.put(b"a", lease=7)
    response = client.time_to_live(7, remaining_s=33, keys=True)
    assert (response.ID, response.TTL, response.grantedTTL, list(response.keys)) == (7, 33, 60, [b"a", b"b"])
    assert list(client.time_to_live(7).keys) == []


def test_a_dead_lease_has_a_time_of_minus_one_and_that_is_no_error(client: Client) -> None:
    response = client.time_to_live(7)
    assert (response.ID, response.TTL, response.grantedTTL) == (7, -1, 0)


def test_all_leases_are_listed() -> None:
    from onerack.kv.messages import LeaseLeasesResponse

    client = Client()
    client.grant(8)
    client.grant(7)
    answer = client.machine.all_leases("")
    assert isinstance(answer, bytes)
    assert [lease.ID for lease in LeaseLeasesResponse.FromString(answer).leases] == [7, 8]

"""The model is what etcd promises, in small."""

from __future__ import annotations

from onerack.sim.kv.model import Model
from onerack.sim.kv.wishes import Compact, Delete, Expire, Get, Grant, Item, Put, Revoke, TakeOver, Txn


def test_a_write_takes_one_revision_and_a_refusal_none() -> None:
    model = Model()
    assert model.apply(Put("a", "1")) == ("ok", 2)
    assert model.apply(Put("a", "2")) == ("ok", 3)
    assert model.state == {"a": Item("2", 2, 3, 2, 0)}
    assert model.apply(Delete("a")) == ("ok", 4, 1)
    assert model.apply(Delete("a")) == ("ok", 4, 0)
    assert model.apply(Put("a", "3", 7))[0] == "refused"
    assert model.apply(Put("a", "3")) == ("ok", 5)
    assert model.state == {"a": Item("3", 5, 5, 1, 0)}
    assert [model.changes_at(4), model.changes_at(5)] == [(("a", None),), (("a", Item("3", 5, 5, 1, 0)),)]


def test_a_transaction_is_one_revision_and_reads_what_it_wrote() -> None:
    model = Model()
    answer = model.apply(Txn("a", 0, (Put("a", "1"), Put("b", "2"), Get("a", "z")), ()))
    items = (("a", Item("1", 2, 2, 1, 0)), ("b", Item("2", 2, 2, 1, 0)))
    assert answer == ("ok", 2, True, ("put", "put", items))
    assert model.apply(Txn("a", 0, (Put("a", "3"),), (Get("b"),))) == ("ok", 2, False, (items[1:],))
    assert model.apply(Compact(2)) == ("ok", 2)
    refused = model.apply(Txn("a", 0, (), (Get("a", "", 1),)))
    assert refused == ("refused", "etcdserver: mvcc: required revision has been compacted")


def test_a_lease_takes_its_keys_along_in_one_revision() -> None:
    model = Model()
    for wish in (Grant(1), Grant(2), Put("a", "1", 1), Put("b", "1", 1), Put("b", "2"), Put("c", "1", 2)):
        assert model.apply(wish)[0] == "ok"
    assert model.apply(Revoke(1)) == ("ok", 6)
    assert sorted(model.state) == ["b", "c"]
    assert model.apply(TakeOver(5)) == ("ok", 6)
    assert model.apply(Expire(4, (2,))) == ("ok", 6)
    assert model.apply(Expire(5, (1, 2))) == ("ok", 7)
    assert sorted(model.state) == ["b"]

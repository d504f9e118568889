"""Members: the address book is what its commands made of it, and nonsense halts nobody."""

from __future__ import annotations

import msgspec
import pytest

from onerack.errors import NotExecuted
from onerack.raft.server.members import Erase, Member, Members, Write


def command(order: Write | Erase) -> bytes:
    return msgspec.msgpack.encode(order)


def test_the_log_knows_better_than_what_the_node_was_told_when_it_was_started() -> None:
    book = Members({"n1": "tcp://old:1", "n2": "tcp://old:2"})
    assert book.address_of("n1") == "tcp://old:1"
    book.apply(command(Write(Member("n1", "tcp://new:1", ("http://n1",)))), wanted=False)
    assert book.address_of("n1") == "tcp://new:1"
    assert book.address_of("n2") == "tcp://old:2"
    assert book.address_of("n3") is None
    assert [member.name for member in book.all()] == ["n1"]


def test_a_snapshot_of_the_book_makes_any_other_the_same() -> None:
    book = Members({})
    for name in ("n2", "n1", "n3"):
        book.apply(command(Write(Member(name, f"tcp://{name}:1", witness=name == "n3"))), wanted=False)
    book.apply(command(Erase("n2")), wanted=False)
    book.apply(command(Erase("nobody")), wanted=False)
    other = Members({})
    other.apply(command(Write(Member("n9", "tcp://n9:1"))), wanted=False)
    other.restore(book.snapshot())
    assert other.all() == book.all()
    assert [member.name for member in other.all()] == ["n1", "n3"]


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"\xff", msgspec.msgpack.encode({"type": "write"}), msgspec.msgpack.encode({"type": "burn", "name": "n1"})],
)
def test_a_command_that_is_none_is_refused_and_changes_nothing(nonsense: bytes) -> None:
    book = Members({})
    book.apply(command(Write(Member("n1", "tcp://n1:1"))), wanted=False)
    assert isinstance(book.apply(nonsense, wanted=True), NotExecuted)
    assert [member.name for member in book.all()] == ["n1"]

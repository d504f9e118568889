"""Wishes: what simulated clients want of the store, in plain words; to etcd's messages, and back from its answers.

The idea: a wish is what the model understands, its command is what the log holds, and its answer is plain again. So
what was asked and what came out can be compared without a look at the bytes between.

The rule: an answer is a tuple of plain values: ("ok", revision, ...) or ("refused", etcd's text).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from onerack.kv import messages
from onerack.kv.core import Kind, encode_command
from onerack.kv.core.commands import encode_expiry, encode_term

Answer = tuple[Any, ...]
REFUSED: Final = "refused"


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A key as it is at some revision."""

    value: str
    create: int
    mod: int
    version: int
    lease: int


class Put(msgspec.Struct, frozen=True):
    key: str
    value: str
    lease: int = 0


class Delete(msgspec.Struct, frozen=True):
    first: str
    behind: str = ""
    """Empty: one key."""


class Get(msgspec.Struct, frozen=True):
    first: str
    behind: str = ""
    revision: int = 0
    """0: now."""


class Txn(msgspec.Struct, frozen=True):
    """If `key` was last changed at `mod` (0: it does not exist), then one, else the other."""

    key: str
    mod: int
    then: tuple[Put | Delete | Get, ...]
    otherwise: tuple[Put | Delete | Get, ...]


class Compact(msgspec.Struct, frozen=True):
    revision: int


class Grant(msgspec.Struct, frozen=True):
    lease: int


class Revoke(msgspec.Struct, frozen=True):
    lease: int


class Expire(msgspec.Struct, frozen=True):
    """The leader of a term says that these are over."""

    term: int
    leases: tuple[int, ...]


class TakeOver(msgspec.Struct, frozen=True):
    """The leader of a term counts the seconds from now on."""

    term: int


Wish = Put | Delete | Get | Txn | Compact | Grant | Revoke | Expire | TakeOver
TTL_S: Final = 60


def encode(wish: Wish) -> bytes:
    """The request of a `Get`, or the command of anything else."""
    match wish:
        case Get():
            return _bytes(_range(wish))
        case Put():
            return encode_command(Kind.PUT, b"", _bytes(_put(wish)))
        case Delete():
            return encode_command(Kind.DELETE_RANGE, b"", _bytes(_delete(wish)))
        case Txn():
            return encode_command(Kind.TXN, b"", _bytes(_txn(wish)))
        case Compact(revision):
            return encode_command(Kind.COMPACT, b"", _bytes(messages.CompactionRequest(revision=revision)))
        case Grant(lease):
            return encode_command(Kind.LEASE_GRANT, b"", _bytes(messages.LeaseGrantRequest(ID=lease, TTL=TTL_S)))
        case Revoke(lease):
            return encode_command(Kind.LEASE_REVOKE, b"", _bytes(messages.LeaseRevokeRequest(ID=lease)))
        case Expire(term, leases):
            return encode_command(Kind.LEASE_EXPIRE, b"", encode_expiry(term, leases))
        case TakeOver(term):
            return encode_command(Kind.LEASE_TAKE_OVER, b"", encode_term(term))


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _range(wish: Get) -> Any:
    return messages.RangeRequest(key=wish.first.encode(), range_end=wish.behind.encode(), revision=wish.revision)


def _put(wish: Put) -> Any:
    return messages.PutRequest(key=wish.key.encode(), value=wish.value.encode(), lease=wish.lease)


def _delete(wish: Delete) -> Any:
    return messages.DeleteRangeRequest(key=wish.first.encode(), range_end=wish.behind.encode())


def _txn(wish: Txn) -> Any:
    compare = messages.Compare(
        key=wish.key.encode(), target=messages.Compare.MOD, result=messages.Compare.EQUAL, mod_revision=wish.mod
    )
    then, otherwise = map(_op, wish.then), map(_op, wish.otherwise)
    return messages.TxnRequest(compare=[compare], success=list(then), failure=list(otherwise))


def _op(wish: Put | Delete | Get) -> Any:
    match wish:
        case Put():
            return messages.RequestOp(request_put=_put(wish))
        case Delete():
            return messages.RequestOp(request_delete_range=_delete(wish))
        case Get():
            return messages.RequestOp(request_range=_range(wish))


# ------------------------------------------------------------------------------------------------ answers


def answer_of(wish: Wish, result: bytes | str) -> Answer:
    """Text is a refusal."""
    if isinstance(result, str):
        return (REFUSED, result)
    match wish:
        case Get():
            response = messages.RangeResponse.FromString(result)
            return ("ok", response.header.revision, items_of(response.kvs))
        case Delete():
            response = messages.DeleteRangeResponse.FromString(result)
            return ("ok", response.header.revision, response.deleted)
        case Txn():
            response = messages.TxnResponse.FromString(result)
            inner = tuple(_inner_answer(each) for each in response.responses)
            return ("ok", response.header.revision, response.succeeded, inner)
        case _:
            # All others say nothing but the revision, in the header, which is the first field everywhere.
            return ("ok", messages.PutResponse.FromString(result).header.revision)


def _inner_answer(response: Any) -> Any:
    match response.WhichOneof("response"):
        case "response_range":
            return items_of(response.response_range.kvs)
        case "response_delete_range":
            return response.response_delete_range.deleted
        case _:
            return "put"


def items_of(kvs: Any) -> tuple[tuple[str, Item], ...]:
    return tuple((kv.key.decode(), item_of(kv)) for kv in kvs)


def item_of(kv: Any) -> Item:
    return Item(kv.value.decode(), kv.create_revision, kv.mod_revision, kv.version, kv.lease)

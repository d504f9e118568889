"""Compatibility: old and new programs that may talk do understand each other, and the first difference is named."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from onerack.rpc.attachment import Attachment
from onerack.rpc.interface import Method, interface_of
from onerack.rpc.messages import Mode
from onerack.rpc.modes import at_least_once, at_most_once, exactly_once, readonly
from onerack.rpc.schema import Schema, first_incompatibility

DECORATORS = {
    Mode.READONLY: readonly,
    Mode.AT_LEAST_ONCE: at_least_once,
    Mode.AT_MOST_ONCE: at_most_once,
    Mode.EXACTLY_ONCE: exactly_once,
}


def interface_with(hints: dict[str, Any], mode: Mode = Mode.AT_MOST_ONCE, defaults: tuple[Any, ...] = ()) -> type:
    """The interface `Account` whose one method `charge` has these annotations; the last parameters have defaults."""

    async def no(self: Any) -> Any: ...
    async def one(self: Any, a: Any) -> Any: ...
    async def two(self: Any, a: Any, b: Any) -> Any: ...
    async def three(self: Any, a: Any, b: Any, c: Any) -> Any: ...

    parameters = [name for name in hints if name != "return"]
    charge: Any = (no, one, two, three)[len(parameters)]
    charge.__code__ = charge.__code__.replace(co_varnames=("self", *parameters))
    charge.__annotations__ = {"return": None} | hints
    charge.__defaults__ = defaults
    return type("Account", (), {"charge": DECORATORS[mode](charge)})


def schema_with(hints: dict[str, Any], **more: Any) -> Schema:
    return interface_of(interface_with(hints, **more)).schema


# ------------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ({"user": str}, {"user": str}),
        ({"user": str}, {"user": str, "cents": int}),
        ({"user": str, "cents": int}, {"user": str}),
    ],
)
def test_new_parameters_come_last_and_have_defaults(client: dict[str, Any], server: dict[str, Any]) -> None:
    one, other = (
        schema_with(client, defaults=(1,)[: len(client) - 1]),
        schema_with(server, defaults=(1,)[: len(server) - 1]),
    )
    assert first_incompatibility(one, other) is None


@pytest.mark.parametrize(
    ("client", "server", "difference"),
    [
        (
            {"user": str, "cents": int},
            {"user": str, "amount": str},
            "parameter 2 is 'cents: int' at the client and 'amount: str' at the server",
        ),
        ({"user": str}, {"name": str}, "parameter 1 is 'user: str' at the client and 'name: str' at the server"),
        (
            {"a": int, "b": int},
            {"b": int, "a": int},
            "parameter 1 is 'a: int' at the client and 'b: int' at the server",
        ),
        (
            {"user": str},
            {"user": str, "cents": int},
            "parameter 2, 'cents: int', is required by the server, and the client does not always send it",
        ),
        ({"a": Attachment}, {"a": bytes}, "parameter 1 is 'a: Attachment' at the client and 'a: bytes' at the server"),
        (
            {"a": AsyncIterator[int]},
            {"a": AsyncIterator[str]},
            "parameter 1 is 'a: AsyncIterator[int]' at the client and 'a: AsyncIterator[str]' at the server",
        ),
        ({"a": int, "return": int}, {"a": int}, "the result is 'int' at the client and 'None' at the server"),
        (
            {"return": Attachment},
            {"return": bytes},
            "the result is 'Attachment' at the client and 'bytes' at the server",
        ),
    ],
)
def test_the_first_difference_is_named(client: dict[str, Any], server: dict[str, Any], difference: str) -> None:
    assert first_incompatibility(schema_with(client), schema_with(server)) == f"Account.charge: {difference}"


def test_the_client_may_know_fewer_methods_and_no_more() -> None:
    class Account(Protocol):
        async def charge(self) -> None: ...

    small = interface_of(Account).schema

    class Larger(Account, Protocol):
        async def refund(self) -> None: ...

    large = msgspec.structs.replace(interface_of(Larger).schema, service="Account")
    assert first_incompatibility(small, large) is None
    assert first_incompatibility(large, small) == "Account.refund: the server has no such method"


def test_another_service_is_not_the_one_that_was_asked_for() -> None:
    schema = schema_with({})
    other = msgspec.structs.replace(schema, service="Bank")
    assert first_incompatibility(schema, other) == "the client asks for 'Account', and this is 'Bank'"


@pytest.mark.parametrize("client", Mode)
@pytest.mark.parametrize("server", Mode)
def test_client_and_server_mean_the_same_mode(client: Mode, server: Mode) -> None:
    found = first_incompatibility(schema_with({}, mode=client), schema_with({}, mode=server))
    expected = f"Account.charge: {client.name.lower()} at the client, and {server.name.lower()} at the server"
    assert found == (None if server is client else expected)


# ------------------------------------------------------------------------------------------------ types


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class MoreColors(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


def struct(_name: str = "Order", _defaults: tuple[str, ...] = (), /, **fields: Any) -> type[msgspec.Struct]:
    """A Struct by its fields; those in `_defaults` may be None and are so by default."""
    options = {name: fields.pop(name) for name in list(fields) if isinstance(fields[name], bool)}
    return msgspec.defstruct(
        _name,
        [(name, hint | None, None) if name in _defaults else (name, hint) for name, hint in fields.items()],
        **options,
    )


class Named(NamedTuple):
    x: int


class LongerNamed(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Made:
    x: int


class Typed(TypedDict):
    x: NotRequired[int]


ARRAY = {"array_like": True}
FITTING: list[tuple[Any, Any]] = [
    (int, int | None),
    (int, float),
    (int, int | str),
    (int | None, int | str | None),
    (int, Decimal),
    (float, Decimal),
    (int, float | str),
    (Literal[1], float | Literal[1, 2]),
    (Decimal, str),
    (uuid.UUID, str),
    (datetime.date, str | None),
    (Color, MoreColors),
    (Color, str),
    (Color, Literal["red", "blue", 3]),
    (Literal["a", 1, None], str | int | None),
    (None, Literal[None, "a"]),
    (list[int], tuple[float, ...]),
    (list[int], set[int]),
    (tuple[int, int], list[int | None]),
    (dict[str, int], dict[str, float]),
    (Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=5)]),
    (Cat, Cat | Dog),
    (Cat | int, int | Dog | Cat),
    (struct(x=int), struct("Other", x=int)),
    (struct(x=int), struct("Order", ("y",), x=int, y=int)),
    (struct(x=int, y=int), struct(x=int)),
    (struct(x=int, y=int), struct(y=float, x=int)),
    (struct("Order", ("y",), x=int, y=int), struct(x=int, y=int | None)),
    (struct(x=int, **ARRAY), struct("Order", ("y",), x=int, y=int, **ARRAY)),
    (struct(x=int, y=int, **ARRAY), struct(x=int, **ARRAY)),
    (struct(x=int), Made),
    (Made, struct(x=int)),
    (Made, Typed),
    (Named, struct(x=int, **ARRAY)),
    (list[struct(x=int)], list[struct(x=float)] | None),  # type: ignore[misc]
    (Named, LongerNamed),
]
UNFIT: list[tuple[Any, Any, str]] = [
    (int | None, int, "parameter 1 is 'x: int | None' at the client and 'x: int' at the server"),
    (float, int, "parameter 1 is 'x: float' at the client and 'x: int' at the server"),
    (int, float | Literal[1], "parameter 1 is 'x: int' at the client and 'x: float | Literal[1]' at the server"),
    (bool, int, "parameter 1 is 'x: bool' at the client and 'x: int' at the server"),
    (str, uuid.UUID, "parameter 1 is 'x: str' at the client and 'x: UUID' at the server"),
    (datetime.datetime, str, "parameter 1 is 'x: datetime' at the client and 'x: str' at the server"),
    (MoreColors, Color, "parameter 1: MoreColors may be 'green' at the client, and the server does not know that"),
    (str, Color, "parameter 1 is 'x: str' at the client and 'x: Color['blue', 'red']' at the server"),
    (None, Color, "parameter 1 is 'x: None' at the client and 'x: Color['blue', 'red']' at the server"),
    (Literal["a", 1], str, "parameter 1 is 'x: Literal[1, 'a']' at the client and 'x: str' at the server"),
    (list[int], tuple[int, int], "parameter 1 is 'x: list[int]' at the client and 'x: tuple[int, int]' at the server"),
    (
        tuple[int],
        tuple[int, int],
        "parameter 1 is 'x: tuple[int]' at the client and 'x: tuple[int, int]' at the server",
    ),
    (
        dict[int, int],
        dict[str, int],
        "parameter 1 is 'x: dict[int, int]' at the client and 'x: dict[str, int]' at the server",
    ),
    (
        list[int | None],
        list[int],
        "parameter 1 is 'x: list[int | None]' at the client and 'x: list[int]' at the server",
    ),
    (
        Cat | Dog,
        Cat,
        "Dog is written as a map with type='Dog' by the client; the server reads Cat as a map with type='Cat'",
    ),
    (Cat | None, Dog | None, "parameter 1 is 'x: Cat | None' at the client and 'x: Dog | None' at the server"),
    (struct(x=int), struct(x=str), "Order.x is 'int' at the client and 'str' at the server"),
    (
        struct(x=int),
        struct(x=int, y=int),
        "Order.y, 'y: int', is required by the server, and the client does not always send it",
    ),
    (
        struct("Order", ("y",), x=int, y=int, omit_defaults=True),
        struct(x=int, y=int | None),
        "Order.y, 'y: int | None', is required by the server, and the client does not always send it",
    ),
    (Typed, Made, "Made.x, 'x: int', is required by the server, and the client does not always send it"),
    (
        struct(x=int, y=int),
        struct(x=int, forbid_unknown_fields=True),
        "Order has the field 'y: int' at the client, which the server refuses",
    ),
    (
        struct(x=int),
        struct(x=int, **ARRAY),
        "Order is written as a map by the client; the server reads Order as an array",
    ),
    (
        struct(x=int, y=int, **ARRAY),
        struct(y=int, x=int, **ARRAY),
        "Order.y is 'x: int' at the client and 'y: int' at the server",
    ),
    (
        struct(x=int, **ARRAY),
        struct(x=int, y=int, **ARRAY),
        "Order.y, 'y: int', is required by the server, and the client does not always send it",
    ),
    (LongerNamed, Named, "Named has the field 'y: int = 0' at the client, which the server refuses"),
    (struct(x=int), dict[str, int], "parameter 1 is 'x: Order' at the client and 'x: dict[str, int]' at the server"),
    (
        list[struct(x=struct("Inner", y=int))],  # type: ignore[misc]
        list[struct(x=struct("Inner", y=str))],  # type: ignore[misc]
        "Inner.y is 'int' at the client and 'str' at the server",
    ),
]


@pytest.mark.parametrize(("written", "read"), FITTING)
def test_a_reader_may_be_wider(written: Any, read: Any) -> None:
    assert first_incompatibility(schema_with({"x": written}), schema_with({"x": read})) is None
    assert first_incompatibility(schema_with({"return": read}), schema_with({"return": written})) is None


@pytest.mark.parametrize(("written", "read", "difference"), UNFIT)
def test_a_reader_may_not_be_narrower(written: Any, read: Any, difference: str) -> None:
    found = first_incompatibility(schema_with({"x": written}), schema_with({"x": read}))
    assert found == f"Account.charge: {difference}"
    assert first_incompatibility(schema_with({"return": read}), schema_with({"return": written})) is not None


def test_with_results_the_server_writes() -> None:
    old, new = schema_with({"return": struct(x=int)}), schema_with({"return": struct(x=int, y=int)})
    assert first_incompatibility(old, new) is None
    assert first_incompatibility(new, old) == (
        "Account.charge: Order.y, 'y: int', is required by the client, and the server does not always send it"
    )


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []
    parent: Tree | None = None


class Elsewhere:
    """Another program's classes of the same names."""

    class Tree(msgspec.Struct):
        value: int
        children: list[Elsewhere.Tree] = []
        parent: Elsewhere.Tree | None = None

    class Bush(msgspec.Struct):
        value: int
        children: list[Elsewhere.Bush] = []
        parent: int | None = None


def test_types_that_hold_themselves_are_compared_to_the_end() -> None:
    tree = schema_with({"x": Tree})
    assert first_incompatibility(tree, schema_with({"x": Elsewhere.Tree})) is None
    assert first_incompatibility(tree, schema_with({"x": Elsewhere.Bush})) == (
        "Account.charge: Bush.parent is 'Tree | None' at the client and 'int | None' at the server"
    )


# ------------------------------------------------------------------------------------------------ golden bytes


class OldOrder(msgspec.Struct, frozen=True):
    item: str
    count: int = 1


class OldReceipt(msgspec.Struct, frozen=True, array_like=True):
    number: int
    order: OldOrder


class OldShop(Protocol):
    async def buy(self, user: str, order: OldOrder) -> OldReceipt: ...


class NewOrder(msgspec.Struct, frozen=True):
    item: str
    gift: bool = False
    count: int | None = 1


class NewReceipt(msgspec.Struct, frozen=True, array_like=True):
    number: int
    order: OldOrder
    paid: Color | None = None


class NewShop(Protocol):
    async def buy(self, user: str, order: NewOrder, coupon: str | None = None, *, fast: bool = True) -> NewReceipt: ...


OLD_ARGUMENTS = bytes.fromhex("92a5616c69636582a46974656da3637570a5636f756e7403")
OLD_RESULT = bytes.fromhex("920782a46974656da3637570a5636f756e7403")
NEW_ARGUMENTS = bytes.fromhex("94a5616c69636583a46974656da3637570a467696674c3a5636f756e7403a3313025c2")
NEW_RESULT = bytes.fromhex("930782a46974656da3637570a5636f756e7403a3726564")


def shop(protocol: type) -> Method:
    return interface_of(protocol).methods["buy"]


def test_golden_bytes_of_the_old_version_are_still_written() -> None:
    method = shop(OldShop)
    assert method.encode_arguments(method.Arguments("alice", OldOrder("cup", 3))) == OLD_ARGUMENTS
    assert method.encode_result(OldReceipt(7, OldOrder("cup", 3))) == OLD_RESULT


def test_a_new_program_reads_what_an_old_one_wrote() -> None:
    method = shop(NewShop)
    assert method.decode_arguments(OLD_ARGUMENTS) == method.Arguments(
        "alice", NewOrder("cup", False, 3), None, fast=True
    )
    assert method.decode_result(OLD_RESULT) == NewReceipt(7, OldOrder("cup", 3))


def test_an_old_program_reads_what_a_new_one_wrote() -> None:
    new, old = shop(NewShop), shop(OldShop)
    assert new.encode_arguments(new.Arguments("alice", NewOrder("cup", True, 3), "10%", fast=False)) == NEW_ARGUMENTS
    assert new.encode_result(NewReceipt(7, OldOrder("cup", 3), Color.RED)) == NEW_RESULT
    assert old.decode_arguments(NEW_ARGUMENTS) == old.Arguments("alice", OldOrder("cup", 3))
    assert old.decode_result(NEW_RESULT) == OldReceipt(7, OldOrder("cup", 3))


def test_the_schemas_say_which_of_the_two_may_be_the_server() -> None:
    old = msgspec.structs.replace(interface_of(OldShop).schema, service="Shop")
    new = msgspec.structs.replace(interface_of(NewShop).schema, service="Shop")
    assert first_incompatibility(old, new) is None
    # A new client may leave the count open, and the old server cannot read that.
    assert first_incompatibility(new, old) == (
        "Shop.buy: OldOrder.count is 'int | None' at the client and 'int' at the server"
    )


# ------------------------------------------------------------------------------------------------ any two versions

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=3),
    bytes: st.binary(max_size=3),
    bool: st.booleans(),
    None: st.none(),
    datetime.date: st.dates(),
    uuid.UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False),
    Color: st.sampled_from(Color),
    MoreColors: st.sampled_from(MoreColors),
    Literal["red", 1]: st.sampled_from(["red", 1]),
}


LIST: Any = list
TUPLE: Any = tuple
DICT: Any = dict


class Pair(NamedTuple):
    """Two versions of one type: the writer's, with the values that it may write, and the reader's."""

    written: Any
    values: st.SearchStrategy[Any]
    read: Any


def of_lists(item: Pair) -> Pair:
    return Pair(LIST[item.written], st.lists(item.values, max_size=2), TUPLE[item.read, ...])


def of_rows(item: Pair) -> Pair:
    return Pair(TUPLE[item.written, int], st.tuples(item.values, st.just(1)), TUPLE[item.read, int])


def of_dicts(value: Pair) -> Pair:
    values = st.dictionaries(st.text(max_size=2), value.values, max_size=2)
    return Pair(DICT[str, value.written], values, DICT[str, value.read])


def optional(hint: Any) -> Any:
    return hint and hint | None


def of_optionals(each: Pair, at_writer: bool) -> Pair:
    values = each.values | st.none() if at_writer else each.values
    return Pair(optional(each.written) if at_writer else each.written, values, optional(each.read))


@st.composite
def leaves(draw: st.DrawFn) -> Pair:
    """Mostly the same on both sides."""
    written = draw(st.sampled_from(list(LEAVES)))
    return Pair(written, LEAVES[written], written if draw(st.integers(0, 3)) else draw(st.sampled_from(list(LEAVES))))


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    """Each side has some of the fields, the last of them with a default; and mostly the same form."""
    fields = draw(st.dictionaries(st.sampled_from("abc"), inner, min_size=1))
    by_position = draw(st.booleans())
    sides = []
    for side in ("written", "read"):
        names = [name for name in fields if draw(st.integers(0, 5))]
        required = draw(st.integers(0, len(names)))
        hints = [(name, getattr(fields[name], side)) for name in names]
        sides.append(
            msgspec.defstruct(
                "Order",
                [*hints[:required], *((name, optional(hint), None) for name, hint in hints[required:])],
                array_like=by_position == bool(draw(st.integers(0, 9))),
                omit_defaults=not draw(st.integers(0, 3)),
                forbid_unknown_fields=not draw(st.integers(0, 5)),
            )
        )
    written, read = sides
    return Pair(written, st.builds(written, **{name: fields[name].values for name in written.__struct_fields__}), read)


pairs = st.recursive(
    leaves(),
    lambda inner: (
        inner.map(of_lists)
        | inner.map(of_rows)
        | inner.map(of_dicts)
        | st.builds(of_optionals, inner, st.booleans())
        | records(inner)
        | records(inner)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(pairs, st.data())
def test_whatever_is_called_compatible_is_understood(pair: Pair, data: st.DataObject) -> None:
    writer, reader = interface_of(interface_with({"x": pair.written})), interface_of(interface_with({"x": pair.read}))
    assume(first_incompatibility(writer.schema, reader.schema) is None)
    one, other = writer.methods["charge"], reader.methods["charge"]
    other.decode_arguments(one.encode_arguments(one.Arguments(data.draw(pair.values))))

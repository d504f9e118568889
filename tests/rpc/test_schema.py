"""Schemas: stable bytes, stable hashes, readable words, and nothing that a peer sends can do harm."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import random
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Protocol, TypedDict, TypeVar

import msgspec
import pytest

from onerack.errors import ProtocolError, UsageError
from onerack.rpc.attachment import Attachment
from onerack.rpc.interface import interface_of
from onerack.rpc.messages import Mode
from onerack.rpc.modes import at_least_once, exactly_once, readonly
from onerack.rpc.schema import (
    Schema,
    canonical_bytes,
    decode_schema,
    describe,
    encode_schema,
    first_incompatibility,
    schema_hash,
)
from onerack.rpc.schema.schema import SCHEMA_BYTES_MAX, MethodSchema
from onerack.rpc.schema.shapes import Choice, Field, Items, Record, Reference, Scalar, Shape, Union

T = TypeVar("T")
WORDS = frozenset({"x", "y", "z"})


class Color(enum.IntEnum):
    RED = 2
    BLUE = 1


class Entry(msgspec.Struct, tag="entry", omit_defaults=True):
    name: str
    inner: list[Entry] = []
    made: datetime.datetime = msgspec.field(default_factory=lambda: datetime.datetime.now(datetime.UTC))


class Page(msgspec.Struct, Generic[T], array_like=True):
    items: tuple[T, ...]
    words: set[str] | None = None
    size: int = msgspec.field(name="SIZE", default=3)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


class Pair(NamedTuple):
    key: bytes
    value: decimal.Decimal | None


class Options(TypedDict):
    depth: Annotated[int, msgspec.Meta(ge=0, le=9)]
    label: NotRequired[Annotated[str, msgspec.Meta(pattern="^a")]]


class Everything(Protocol):
    """All that a signature may have.

    And this is not its first line.
    """

    @readonly
    async def colors(self, one: Color = Color.RED, two: Literal["b", "a", None] = None) -> frozenset[uuid.UUID]:
        """All there are."""
        ...

    @at_least_once
    async def note(self, entry: Entry, table: dict[str, Point], point: tuple[int, str] = (1, "a")) -> Page[Entry]: ...
    @exactly_once
    async def pair(self, pair: Pair, options: Options | None = None, *, words: frozenset[str] = WORDS) -> None: ...
    async def put(self, content: Attachment = b"", span: datetime.timedelta = datetime.timedelta(1)) -> Attachment: ...
    async def find(self, day: datetime.date) -> tuple[bool, Attachment]: ...
    def watch(self, keys: AsyncIterator[str]) -> AsyncIterator[Entry | list[Page[int]]]: ...


DESCRIPTION = """\
service Everything  schema 0000000000000000  # All that a signature may have.
  readonly       colors(one: Color[1, 2] = 2, two: Literal[None, 'a', 'b'] = None) -> frozenset[UUID]  # All there are.
  at_most_once   find(day: date) -> tuple[bool, Attachment]
  at_least_once  note(entry: Entry, table: dict[str, Point], point: tuple[int, str] = (1, 'a')) -> Page[Entry]
  exactly_once   pair(pair: Pair, options: Options | None = None, words: frozenset[str] = ['x', 'y', 'z']) -> None
  at_most_once   put(content: Attachment = b'', span: timedelta = 'P1D') -> Attachment
  at_most_once   watch(keys: AsyncIterator[str]) -> AsyncIterator[Entry | list[Page[int]]]
  Entry(name: str, inner: list[Entry] = [], made: datetime = ...)
  Point(x: int, y: float = 0.5)
  Page[Entry](items: tuple[Entry, ...], words: set[str] | None = None, SIZE: int = 3)
  Pair(key: bytes, value: Decimal | None)
  Options(depth: int(ge=0, le=9), label: str(pattern='^a') = ...)
  Page[int](items: tuple[int, ...], words: set[str] | None = None, SIZE: int = 3)"""


def schema_of(protocol: type) -> Schema:
    return interface_of(protocol).schema


# ------------------------------------------------------------------------------------------------ what it says


def test_a_schema_reads_like_the_interface_it_came_from() -> None:
    schema = schema_of(Everything)
    assert describe(schema) == DESCRIPTION.replace("0000000000000000", schema_hash(schema))


def test_types_become_shapes_that_say_what_is_on_the_wire() -> None:
    records = {record.name: record for record in schema_of(Everything).records}
    entry, page, pair, options = (records[name] for name in ("Entry", "Page[Entry]", "Pair", "Options"))
    assert (entry.by_position, entry.closed, entry.tag) == (False, False, ("type", "entry"))
    assert (page.by_position, page.closed, page.tag) == (True, False, None)
    assert (pair.by_position, pair.closed) == (True, True)
    assert [field.omitted for field in entry.fields] == [False, True, True]
    assert [field.omitted for field in page.fields] == [False, False, False]
    assert [field.omitted for field in options.fields] == [False, True]
    assert entry.fields[1].shape == Items("list", Reference("Entry"))
    assert page.fields[1].shape == Union((Items("set", Scalar("str")), Scalar("None")))
    assert options.fields[0].shape == Scalar("int", "ge=0, le=9")
    assert schema_of(Everything).methods[0].parameters[0].shape == Choice("Color", (1, 2))


def test_a_generic_class_is_named_with_its_arguments() -> None:
    async def pages(self: Any, one: Any, two: Any) -> None: ...

    pages.__annotations__ = {"one": Page[int | None], "two": Page[list[Page[Literal["a"]]]], "return": None}
    records = schema_of(type("Pages", (), {"pages": pages})).records
    assert [record.name for record in records] == [
        "Page[int | None]",
        "Page[list[Page[Literal['a']]]]",
        "Page[Literal['a']]",
    ]


def test_two_classes_of_one_name_stay_two() -> None:
    other = msgspec.defstruct("Entry", [("number", int)])

    async def both(self: Any, one: Any, two: Any) -> None: ...

    both.__annotations__ = {"one": Entry, "two": other, "return": None}
    schema = schema_of(type("Both", (), {"both": both}))
    assert [record.name for record in schema.records] == ["Entry", "Entry_2"]
    assert [field.shape for field in schema.methods[0].parameters] == [Reference("Entry"), Reference("Entry_2")]


# ------------------------------------------------------------------------------------------------ bytes and hash


def test_the_hash_is_the_same_in_every_process() -> None:
    # This process has a hash seed of its own; the golden value was made by another one.
    assert interface_of(Everything).schema_hash == "9df47d1bcd45cc2d"


SOURCE = """
from typing import Literal, Protocol
import msgspec
class Entry(msgspec.Struct):
    names: frozenset[str] = frozenset({"x", "y", "z"})
class Store(Protocol):
    async def get(self, entry: Entry, kind: Literal["a", "b", "c"] = "a") -> Entry: ...
    async def drop(self) -> None: ...
"""


def interface_in(module: str, source: str) -> type:
    names: dict[str, Any] = {"__name__": module}
    exec(source, names)
    store: type = names["Store"]
    return store


def test_neither_modules_nor_the_order_of_methods_or_literals_change_the_hash() -> None:
    here = interface_of(interface_in("here", SOURCE))
    lines = SOURCE.replace('"a", "b", "c"', '"c", "a", "b"').strip().split("\n")
    there = interface_of(interface_in("far.away", "\n".join([*lines[:-2], lines[-1], lines[-2]])))
    assert there.schema_bytes == here.schema_bytes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind:", "sort:"),
        ('= "a"', '= "b"'),
        ('"c"]', '"d"]'),
        ("-> Entry", "-> None"),
        ("def drop", "def lose"),
        ("names:", "words:"),
        ("async def drop", "async def more(self) -> None: ...\n    async def drop"),
    ],
)
def test_what_matters_changes_the_hash(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert interface_of(interface_in("x", changed)).schema_hash != interface_of(interface_in("x", SOURCE)).schema_hash


def test_words_of_documentation_do_not_change_the_hash() -> None:
    schema = schema_of(Everything)
    silent = decode_schema(canonical_bytes(schema))
    assert (schema.doc, silent.doc) == ("All that a signature may have.", "")
    assert [method.doc for method in silent.methods] == [""] * 6
    assert schema_hash(silent) == schema_hash(schema)
    assert interface_of(Everything).schema_bytes == canonical_bytes(silent)


def test_a_schema_comes_back_as_it_was() -> None:
    schema = schema_of(Everything)
    assert decode_schema(encode_schema(schema)) == schema


# ------------------------------------------------------------------------------------------------ what peers send


def with_result(shape: Any, records: tuple[Record, ...] = ()) -> Schema:
    return Schema("S", (MethodSchema("m", Mode.READONLY, (), shape),), records)


def nested(depth: int) -> Shape:
    shape: Shape = Scalar("int")
    for _ in range(depth - 1):
        shape = Items("list", shape)
    return shape


def test_a_shape_may_be_as_deep_as_the_limit() -> None:
    assert decode_schema(encode_schema(with_result(nested(32)))) == with_result(nested(32))
    with pytest.raises(ProtocolError, match="32 deep, and this one nests them 33 deep"):
        decode_schema(encode_schema(with_result(nested(33))))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91\xa1S",
        b"\x93\xa1\xff\x90\x90",
        encode_schema(with_result(Scalar("int")))[:-3] + b"\x93\x02\xa4list" * 20_000,
        encode_schema(with_result(Union((Union((Scalar("int"),)),)))),  # type: ignore[arg-type]
        encode_schema(Schema("S", (), doc="x" * SCHEMA_BYTES_MAX)),
    ],
)
def test_bytes_that_are_no_schema_are_the_peers_mistake(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="schema"):
        decode_schema(payload)


def test_damaged_schemas_are_refused_or_looked_at_without_harm() -> None:
    chance, own = random.Random(3), schema_of(Everything)
    whole, survivors = encode_schema(own), 0
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            schema = decode_schema(bytes(damaged))
        except ProtocolError:
            continue
        survivors += 1
        describe(schema)
        first_incompatibility(schema, own)
        first_incompatibility(own, schema)
    assert survivors > 300


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    hostile = Schema("S\x1b[2J", (MethodSchema("m\n\x07", Mode.READONLY, (), Scalar("int")),), doc="\x9b31m")
    text = describe(hostile)
    assert len(text.split("\n")) == 2
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_long_name_makes_no_long_message() -> None:
    hostile = with_result(Reference("x" * 100_000))
    misfit = first_incompatibility(hostile, with_result(Scalar("int")))
    assert misfit is not None
    assert len(misfit) < 500


def test_a_difference_is_told_in_words_that_a_log_can_hold() -> None:
    misfit = first_incompatibility(with_result(Reference("x\x1b[2J\n")), with_result(Scalar("int")))
    assert misfit == "S.m: the result is 'x?[2J?' at the client and 'int' at the server"


def test_a_long_chain_of_records_exhausts_no_stack() -> None:
    chain = tuple(Record(f"R{n}", (Field("next", Reference(f"R{n + 1}")),)) for n in range(3_000))
    own = (Record("Node", (Field("next", Reference("Node")),)),)
    longest = with_result(Reference("R0"), (*chain, Record("R3000", (Field("next", Reference("R0")),))))
    assert first_incompatibility(with_result(Reference("Node"), own), longest) is None
    broken = with_result(Reference("R0"), (*chain, Record("R3000", ())))
    assert "Node.next" in str(first_incompatibility(with_result(Reference("Node"), own), broken))


def test_an_interface_too_large_for_a_greeting_is_refused() -> None:
    async def wide(self: Any) -> None: ...

    large = type("Large", (), {f"method_{number:0100}": wide for number in range(1_300)})
    with pytest.raises(UsageError, match=rf"at most {SCHEMA_BYTES_MAX} are possible"):
        interface_of(large)

"""Shapes: what a type looks like on the wire, as plain nested structs that can be sent, compared and printed.

The idea: two processes cannot compare Python classes, but they can compare shapes. A shape says what msgspec writes
and checks, in the words of Python's own annotations: `str(shape)` is the annotation that it came from. Classes with
fields are records; they stand in one table by name and are referred to, so that types which hold themselves end.

The rule: nothing here depends on where a class is defined, on the order of sets or on hash seeds. Bounds (`ge=0`) are
told, but not compared: they are checked on every value that arrives.
"""

from __future__ import annotations

from typing import Final

import msgspec

NESTING_MAX: Final = 32
"""Deeper shapes are refused, so that walking along one cannot exhaust the stack."""


class Scalar(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """One value without parts."""

    kind: str
    """None bool int float str bytes datetime date time timedelta UUID Decimal, or Attachment."""
    bounds: str = ""

    def __str__(self) -> str:
        return self.kind + _in_parentheses(self.bounds)


class Choice(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One of these values: a Literal, or an Enum by its values."""

    name: str
    """Literal, or that of the Enum."""
    values: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(repr, self.values))}]"


class Items(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Any number of items of one shape."""

    kind: str
    """list set frozenset tuple"""
    item: Shape
    bounds: str = ""

    def __str__(self) -> str:
        more = ", ..." if self.kind == "tuple" else ""
        return f"{self.kind}[{self.item}{more}]{_in_parentheses(self.bounds)}"


class Row(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A tuple whose every item has its own shape."""

    items: tuple[Shape, ...]

    def __str__(self) -> str:
        return f"tuple[{', '.join(map(str, self.items)) or '()'}]"


class Table(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A dict."""

    key: Shape
    value: Shape
    bounds: str = ""

    def __str__(self) -> str:
        return f"dict[{self.key}, {self.value}]{_in_parentheses(self.bounds)}"


class Reference(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A record, by its name."""

    name: str

    def __str__(self) -> str:
        return self.name


class Union(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """One of several shapes, which msgspec can tell apart by the first byte or by a tag."""

    members: tuple[Scalar | Choice | Items | Row | Table | Reference, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.members))


class Stream(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Items that come one after another while the call lasts. Only as a whole parameter or result."""

    item: Shape

    def __str__(self) -> str:
        return f"AsyncIterator[{self.item}]"


Shape = Scalar | Choice | Items | Row | Table | Reference | Union | Stream


class Field(msgspec.Struct, frozen=True, array_like=True):
    """A field of a record, or a parameter of a method."""

    name: str
    shape: Shape
    default: str | None = None
    """As text for people. None: there is none, so a reader must be sent the field."""
    omitted: bool = False
    """Whether a writer may leave it out."""

    def __str__(self) -> str:
        return f"{self.name}: {self.shape}" + ("" if self.default is None else f" = {self.default}")


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A class with fields: Struct, dataclass, TypedDict or NamedTuple."""

    name: str
    fields: tuple[Field, ...]
    by_position: bool = False
    """Written as an array instead of a map."""
    closed: bool = False
    """Refuses fields that it does not know."""
    tag: tuple[str, int | str] | None = None
    """The field, and what is written into it, by which a union tells its records apart."""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.fields))})"


def nesting(value: object) -> int:
    """How many shapes lie within each other."""
    if isinstance(value, tuple):
        return max(map(nesting, value), default=0)
    return 1 + nesting(msgspec.structs.astuple(value)) if isinstance(value, Shape) else 0


def printable(text: str) -> str:
    """What may be shown on a terminal or in a log, of words that a peer chose."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _in_parentheses(bounds: str) -> str:
    return f"({bounds})" if bounds else ""

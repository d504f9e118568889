"""From type hints to shapes. What cannot be checked when it arrives is refused here, by name.

The idea: msgspec knows what it writes and checks for a type (`msgspec.inspect`); a shape is that knowledge without
the classes. The rule: a type that msgspec would let pass unchecked (Any, a bare list) or would need a hook for (any
other class) is refused before anything is bound, and the message says of which parameter or result, where within it,
and what can stand there instead.
"""

from __future__ import annotations

import typing
from types import UnionType
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, inspect

from onerack.errors import UsageError
from onerack.rpc.attachment import holds_attachment
from onerack.rpc.schema.shapes import (
    NESTING_MAX,
    Choice,
    Field,
    Items,
    Record,
    Reference,
    Row,
    Scalar,
    Shape,
    Table,
    Union,
    nesting,
)

SCALARS: Final[dict[type[inspect.Type], str]] = {
    inspect.NoneType: "None",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.MemoryViewType: "bytes",
    inspect.DateTimeType: "datetime",
    inspect.DateType: "date",
    inspect.TimeType: "time",
    inspect.TimeDeltaType: "timedelta",
    inspect.UUIDType: "UUID",
    inspect.DecimalType: "Decimal",
}
ITEMS: Final[dict[type[inspect.Type], str]] = {
    inspect.ListType: "list",
    inspect.SetType: "set",
    inspect.FrozenSetType: "frozenset",
    inspect.VarTupleType: "tuple",
}
BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
POSSIBLE: Final = (
    "possible are the builtin types, msgspec.Struct, dataclass, TypedDict, NamedTuple, Enum, Literal, datetime, UUID, "
    "Decimal, and lists, tuples, sets, dicts and unions of these"
)
Fields = inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType


class Shapes:
    """The shapes of one interface: its records are collected while hints are read."""

    def __init__(self) -> None:
        self._records: dict[str, Record | None] = {}  # None while its fields are being read
        self._names: dict[Any, str] = {}

    @property
    def records(self) -> tuple[Record, ...]:
        """In the order in which they were met."""
        return tuple(record for record in self._records.values() if record is not None)

    def read(self, hint: Any, place: str) -> Shape:
        """The shape of a type. `place`: whose it is, for messages, e.g. `Account.charge: parameter 'order'`.

        Raises: UsageError: it cannot travel.
        """
        if holds_attachment(hint):
            raise UsageError(
                f"{place} has an Attachment within another type; it must be the whole parameter (with the default b'' "
                "if it may be missing), the whole result, or the last of a result, `-> tuple[T, Attachment]`"
            )
        try:
            found = inspect.type_info(hint)
        except Exception as error:  # A class of the user's may fail in any way when it is looked at.
            raise UsageError(f"{place} is {_written(hint)}, which msgspec cannot check: {error}") from error
        shape = self._shape(found, place)
        if nesting(shape) > NESTING_MAX:
            raise UsageError(f"{place} nests types more than {NESTING_MAX} deep; give the inner ones a class")
        return shape

    def _shape(self, found: inspect.Type, place: str) -> Shape:
        if kind := SCALARS.get(type(found)):
            return Scalar(kind, _bounds(found))
        match found:
            case inspect.Metadata(type=inner):
                return self._shape(inner, place)
            case inspect.LiteralType(values=values):
                return Choice("Literal", _sorted(values))
            case inspect.EnumType(cls=cls):
                return Choice(cls.__name__, _sorted(member.value for member in cls))
            case (
                inspect.ListType(item_type=item)
                | inspect.SetType(item_type=item)
                | inspect.FrozenSetType(item_type=item)
                | inspect.VarTupleType(item_type=item)
            ):
                return Items(ITEMS[type(found)], self._shape(item, place), _bounds(found))
            case inspect.TupleType(item_types=items):
                return Row(tuple(self._shape(item, place) for item in items))
            case inspect.DictType(key_type=key, value_type=value):
                return Table(self._shape(key, place), self._shape(value, place), _bounds(found))
            case inspect.UnionType(types=types):
                # What was nested is flat already.
                return Union(tuple(self._shape(member, place) for member in types))  # type: ignore[misc]
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                return self._reference(found, place)
        raise _refusal(found, place)

    def _reference(self, found: Fields, place: str) -> Reference:
        name = self._names.get(found.cls)
        if name is None:
            name = self._names[found.cls] = self._free_name(_name_of(found.cls))
            self._records[name] = None
            self._records[name] = self._record(name, found, place)
        return Reference(name)

    def _record(self, name: str, found: Fields, place: str) -> Record:
        omits_defaults = isinstance(found, inspect.StructType) and _origin(found.cls).__struct_config__.omit_defaults
        fields = tuple(
            Field(
                field.encode_name,
                self._shape(field.type, f"{place}, within it {name}.{field.name},"),
                None if field.required else _default(field),
                omitted=not field.required and (omits_defaults or _has_no_default(field)),
            )
            for field in found.fields
        )
        if isinstance(found, inspect.NamedTupleType):
            return Record(name, fields, by_position=True, closed=True)
        if not isinstance(found, inspect.StructType):
            return Record(name, fields)
        tag = None if found.tag is None else (found.tag_field or "", found.tag)
        return Record(name, fields, found.array_like, found.forbid_unknown_fields, tag)

    def _free_name(self, name: str) -> str:
        """Two classes of one name, from two modules, stay two."""
        candidate, number = name, 1
        while candidate in self._records:
            number += 1
            candidate = f"{name}_{number}"
        return candidate


def default_text(value: object) -> str:
    """A default for people to read: the same in every process, whatever it is."""
    try:
        return repr(msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic"))
    except Exception:  # Whatever the user's own object raises; it is only for show.
        return "..."


def _default(field: inspect.Field) -> str:
    if field.default is not NODEFAULT:
        return default_text(field.default)
    factory = field.default_factory
    return default_text(factory()) if factory in (list, dict, set, tuple, frozenset) else "..."


def _has_no_default(field: inspect.Field) -> bool:
    """Neither required nor with a default: a NotRequired key, or one that is UNSET, is not written at all."""
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


def _bounds(found: inspect.Type) -> str:
    bounds = ((name, getattr(found, name, None)) for name in BOUNDS)
    return ", ".join(f"{name}={value!r}" for name, value in bounds if value is not None)


def _sorted(values: Any) -> tuple[int | str | None, ...]:
    return tuple(sorted(values, key=lambda value: (type(value).__name__, value)))


def _name_of(hint: Any) -> str:
    """The bare name; for a generic class with its arguments, e.g. `Page[int | None]`."""
    arguments = [_name_of(argument) for argument in get_args(hint)]
    if get_origin(hint) in (typing.Union, UnionType):
        return " | ".join(arguments)
    name = "None" if hint is type(None) else getattr(_origin(hint), "__name__", repr(hint))
    return f"{name}[{', '.join(arguments)}]" if arguments else name


def _origin(hint: Any) -> Any:
    return get_origin(hint) or hint


def _written(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else repr(hint)


def _refusal(found: inspect.Type, place: str) -> UsageError:
    if isinstance(found, inspect.AnyType):
        return UsageError(
            f"{place} is Any, a type variable, or a list, dict or set that does not say of what; nothing could be "
            "checked when it arrives. Name the type, e.g. list[int]"
        )
    name = getattr(found, "cls", type(found)).__name__.removesuffix("Type")
    hint = "; a stream is AsyncIterator[T], as a whole parameter or result" if name.startswith("Async") else ""
    return UsageError(f"{place} is {name}, which cannot be checked when it arrives{hint}; {POSSIBLE}")

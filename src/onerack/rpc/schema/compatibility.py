"""Compatibility: whether a client with one schema can call a server with another, and if not, why not.

The idea: a value has a writer and a reader. The client writes arguments and the server reads them; with results it is
the other way round. Two shapes fit if the reader takes all that the writer may write. So a reader may widen (int to
`int | None`, one more value of an Enum), and a new field needs a default exactly where its reader may not be sent it.

The rules:
- the server has every method that the client knows, in the same mode: a client that believes a method idempotent
  would try it again, and one that does not would not;
- parameters, and fields that are written by position, keep their names and order; new ones come last, with defaults;
- fields that are written by name may come and go, as long as no reader misses one that it requires;
- bounds are not compared: they are checked on every value that arrives.

The schemas come from peers, so the work is bounded: pairs of records wait in a queue and are compared once, and which
member of a union a record belongs to is seen at its tag, not tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from onerack.rpc.schema.schema import MethodSchema, Schema
from onerack.rpc.schema.shapes import (
    Choice,
    Field,
    Items,
    Record,
    Reference,
    Row,
    Scalar,
    Shape,
    Stream,
    Table,
    Union,
    printable,
)

READS_TOO: Final = {
    "float": {"int"},
    "Decimal": {"int", "float"},
    "str": {"date", "time", "timedelta", "UUID", "Decimal"},
}
"""What msgspec takes for a kind besides the kind itself."""
KINDS: Final = {str: "str", int: "int", type(None): "None"}
VALUE: Final = "value"
WORDS_MAX: Final = 400
"""The other side's types may have long names."""

Misfit = str
"""Why two shapes do not fit. Empty: whoever compared them knows best how to call them."""


def first_incompatibility(client: Schema, server: Schema) -> str | None:
    """The first thing that keeps a program with the schema `client` from calling one with the schema `server`."""
    if client.service != server.service:
        return f"the client asks for {client.service!r:.80}, and this is {server.service!r:.80}"
    offered = {method.name: method for method in server.methods}
    arguments = _Comparison(client, "the client", server, "the server")
    results = _Comparison(server, "the server", client, "the client")
    for method in client.methods:
        misfit = _misfit_of_method(method, offered.get(method.name), arguments, results)
        if misfit is not None:
            return printable(f"{client.service}.{method.name}: {misfit}"[:WORDS_MAX])
    return None


def _misfit_of_method(
    client: MethodSchema, server: MethodSchema | None, arguments: _Comparison, results: _Comparison
) -> Misfit | None:
    if server is None:
        return "the server has no such method"
    if server.mode is not client.mode:
        return f"{client.mode.name.lower()} at the client, and {server.mode.name.lower()} at the server"
    return (
        arguments.by_position(client.parameters, server.parameters, lambda index, _: f"parameter {index + 1}")
        or arguments.of_records()
        or results.named(server.result, client.result, "the result")
        or results.of_records()
    )


class _Comparison:
    """Everything that one side writes, against what the other reads."""

    def __init__(self, writer: Schema, writer_name: str, reader: Schema, reader_name: str) -> None:
        self._written = {record.name: record for record in writer.records}
        self._read = {record.name: record for record in reader.records}
        self._writer, self._reader = writer_name, reader_name
        self._met: set[tuple[str, str]] = set()
        self._waiting: deque[tuple[Record, Record]] = deque()

    def named(self, written: Shape, read: Shape, place: str) -> Misfit | None:
        """The misfit of what has a place of its own: the result, or a field."""
        return self._placed(place, written, read, self._misfit(written, read))

    def by_position(
        self, written: tuple[Field, ...], read: tuple[Field, ...], place: Callable[[int, Field], str]
    ) -> Misfit | None:
        """Parameters, or the fields of a record that is an array. Beyond the shorter, the reader needs defaults."""
        for index, (one, other) in enumerate(zip(written, read, strict=False)):
            misfit = self._misfit(one.shape, other.shape) if one.name == other.name else ""
            if misfit is not None:
                return self._placed(place(index, other), one, other, misfit)
        for index, field in enumerate(read[len(written) :], len(written)):
            if field.default is None:
                return self._missing(place(index, field), field)
        return None

    def of_records(self) -> Misfit | None:
        """The first misfit of the records that were met so far, and of those that are met on the way."""
        while self._waiting:
            misfit = self._misfit_of_records(*self._waiting.popleft())
            if misfit is not None:
                return misfit
        return None

    def _misfit_of_records(self, written: Record, read: Record) -> Misfit | None:
        if written.by_position != read.by_position or written.tag != read.tag:
            forms = _form(written), _form(read)
            return (
                f"{written.name} is written {forms[0]} by {self._writer}; {self._reader} reads {read.name} {forms[1]}"
            )
        known = {field.name for field in read.fields}
        unknown = [field for field in written.fields if field.name not in known]
        if read.closed and unknown:
            return f"{read.name} has the field '{unknown[0]}' at {self._writer}, which {self._reader} refuses"
        if read.by_position:
            return self.by_position(written.fields, read.fields, lambda _, field: f"{read.name}.{field.name}")
        return self._by_name(read.name, {field.name: field for field in written.fields}, read.fields)

    def _by_name(self, name: str, written: dict[str, Field], read: tuple[Field, ...]) -> Misfit | None:
        for field in read:
            place, one = f"{name}.{field.name}", written.get(field.name)
            if field.default is None and (one is None or one.omitted):
                return self._missing(place, field)
            misfit = None if one is None else self.named(one.shape, field.shape, place)
            if misfit is not None:
                return misfit
        return None

    def _misfit(self, written: Shape, read: Shape) -> Misfit | None:
        match written, read:
            case Union(members=members), _:
                return self._misfit_of_all([(one, read) for one in members])
            case _, Union():
                return self._misfit_of_union(written, read)
            case Choice(), _:
                return self._misfit_of_choice(written, read)
            case Scalar(), Scalar():
                fits = written.kind == read.kind or written.kind in READS_TOO.get(read.kind, ())
                return None if fits else ""
            case Scalar(kind="None"), Choice():
                return None if None in read.values else ""
            case (Items(item=one), Items(item=other)) | (Stream(item=one), Stream(item=other)):
                return self._misfit(one, other)
            case Row(items=items), Items(item=item):
                return self._misfit_of_all([(one, item) for one in items])
            case Row(), Row() if len(written.items) == len(read.items):
                return self._misfit_of_all(list(zip(written.items, read.items, strict=True)))
            case Table(), Table():
                return self._misfit_of_all([(written.key, read.key), (written.value, read.value)])
            case Reference(), Reference():
                return self._misfit_of_references(written, read)
        return ""

    def _misfit_of_all(self, pairs: list[tuple[Shape, Shape]]) -> Misfit | None:
        return next((misfit for one, other in pairs if (misfit := self._misfit(one, other)) is not None), None)

    def _misfit_of_union(self, written: Shape, read: Union) -> Misfit | None:
        """One member has to take it. Of arrays, maps and records only one can, so that only values are tried."""
        if isinstance(written, Choice) and len(written.values) > 1:
            return self._misfit_of_all([(Choice(written.name, (value,)), read) for value in written.values])
        family = _family(written, self._written)
        members = [member for member in read.members if _family(member, self._read) == family]
        if family == VALUE:
            if _is_whole(written):  # A float takes whole numbers only where nothing else in the union does.
                members = [member for member in members if _is_whole(member)] or members
            return None if any(self._misfit(written, member) is None for member in members) else ""
        return self._misfit(written, members[0]) if members else ""

    def _misfit_of_choice(self, written: Choice, read: Shape) -> Misfit | None:
        if isinstance(read, Choice):
            unknown = [value for value in written.values if value not in read.values]
            if unknown:
                return f"{written.name} may be {unknown[0]!r} at {self._writer}, and {self._reader} does not know that"
            return None
        return self._misfit_of_all([(Scalar(KINDS[type(value)]), read) for value in written.values])

    def _misfit_of_references(self, written: Reference, read: Reference) -> Misfit | None:
        """Records fit until they are found not to: only so can types that hold themselves be compared."""
        if (written.name, read.name) in self._met:
            return None
        self._met.add((written.name, read.name))
        if written.name not in self._written or read.name not in self._read:
            return ""
        self._waiting.append((self._written[written.name], self._read[read.name]))
        return None

    def _placed(self, place: str, written: Shape | Field, read: Shape | Field, misfit: Misfit | None) -> Misfit | None:
        """The misfit, with the place where it was found; the client comes first, whichever way the value goes."""
        if misfit is None or misfit:
            return misfit and f"{place}: {misfit}"
        (one, shape), (other, other_shape) = sorted({self._writer: written, self._reader: read}.items())
        return f"{place} is '{shape}' at {one} and '{other_shape}' at {other}"

    def _missing(self, place: str, field: Field) -> Misfit:
        return f"{place}, '{field}', is required by {self._reader}, and {self._writer} does not always send it"


def _family(shape: Shape, records: dict[str, Record]) -> object:
    """What a decoder sees first: in a union no two arrays, maps or records have the same."""
    match shape:
        case Items() | Row():
            return "array"
        case Table():
            return "map"
        case Reference(name=name) if name in records:
            return records[name].tag or ("array" if records[name].by_position else "map")
    return VALUE


def _is_whole(shape: Shape) -> bool:
    if isinstance(shape, Choice):
        return any(isinstance(value, int) for value in shape.values)
    return isinstance(shape, Scalar) and shape.kind == "int"


def _form(record: Record) -> str:
    form = "as an array" if record.by_position else "as a map"
    return form if record.tag is None else f"{form} with {record.tag[0]}={record.tag[1]!r}"

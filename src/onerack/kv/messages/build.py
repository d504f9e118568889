"""From tables to protobuf classes.

The idea: a descriptor is data, so no generated code is needed. The tables become FileDescriptorProtos, one for each
package, in a pool of our own: another library in this process may hold its own `etcdserverpb` in the common pool, and
protobuf refuses to have one name twice there.

The rule: a class is made when it is first asked for, and then is always the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = ["DecodeError", "Library", "rows_of"]

_Field: Final = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def rows_of(table: str) -> Iterator[list[str]]:
    """The words of each line; empty lines are for the eye."""
    for line in table.splitlines():
        words = line.split()
        if words:
            yield words


class Library:
    """All messages of all packages, by their simple names, which are unique."""

    def __init__(self, messages: dict[str, str], enums: dict[str, str]) -> None:
        self._package_of = {row[0]: package for package in messages for row in rows_of(messages[package])}
        self._enums = {row[0]: package for package in enums for row in rows_of(enums[package])}
        self._pool = descriptor_pool.DescriptorPool()
        self._classes: dict[str, Any] = {}
        for number, package in enumerate(messages):
            file = self._file(package, messages[package], enums.get(package, ""))
            file.dependency.extend(_file_of(earlier) for earlier in list(messages)[:number])
            self._pool.AddSerializedFile(file.SerializeToString())

    def __contains__(self, name: object) -> bool:
        return name in self._package_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._package_of)

    def __getitem__(self, name: str) -> Any:
        """The class of the message."""
        if name not in self._classes:
            descriptor = self._pool.FindMessageTypeByName(f"{self._package_of[name]}.{name}")
            self._classes[name] = message_factory.GetMessageClass(descriptor)
        return self._classes[name]

    def _file(self, package: str, messages: str, enums: str) -> Any:
        file = descriptor_pb2.FileDescriptorProto(name=_file_of(package), package=package, syntax="proto3")
        made = {}
        for name, *fields in rows_of(messages):
            made[name] = file.message_type.add(name=name)
            for field in fields:
                self._add_field(made[name], field)
        for name, *values in rows_of(enums):
            owner, _, simple = name.rpartition(".")
            enum = (made[owner] if owner else file).enum_type.add(name=simple)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        return file

    def _add_field(self, message: Any, word: str) -> None:
        group, _, rest = word.rpartition("|")
        name, kind, number = rest.split(":")
        repeated = kind.startswith("*")
        field = message.field.add(
            name=name, number=int(number), label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        )
        self._set_type(field, kind.lstrip("*"))
        if group:
            known = [oneof.name for oneof in message.oneof_decl]
            if group not in known:
                message.oneof_decl.add(name=group)
                known.append(group)
            field.oneof_index = known.index(group)

    def _set_type(self, field: Any, kind: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        elif kind in self._enums:
            field.type = _Field.TYPE_ENUM
            field.type_name = f".{self._enums[kind]}.{kind}"
        else:
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{self._package_of[kind]}.{kind}"


def _file_of(package: str) -> str:
    return f"onerack/{package}.proto"

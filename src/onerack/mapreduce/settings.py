"""A job's settings, from what a user writes to what the engine reads.

The idea: every setting has a short form for people ("csv", "skip:10") and one exact form for the engine
(`InputFormat`, a number). The rule: whatever is wrong is found here, before anything was started, and the message
says which value was found and which are allowed.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from onerack.errors import InputError, UsageError
from onerack.mapreduce.inputs.sources import refuse_undecodable
from onerack.mapreduce.messages import InputFormat, OutputFormat

_Format = TypeVar("_Format", InputFormat, OutputFormat)


def parse_on_error(text: object) -> int:
    """How many bad records may be set aside: "fail" is 0, "skip:N" is N."""
    if text == "fail":
        return 0
    if isinstance(text, str) and text.startswith("skip:"):
        number = text[len("skip:") :]
        if number.isascii() and number.isdigit():
            return int(number)
    raise UsageError(f'on_error is {text!r}; it must be "fail" or "skip:N", with N the bad records that may be skipped')


def input_format_of(
    format: object,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    compression: str | None = None,
) -> InputFormat:
    """The format, with what is given besides taking precedence over what it says itself."""
    named = {"encoding": encoding, "errors": errors, "compression": compression}
    base = {"name": format} if isinstance(format, str) else format
    if isinstance(base, InputFormat):
        base = msgspec.structs.asdict(base)
    if not isinstance(base, dict):
        raise UsageError(f"input_format must be a name or an InputFormat, and is {format!r}")
    settings = {**base, **{name: value for name, value in named.items() if value is not None}}
    for name in ("name", "compression"):
        _check_choice("input_format" if name == "name" else name, settings.get(name, "infer"), InputFormat, name)
    result = _made(InputFormat, settings)
    _check_codec(result)
    if result.name == "fixed" and result.record_bytes < 1:
        raise UsageError('input_format "fixed" needs the size of a record: InputFormat("fixed", record_bytes=100)')
    return result


def output_format_of(format: object) -> OutputFormat:
    """The format a name stands for, or the format itself."""
    if isinstance(format, OutputFormat):
        _check_choice("output_format", format.name, OutputFormat, "name")
        _check_choice("output compression", format.compression, OutputFormat, "compression")
        return format
    _check_choice("output_format", format, OutputFormat, "name")
    if format == "user":
        raise UsageError('output_format "user" comes by itself with a function `write(file, key, value)`')
    return _made(OutputFormat, {"name": format})


def resolve_files(files: Sequence[str]) -> tuple[str, ...]:
    """Side files as absolute paths. Raises `InputError` for one that cannot be read, `UsageError` for equal names."""
    resolved: dict[str, str] = {}
    for file in files:
        refuse_undecodable(file)
        path = os.path.abspath(os.path.expanduser(file))
        if not os.path.isfile(path):
            raise InputError(file, "a side file (`files`) must be a file, and there is none by this name")
        if not os.access(path, os.R_OK):
            raise InputError(file, "a side file (`files`) that this user may not read")
        name = os.path.basename(path)
        if resolved.setdefault(name, path) != path:
            raise UsageError(f"two side files are called {name}: {resolved[name]} and {path}; rename one")
    return tuple(resolved.values())


def strings_of(value: object, name: str) -> tuple[str, ...]:
    """A str, or a list or tuple of them, as a tuple."""
    if isinstance(value, (str, os.PathLike)):
        return (os.fspath(value),)
    if isinstance(value, (list, tuple)) and all(isinstance(each, (str, os.PathLike)) for each in value):
        return tuple(os.fspath(each) for each in value)
    raise UsageError(f"{name} must be a string or a list of strings, and is {value!r}")


def _check_choice(setting: str, value: object, struct: type[msgspec.Struct], field: str) -> None:
    allowed = [choice for choice in get_args(get_type_hints(struct)[field]) if choice != "user" or value == "user"]
    if value not in allowed:
        raise UsageError(f"{setting} is {value!r}; it must be one of {', '.join(allowed)}")


def _check_codec(format: InputFormat) -> None:
    if format.encoding != "bytes":  # `file` gives bytes under this name.
        try:
            codecs.lookup(format.encoding)
        except (LookupError, ValueError):
            raise UsageError(f"encoding is {format.encoding!r}, which Python does not know") from None
    try:
        codecs.lookup_error(format.errors)
    except LookupError:
        raise UsageError(f"errors is {format.errors!r}; it must be strict, replace, ignore, ...") from None


def _made(struct: type[_Format], settings: dict[str, Any]) -> _Format:
    try:
        return msgspec.convert(settings, struct)
    except msgspec.ValidationError as error:
        raise UsageError(f"{struct.__name__}: {error}") from None

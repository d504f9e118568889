"""Plain data as msgpack, with exact types: what goes in comes out, tuples as tuples and sets as sets.

The idea: msgspec's msgpack is fast but forgets (a tuple comes back as a list, a Decimal as a string). Whether it
forgot is cheap to see for a whole block in C: decode it and compare. Only values that did not survive take the slow
way: they are rebuilt with msgpack extension types for whatever msgpack has no word for.

    1 tuple   2 set   3 frozenset   4 int beyond 64 bits   5 dict with other keys than str
    6 Decimal   7 datetime   8 date   9 time   10 timedelta   11 UUID   12 complex   13 Fraction   14 str, surrogates

The rule: the bytes of a value depend on the value alone (sets are written in order of their members' bytes), never on
the block it was in. Subclasses of plain types come back as what they extend, bytearray and memoryview as bytes.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import struct
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
import numpy as np

from onerack.errors import UnserialisableValue
from onerack.mapreduce.canonical import KINDS, encode_float, encode_int

_TUPLE, _SET, _FROZENSET, _INT, _DICT, _DECIMAL, _DATETIME = 1, 2, 3, 4, 5, 6, 7
_DATE, _TIME, _TIMEDELTA, _UUID, _COMPLEX, _FRACTION, _STR = 8, 9, 10, 11, 12, 13, 14
_DEPTH_MAX: Final = 100
_COMPLEX128: Final = struct.Struct(">dd")
_TIMESTAMPS: Final = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")
"""How msgpack's own timestamp begins. It equals the datetime it was made from but forgets the zone."""

_encoder: Final = msgspec.msgpack.Encoder()


def encode_all(values: Sequence[object]) -> list[bytes]:
    """The bytes of each value.

    Raises: UnserialisableValue: a value holds something that is not plain data.
    """
    try:
        raws = list(map(_encoder.encode, values))
        if _survived(raws, values):
            return raws
    except Exception:
        # Whatever msgspec or a foreign __eq__ raises here, the question is put again for each value alone.
        pass
    return list(map(encode, values))


def encode(value: object) -> bytes:
    """The bytes of one value."""
    try:
        raw = _encoder.encode(value)
        if _survived([raw], [value]):
            return raw
    except Exception:
        # msgpack has no word for it; extension types may.
        pass
    try:
        return _encoder.encode(_tagged(value, 0))
    except (RecursionError, OverflowError, ValueError) as error:
        raise _refusal(value, str(error)) from error


def _survived(raws: list[bytes], values: Sequence[object]) -> bool:
    """Whether msgpack remembers everything. (NaN equals nothing, so it goes the slow way, to the same bytes.)"""
    return list(map(decode, raws)) == list(values) and not any(map(_may_forget, raws))


def _may_forget(raw: bytes) -> bool:
    return b"\xff" in raw and any(start in raw for start in _TIMESTAMPS)


def _ext(code: int, content: bytes) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, content)


def _list(code: int, items: Sequence[object], depth: int) -> msgspec.msgpack.Ext:
    return _ext(code, _encoder.encode([_tagged(item, depth) for item in items]))


def _tagged(value: Any, depth: int) -> Any:
    """`value` in terms of what msgpack can say exactly."""
    if depth > _DEPTH_MAX:
        raise _refusal(value, f"it is nested more than {_DEPTH_MAX} deep")
    if value is None or isinstance(value, (bool, float)):
        return value if value is None or isinstance(value, bool) else float(value)
    if isinstance(value, np.generic):
        return _tagged(value.item(), depth + 1)
    for base, form in _FORMS:
        if isinstance(value, base):
            return form(value, depth + 1)
    raise _refusal(value, "it is no plain data")


def _tagged_int(value: int, _: int) -> Any:
    number = int.__int__(value)
    if -(1 << 63) <= number < 1 << 63:
        return number
    return _ext(_INT, number.to_bytes((number.bit_length() + 8) // 8, "big", signed=True))


def _tagged_str(value: str, _: int) -> Any:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _tagged_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str and key.isascii() for key in value):
        return {key: _tagged(item, depth) for key, item in value.items()}
    return _list(_DICT, [side for pair in value.items() for side in pair], depth)


def _tagged_set(code: int, value: Any, depth: int) -> Any:
    raws = sorted(_encoder.encode(_tagged(item, depth)) for item in value)
    return _ext(code, _encoder.encode([msgspec.Raw(raw) for raw in raws]))


def _tagged_moment(code: int, value: Any, _: int) -> Any:
    zone = getattr(value, "tzinfo", None)
    if zone is not None and not isinstance(zone, datetime.timezone):
        raise _refusal(value, f"its zone is a {type(zone).__name__}; only fixed offsets are plain data")
    return _ext(code, (value.isoformat() + ("F" if getattr(value, "fold", 0) else "")).encode())


_FORMS: Final[list[tuple[Any, Any]]] = [
    (str, _tagged_str),
    (int, _tagged_int),
    ((bytes, bytearray, memoryview), lambda value, _: bytes(value)),
    (list, lambda value, depth: [_tagged(item, depth) for item in value]),
    (tuple, lambda value, depth: _list(_TUPLE, value, depth)),
    (dict, _tagged_dict),
    (set, lambda value, depth: _tagged_set(_SET, value, depth)),
    (frozenset, lambda value, depth: _tagged_set(_FROZENSET, value, depth)),
    (decimal.Decimal, lambda value, _: _ext(_DECIMAL, str(value).encode())),
    (datetime.datetime, lambda value, depth: _tagged_moment(_DATETIME, value, depth)),
    (datetime.date, lambda value, depth: _tagged_moment(_DATE, value, depth)),
    (datetime.time, lambda value, depth: _tagged_moment(_TIME, value, depth)),
    (
        datetime.timedelta,
        lambda value, depth: _list(_TIMEDELTA, [value.days, value.seconds, value.microseconds], depth),
    ),
    (uuid.UUID, lambda value, _: _ext(_UUID, value.bytes)),
    (complex, lambda value, _: _ext(_COMPLEX, _COMPLEX128.pack(value.real, value.imag))),
    (fractions.Fraction, lambda value, depth: _list(_FRACTION, [value.numerator, value.denominator], depth)),
]
"""In order: the first type that fits. (bool and float were met before.)"""


def _refusal(value: object, reason: str) -> UnserialisableValue:
    shown = repr(value) if isinstance(value, (int, float, str, bytes, tuple)) else object.__repr__(value)
    return UnserialisableValue(
        f"a value of type {type(value).__name__} cannot leave the process ({shown[:80]}): {reason}; emit plain data "
        '(numbers, str, bytes, lists, tuples, dicts, sets, dates), or set values = "pickle" on the job'
    )


def decode(raw: bytes) -> Any:
    """The value whose bytes are `raw`."""
    return _decoder.decode(raw)


def _moment(text: str, parse: Any) -> Any:
    return parse(text[:-1]).replace(fold=1) if text.endswith("F") else parse(text)


def _untagged(code: int, content: memoryview) -> Any:
    raw = bytes(content)
    if code in _FROM_LIST:
        return _FROM_LIST[code](decode(raw))
    return _FROM_BYTES[code](raw)


_FROM_LIST: Final[dict[int, Any]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _DICT: lambda sides: dict(zip(sides[::2], sides[1::2], strict=True)),
    _TIMEDELTA: lambda parts: datetime.timedelta(*parts),
    _FRACTION: lambda parts: fractions.Fraction(*parts),
}
_FROM_BYTES: Final[dict[int, Any]] = {
    _INT: lambda raw: int.from_bytes(raw, "big", signed=True),
    _STR: lambda raw: raw.decode("utf-8", "surrogatepass"),
    _DECIMAL: lambda raw: decimal.Decimal(raw.decode()),
    _DATETIME: lambda raw: _moment(raw.decode(), datetime.datetime.fromisoformat),
    _DATE: lambda raw: datetime.date.fromisoformat(raw.decode()),
    _TIME: lambda raw: _moment(raw.decode(), datetime.time.fromisoformat),
    _UUID: lambda raw: uuid.UUID(bytes=raw),
    _COMPLEX: lambda raw: complex(*_COMPLEX128.unpack(raw)),
}
_decoder: Final = msgspec.msgpack.Decoder(ext_hook=_untagged)


# ---------------------------------------------------------------------------------------------- identity


def identity(value: object) -> bytes:
    """Bytes that are equal exactly for the same value: same types throughout, equal, dicts and sets in any order.

    Among values of one kind (int, float, str, bytes) the order of these bytes is the order of the values.
    """
    kind = KINDS.get(type(value))
    if kind == "float":
        return _NAN if value != value else b"\x30" + encode_float(cast(float, value))
    if kind == "int":
        return b"\x20" + encode_int(cast(int, value))
    if kind == "bytes":
        return b"\x50" + cast(bytes, value)
    if kind == "str":
        return b"\x40" + cast(str, value).encode("utf-8", "surrogatepass")
    if kind == "bool":
        return b"\x10\x01" if value else b"\x10\x00"
    if value is None:
        return b"\x05"
    return b"\x70" + _encoder.encode(_arranged(value))


_NAN: Final = b"\x30" + b"\xff" * 8


def _arranged(value: Any) -> Any:
    """`value` as nested lists of bytes, of which equal values have equal ones."""
    if isinstance(value, dict):
        pairs = [_encoder.encode([_arranged(key), _arranged(item)]) for key, item in value.items()]
        return [b"\x73", sorted(pairs)]
    if isinstance(value, (list, tuple)):
        return [b"\x71" if isinstance(value, list) else b"\x72", [_arranged(item) for item in value]]
    if type(value) in KINDS:
        return identity(value)
    return encode(_one_form(value))


def _one_form(value: Any) -> Any:
    """One object for values that are equal and only written in different ways: 1.5 and 1.50, a moment in two zones."""
    if isinstance(value, decimal.Decimal) and value.is_finite():
        sign, digits, exponent = value.as_tuple()
        kept = len("".join(map(str, digits)).rstrip("0"))
        if not kept:
            return decimal.Decimal(0)
        return decimal.Decimal((sign, digits[:kept], int(exponent) + len(digits) - kept))
    if isinstance(value, datetime.datetime):
        with suppress(OverflowError):  # At the ends of time there is no other zone.
            return value.replace(fold=0) if value.tzinfo is None else value.astimezone(datetime.UTC)
    return value

"""Canonical bytes of one key: seven kinds, one encoding each, and the order of the bytes is the order of the keys.

The idea: whatever sorts, merges and hashes keys should see bytes only, and never ask Python what a key is.

    str    UTF-8, not normalised            float  8 bytes, big-endian, sign-folded; -0.0 is 0.0, NaN is refused
    bytes  as they are                      bool   0x00 or 0x01
    int    0x80 and 8 bytes of x + 2^63,    none   nothing
           longer forms beyond 64 bits      tuple  escaped, tagged parts

The rule: equal keys have equal bytes, unequal keys unequal bytes, and a < b in Python exactly if bytes(a) < bytes(b).
Subclasses of these types (IntEnum, named tuples, numpy scalars) count as what they extend.

A tuple is its parts one after the other, each with a tag for its kind and telling its own end: numbers have a length,
str and bytes end with a zero byte (a zero inside is escaped as 00 FF, which sorts above the end, as no tag is FF), and
so does a nested tuple. Parts of different kinds at one place are ordered by tag, where Python would not compare them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np

from onerack.errors import BadKey
from onerack.mapreduce.columns import KeyKind

SIGN: Final = 1 << 63
INLINE, _LARGE, _SMALL = 0x80, 0x81, 0x7F
"""First byte of an int: within 64 bits, above them, below them."""
_INT64: Final = struct.Struct(">BQ")
_FLOAT64: Final = struct.Struct(">d")
_UINT64: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")
_END: Final = 0x00
_NONE, _BOOL, _INT, _FLOAT, _STR, _BYTES, _TUPLE = 0x05, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60
"""Tags of the parts of a tuple."""
_DEPTH_MAX: Final = 64
"""Deeper nesting is refused, so that no key can exhaust the stack."""

KINDS: Final[dict[type, KeyKind]] = {
    str: "str",
    bytes: "bytes",
    int: "int",
    float: "float",
    bool: "bool",
    type(None): "none",
    tuple: "tuple",
}


# ---------------------------------------------------------------------------------------------- kinds


def plain_key(key: object) -> object:
    """`key` as an instance of one of the seven exact types; subclasses and numpy scalars lose their wrapping.

    Raises: BadKey: the key is of none of the kinds.
    """
    if type(key) in KINDS:
        return key
    if isinstance(key, np.generic):
        item = key.item()
        if type(item) in KINDS:
            return item
    elif isinstance(key, str):
        return str.__str__(key)
    elif isinstance(key, bytes):
        return bytes(memoryview(key))
    elif isinstance(key, int):
        return int.__int__(key)
    elif isinstance(key, float):
        return float.__float__(key)
    elif isinstance(key, tuple):
        return tuple(tuple.__iter__(key))
    raise BadKey(
        f"a key of type {type(key).__name__} was emitted: {preview(key)}; keys are str, bytes, int, float, bool, "
        "None or tuples of these (emit str(key), repr(key) or a tuple of its parts)"
    )


def kind_of(keys: Sequence[object]) -> tuple[KeyKind, Sequence[object]]:
    """The one kind of all `keys`, and the keys as exact types.

    Raises: BadKey: two kinds, or a key of no kind; the message names both.
    """
    types = set(map(type, keys))
    if not types <= KINDS.keys():
        keys = list(map(plain_key, keys))
        types = set(map(type, keys))
    if len(types) == 1:
        return KINDS[types.pop()], keys
    if not types:
        return "none", keys
    first = next(iter(keys))
    other = next(key for key in keys if type(key) is not type(first))
    raise mixed_kinds(KINDS[type(first)], KINDS[type(other)], first, other)


def mixed_kinds(kind: KeyKind, other_kind: KeyKind, *examples: object) -> BadKey:
    """The error for keys of two kinds in one job."""
    shown = f" (for example {' and '.join(map(preview, examples))})" if examples else ""
    return BadKey(
        f"keys of two kinds in one job: {kind} and {other_kind}{shown}; Python would merge 1, 1.0 and True, so a job's "
        "keys must all be of one kind (convert them in map)"
    )


def preview(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------------------------------- one key


def encode_key(key: object) -> bytes:
    """Canonical bytes of one key."""
    kind, keys = kind_of([key])
    return ENCODE_ONE[kind](keys[0])


def decode_key(kind: KeyKind, raw: bytes) -> object:
    """The key whose canonical bytes are `raw`."""
    return DECODE_ONE[kind](raw)


def encode_str(key: Any) -> bytes:
    try:
        return cast(bytes, key.encode())
    except UnicodeEncodeError:
        raise _surrogate(key) from None


def _surrogate(key: object) -> BadKey:
    return BadKey(
        f"the key {preview(key)} holds a lone surrogate, which UTF-8 cannot express; "
        'read the input with another errors policy than "surrogateescape", or emit bytes keys'
    )


def encode_int(key: int) -> bytes:
    """Order-preserving bytes that tell their own length."""
    if -SIGN <= key < SIGN:
        return _INT64.pack(INLINE, key + SIGN)
    magnitude = abs(key)
    body = magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")
    long_form = _LENGTH.pack(len(body)) + body
    if key > 0:
        return bytes((_LARGE,)) + long_form
    return bytes((_SMALL,)) + bytes(255 - byte for byte in long_form)


def decode_int(raw: bytes, position: int = 0) -> tuple[int, int]:
    """The int that starts at `position`, and where it ends."""
    form = raw[position]
    if form == INLINE:
        return _INT64.unpack_from(raw, position)[1] - SIGN, position + 9
    head = raw[position + 1 : position + 5]
    if form == _SMALL:
        head = bytes(255 - byte for byte in head)
    end = position + 5 + _LENGTH.unpack(head)[0]
    body = raw[position + 5 : end]
    if form == _SMALL:
        return -int.from_bytes(bytes(255 - byte for byte in body), "big"), end
    return int.from_bytes(body, "big"), end


def encode_float(key: float) -> bytes:
    """The IEEE bits, made to sort: positive numbers get the sign bit set, negative ones are inverted."""
    if key != key:
        raise BadKey("a key is NaN, which is equal to nothing, itself included; emit None or a string instead")
    bits: int = _UINT64.unpack(_FLOAT64.pack(key + 0.0))[0]
    return _UINT64.pack(bits ^ (2 * SIGN - 1) if bits & SIGN else bits | SIGN)


def decode_float(raw: bytes, position: int = 0) -> float:
    bits: int = _UINT64.unpack_from(raw, position)[0]
    folded = bits ^ SIGN if bits & SIGN else bits ^ (2 * SIGN - 1)
    return cast(float, _FLOAT64.unpack(_UINT64.pack(folded))[0])


# ---------------------------------------------------------------------------------------------- tuples


def encode_tuple(key: tuple[Any, ...]) -> bytes:
    """Canonical bytes of a tuple."""
    return b"".join([_encode_part(part, 0) for part in key])


def _encode_part(part: Any, depth: int) -> bytes:
    kind = KINDS.get(type(part))
    if kind == "str":
        return b"\x40" + encode_str(part).replace(b"\x00", b"\x00\xff") + b"\x00"
    if kind == "int":
        return b"\x20" + encode_int(part)
    if kind == "float":
        return b"\x30" + encode_float(part)
    if kind == "bytes":
        return b"\x50" + cast(bytes, part).replace(b"\x00", b"\x00\xff") + b"\x00"
    if kind == "bool":
        return b"\x10\x01" if part else b"\x10\x00"
    if kind == "none":
        return b"\x05"
    if kind == "tuple":
        if depth == _DEPTH_MAX:
            raise BadKey(f"a tuple key is nested more than {_DEPTH_MAX} deep")
        return b"\x60" + b"".join([_encode_part(inner, depth + 1) for inner in part]) + b"\x00"
    return _encode_part(plain_key(part), depth)


def decode_tuple(raw: bytes) -> tuple[Any, ...]:
    """The tuple whose canonical bytes are `raw`."""
    parts, _ = _decode_parts(raw, 0)
    return parts


def _decode_parts(raw: bytes, position: int) -> tuple[tuple[Any, ...], int]:
    """Parts from `position` to the end of the enclosing tuple, and the position behind it."""
    parts: list[Any] = []
    while position < len(raw):
        tag = raw[position]
        position += 1
        if tag == _END:
            break
        part, position = _decode_part(tag, raw, position)
        parts.append(part)
    return tuple(parts), position


def _decode_part(tag: int, raw: bytes, position: int) -> tuple[Any, int]:
    if tag == _INT:
        return decode_int(raw, position)
    if tag == _FLOAT:
        return decode_float(raw, position), position + 8
    if tag == _BOOL:
        return raw[position] == 1, position + 1
    if tag == _NONE:
        return None, position
    if tag == _TUPLE:
        return _decode_parts(raw, position)
    content, position = _unescape(raw, position)
    return (content.decode() if tag == _STR else content), position


def _unescape(raw: bytes, position: int) -> tuple[bytes, int]:
    """Bytes up to the zero that is not escaped, and the position behind it."""
    end = raw.index(b"\x00", position)
    while raw[end + 1 : end + 2] == b"\xff":
        end = raw.index(b"\x00", end + 2)
    return raw[position:end].replace(b"\x00\xff", b"\x00"), end + 1


ENCODE_ONE: Final[dict[KeyKind, Callable[[Any], bytes]]] = {
    "str": encode_str,
    "bytes": lambda key: cast(bytes, key),
    "int": encode_int,
    "float": encode_float,
    "bool": lambda key: b"\x01" if key else b"\x00",
    "none": lambda _: b"",
    "tuple": encode_tuple,
}
DECODE_ONE: Final[dict[KeyKind, Callable[[bytes], object]]] = {
    "str": bytes.decode,
    "bytes": lambda raw: raw,
    "int": lambda raw: decode_int(raw)[0],
    "float": decode_float,
    "bool": lambda raw: raw == b"\x01",
    "none": lambda _: None,
    "tuple": decode_tuple,
}

"""Codecs: values of one type to bytes and back, by msgpack for programs and by JSON for people.

The idea: encoder and decoder are made once, when a method is bound, and check every value that arrives. The rule:
whatever goes wrong with a value has one of two forms, so that callers catch one thing and peers cannot raise another:

    encoding    UsageError: the value cannot be sent
    decoding    msgspec.ValidationError: the bytes are not what they should be

Equal values have equal bytes in every process, so that a simulation repeats itself: dicts and sets are sorted, where
msgspec can (all dicts of the value have str keys).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from onerack.errors import UsageError

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
"""Takes bytes that nobody changes later: what is typed `memoryview` is a view of them."""
Words = Callable[[str], str]

to_msgpack: Final = msgspec.msgpack.Encoder(order="deterministic").encode
"""For whoever cannot spare the call of a function: when it raises, the method's own `encode_...` says what is wrong."""
_to_json: Final = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """Both directions, for one type."""

    encode: Encode
    decode: Decode
    encode_json: Encode
    decode_json: Decode


def codec_of(hint: Any, place: str) -> Codec:
    """The codec of a type. `place`: whose values they are, for messages."""
    return Codec(
        encode=msgpack_encoder(lambda _: place),
        decode=decoder(msgspec.msgpack.Decoder(hint).decode, place),
        encode_json=json_encoder(place),
        decode_json=decoder(json_decoder(hint), place),
    )


def msgpack_encoder(place_of: Callable[[Any], str]) -> Encode:
    """`place_of` says which part of a value it is that cannot be sent."""
    return _encoder(to_msgpack, msgspec.msgpack.encode, place_of)


def json_encoder(place: str) -> Encode:
    return _encoder(_to_json, msgspec.json.encode, lambda _: place)


def json_decoder(hint: Any) -> Decode:
    """Looks the type up for each value: JSON is for people."""
    return lambda payload: msgspec.json.decode(payload, type=hint)


def _encoder(encode: Encode, encode_unsorted: Encode, place_of: Callable[[Any], str]) -> Encode:
    def encoded(value: Any) -> bytes:
        try:
            return encode(value)
        except Exception:
            try:
                return encode_unsorted(value)
            except Exception as error:  # The value's own class may raise anything.
                raise UsageError(f"{place_of(value)} cannot be sent: {error}") from error

    return encoded


def decoder(decode: Decode, place: str, words: Words = str) -> Decode:
    """`decode` with its errors in one form; `words` puts msgspec's message into words that the sender understands."""

    def decoded(payload: bytes) -> Any:
        try:
            return decode(payload)
        except Exception as error:  # Deep nesting, bad UTF-8, or a check in the value's own class.
            raise msgspec.ValidationError(f"{place}: {words(str(error))}") from error

    return decoded

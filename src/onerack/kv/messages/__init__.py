"""The words of etcd's v3 API: protobuf messages, and the methods that carry them.

    from onerack.kv.messages import METHODS, PutRequest
    PutRequest(key=b"k", value=b"v").SerializeToString()

The idea: the messages are built from our own tables of field numbers (`tables`), without generated code. Every message
of the packages mvccpb, authpb, etcdserverpb, v3lockpb and v3electionpb is an attribute of this module under its simple
name; values of enums are attributes of the message that they lie in (`RangeRequest.DESCEND`).

The rule: nothing here knows what a message means.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from onerack.kv.messages.build import DecodeError, Library, rows_of
from onerack.kv.messages.tables import ENUMS, MESSAGES, SERVICES

__all__ = ["CORRUPT", "LIBRARY", "METHODS", "NONE", "NOSPACE", "DecodeError", "Method"]
"""And every message by its name."""

NONE, NOSPACE, CORRUPT = range(3)
"""AlarmType, which lies in no message."""

LIBRARY: Final = Library(MESSAGES, ENUMS)


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = globals()[name] = LIBRARY[name]
    return message


class Method(msgspec.Struct, frozen=True):
    """One method of a service. `request` and `response` name messages: `method.request_class` is the class."""

    service: str
    name: str
    request: str
    response: str
    client_streams: bool
    server_streams: bool

    @property
    def path(self) -> str:
        """As in the `:path` of an HTTP/2 request."""
        return f"/{self.service}/{self.name}"

    @property
    def request_class(self) -> Any:
        return LIBRARY[self.request]

    @property
    def response_class(self) -> Any:
        return LIBRARY[self.response]


def _methods() -> dict[str, Method]:
    methods = {}
    for service, *words in rows_of(SERVICES):
        for word in words:
            name, _, stem = word.partition(":")
            simple = name.strip("<>")
            stem = stem or simple
            method = Method(service, simple, f"{stem}Request", f"{stem}Response", "<" in name, ">" in name)
            methods[method.path] = method
    return methods


METHODS: Final = _methods()
"""Every method by its path."""

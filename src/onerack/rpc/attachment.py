"""Attachments: bytes that travel beside a call and are never copied into its message.

    async def put(self, name: str, content: Attachment) -> int: ...
    async def get(self, name: str) -> Attachment: ...
    async def find(self, name: str) -> tuple[Entry, Attachment]: ...

The idea: a mebibyte inside a msgpack message is copied three times on its way, as an attachment not once. So a method
may have one parameter, and one result or last part of its result, that is handed to the link as it is.

The rule: whoever receives one gets a read-only memoryview of exactly its bytes, which stays valid for as long as it
is kept. Whoever sends one must not change it before the call has ended, since an attempt may be sent again.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, get_args

from onerack.errors import UsageError


class _AttachmentMark:
    def __repr__(self) -> str:
        return "onerack.rpc.Attachment"


_MARK: Final = _AttachmentMark()

Attachment: TypeAlias = Annotated[bytes | bytearray | memoryview, _MARK]
"""The annotation. Give any object with contiguous memory (bytes, an array, a mapped file); a memoryview arrives."""


def is_attachment(hint: object) -> bool:
    return _MARK in getattr(hint, "__metadata__", ())


def holds_attachment(hint: object) -> bool:
    """Whether it is one, or has one somewhere within."""
    return is_attachment(hint) or any(map(holds_attachment, get_args(hint)))


def received(attachment: bytes | bytearray | memoryview | None) -> memoryview:
    """What a receiver is given. A link need not carry an attachment of no bytes."""
    return memoryview(b"" if attachment is None else attachment).toreadonly()


def view_of(value: object, place: str) -> memoryview:
    """The bytes of an attachment, flat and read-only, without a copy.

    Raises: UsageError: the value has no bytes, or not in one piece; `place` says whose it is.
    """
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # the error says it better than a check
    except TypeError:
        found = type(value).__name__
        raise UsageError(f"{place} must be bytes-like (bytes, bytearray, memoryview), and is {found}") from None
    if not view.c_contiguous:
        raise UsageError(f"{place} is a view with gaps in it; copy it first, e.g. by bytes(...)")
    return (view.cast("B") if view.nbytes else memoryview(b"")).toreadonly()

"""Headers: HPACK in, by the `hpack` library and a cache; HPACK out, without a dynamic table.

The idea: a client says nearly the same header block with every request, and decoding one costs more than all else that
a request does. What a block means depends on its bytes and on the dynamic table; so the meaning of a block that has not
changed the table is remembered until the next block that does. What we send uses the static table and literals only:
then a block is a constant, and the peer may choose any size for its table.

The rule: a cached meaning is used only while the table is the one it was decoded with. Source: RFC 7541.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from onerack.kv.server.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFailure

Field = tuple[bytes, bytes]
Meaning = TypeVar("Meaning")

_CACHE_BLOCKS: Final = 64
_CACHE_BLOCK_BYTES: Final = 1024
_CACHE_LIST_BYTES: Final = 4096
"""Only blocks up to these sizes are remembered, encoded and decoded: 256 KiB for one connection at most."""
SIZE_UPDATE: Final = b"\x20"
"""At the start of a block: our dynamic table has no room at all, as if it ever had any."""


class _Table(HeaderTable):
    """The dynamic table, which counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class HeaderReader(Generic[Meaning]):
    """Decodes the blocks of one connection, in order. `meaning_of` makes of the fields what the owner wants of them."""

    def __init__(self, meaning_of: Callable[[Sequence[Field]], Meaning], list_bytes_max: int) -> None:
        self.cache: dict[bytes, Meaning] = {}
        """For those in a hurry: what is in here holds for the table as it is now."""
        self._meaning_of = meaning_of
        self._decoder = Decoder(list_bytes_max)
        self._table = self._decoder.header_table = _Table()

    def read(self, block: bytes) -> Meaning:
        """Raises: ConnectionFailure: no HPACK. Whatever `meaning_of` raises, after which one may go on."""
        found = self.cache.get(block)
        if found is not None:
            return found
        before = self._table.changes
        fields = self._decode(block)
        if self._table.changes != before:
            self.cache.clear()
            return self._meaning_of(fields)
        meaning = self._meaning_of(fields)
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        if len(block) <= _CACHE_BLOCK_BYTES and size <= _CACHE_LIST_BYTES:
            if len(self.cache) >= _CACHE_BLOCKS:
                self.cache.clear()
            self.cache[block] = meaning
        return meaning

    def _decode(self, block: bytes) -> Sequence[Field]:
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, str(error)) from None
        except (HPACKError, ValueError, IndexError) as error:
            raise ConnectionFailure(COMPRESSION_ERROR, f"the header block is no HPACK: {error}") from None


def literal(name: bytes, value: bytes) -> bytes:
    """A field that enters no table."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    head = bytearray((127,))
    size -= 127
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + text


STATUS_200: Final = b"\x88"


def status(code: int) -> bytes:
    """`:status`, which must come first; its name has index 8 in the static table."""
    return STATUS_200 if code == 200 else b"\x08" + _text(str(code).encode())

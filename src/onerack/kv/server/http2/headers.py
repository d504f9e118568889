"""Headers: HPACK in, by a cache and the tables of the `hpack` library; HPACK out, without a dynamic table.

The idea: a client says nearly the same header block with every request, and decoding one costs more than all else that
a request does. What a block means depends on its bytes and on the dynamic table; so the meaning of a block that has not
changed the table is remembered until the next block that does. Clients with deadlines put another timeout into the
table each time, so the loop that decodes is our own and short; tables and Huffman code are the library's. What we send
uses the static table and literals only: then a block is a constant, and the peer may choose any size for its table.

The rule: a cached meaning is used only while the table is the one it was decoded with. Source: RFC 7541.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from onerack.kv.server.http2.frames import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    HEADER_TABLE_DEFAULT,
    ConnectionFailure,
)

Field = tuple[bytes, bytes]
Meaning = TypeVar("Meaning")

_CACHE_BLOCKS: Final = 64
_CACHE_BLOCK_BYTES: Final = 1024
_CACHE_LIST_BYTES: Final = 4096
"""Only blocks up to these sizes are remembered, encoded and decoded: 256 KiB for one connection at most."""
_INTEGER_BITS_MAX: Final = 28
_STATIC: Final = HeaderTable.STATIC_TABLE
_DYNAMIC: Final = 0x81 + len(_STATIC)
"""The byte that means the newest entry of the dynamic table."""
SIZE_UPDATE: Final = b"\x20"
"""At the start of a block: our dynamic table has no room at all, as if it ever had any."""


class HeaderReader(Generic[Meaning]):
    """Decodes the blocks of one connection, in order. `meaning_of` makes of the fields what the owner wants of them."""

    def __init__(self, meaning_of: Callable[[Sequence[Field]], Meaning], list_bytes_max: int) -> None:
        self.cache: dict[bytes, Meaning] = {}
        """For those in a hurry: what is in here holds for the table as it is now."""
        self._meaning_of = meaning_of
        self._list_bytes_max = list_bytes_max
        self._table = HeaderTable()
        self._has_changed = False
        """The table, by the block that is being read."""
        self.list_bytes = 0
        """Of the block that was decoded last, as HPACK counts."""

    def read(self, block: bytes) -> Meaning:
        """Raises: ConnectionFailure: no HPACK. Whatever `meaning_of` raises, after which one may go on."""
        found = self.cache.get(block)
        if found is not None:
            return found
        fields = self.fields_of(block)
        if self._has_changed:
            self.cache.clear()
            return self._meaning_of(fields)
        meaning = self._meaning_of(fields)
        if len(block) <= _CACHE_BLOCK_BYTES and self.list_bytes <= _CACHE_LIST_BYTES:
            if len(self.cache) >= _CACHE_BLOCKS:
                self.cache.clear()
            self.cache[block] = meaning
        return meaning

    def fields_of(self, block: bytes) -> list[Field]:
        """Raises: ConnectionFailure: it is no HPACK, or too long. The table is of no use any more."""
        self._has_changed = False
        try:
            return self._decode(block)
        except (HPACKError, IndexError) as error:
            raise ConnectionFailure(COMPRESSION_ERROR, f"the header block is no HPACK: {error}") from None

    def _decode(self, block: bytes) -> list[Field]:
        table = self._table
        fields: list[Field] = []
        position, end, size = 0, len(block), 0
        while position < end:
            kind = block[position]
            if kind & 0x80:
                position += 1
                if 0x80 < kind < _DYNAMIC:
                    field = _STATIC[kind - 0x81]
                else:
                    index, position = _integer(block, position - 1, 0x7F)
                    field = table.get_by_index(index)
            elif kind & 0x40:
                field, position = self._literal(block, position, 0x3F)
                table.add(*field)
                self._has_changed = True
            elif kind & 0x20:
                position = self._resize(block, position, is_first=not fields)
                continue
            else:
                field, position = self._literal(block, position, 0x0F)
            fields.append(field)
            size += len(field[0]) + len(field[1]) + 32
            if size > self._list_bytes_max:
                raise ConnectionFailure(ENHANCE_YOUR_CALM, f"a header list of more than {self._list_bytes_max} bytes")
        self.list_bytes = size
        return fields

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index, position = _integer(block, position, mask)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    def _resize(self, block: bytes, position: int, *, is_first: bool) -> int:
        size, position = _integer(block, position, 0x1F)
        if not is_first or size > HEADER_TABLE_DEFAULT:
            raise ConnectionFailure(COMPRESSION_ERROR, "the table's size changes where or as it must not")
        self._table.maxsize = size
        self._has_changed = True
        return position


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """A number, and where the next thing begins. Raises: IndexError: the block ends before it does."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift >= _INTEGER_BITS_MAX:
            raise ConnectionFailure(COMPRESSION_ERROR, "a number of more than 28 bits")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    is_huffman = block[position] & 0x80
    size, position = _integer(block, position, 0x7F)
    stop = position + size
    if stop > len(block):
        raise ConnectionFailure(COMPRESSION_ERROR, "the header block ends inside a string")
    text = block[position:stop]
    return (bytes(decode_huffman(text)) if is_huffman else text), stop


STATUS_200: Final = b"\x88"


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


def status(code: int) -> bytes:
    """`:status`, which must come first; its name has index 8 in the static table."""
    return STATUS_200 if code == 200 else b"\x08" + _text(str(code).encode())

"""The receiver: from bytes as they come to messages with their attachments. Knows no socket.

    space()       where the next bytes may be written
    take(size)    so many have been written there: here is what is complete

The idea: frames are parsed in place, all that one read brought at once. A frame that is large and has come only in
part is not gathered in the parser's buffer: memory of its final size is asked for, and `space` hands the rest of it
to the kernel, so that a large attachment is written once, at its place.

All receivers of a thread share one buffer, because none keeps anything in it between two reads: what is left of a
small frame is set aside. So ten thousand connections cost no more memory than what they have begun to say, and the
buffer stays in the processor's cache.

The rule: nothing that is delivered lies in that buffer. Decoded messages own their bytes (msgspec copies them), small
attachments are copied. Memory for a large one is not touched before its bytes come: the operating system gives pages
only for what is written.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from onerack.config import KIB, RpcConfig
from onerack.errors import ProtocolError
from onerack.rpc.link import Arrival
from onerack.rpc.messages import Ping, Pong
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.frames import (
    BEGINNING,
    KIND_SHIFT,
    LARGE_BYTES,
    MESSAGE,
    NOT_A_MESSAGE,
    OPENING_BYTES,
    PIECE,
    SIZE_MASK,
    TOGETHER_BYTES_MAX,
    TRANSFERS_MAX,
    WHOLE,
    WORD,
    Side,
    check_size,
    check_whole,
    decoder_for,
    tongue_of,
)

BUFFER_BYTES: Final = 256 * KIB
_WINDOW_BYTES: Final = 4 * KIB
"""After a large frame so little is read at first: what follows may be another, and what is read here must be copied."""
_WORTH_BYTES_MAX: Final = 256 * KIB
"""So much of a large frame is worth a wake-up, though it is not complete: it can be copied while more is coming."""
_PING_BYTES_MAX: Final = 11
"""No Ping or Pong is longer; nothing longer is looked at twice."""
_OURS: Final = (Ping, Pong)
_WORD_BYTES: Final = WORD.size
_unpack_word: Final = WORD.unpack_from


class _Buffer(threading.local):
    """The thread's own."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(BUFFER_BYTES))


_BUFFER: Final = _Buffer()


class _Transfer:
    """An attachment that comes in pieces."""

    __slots__ = ("arrived", "memory", "message", "number")

    def __init__(self, number: int, message: Any, memory: memoryview) -> None:
        self.number = number
        self.message = message
        self.memory = memory
        self.arrived = 0


class _Filling:
    """A large frame of which a part has come, and the memory where the rest belongs."""

    __slots__ = ("have", "kind", "memory", "transfer")

    def __init__(self, kind: int, memory: memoryview, transfer: _Transfer | None) -> None:
        self.kind = kind
        self.memory = memory
        self.transfer = transfer
        self.have = 0


class Receiver:
    """The receiving half of one connection."""

    def __init__(self, side: Side, config: RpcConfig, budget: Budget) -> None:
        self._config = config
        self._head_bytes_max = config.head_bytes_max
        self._piece_bytes_max = config.piece_bytes_max
        self._budget = budget
        self._blocks = budget.blocks
        self._decode = decoder_for(side)
        self._view = _BUFFER.view
        self._window = self._view[:_WINDOW_BYTES]
        self._set_aside = b""
        """The beginning of a frame that is not complete; short."""
        self._filling: _Filling | None = None
        self._after_large = False
        self._transfers: dict[int, _Transfer] = {}
        self.pings: list[int] = []
        """Numbers of the Pings that came; whoever answers them clears it."""
        self.consumed = 0
        """Bytes of frames that were parsed from the buffer."""
        self.large_bytes = 0
        self.large_finished = 0
        """What has come of large frames and transfers, and how many are finished: both only grow."""

    @property
    def has_large(self) -> bool:
        """Whether something is unfinished for which memory was asked."""
        return self._filling is not None or bool(self._transfers)

    @property
    def worth(self) -> int:
        """How many bytes must come before anything can be done with them."""
        filling = self._filling
        return 1 if filling is None else min(len(filling.memory) - filling.have, _WORTH_BYTES_MAX)

    @property
    def half_frame(self) -> int | None:
        """Where in the stream the small frame begins that is not complete; None: there is none."""
        return self.consumed if self._set_aside else None

    @property
    def is_inside_frame(self) -> bool:
        return self._filling is not None or bool(self._set_aside)

    @property
    def tongue(self) -> str:
        """What else the peer may be speaking, when it has ended within its first frame."""
        return "" if self.consumed else tongue_of(self._set_aside)

    def drop(self) -> None:
        """Forgets what is unfinished. Whatever comes from now on may be written to `space`, and is not looked at."""
        self._filling = None
        self._transfers.clear()
        self._set_aside = b""
        self._budget.leave(self)

    def space(self) -> memoryview:
        """Where the next bytes belong. Valid until the next call of anything here."""
        filling = self._filling
        if filling is not None:
            return filling.memory[filling.have :]
        if self._set_aside:
            size = len(self._set_aside)
            self._view[:size] = self._set_aside
            return self._view[size:]
        if self._after_large:
            self._after_large = False
            return self._window
        return self._view

    def take(self, size: int, arrivals: list[Arrival]) -> None:
        """Appends what is now complete.

        Raises: ProtocolError: what came is not allowed; `arrivals` has what came before it.
        """
        try:
            if self._filling is not None:
                self._fill(self._filling, size, arrivals)
                return
            end = len(self._set_aside) + size
            position = self._parse(end, arrivals)
        except NOT_A_MESSAGE as error:
            raise ProtocolError(f"bytes that are no message: {error}") from error
        self.consumed += position
        self._set_aside = bytes(self._view[position:end]) if position < end else b""

    # ------------------------------------------------------------------------------------------------ small frames

    def _parse(self, end: int, arrivals: list[Arrival]) -> int:
        """Everything that is complete before `end`. Returns where the first frame begins that is not."""
        view, decode, append, head_bytes_max = self._view, self._decode, arrivals.append, self._head_bytes_max
        position = 0
        while end - position >= _WORD_BYTES:
            (word,) = _unpack_word(view, position)
            start = position + _WORD_BYTES
            stop = start + word
            if word > head_bytes_max or (stop > end and word >= LARGE_BYTES):
                stop = self._parse_small_whole(word, start, end, arrivals)
                if not stop:
                    stop = self._parse_other(word, start, end, arrivals)
                if stop < 0:
                    break
                position = stop
                continue
            if stop > end:
                break
            message = decode(view[start:stop])
            position = stop
            if word <= _PING_BYTES_MAX and type(message) in _OURS:
                if type(message) is Ping:
                    self.pings.append(message.number)
            else:
                append((message, None))
        return position

    def _parse_small_whole(self, word: int, start: int, end: int, arrivals: list[Arrival]) -> int:
        """A message with a small attachment that is there in full: the most frequent of all that is no mere message.
        Returns where it ends, or 0 when it is something else, or not as it should be."""
        stop = start + (word & SIZE_MASK)
        if word >> KIND_SHIFT != WHOLE or stop > end or not start + _WORD_BYTES < stop < start + LARGE_BYTES:
            return 0
        (head_size,) = _unpack_word(self._view, start)
        head = start + _WORD_BYTES
        middle = head + head_size
        if not head < middle <= stop or head_size > self._head_bytes_max or stop - middle > self._piece_bytes_max:
            return 0
        arrivals.append((self._decode(self._view[head:middle]), bytes(self._view[middle:stop])))
        return stop

    def _parse_other(self, word: int, start: int, end: int, arrivals: list[Arrival]) -> int:
        """One frame with an attachment, or a large one. Returns where it ends, or -1 when too little of it has come."""
        kind, size = word >> KIND_SHIFT, word & SIZE_MASK
        stop = start + size
        if stop > end and start + self.consumed == WORD.size:
            self._check_tongue(end)
        check_size(kind, size, self._config)
        if end < stop and end < start + BEGINNING.size:
            return -1  # Whatever else says how long something is must be there to be checked.
        body = self._view[start : min(stop, end)]
        if kind == WHOLE:
            (head_size,) = WORD.unpack_from(body)
            check_whole(size, head_size, self._config)
        if kind == PIECE:
            self._parse_piece(size - WORD.size, body, arrivals)
        elif stop <= end:
            self._finish(kind, body, arrivals, is_own_memory=False)
        elif size < LARGE_BYTES:
            return -1
        else:
            self._begin_filling(_Filling(kind, self._blocks.memory_of(size), None), body)
        return min(stop, end)

    def _check_tongue(self, end: int) -> None:
        opening = bytes(self._view[: min(end, OPENING_BYTES)])
        if tongue := tongue_of(opening):
            raise ProtocolError(f"the peer seems to speak {tongue}: its first bytes are {opening!r}")

    def _parse_piece(self, size: int, body: memoryview, arrivals: list[Arrival]) -> None:
        (number,) = WORD.unpack_from(body)
        transfer = self._transfers.get(number)
        if transfer is None:
            raise ProtocolError(f"a piece of transfer {number}, which was not begun or has ended")
        start = transfer.arrived
        if size > len(transfer.memory) - start:
            raise ProtocolError(
                f"a piece of {size} bytes where only {len(transfer.memory) - start} of the attachment are missing"
            )
        piece = _Filling(PIECE, transfer.memory[start : start + size], transfer)
        if len(body) - WORD.size < size:
            self._begin_filling(piece, body[WORD.size :])
        else:
            piece.memory[:] = body[WORD.size :]
            self._account(size)
            self._finish_piece(piece, arrivals)

    # ------------------------------------------------------------------------------------------------ large frames

    def _begin_filling(self, filling: _Filling, body: memoryview) -> None:
        filling.have = len(body)
        filling.memory[: len(body)] = body
        self._filling = filling
        self._account(len(body))

    def _fill(self, filling: _Filling, size: int, arrivals: list[Arrival]) -> None:
        filling.have += size
        self._account(size)
        if filling.have == len(filling.memory):
            self._filling = None
            self._after_large = True
            if filling.transfer is not None:
                self._finish_piece(filling, arrivals)
            else:
                self._budget.give_back(self, filling.have)
                self.large_finished += 1
                self._finish(filling.kind, filling.memory, arrivals, is_own_memory=True)

    def _account(self, size: int) -> None:
        self.large_bytes += size
        self._budget.take(self, size)

    def _finish(self, kind: int, body: memoryview, arrivals: list[Arrival], *, is_own_memory: bool) -> None:
        """A frame that is there in full. `is_own_memory`: nobody will write to `body` again."""
        if kind == MESSAGE:
            arrivals.append((self._decode(body), None))
        elif kind == WHOLE:
            (head_size,) = WORD.unpack_from(body)
            stop = WORD.size + head_size
            message = self._decode(body[WORD.size : stop])
            arrivals.append((message, body[stop:] if is_own_memory else bytes(body[stop:])))
        else:
            self._begin_transfer(body)

    def _begin_transfer(self, body: memoryview) -> None:
        number, total = BEGINNING.unpack_from(body)
        if number in self._transfers:
            raise ProtocolError(f"transfer {number} is begun again before it has ended")
        if not 0 < total <= self._config.attachment_bytes_max:
            raise ProtocolError(
                f"an attachment of {total} bytes; at most {self._config.attachment_bytes_max} are taken here"
            )
        together = total + sum(len(transfer.memory) for transfer in self._transfers.values())
        if self._transfers and (len(self._transfers) == TRANSFERS_MAX or together > TOGETHER_BYTES_MAX):
            raise ProtocolError(
                f"{len(self._transfers) + 1} attachments of together {together} bytes are begun at once; at most "
                f"{TRANSFERS_MAX} of together {TOGETHER_BYTES_MAX} are allowed"
            )
        self._transfers[number] = _Transfer(number, self._decode(body[BEGINNING.size :]), self._blocks.memory_of(total))

    def _finish_piece(self, piece: _Filling, arrivals: list[Arrival]) -> None:
        transfer = piece.transfer
        assert transfer is not None
        transfer.arrived += len(piece.memory)
        if transfer.arrived == len(transfer.memory):
            del self._transfers[transfer.number]
            self._budget.give_back(self, transfer.arrived)
            self.large_finished += 1
            arrivals.append((transfer.message, transfer.memory))

"""The desk: where a worker reports and gets its orders; the interface between the parent and its workers.

The idea: one call for a worker's whole life, a stream of orders out of it and a stream of reports into it, over the
socket that the worker was born with. A stream is never sent again, so what either side says arrives once and in order,
or the connection is over, and with it the worker.

The rule: nothing here may take a worker for dead. A task may hold the interpreter for minutes, in which its process
answers nobody; the pool has a watch of its own that looks at the process. So the limits in time are switched off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from onerack.config import MIB, CodecConfig, RpcConfig
from onerack.errors import ProtocolError
from onerack.mapreduce.messages import FromWorker, ToWorker
from onerack.rpc import service

_NEVER_S: Final = 1e8
_MESSAGE_BYTES_MAX: Final = CodecConfig().frame_bytes_max
"""What a report holds must fit into the master's journal, too."""
_encode: Final = msgspec.msgpack.Encoder().encode


@service("onerack.mapreduce.Desk")
class Desk(Protocol):
    """The parent, as its workers see it."""

    def attend(self, reports: AsyncIterator[FromWorker]) -> AsyncIterator[ToWorker]:
        """A worker's life: the first report is its `Register`; it is over when the connection is."""


CHANNEL: Final = RpcConfig(
    head_bytes_max=_MESSAGE_BYTES_MAX + MIB,  # a job names up to 100,000 fragments, and they go in one message
    output_bytes_max=4 * _MESSAGE_BYTES_MAX,  # a job's description and the order after it wait for a worker to read
    stream_window_bytes=16 * MIB,  # a day of heartbeats: a parent that is stopped does not hold up its workers
    hello_timeout_s=_NEVER_S,  # a worker is born when the nursery has time for it
    connect_timeout_s=_NEVER_S,  # the parent may be stopped, or busy
    keepalive_interval_s=_NEVER_S,  # a long call in C answers nobody; the pool watches (pool.py)
    keepalive_timeout_s=_NEVER_S,
    running_max=1 << 20,  # a call for each worker there is
)


def encoded(message: FromWorker | ToWorker) -> msgspec.Raw:
    """The message as an item of a stream, to be encoded no more.

    Raises: ProtocolError: it is too long. OverflowError, UnicodeError: it holds what no message can hold.
    """
    body = _encode(message)
    if len(body) > _MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a message of {len(body)} bytes; at most {_MESSAGE_BYTES_MAX} are allowed")
    return msgspec.Raw(body)

"""A stream whose client says one thing: the answer is what streams.

The rule: the first message is the request; whatever else comes is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from onerack.kv.server.grpc import Call


class SingleRequest:
    """Implements StreamReceiver. `begin(call, request)` gives what to do when the client does not want more."""

    def __init__(self, begin: Callable[[Call, bytes], Callable[[], object]], call: Call) -> None:
        self._begin = begin
        self._call = call
        self._cancel: Callable[[], object] | None = None

    def message(self, body: bytes) -> None:
        if self._cancel is None:
            self._cancel = self._begin(self._call, body)

    def half_closed(self) -> None:
        """It waits for the answer."""

    def cancelled(self) -> None:
        if self._cancel is not None:
            self._cancel()

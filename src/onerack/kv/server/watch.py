"""The service Watch: clients say on one stream what they want to be told, and are told on it.

    applied -> hub.advance -> responses -> streams            in the same turn in which commands were applied
    a client that does not read -> pause -> ... drained -> resume, from the log

The idea: `core.watch` decides what is told to whom, and in which order; here its responses are put on their streams.
What a client has not taken waits in its connection, and when that is much, the hub gathers nothing more for this
stream: it will read on in the log.

The rule: what may wait for one client is bounded, whatever it watches and however slowly it reads.
Source: the Watch service of etcd v3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from onerack.config import MIB
from onerack.kv.core import KvError
from onerack.kv.core.errors import MALFORMED, STOPPED, TOO_MANY_REQUESTS, Refused
from onerack.kv.core.watch import WatchHub
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary

log = logging.getLogger(__name__)

_PAUSE_BYTES: Final = MIB
"""When more than this waits for a client, nothing is gathered for it any more."""
_REQUEST: Final = LIBRARY["WatchRequest"]


class Hearer(Protocol):
    """Whom the hub tells."""

    def send(self, response: bytes) -> None: ...

    def end(self, refusal: KvError) -> None: ...


class WatchService:
    """Of one node: its hub, and the streams."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.hub = WatchHub(desk.machine)
        self._streams: dict[int, Hearer] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._is_asked = False
        self._progress_timer = self._loop.call_later(desk.config.watch_progress_s, self._announce_progress)
        desk.node.on_applied.append(self.tell)
        desk.machine.on_restore.append(self.tell_soon)

    def close(self) -> None:
        self._progress_timer.cancel()
        self.desk.node.on_applied.remove(self.tell)
        self.desk.machine.on_restore.remove(self.tell_soon)
        for stream in list(self._streams.values()):
            stream.end(STOPPED)
        self.desk.machine.store.wanted_from = None  # Nobody reads the log any more.

    def handlers(self) -> Mapping[str, Unary | Stream]:
        return {"/etcdserverpb.Watch/Watch": Stream(self._open)}

    def add(self, hearer: Hearer) -> int:
        """One more who is told; the number is what the hub knows it by."""
        self._count += 1
        self._streams[self._count] = hearer
        return self._count

    def _open(self, call: Call) -> _WatchStream:
        stream = _WatchStream(self, call)
        try:
            self.desk.admitted(call)
        except Refused as refused:
            stream.end(refused.error)
        return stream

    def forget(self, number: int) -> None:
        """This stream has ended."""
        if self._streams.pop(number, None) is not None:
            self.hub.close(number)

    # ------------------------------------------------------------------------------------------------ telling

    def tell(self) -> None:
        """One pass; another one follows soon if there is more, so that other work comes between."""
        for number, response in self.hub.advance():
            stream = self._streams.get(number)
            if stream is not None:
                stream.send(response)
        if self.hub.busy:
            self.tell_soon()

    def tell_soon(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._loop.call_soon(self._tell_now)

    def _tell_now(self) -> None:
        self._is_asked = False
        self.tell()

    def _announce_progress(self) -> None:
        self._progress_timer = self._loop.call_later(self.desk.config.watch_progress_s, self._announce_progress)
        self.hub.announce_progress()
        self.tell_soon()


class _WatchStream:
    """One client's stream; implements StreamReceiver."""

    def __init__(self, service: WatchService, call: Call) -> None:
        self._service = service
        self._call = call
        self._number = service.add(self)
        self._is_paused = False
        call.on_drained = self._on_drained
        service.desk.end_without_leader(call, self.end)

    # ------------------------------------------------------------------------------------------------ what it says

    def message(self, body: bytes) -> None:
        try:
            request = _REQUEST.FromString(body)
            hub = self._service.hub
            match request.WhichOneof("request_union"):
                case "create_request":
                    hub.create(self._number, self._user(), request.create_request)
                case "cancel_request":
                    hub.cancel(self._number, request.cancel_request.watch_id)
                case "progress_request":
                    hub.ask_progress(self._number)
        except DecodeError:
            self.end(MALFORMED)
        except Refused as refused:
            self.end(refused.error)
        self._service.tell_soon()

    def _user(self) -> str:
        desk = self._service.desk
        return desk.user_of(self._call) if desk.machine.auth.state.enabled else ""

    def half_closed(self) -> None:
        """It has no more wishes, but still wants to be told."""

    def cancelled(self) -> None:
        self._forget()

    # ------------------------------------------------------------------------------------------------ what it hears

    def send(self, response: bytes) -> None:
        call = self._call
        call.send(response)
        if call.waiting_bytes > _PAUSE_BYTES:
            if call.waiting_bytes > self._service.desk.config.watch_waiting_bytes_max:
                log.warning("a client that watches does not read: its stream is ended")
                self.end(TOO_MANY_REQUESTS)
            elif not self._is_paused:
                self._is_paused = True
                self._service.hub.pause(self._number)

    def _on_drained(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._service.hub.resume(self._number)
            self._service.tell_soon()

    def end(self, refusal: KvError) -> None:
        self._forget()
        self._call.fail(refusal.code, refusal.text)

    def _forget(self) -> None:
        self._service.desk.forget(self._call)
        self._service.forget(self._number)

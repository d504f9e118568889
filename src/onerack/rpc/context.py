"""Context: what goes along with a call without being an argument: deadline, mode, metadata; and who is calling.

The idea: `with options(...)` says how the calls inside it are to be made; `current()` tells a handler about the call
that it serves. Both live in context variables, so a handler's own calls inherit its deadline and its trace, also
through tasks that it starts.

The rule: a deadline is never lengthened on the way down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from onerack.errors import UsageError
from onerack.rpc.core.runs import Execution
from onerack.rpc.link import Peer
from onerack.rpc.messages import Mode

TRACE_KEYS = ("traceparent", "tracestate")
"""Metadata that goes on to nested calls by itself (W3C Trace Context)."""


class CallOptions(msgspec.Struct, frozen=True):
    """How calls are to be made."""

    deadline_at: float | None = None
    """On the event loop's clock."""
    mode: Mode | None = None
    unsafe: bool = False
    metadata: dict[str, str] | None = None


class CurrentCall:
    """The call that a handler serves. Made when somebody asks: most handlers never do."""

    __slots__ = ("_execution", "peer")

    def __init__(self, execution: Execution, peer: Peer | None) -> None:
        self._execution = execution
        self.peer = peer or NOBODY
        """Who calls; for an exactly-once call nobody in particular, since it is the log that has it run."""

    @property
    def method(self) -> str:
        """`Service.method`."""
        return self._execution.method

    @property
    def deadline_at(self) -> float | None:
        """On the event loop's clock."""
        return self._execution.deadline_at

    @property
    def remaining_s(self) -> float | None:
        """Until the deadline; None: there is none."""
        at = self._execution.deadline_at
        return None if at is None else max(0.0, at - asyncio.get_running_loop().time())

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._execution.request.metadata or {}

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this call, and of no other call: for effects outside of onerack.

        Empty for a call that is not deduplicated.
        """
        request = self._execution.request
        return f"{request.session:x}-{request.seq}" if request.seq else ""


DEFAULT = CallOptions()
NOBODY = Peer("")
chosen: ContextVar[CallOptions] = ContextVar("rpc_options", default=DEFAULT)
serving: ContextVar[tuple[Execution, Peer | None] | None] = ContextVar("rpc_current", default=None)


@contextmanager
def options(
    *,
    deadline: float | None = None,
    mode: Mode | str | None = None,
    unsafe: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Calls made in this block: end after `deadline` seconds (counted from here), under `mode`, with `metadata`.

    A mode weaker than the method's own needs `unsafe=True`; a stronger one needs a server that can keep it.
    Raises: UsageError: a value that makes no sense.
    """
    outer = chosen.get()
    deadline_at = outer.deadline_at
    if deadline is not None:
        if not deadline > 0:
            raise UsageError(f"deadline={deadline}: seconds, more than 0")
        ends_at = _now() + deadline
        deadline_at = ends_at if deadline_at is None else min(deadline_at, ends_at)
    merged = {**(outer.metadata or {}), **_checked(metadata)} or None
    wanted = outer.mode if mode is None else mode_of(mode)
    token = chosen.set(CallOptions(deadline_at, wanted, unsafe or outer.unsafe, merged))
    try:
        yield
    finally:
        chosen.reset(token)


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()  # A caller of `blocking`: the loops of threads go by this clock.


def mode_of(mode: Mode | str) -> Mode:
    """Raises: UsageError: no mode has this name."""
    try:
        return Mode[mode.upper()] if isinstance(mode, str) else Mode(mode)
    except (KeyError, ValueError):
        names = ", ".join(each.name.lower() for each in Mode)
        raise UsageError(f"mode={mode!r}: must be one of {names}") from None


def current() -> CurrentCall:
    """The call that is being served. Raises: UsageError: no handler is running here."""
    served = serving.get()
    if served is None:
        raise UsageError("current() tells a handler about its call; no handler is running here")
    return CurrentCall(*served)


def _checked(metadata: Mapping[str, str] | None) -> dict[str, str]:
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"metadata {key!r}: {value!r}: keys and values are text")
    return dict(metadata or {})


def inherited(own: CallOptions) -> CallOptions:
    """`own`, with what the call that is being served hands down."""
    served = serving.get()
    if served is None:
        return own
    call = CurrentCall(*served)
    deadline_at = own.deadline_at
    if call.deadline_at is not None:
        deadline_at = call.deadline_at if deadline_at is None else min(deadline_at, call.deadline_at)
    metadata = own.metadata
    trace = {key: call.metadata[key] for key in TRACE_KEYS if key in call.metadata}
    if trace:
        metadata = {**trace, **(metadata or {})}
    return CallOptions(deadline_at, own.mode, own.unsafe, metadata)

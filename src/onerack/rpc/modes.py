"""Modes: decorators with which an interface says how often a call of a method may run.

    class Account(Protocol):
        @readonly
        async def balance(self, user: str) -> int: ...
        @at_least_once(attempts=3)                      # whoever writes this asserts: running it twice does no harm
        async def set_limit(self, user: str, cents: int) -> None: ...
        async def charge(self, user: str, cents: int) -> Receipt: ...        # unmarked: at most once
        @exactly_once                                   # binds only to a server that keeps a durable log
        async def transfer(self, source: str, target: str, cents: int) -> int: ...

The idea: what a failure may mean is a property of the method, known to its author, and so it stands beside the
signature, where callers read it. The rule: a decorator only marks. The function stays the function that it was, and
type checkers see its own signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, overload
from weakref import WeakKeyDictionary

from onerack.errors import UsageError
from onerack.rpc.messages import Mode

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

AT_LEAST_ONCE_ATTEMPTS: Final = 5
_MARK: Final = "__onerack_delivery__"


class Delivery(NamedTuple):
    """What a method's author promised, or asked for."""

    mode: Mode
    attempts: int | None = None
    """At-least-once: after so many attempts the call fails. None: what the caller's configuration says."""


def readonly(method: Function) -> Function:
    """It has no effect: it may be tried again, and several times at once, without anybody noticing."""
    return _mark(method, Delivery(Mode.READONLY))


@overload
def at_least_once(method: Function) -> Function: ...
@overload
def at_least_once(*, attempts: int = AT_LEAST_ONCE_ATTEMPTS) -> Callable[[Function], Function]: ...
def at_least_once(method: Any = None, *, attempts: int = AT_LEAST_ONCE_ATTEMPTS) -> Any:
    """It is idempotent: running it again does no harm, so it is tried again until it is answered."""
    if type(attempts) is not int or attempts < 1:
        raise UsageError(f"attempts={attempts!r} must be a whole number of at least 1")
    delivery = Delivery(Mode.AT_LEAST_ONCE, attempts)
    return (lambda marked: _mark(marked, delivery)) if method is None else _mark(method, delivery)


def at_most_once(method: Function) -> Function:
    """It runs once or not at all. So does every method without a mark."""
    return _mark(method, Delivery(Mode.AT_MOST_ONCE))


def exactly_once(method: Function) -> Function:
    """It runs once, whatever crashes, while its caller keeps asking. Its server must keep a durable log."""
    return _mark(method, Delivery(Mode.EXACTLY_ONCE))


def service(name: str) -> Callable[[Class], Class]:
    """Gives an interface another name on the wire than that of its class: `@service("bank.Account")`."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"a service is named by words with dots between them, like bank.Account, not {name!r}")

    def named(interface: Class) -> Class:
        _service_names[interface] = name
        return interface

    return named


# Not an attribute of the class: `isinstance` with a runtime-checkable Protocol would ask every object for it.
_service_names: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def service_name(interface: type) -> str:
    """What the interface is called on the wire."""
    return _service_names.get(interface, interface.__name__)


def delivery_of(method: Callable[..., Any]) -> Delivery:
    """What the method's mark says; at most once if it has none."""
    found: Delivery = getattr(method, _MARK, Delivery(Mode.AT_MOST_ONCE))
    return found


def _mark(method: Function, delivery: Delivery) -> Function:
    mode = delivery.mode.name.lower()
    if not inspect.isfunction(method):
        raise UsageError(f"@{mode} marks a method of an interface (`async def ...`), not {method!r}")
    if hasattr(method, _MARK):
        other = delivery_of(method).mode.name.lower()
        raise UsageError(f"{method.__qualname__} is marked both @{other} and @{mode}; a method has one mode")
    setattr(method, _MARK, delivery)
    return method

"""Modes: a decorator marks a method, once, and leaves it what it was."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

import pytest

from onerack.errors import UsageError
from onerack.rpc.messages import Mode
from onerack.rpc.modes import (
    Delivery,
    at_least_once,
    at_most_once,
    delivery_of,
    exactly_once,
    readonly,
    service,
    service_name,
)


@service("bank.Account")
@runtime_checkable
class Account(Protocol):
    @readonly
    async def balance(self, user: str) -> int: ...
    @at_least_once(attempts=3)
    async def set_limit(self, user: str) -> None: ...
    @at_least_once
    async def note(self, user: str) -> None: ...
    @at_most_once
    async def charge(self, user: str) -> None: ...
    async def unmarked(self, user: str) -> None: ...
    @exactly_once
    async def transfer(self, user: str) -> None: ...


class Savings(Account, Protocol):
    pass


class Bank:
    async def balance(self, user: str) -> int:
        return 0

    set_limit = note = charge = unmarked = transfer = balance


@pytest.mark.parametrize(
    ("method", "delivery"),
    [
        (Account.balance, Delivery(Mode.READONLY)),
        (Account.set_limit, Delivery(Mode.AT_LEAST_ONCE, 3)),
        (Account.note, Delivery(Mode.AT_LEAST_ONCE, 5)),
        (Account.charge, Delivery(Mode.AT_MOST_ONCE)),
        (Account.unmarked, Delivery(Mode.AT_MOST_ONCE)),
        (Account.transfer, Delivery(Mode.EXACTLY_ONCE)),
    ],
)
def test_a_mark_says_how_often_a_call_may_run(method: Callable[..., Any], delivery: Delivery) -> None:
    assert delivery_of(method) == delivery


def test_a_marked_method_keeps_its_signature() -> None:
    # For the type checker: these assignments fail it when a decorator loses the signature.
    plain: Callable[[Account, str], Coroutine[Any, Any, int]] = Account.balance
    with_attempts: Callable[[Account, str], Coroutine[Any, Any, None]] = Account.set_limit
    assert (plain.__name__, with_attempts.__name__) == ("balance", "set_limit")


def test_a_method_has_one_mode() -> None:
    with pytest.raises(UsageError, match="twice is marked both @readonly and @exactly_once"):

        @exactly_once
        @readonly
        async def twice() -> None: ...


@pytest.mark.parametrize("marked", [property(lambda self: 1), 3, Account, staticmethod(len)])
@pytest.mark.parametrize("decorator", [readonly, at_most_once, exactly_once, at_least_once, at_least_once(attempts=2)])
def test_only_a_function_can_be_marked(decorator: Any, marked: object) -> None:
    with pytest.raises(UsageError, match="marks a method of an interface"):
        decorator(marked)


@pytest.mark.parametrize("attempts", [0, -1, 2.5, "3", None, True])
def test_attempts_is_a_whole_number_of_at_least_one(attempts: Any) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        at_least_once(attempts=attempts)


def test_a_service_has_the_name_of_its_class_or_the_one_it_is_given() -> None:
    assert service_name(Account) == "bank.Account"
    assert service_name(Savings) == "Savings"


@pytest.mark.parametrize("name", ["", "a b", "bank.", ".bank", "bank/Account", 3])
def test_a_service_is_named_by_words(name: Any) -> None:
    with pytest.raises(UsageError, match="named by words with dots"):
        service(name)


def test_a_name_is_nothing_that_an_implementation_must_have() -> None:
    assert isinstance(Bank(), Account)

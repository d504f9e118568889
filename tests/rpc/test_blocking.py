"""Calls from programs without an event loop: they wait, in any thread, and Ctrl-C ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from onerack import rpc
from onerack.errors import ApplicationError, BindingRefused, NotExecuted, Unknown, UsageError
from onerack.rpc import blocking
from tests.rpc.server_thread import Shopkeeper, shopkeeper
from tests.rpc.services import Receipt, Shop


@pytest.fixture(scope="module")
def keeper() -> Iterator[Shopkeeper]:
    with shopkeeper() as found:
        yield found


@pytest.fixture
def stub(keeper: Shopkeeper) -> Iterator[Any]:
    with blocking.connect(Shop, keeper.address) as found:
        yield found


def test_methods_wait_and_return(stub: Any) -> None:
    receipt = stub.buy("tea", count=2)
    assert (type(receipt), receipt.words) == (Receipt, ("tea", "tea"))
    assert stub.stock("abc") == 3
    assert bytes(stub.both(b"x" * 100_000)[1]) == b"x" * 100_000
    with pytest.raises(ApplicationError, match="bad luck"):
        stub.fail("luck")
    with pytest.raises(TypeError, match=r"Shop\.buy"):
        stub.buy()


def test_streams_are_iterators_in_the_caller_s_thread(stub: Any) -> None:
    threads = set()

    def words() -> Iterator[str]:
        for word in ("a", "b", "c"):
            threads.add(threading.current_thread())
            yield word

    assert list(stub.count(2000)) == list(range(2000))
    assert stub.total(range(2000)) == sum(range(2000))
    assert list(stub.upper(words())) == ["A", "B", "C"]
    assert threads == {threading.current_thread()}
    with pytest.raises(UsageError, match="must be iterable"):
        stub.total(3)
    with pytest.raises(TypeError, match=r"Shop\.total"):
        stub.total()


def test_an_iterator_of_arguments_that_fails_fails_the_call(stub: Any) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        stub.total(broken())


def test_a_stream_that_is_left_early_is_closed_at_the_server(stub: Any, keeper: Shopkeeper) -> None:
    before = keeper.implementation.generators_closed
    for number in stub.count(10_000_000):
        if number == 3:
            break
    keeper.until(lambda: keeper.implementation.generators_closed > before)
    with pytest.raises(ApplicationError, match="told to"):
        list(stub.upper(["fail"]))


def test_deadlines_and_options_of_the_caller_s_thread_hold(keeper: Shopkeeper) -> None:
    with blocking.connect(Shop, keeper.address, deadline=20) as stub:
        with pytest.raises(Unknown) as late, rpc.options(deadline=0.05):
            stub.wait(60)
        assert late.value.cause == "deadline"
        assert 10 < float(stub.about_call()["remaining"]) <= 20
        with rpc.options(metadata={"tenant": "7"}):
            assert stub.about_call()["tenant"] == "7"
        assert "tenant" not in stub.about_call()
        with pytest.raises(Unknown), rpc.options(deadline=0.05):
            sum(stub.count(10**9))


def test_threads_share_a_client(stub: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = [receipt.number for receipt in pool.map(stub.buy, ["tea"] * 400)]
    assert len(set(numbers)) == 400


def test_what_cannot_be_connected_leaves_no_thread(keeper: Shopkeeper) -> None:
    before = threading.active_count()
    with pytest.raises(BindingRefused, match="no service"):
        blocking.connect(rpc.service("Nowhere")(type("Nowhere", (Shop,), {})), keeper.address)
    with pytest.raises(NotExecuted):
        blocking.connect(Shop, "unix:///no/where", connect_timeout=0.05)
    with pytest.raises(UsageError):
        blocking.connect(Shop)
    assert threading.active_count() == before


def test_closing_ends_the_calls_of_other_threads(keeper: Shopkeeper) -> None:
    client = blocking.connect(Shop, keeper.address)
    before = keeper.server.core.open_calls
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(client.stub.wait, 60)
        stream = pool.submit(list, client.stub.upper(iter(lambda: threading.Event().wait(0.01) or "x", None)))
        keeper.until(lambda: keeper.server.core.open_calls == before + 2)
        assert client.server
        client.close()
        with pytest.raises(Unknown):
            call.result(10)
        with pytest.raises(Unknown):
            stream.result(10)
    client.close()
    with pytest.raises(NotExecuted, match="closed"):
        client.stub.stock("abc")


FORK = """
import os
import sys
from onerack.rpc import blocking
from tests.rpc.services import Shop
client = blocking.connect(Shop, sys.argv[1])
if os.fork() == 0:
    try:
        client.close()
        client.stub.stock("abc")
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    finally:
        os._exit(0)
os.wait()
print(client.stub.stock("abc"))
client.close()
"""


def script(text: str, *words: str, warnings: str = "error") -> subprocess.Popen[str]:
    command = [sys.executable, "-W", warnings, "-c", text, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_after_a_fork_it_says_that_it_must_be_connected_anew(keeper: Shopkeeper) -> None:
    with script(FORK, keeper.address, warnings="ignore") as forking:
        said, wrong = forking.communicate(timeout=30)
    assert wrong == ""
    in_child, in_parent = said.splitlines()
    assert in_child.startswith("UsageError ")
    assert "connect anew after a fork" in in_child
    assert in_parent == "3"


CTRL_C = """
import sys
from onerack.rpc import blocking
from tests.rpc.services import Shop
with blocking.connect(Shop, sys.argv[1]) as stub:
    try:
        stub.wait(60)
    except KeyboardInterrupt:
        print("interrupted", stub.stock("abc"))
"""


def test_ctrl_c_cancels_the_call_and_nothing_else(keeper: Shopkeeper) -> None:
    called_off = len(keeper.implementation.called_off)
    open_calls = keeper.server.core.open_calls
    with script(CTRL_C, keeper.address) as caller:
        keeper.until(lambda: keeper.server.core.open_calls > open_calls)
        caller.send_signal(signal.SIGINT)
        assert caller.communicate(timeout=30) == ("interrupted 3\n", "")
    keeper.until(lambda: len(keeper.implementation.called_off) > called_off)

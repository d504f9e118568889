"""The client for programs without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from onerack.errors import CallError, NotExecuted
from onerack.kv.client import KvRefused, Put, blocking
from tests.cluster.rack_thread import RackThread, rack_thread


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackThread]:
    with rack_thread(tmp_path_factory.mktemp("rack")) as found:
        found.start("n1")
        yield found


@pytest.fixture
def store(rack: RackThread) -> Iterator[blocking.BlockingKv]:
    with blocking.connect(rack.nodes["n1"].endpoints.rpc) as found:
        found.delete("", prefix=True)
        yield found


def test_methods_wait_and_return_what_was_asked_for(store: blocking.BlockingKv) -> None:
    revision = store.put("a", "1").revision
    found = store.get("a")
    assert found is not None
    assert (found.text, found.mod_revision) == ("1", revision)
    assert store.txn([], [Put(b"b")]).revision == revision + 1
    assert store.find("", prefix=True).count == 2
    assert store.status().name == "n1"
    with pytest.raises(KvRefused, match="key is not provided"):
        store.put("", "x")
    assert b"".join(store.snapshot())


def test_threads_share_it(store: blocking.BlockingKv) -> None:
    with ThreadPoolExecutor(16) as pool:
        revisions = list(pool.map(lambda number: store.put(f"k{number}", "x").revision, range(64)))
    assert len(set(revisions)) == 64


def test_a_watch_is_an_ordinary_iterator(store: blocking.BlockingKv) -> None:
    first = store.put("a", "1").revision
    store.put("a", "2")
    watch = store.watch("a", revision=first)
    assert [next(watch).kv.text for _ in range(2)] == ["1", "2"]
    watch.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_lock_excludes(store: blocking.BlockingKv) -> None:
    with store.lock("l") as held:
        assert store.get(held.key) is not None
    assert store.get(held.key) is None


def test_closing_ends_what_others_wait_for(rack: RackThread) -> None:
    store = blocking.connect(rack.nodes["n1"].endpoints.rpc)
    ended: list[BaseException] = []
    begun = threading.Event()

    def wait() -> None:
        try:
            begun.set()
            next(store.watch("never"))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    store.close()
    store.close()
    thread.join(30)
    assert len(ended) == 1
    with pytest.raises(NotExecuted, match="closed"):
        store.get("a")


def test_nobody_answers() -> None:
    with pytest.raises(CallError):
        blocking.connect("memory://nobody", connect_timeout_s=0.05)

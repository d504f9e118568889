"""Kits with one wrong part of the store."""

from __future__ import annotations

from collections.abc import Callable

from onerack.kv.core import KvMachine, snapshot
from onerack.kv.core.leases import Leases
from onerack.kv.core.store import Store
from onerack.kv.core.watch import WatchHub
from onerack.sim.kv.kit import KvKit
from onerack.sim.kv.machine import SimKvMachine
from onerack.sim.raft.planted.kits import name_of

PLANTED: dict[str, Callable[[], KvKit]] = {}
"""Name -> a kit with that bug."""


def plant(kit: type[KvKit]) -> type[KvKit]:
    """Lists a kit under its name in words."""
    PLANTED[name_of(kit)] = kit
    return kit


class WrongHub(KvKit):
    """Nodes whose watch hub is of the class `Wrong`."""

    Wrong: type[WatchHub]

    def __init__(self) -> None:
        super().__init__()
        self.machine = type("WithWrongHub", (SimKvMachine,), {"hub_class": self.Wrong})


class WrongMachine(KvKit):
    """Nodes whose store, as a whole, is of the class `Wrong`."""

    Wrong: type[KvMachine]

    def __init__(self) -> None:
        super().__init__()
        self.machine = type("WithWrongMachine", (SimKvMachine,), {"store_class": self.Wrong})


class WrongStore(WrongMachine):
    """Nodes whose keys and revisions are kept by `WrongStore`, or whose leases by `WrongLeases`."""

    WrongStore: type[Store] = Store
    WrongLeases: type[Leases] = Leases

    def __init__(self) -> None:
        store_class, leases_class = self.WrongStore, self.WrongLeases

        class Wrong(KvMachine):
            def _become(self, store: Store, head: snapshot.Head) -> None:
                store.__class__ = store_class
                super()._become(store, head)
                self.leases.__class__ = leases_class

        self.Wrong = Wrong
        super().__init__()

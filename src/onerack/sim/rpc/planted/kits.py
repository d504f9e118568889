"""Kits with one wrong part: a core's class, or the class of what it is made of."""

from __future__ import annotations

from collections.abc import Callable

from onerack.rpc.core.client import ClientCore
from onerack.rpc.core.durable import DurableCalls
from onerack.rpc.core.lanes import Lane
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Session, Sessions
from onerack.sim.rpc.client import Life
from onerack.sim.rpc.kit import Honest, Kit
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.server import Boot

PLANTED: dict[str, Callable[[], Kit]] = {}
"""Name -> a kit with that bug."""


def plant(kit: type[Honest]) -> type[Honest]:
    """Lists a kit under its name in words: `RepliesBeforeCommit` is replies_before_commit."""
    name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in kit.__name__)
    PLANTED[name.removeprefix("_")] = kit
    return kit


def forget(session: Session, seq: int) -> None:
    """Drops an entry as if it had never been."""
    session.ledger.bytes -= session.entries.pop(seq).size


class WrongServer(Honest):
    """Servers whose core is of the class `Wrong`."""

    Wrong: type[ServerCore]

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        core = super().boot_server(boot, options)
        core.__class__ = self.Wrong
        # The table of handlers holds bound methods of the class that it was made for.
        core._handlers = {kind: getattr(core, handler.__name__) for kind, handler in core._handlers.items()}
        return core


class WrongSessions(Honest):
    """Servers whose sessions, volatile and durable ones, are of the class `Wrong`."""

    Wrong: type[Session]

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        wrong = self.Wrong

        class WrongTable(Sessions):
            def open(self, number: int, now: float) -> Session:
                session = super().open(number, now)
                session.__class__ = wrong
                return session

        core = super().boot_server(boot, options)
        core._sessions.__class__ = WrongTable
        if core.durable is not None:
            core.durable.sessions.__class__ = WrongTable
        return core


class WrongLog(Honest):
    """Servers whose exactly-once half is of the class `Wrong`."""

    Wrong: type[DurableCalls]

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        core = super().boot_server(boot, options)
        if core.durable is not None:
            core.durable.__class__ = self.Wrong
        return core


class WrongClient(Honest):
    """Clients whose core is of the class `Wrong`."""

    Wrong: type[ClientCore]

    def start_client(self, life: Life, options: Options, now: float) -> ClientCore:
        core = super().start_client(life, options, now)
        core.__class__ = self.Wrong
        core._handlers = {kind: getattr(core, handler.__name__) for kind, handler in core._handlers.items()}
        return core


class WrongLanes(Honest):
    """Clients whose lanes are of the class `Wrong`."""

    Wrong: type[Lane]

    def start_client(self, life: Life, options: Options, now: float) -> ClientCore:
        core = super().start_client(life, options, now)
        core._volatile.__class__ = core._durable.__class__ = self.Wrong
        return core

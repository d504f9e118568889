"""Bugs planted in services, in logs and in the shells' cores: each is found, with the seed that shows it.

They are of two kinds. Mistakes that users make in services, which their own assertions or the modes' promises meet; and
mistakes that we could make below, which must not hide from a world that is rough enough.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import msgspec
import pytest

from onerack import rpc
from onerack.config import RpcConfig
from onerack.errors import CallError
from onerack.rpc import channel, server
from onerack.rpc.core import client as client_core
from onerack.rpc.core.client import ClientCore
from onerack.rpc.core.runs import Executed
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Reply, Session, Sessions
from onerack.rpc.durable.host import Machine
from onerack.rpc.messages import Request, Response, SessionOpened, Status
from onerack.rpc.testing import Faults, Violation, World, every_crash_point, prove, tell
from onerack.runtime.env import AppendFile, Disk
from onerack.sim.rpc_world.lives import current_life
from tests.rpc.simulated import STORM, STORM_ON_TCP, Bank, Tally, TallyServer, in_turns, tally, transfers

SEEDS_MAX = 100
CALLS = 20
LOSSY = Faults(drop=0.15, duplicate=0.15, reorder=True, vary=False)
Scenario = Callable[[World], Any]


def found(scenario: Scenario, words: str, faults: Faults) -> Violation:
    """The violation, which says so and names its seed."""
    with pytest.raises(Violation, match=words) as caught:
        prove(scenario, seeds=SEEDS_MAX, faults=faults)
    violation = caught.value
    assert re.match(f"seed {violation.seed}(, without any fault)?: ", str(violation))
    assert f"ONERACK_RPC_SEED={violation.seed}" in str(violation)
    assert violation.reason.splitlines()[0] in tell(scenario, violation.seed, faults=faults)
    return violation


# ------------------------------------------------------------------------------------------------ services


class NotIdempotent(TallyServer):
    def put(self, key: int) -> int:
        self.added.append(key)
        return key


def test_a_method_that_is_declared_at_least_once_and_counts() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, NotIdempotent)
        counter = await world.connect(Tally)
        await in_turns(counter.put, CALLS)
        await world.calm()
        assert len(world.service(Tally).added) == CALLS

    violation = found(scenario, f"the scenario asserts.*{CALLS}", LOSSY)
    assert isinstance(violation.__cause__, AssertionError)


def test_a_method_that_must_run_once_and_is_declared_at_least_once() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        await in_turns(counter.put, CALLS)
        world.assert_exactly_once(Tally.put)

    violation = found(scenario, "Tally.put was executed [2-9] times, but at most once is allowed", LOSSY)
    assert violation.executions > 1
    assert violation.call.startswith("call ")
    assert "Tally.put(" in violation.call


class LosesUpdates(TallyServer):
    async def add_slowly(self, key: int) -> int:
        before = list(self.added)
        await asyncio.sleep(0.01)
        self.added = [*before, key]
        return len(self.added)


def test_a_handler_that_waits_between_reading_and_writing() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, LosesUpdates)
        counter = await world.connect(Tally)
        await in_turns(counter.add_slowly, CALLS)
        await world.calm()
        assert len(world.service(Tally).added) == CALLS

    with pytest.raises(Violation, match="the scenario asserts"):  # Even without faults.
        prove(scenario, seeds=1)


class ForgetsInSnapshots(Bank):
    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.balances, 0))


def test_a_snapshot_that_lacks_something() -> None:
    found(transfers(CALLS, ForgetsInSnapshots), "another result|not the reply", STORM)


class LooksAtTheClock(Bank):
    def transfer(self, source: str, target: str, cents: int) -> int:
        super().transfer(source, target, cents)
        return int(asyncio.get_running_loop().time() * 1000)


def test_an_exactly_once_handler_that_depends_on_the_time() -> None:
    found(transfers(CALLS, LooksAtTheClock), "Account.transfer gave another result in account", STORM)


class ForgetsToRestore(Bank):
    def restore(self, snapshot: bytes) -> None:
        self.balances, _ = msgspec.msgpack.decode(snapshot)
        self.balances["ann"] += 1


def test_a_restore_that_makes_money_breaks_what_always_holds() -> None:
    found(transfers(CALLS, ForgetsToRestore), "what always holds of Account does not: keeps_its_money", STORM)


# ------------------------------------------------------------------------------------------------ logs


class EagerLog:
    """Has commands applied when they are proposed, before they are durable."""

    durable = True

    def __init__(self, log: rpc.LocalLog) -> None:
        self._log = log
        self._recovering = True
        self._index = 0

    async def start(self, machine: Machine) -> None:
        self._machine = machine
        await self._log.start(self)
        self._recovering = False

    def propose(self, command: bytes) -> None:
        self._index += 1
        asyncio.get_running_loop().call_soon(self._early, self._index, command)
        self._log.propose(command)

    def _early(self, index: int, command: bytes) -> None:
        self._machine.apply(index, command)
        self._machine.applied()

    async def close(self) -> None:
        await self._log.close()

    def apply(self, index: int, command: bytes) -> None:
        if self._recovering:
            self._index = index
            self._machine.apply(index, command)

    def applied(self) -> None:
        if self._recovering:
            self._machine.applied()

    def dropped(self, command: bytes, error: CallError) -> None:
        self._machine.dropped(command, error)

    def snapshot(self) -> bytes:
        return self._machine.snapshot()

    def restore(self, snapshot: bytes) -> None:
        self._machine.restore(snapshot)


def local_log(disk: Disk, config: RpcConfig) -> rpc.LocalLog:
    return rpc.LocalLog("/log", config=config, disk=disk, draw=lambda count: bytes(range(129, 129 + count)))


def test_a_log_that_applies_before_it_has_synced() -> None:
    scenario = transfers(CALLS, durable=lambda disk, config: EagerLog(local_log(disk, config)))
    found(scenario, "was not executed, but its caller was told OK|another result", STORM)


def test_the_same_log_when_it_crashes_at_each_point_in_turn() -> None:
    scenario = transfers(1, durable=lambda disk, config: EagerLog(local_log(disk, config)), config=RpcConfig())
    with pytest.raises(Violation, match=r"another result in account\.2|was not executed, but its caller") as caught:
        every_crash_point(scenario, roles=["server"])
    point = re.search(r"planned crashes: {'account': \[(\d+)\]}", str(caught.value))
    assert point is not None
    assert f"account      CRASHES at point {point[1]}" in caught.value.story


class LyingFile:
    def __init__(self, file: AppendFile) -> None:
        self._file = file
        self.append, self.close = file.append, file.close

    def sync(self) -> None:
        """Says so."""


class LyingDisk:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def open_append(self, path: str) -> LyingFile:
        return LyingFile(self._disk.open_append(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)


def test_a_disk_that_does_not_sync() -> None:
    scenario = transfers(CALLS, durable=lambda disk, config: local_log(LyingDisk(disk), config))
    found(scenario, "was not executed, but its caller was told|does not come up again: Corruption", STORM)


def test_a_snapshot_without_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "pack", lambda self: [])
    found(transfers(CALLS), "was not executed, but its caller was told OK", STORM)


# ------------------------------------------------------------------------------------------------ servers


class ForgetfulCore(ServerCore):
    """Takes every session for its own, those of the boot before too."""

    def on_request(self, request: Request, link: str, now: float, attachment: Any = None) -> None:
        if request.session and self._sessions.get(request.session) is None:
            self._sessions.open(request.session, now)
        super().on_request(request, link, now, attachment)


def test_a_server_that_forgets_its_replies_and_knows_its_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    welcome = server.Server.welcome
    monkeypatch.setattr(server, "ServerCore", ForgetfulCore)
    # By the epoch its clients would see that it was restarted, and not ask again.
    monkeypatch.setattr(server.Server, "welcome", lambda self: msgspec.structs.replace(welcome(self), epoch=1))
    violation = found(tally("add", CALLS), "Tally.add was executed 2 times over all lives, and is at_most_once", STORM)
    assert violation.executions == 2


def test_a_reply_cache_that_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Session.finish

    def evicting(self: Session, seq: int, reply: Any) -> Any:
        attached = finish(self, seq, reply)
        ended = [number for number, entry in self.entries.items() if entry.reply is not None]
        for number in ended[:-1]:
            del self.entries[number]
        return attached

    monkeypatch.setattr(Session, "finish", evicting)
    found(tally("add", CALLS), "Tally.add was executed 2 times over all lives, and is at_most_once", LOSSY)


def test_a_mark_that_is_forgotten_with_the_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge = Session.acknowledge

    def forgetting(self: Session, ack: int) -> None:
        acknowledge(self, ack)
        self.ack = 0

    monkeypatch.setattr(Session, "acknowledge", forgetting)
    found(tally("add", CALLS), "Tally.add was executed 2 times over all lives", LOSSY)


def test_a_session_that_has_expired_and_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    get = Sessions.get

    def reviving(self: Sessions, number: int) -> Session:
        return get(self, number) or self.open(number, 1e9)

    monkeypatch.setattr(Sessions, "get", reviving)
    impatient = RpcConfig(session_lease_s=6.0, attempt_timeout_s=1.0)
    faults = Faults(drop=0.2, duplicate=0.2, reorder=True, slow=0.1, late_s=60.0, cuts=4, cut_s=30.0, vary=False)
    found(transfers(CALLS, config=impatient), "executed 2 times", faults)


# ------------------------------------------------------------------------------------------------ clients


class SameAgain(ClientCore):
    """After a restart goes on with the session of the life before, and counts from one."""

    remembered: ClassVar[WeakKeyDictionary[Any, dict[str, SessionOpened]]] = WeakKeyDictionary()

    def __init__(self, config: RpcConfig, random: Any, now: float) -> None:
        super().__init__(config, random, now)
        life = current_life.get()
        assert life is not None
        self._known = self.remembered.setdefault(asyncio.get_running_loop(), {})
        self._node = life.node
        if self._node in self._known:
            before = self._known[self._node]
            self._durable.opened(before.session, before.window, before.lease_ms / 1000, now)

    def on_session_opened(self, message: SessionOpened, sender: str, now: float) -> None:
        super().on_session_opened(message, sender, now)
        if self._durable.session == message.session:
            self._known[self._node] = message


def test_a_client_that_uses_its_xids_again_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ClientCore", SameAgain)
    found(transfers(CALLS), "the xid .* was used again for call", STORM)


class FirstCome(ClientCore):
    """Takes whatever reply comes for the call that waits longest."""

    def on_response(self, response: Response, sender: str, now: float, attachment: Any = None) -> None:
        waiting = next((call for call in self._open.values() if call.attempts), None)
        if waiting is not None:
            response = Response(waiting.invoke.call, waiting.session, response.status, response.body)
        super().on_response(response, sender, now, attachment)


def test_a_client_that_matches_replies_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ClientCore", FirstCome)
    found(tally("add", CALLS), "not the reply of this call|but its caller is told OK", LOSSY)


def test_a_client_that_takes_a_reboot_for_a_proof_that_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_core._Open, "may_have_run", property(lambda self: False))
    words = "executed 2 times over all lives|its caller is told NotExecuted|after its caller was told NotExecuted"
    found(tally("add", CALLS), words, STORM_ON_TCP)


class BlamesAll(ServerCore):
    """Answers the next call with the error of the one before."""

    before: Reply | None = None

    def on_executed(self, message: Executed, sender: str, now: float) -> None:
        before, self.before = self.before, message.reply
        if before is not None and before.status == message.reply.status == Status.FAILED:
            message = Executed(message.execution, before)
        super().on_executed(message, sender, now)


class Moody(TallyServer):
    def put(self, key: int) -> int:
        raise (ValueError if key % 2 else LookupError)(f"{key} is not to my liking")


def test_a_server_that_answers_with_the_error_of_another_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, Moody)
        counter = await world.connect(Tally)
        await in_turns(counter.put, CALLS)

    monkeypatch.setattr(server, "ServerCore", BlamesAll)
    found(scenario, r"Tally\.put: not the error of this call: Tally\.put raised", LOSSY)

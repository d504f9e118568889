"""The service Maintenance: Status, Alarm, Defragment, Hash, HashKV, Snapshot, MoveLeader.

The idea: what an operator asks of one node is answered by that node alone, of what it has applied; only alarms go
through the log. Whatever walks the whole store does so in slices, and others get their turn between them.

The rule: when authentication is on, only who has the role root may do what is heavy, or shows everything.
Source: the Maintenance service of etcd v3; the file of `Snapshot` is our own (`saved`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError

from onerack.config import MIB
from onerack.errors import CallError, NotExecuted, Unknown
from onerack.kv.core import Kind
from onerack.kv.core.errors import BAD_TRANSFEREE, MALFORMED, NO_LEADER, NOT_LEADER, STOPPED, Refused
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.identity import member_id
from onerack.kv.server.outcomes import refusal_of
from onerack.kv.server.saved import blobs
from onerack.kv.server.single import SingleRequest

VERSION: Final = "3.4.0"
"""Of the API that we speak: clients refuse to talk to servers that they hold for too old."""
_WAITING_BYTES: Final = MIB
"""Of a snapshot, for a client that does not read."""
_ALARMS: Final = ("NONE", "NOSPACE", "CORRUPT")


class MaintenanceService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def handlers(self) -> Mapping[str, Unary | Stream]:
        by_admin = {
            "Defragment": self._defragment,
            "Hash": self._hash,
            "HashKV": self._hash_kv,
            "MoveLeader": self._move_leader,
        }
        return {
            "/etcdserverpb.Maintenance/Status": Unary(self._status),
            "/etcdserverpb.Maintenance/Alarm": Unary(self._alarm),
            "/etcdserverpb.Maintenance/Snapshot": Stream(partial(SingleRequest, self._snapshot)),
            **{
                f"/etcdserverpb.Maintenance/{name}": Unary(partial(self._as_admin, f"{name}Request", procedure))
                for name, procedure in by_admin.items()
            },
        }

    def _as_admin(self, name: str, procedure: Callable[[Any], Any], call: Call, body: bytes) -> None:
        try:
            request = LIBRARY[name].FromString(body)
            self._desk.check_admin(self._desk.admitted(call))
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
        except Refused as refused:
            call.fail(refused.error.code, refused.error.text)
        else:
            self._desk.run(call, procedure(request))

    # ------------------------------------------------------------------------------------------------ how it is

    def _status(self, call: Call, request: bytes) -> None:
        desk, machine = self._desk, self._desk.machine
        status = desk.node.status()
        if not status.leader and desk.wants_leader(call):
            call.fail(NO_LEADER.code, NO_LEADER.text)
            return
        errors = [f"memberID:{who} alarm:{_ALARMS[what]} " for who, what in machine.alarms.raised]
        response = desk.response(
            "StatusResponse",
            version=VERSION,
            dbSize=machine.size_bytes,
            dbSizeInUse=machine.size_bytes,
            leader=member_id(status.leader) if status.leader else 0,
            raftIndex=status.commit,
            raftTerm=status.term,
            raftAppliedIndex=status.applied,
            errors=errors if status.leader else [NO_LEADER.text, *errors],
            isLearner=status.name in status.configuration.learners,
        )
        call.reply(response)

    def _alarm(self, call: Call, request: bytes) -> None:
        user = self._desk.admit(call)
        if user is not None:
            self._desk.propose(call, Kind.ALARM, user, request)

    async def _hash(self, request: Any) -> bytes:
        value, _ = await self._sum(0)
        return self._desk.response("HashResponse", hash=value)

    async def _hash_kv(self, request: Any) -> bytes:
        value, compacted = await self._sum(request.revision)
        return self._desk.response("HashKVResponse", hash=value, compact_revision=compacted)

    async def _sum(self, revision: int) -> tuple[int, int]:
        walk = self._desk.machine.hash_walk(revision)
        while walk.step():  # noqa: ASYNC110 - others get their turn
            await asyncio.sleep(0)
        return walk.value, walk.compacted

    # ------------------------------------------------------------------------------------------------ what it shall do

    async def _defragment(self, request: Any) -> bytes:
        """There are no holes to close in memory: what is compacted goes at once, and the log is cut by a snapshot."""
        while not self._desk.machine.store.sweep():  # noqa: ASYNC110
            await asyncio.sleep(0)
        await self._desk.node.take_snapshot()
        return self._desk.response("DefragmentResponse")

    async def _move_leader(self, request: Any) -> bytes:
        node = self._desk.node
        if not node.is_leader:
            raise Refused(NOT_LEADER)
        configuration = node.status().configuration
        found = [name for name in configuration.voters if member_id(name) == request.targetID]
        if not found:
            raise Refused(BAD_TRANSFEREE)
        if found[0] != node.name:
            try:
                await node.manage("transfer", found[0])
            except NotExecuted as error:
                if error.cause == "invalid":
                    raise Refused(BAD_TRANSFEREE) from error
                raise
        return self._desk.response("MoveLeaderResponse")

    def _snapshot(self, call: Call, request: bytes) -> Callable[[], object]:
        return self._desk.spawn(self._send_snapshot(call)).cancel

    async def _send_snapshot(self, call: Call) -> None:
        desk = self._desk
        drained = asyncio.Event()
        call.on_drained = drained.set
        try:
            desk.check_admin(desk.admitted(call, by_learner=True))
            left = desk.machine.size_bytes
            for blob in blobs(desk.machine.snapshot()):
                left = max(1, left - len(blob))  # The size is an estimate, and "1" only says that there is more.
                call.send(LIBRARY["SnapshotResponse"](remaining_bytes=left, blob=blob).SerializeToString())
                drained.clear()
                if call.waiting_bytes > _WAITING_BYTES:
                    await drained.wait()
                else:
                    await asyncio.sleep(0)
            call.finish()
        except asyncio.CancelledError:
            call.fail(STOPPED.code, STOPPED.text)
            raise
        except (Refused, CallError, Unknown) as error:
            refusal = refusal_of(error)
            call.fail(refusal.code, refusal.text)

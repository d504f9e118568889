"""The service Cluster: MemberList, MemberAdd, MemberRemove, MemberUpdate, MemberPromote.

The idea: members are raft's: its configuration says who belongs to the group, its book where each one is. Whoever is
added by a URL is called by its host and port, since etcd's request has no name; it joins under that name.

The rules:
- a new voter first catches up as a learner, and only then gets its vote: so adding a node that is never started stops
  nobody. (etcd gives it a vote at once.)
- a member without endpoints of its own has never been started: it is listed without a name, as etcd does.

Source: the Cluster service of etcd v3; Ongaro's dissertation 2014, section 4.2.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from onerack.errors import CallError, NotExecuted, OnerackError
from onerack.kv.core.errors import (
    LEARNER_NOT_READY,
    MALFORMED,
    MEMBER_BAD_URLS,
    MEMBER_EXISTS,
    MEMBER_NOT_FOUND,
    MEMBER_NOT_LEARNER,
    MEMBERS_NOT_STARTED,
    PEER_URL_EXISTS,
    Refused,
)
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.identity import address_of, member_id, url_of
from onerack.kv.server.outcomes import answer
from onerack.raft import Member
from onerack.raft.commands import MEMBERS
from onerack.raft.server.members import Erase, Write

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.1
_PROMOTION_PAUSE_S: Final = 0.5
_FOR_A_WHILE: Final = ("pending", "not_ready", "transferring", "no_leader", "not_leader", "leader_changed")
"""Why the group does not change its members now, but will."""

Procedure = Callable[[Any], Coroutine[Any, Any, bytes]]


class ClusterService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._node = desk.node
        self._promoting: set[str] = set()

    def handlers(self) -> Mapping[str, Unary | Stream]:
        changes: dict[str, Procedure] = {
            "MemberAdd": self._add,
            "MemberRemove": self._remove,
            "MemberUpdate": self._update,
            "MemberPromote": self._promote,
        }
        return {
            "/etcdserverpb.Cluster/MemberList": Unary(self._list),
            **{
                f"/etcdserverpb.Cluster/{name}": Unary(partial(self._change, f"{name}Request", procedure))
                for name, procedure in changes.items()
            },
        }

    def _change(self, name: str, procedure: Procedure, call: Call, body: bytes) -> None:
        try:
            request = LIBRARY[name].FromString(body)
            self._desk.check_admin(self._desk.admitted(call))
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
        except Refused as refused:
            answer(call, refused)
        else:
            self._desk.run(call, procedure(request))

    # ------------------------------------------------------------------------------------------------ who is there

    def _list(self, call: Call, body: bytes) -> None:
        try:
            self._desk.check_here(call)  # Nobody asks who asks: a client must find the members before it can sign in.
        except Refused as refused:
            answer(call, refused)
        else:
            self._desk.run(call, self._listed(body))

    async def _listed(self, body: bytes) -> bytes:
        try:
            if LIBRARY["MemberListRequest"].FromString(body).linearizable:
                await self._node.catch_up()
        except DecodeError:
            raise Refused(MALFORMED) from None
        return self._response("MemberListResponse", members=self._members())

    def _response(self, name: str, **fields: Any) -> bytes:
        """Its header has no revision, as with etcd: members are none of the store's."""
        return self._desk.machine.header_without_revision() + bytes(LIBRARY[name](**fields).SerializeToString())

    def _names(self) -> tuple[str, ...]:
        return tuple(self._node.status().configuration.members)

    def _members(self) -> list[Any]:
        found = [self._member(name) for name in self._names()]
        return sorted(found, key=lambda member: int(member.ID))

    def _member(self, name: str) -> Any:
        """As etcd describes it."""
        known = self._node.book.get(name)
        address = self._node.book.address_of(name)
        endpoints = [] if known is None else [url_of(endpoint) for endpoint in known.endpoints]
        configuration = self._node.status().configuration
        return LIBRARY["Member"](
            ID=member_id(name),
            name=name if endpoints else "",
            peerURLs=[] if address is None else [url_of(address)],
            clientURLs=endpoints,
            isLearner=name in configuration.learners,
        )

    def _name_of(self, number: int) -> str:
        """Raises: Refused: nobody has this id."""
        for name in self._names():
            if member_id(name) == number:
                return name
        raise Refused(MEMBER_NOT_FOUND)

    def _free_address(self, urls: list[str], owner: str) -> str:
        """Raises: Refused: these URLs say nothing, or somebody else has them."""
        try:
            (address,) = {address_of(url) for url in urls}
        except ValueError:
            raise Refused(MEMBER_BAD_URLS) from None
        for name in self._names():
            if name != owner and self._node.book.address_of(name) == address:
                raise Refused(PEER_URL_EXISTS)
        return address

    # ------------------------------------------------------------------------------------------------ who shall be

    async def _add(self, request: Any) -> bytes:
        address = self._free_address(list(request.peerURLs), "")
        name = address.partition("://")[2]
        if name in self._names():
            raise Refused(MEMBER_EXISTS)
        await self._node.execute(MEMBERS, msgspec.msgpack.encode(Write(Member(name, address))))
        await self._manage("learner", name)
        if not request.isLearner:
            self._promote_soon(name)
        member = self._member(name)
        member.isLearner = request.isLearner
        return self._response("MemberAddResponse", member=member, members=self._members())

    async def _remove(self, request: Any) -> bytes:
        name = self._name_of(request.ID)
        await self._manage("remove", name)
        await self._node.execute(MEMBERS, msgspec.msgpack.encode(Erase(name)))
        return self._response("MemberRemoveResponse", members=self._members())

    async def _update(self, request: Any) -> bytes:
        name = self._name_of(request.ID)
        address = self._free_address(list(request.peerURLs), name)
        known = self._node.book.get(name) or Member(name, address)
        written = msgspec.structs.replace(known, address=address)
        await self._node.execute(MEMBERS, msgspec.msgpack.encode(Write(written)))
        return self._response("MemberUpdateResponse", members=self._members())

    async def _promote(self, request: Any) -> bytes:
        name = self._name_of(request.ID)
        if name not in self._node.status().configuration.learners:
            raise Refused(MEMBER_NOT_LEARNER)
        await self._manage("voter", name)
        return self._response("MemberPromoteResponse", members=self._members())

    async def _manage(self, order: str, name: str) -> None:
        """Raises: Refused, CallError."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._desk.config.request_timeout_s
        while True:
            try:
                await self._node.manage(order, name)
                return
            except NotExecuted as error:
                cause = _cause_of(error)
                if cause == "not_caught_up":
                    raise Refused(LEARNER_NOT_READY) from error
                if cause == "invalid":
                    raise Refused(MEMBERS_NOT_STARTED) from error
                if cause not in _FOR_A_WHILE or loop.time() + _PAUSE_S > give_up_at:
                    raise
            await asyncio.sleep(_PAUSE_S)

    # ------------------------------------------------------------------------------------------------ in the background

    def _promote_soon(self, name: str) -> None:
        if name not in self._promoting:
            self._promoting.add(name)
            self._desk.spawn(self._promote_when_ready(name))

    async def _promote_when_ready(self, name: str) -> None:
        """It was added as a voter, and becomes one as soon as it has caught up."""
        try:
            while name in self._node.status().configuration.learners:
                await asyncio.sleep(_PROMOTION_PAUSE_S)
                try:
                    await self._node.manage("voter", name)
                except CallError as error:
                    log.debug("%s is no voter yet: %s", name, error)
        finally:
            self._promoting.discard(name)

    async def publish(self, endpoints: tuple[str, ...]) -> None:
        """Lets everybody know where clients reach this node. Goes on until it is known."""
        node = self._node
        while True:
            known = node.book.get(node.name)
            address = node.book.address_of(node.name)
            if known is not None and known.endpoints == endpoints:
                return
            if node.leader and node.name in self._names():
                member = Member(node.name, address or node.address)
                written = msgspec.structs.replace(known or member, endpoints=endpoints)
                try:
                    await node.execute(MEMBERS, msgspec.msgpack.encode(Write(written)))
                except OnerackError as error:
                    log.debug("the endpoints of %s are not known yet: %s", node.name, error)
            await asyncio.sleep(_PAUSE_S)


def _cause_of(error: NotExecuted) -> str:
    """The leader's own word, which another node's answer has only in its text."""
    word = str(error).rpartition(": ")[2]
    return word if word in (*_FOR_A_WHILE, "not_caught_up", "invalid") else error.cause

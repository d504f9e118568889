"""Two sides that are asked the same: a group of ours and a cluster of etcd, three nodes each.

The idea: whoever looks only through the API must not be able to tell which is which. So each request goes to both, to
the same member of each, as the same user; what comes back is compared as text, without what a cluster may call as it
likes: ids, terms, addresses, tokens, sizes.

The rule: before a member is asked, it has applied all that was acknowledged before; only then is its answer a matter of
the API and not of time.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from tests.kv.server.client import Client, StatusError, connected

_ADDRESS: Final = re.compile(r"127\.0\.0\.1:\d+")
_WITHOUT_REVISION: Final = ("WatchResponse",)
"""Where etcd's header has none when `compact_revision` is told."""
_VOID_TOKEN: Final = "16 etcdserver: invalid auth token"
_TOKENLESS: Final = ("LeaseTimeToLive(", "LeaseLeases(")
"""Where etcd looks at no token."""
_WRONG_PASSWORD: Final = "3 etcdserver: authentication failed, invalid user ID or password"
_NO_PASSWORD: Final = "2 auth: authentication failed, password was given for no password user"
_OWN: Final = {
    "StatusResponse": ("version", "dbSize", "dbSizeInUse", "leader", "raftIndex", "raftTerm", "raftAppliedIndex"),
    "AlarmResponse": ("header",),  # etcd forgets it.
    "HashKVResponse": ("hash",),
    "HashResponse": ("hash",),
    "LeaseTimeToLiveResponse": ("TTL",),
    "AuthenticateResponse": ("token",),
    "AuthStatusResponse": ("authRevision",),
}


class Step(msgspec.Struct, frozen=True):
    """One request: which method, with what, of which member, as whom."""

    method: str
    fields: dict[str, Any]
    member: int = 0
    user: str = ""

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value!s}".replace("\n", " ") for name, value in self.fields.items())
        return f"{self.method}({said}) at {self.member}{' as ' + self.user if self.user else ''}"


def plain(message: Any) -> str:
    """As text, without what is a cluster's own."""
    message = type(message).FromString(message.SerializeToString())
    kind = message.DESCRIPTOR.name
    for field in _OWN.get(kind, ()):
        message.ClearField(field)
    if kind == "LeaseLeasesResponse":
        message.leases.sort(key=lambda lease: lease.ID)  # etcd's are in no order.
    if kind == "LeaseTimeToLiveResponse":
        message.keys.sort()
    if kind == "MemberListResponse":
        for member in message.members:
            member.ID = 0
        message.members.sort(key=lambda member: member.name)
    if "header" in message.DESCRIPTOR.fields_by_name and message.HasField("header"):
        message.header.cluster_id = message.header.member_id = message.header.raft_term = 0
        if kind in _WITHOUT_REVISION and message.compact_revision:
            message.header.revision = 0
    return _ADDRESS.sub("ADDRESS", str(message))


class Side:
    """One of the two."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.revision = 1
        """The last one that was heard."""
        self.last: Any = None
        """The last answer, as it came."""
        self._stack = AsyncExitStack()
        self._clients: dict[tuple[int, str], Client] = {}
        self._tokens: dict[str, str] = {}

    async def close(self) -> None:
        await self._stack.aclose()

    async def client(self, member: int, user: str = "") -> Client:
        """A connection to that member, which shows the user's token."""
        found = self._clients.get((member, user))
        if found is None:
            address = self.addresses[member]
            found = self._clients[member, user] = await self._stack.enter_async_context(connected(address))
        token = self._tokens.get(user)
        found.metadata = () if token is None else ((b"token", token.encode()),)
        return found

    @property
    def known(self) -> list[str]:
        """Users who have a token."""
        return sorted(self._tokens)

    def know(self, user: str, token: str) -> None:
        """From now on this user shows this token."""
        self._tokens[user] = token

    async def catch_up(self, member: int) -> None:
        """The member has applied all that was acknowledged so far."""
        client = await self.client(member)
        for _ in range(100):
            try:
                answer = await client.call("Range", key=b"-")
                self.revision = max(self.revision, answer.header.revision)
                return
            except StatusError as error:
                if error.code != 14:
                    return  # Refused, but only after it had caught up.
            await asyncio.sleep(0.05)

    async def ask(self, step: Step) -> str:
        """What comes of it, as text."""
        client = await self.client(step.member, step.user)
        self.last = None
        try:
            answer = self.last = await client.call(step.method, **step.fields)
        except StatusError as error:
            return f"{error.code} {error.text}"
        except TimeoutError:
            return "no answer"
        if step.method == "Authenticate":
            self.know(step.fields["name"], answer.token)
        if step.method == "AuthDisable":
            self._tokens.clear()  # They are void; etcd would refuse them, we do not look at them.
        if hasattr(answer, "header"):
            self.revision = max(self.revision, answer.header.revision)
        return plain(answer)


class Sides:
    """Both, asked together."""

    def __init__(self, ours: list[str], theirs: list[str]) -> None:
        self.ours, self.theirs = Side(ours), Side(theirs)
        self.asked = 0
        self.diverged = False
        """Their revisions are no longer the same: all that follows would differ."""
        self._before: list[str] = []
        self.differences: list[str] = []

    async def close(self) -> None:
        await asyncio.gather(self.ours.close(), self.theirs.close())

    @property
    def revision(self) -> int:
        return self.ours.revision

    async def ask(self, step: Step) -> Any:
        """Notes it if they differ. Gives our answer; None: it was refused."""
        await asyncio.gather(self.ours.catch_up(step.member), self.theirs.catch_up(step.member))
        self.compare("the revision", str(self.ours.revision), str(self.theirs.revision))
        ours, theirs = await asyncio.gather(self.ours.ask(step), self.theirs.ask(step))
        self.compare(str(step), ours, theirs)
        self.diverged = self.ours.revision != self.theirs.revision
        return self.ours.last

    def compare(self, what: str, ours: str, theirs: str) -> None:
        self.asked += 1
        if ours != theirs and not _is_alike(what, ours, theirs):
            before = "".join(f"  before: {each}\n" for each in self._before[-3:])
            self.differences.append(f"{what}\n  ours:   {_line(ours)}\n  theirs: {_line(theirs)}\n{before}")
        self._before = [*self._before[-3:], f"{what} -> {_line(ours)}"]


def _is_alike(what: str, ours: str, theirs: str) -> bool:
    """Both have refused it, and of two reasons etcd has seen the other one first, or has lost the code of its error; or
    it was refused here because of the token."""
    if ours == _VOID_TOKEN and (theirs.startswith("3 ") or what.startswith(_TOKENLESS)):
        return True
    if theirs == _NO_PASSWORD:
        return ours == _WRONG_PASSWORD  # We do not tell strangers who has no password.
    return theirs.startswith("2 ") and ours[:1].isdigit() and ours.rpartition(": ")[2] == theirs.rpartition(": ")[2]


def _line(text: str) -> str:
    return " ".join(text.split())

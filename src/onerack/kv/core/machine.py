"""KvMachine: the replicated key-value store, as the state machine that raft's log drives.

    command -> apply -> response, or a refusal        the only way in which state changes; the same on every node
    request -> range, txn, ask ... -> response        reads, of whatever is applied here

The idea: one command, one step. It is looked at, permitted, checked, and only then carried out, so that a refused
command has changed nothing; what it changed becomes one revision. The plain put, which is nine commands of ten, has a
way of its own through all this, with the same outcome.

The rules:
- deterministic: no clock, no chance, no order that another process could have otherwise;
- no command, however damaged, raises: it is refused by every node alike;
- header fields other than the revision are this node's own (`cluster_id`, `member_id`, `raft_term`), and never part of
  the state.

Source: Ongaro's dissertation, chapter 6, for state machines; etcd v3 for what this one does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from onerack.config import KvConfig
from onerack.kv.core import snapshot, wire
from onerack.kv.core.alarms import Alarms
from onerack.kv.core.auth import Auth
from onerack.kv.core.checksum import HashWalk
from onerack.kv.core.commands import Changes, Handler, Kind
from onerack.kv.core.errors import MALFORMED, UNKNOWN_METHOD, KvError, Refused
from onerack.kv.core.lease_desk import LeaseDesk
from onerack.kv.core.leases import Leases
from onerack.kv.core.management import Management
from onerack.kv.core.operations import Operations, bytes_of_txn
from onerack.kv.core.store import End, Store
from onerack.kv.core.txn import is_read_only, plan_of
from onerack.kv.core.version import VERSION_BYTES, Version
from onerack.kv.messages import LIBRARY, DecodeError

Hook = Callable[[int, list[Version]], None]
"""(revision, what it has changed)."""

_RANGE: Final = LIBRARY["RangeRequest"]
_TXN: Final = LIBRARY["TxnRequest"]
_TIME_TO_LIVE: Final = LIBRARY["LeaseTimeToLiveRequest"]
_GROWING: Final = (Kind.PUT, Kind.TXN, Kind.LEASE_GRANT)
_MALFORMED: Final = (DecodeError, struct.error, UnicodeDecodeError, RecursionError)


class KvMachine:
    """Keys, leases, alarms, users: everything that the log has made of the store."""

    def __init__(self, config: KvConfig | None = None) -> None:
        self.config = config or KvConfig()
        self.on_events: list[Hook] = []
        """Called for each revision, after it has been made."""
        self.on_restore: list[Callable[[], None]] = []
        """Called when everything has become something else, by a snapshot."""
        self._identity = [0, 0, 0]
        self._rename()
        self._become(Store(), snapshot.fresh_head())

    def _become(self, store: Store, head: snapshot.Head) -> None:
        self.store = store
        self.leases = Leases(self.config)
        self.auth = Auth()
        self.alarms = Alarms(self.auth)
        self.auth.restore(head.auth)
        self.alarms.restore(head.alarms)
        self.leases.restore(head.leases_granted, head.lease_term, head.leases, store.current.values())
        self._operations = Operations(store, self.leases, self.auth, self.alarms, self.config)
        self._lease_desk = LeaseDesk(self.leases, self.auth, self.alarms, self._operations)
        management = Management(self.auth)
        self._handlers: dict[int, tuple[Any, Handler]] = {
            **self._operations.handlers(),
            **self._lease_desk.handlers(),
            **self.alarms.handlers(),
            **management.handlers(),
        }
        self._questions = management.questions()

    # ------------------------------------------------------------------------------------------------ who answers

    @property
    def cluster_id(self) -> int:
        return self._identity[0]

    @cluster_id.setter
    def cluster_id(self, value: int) -> None:
        self._identity[0] = value
        self._rename()

    @property
    def member_id(self) -> int:
        return self._identity[1]

    @member_id.setter
    def member_id(self, value: int) -> None:
        self._identity[1] = value
        self._rename()

    @property
    def raft_term(self) -> int:
        return self._identity[2]

    @raft_term.setter
    def raft_term(self, value: int) -> None:
        self._identity[2] = value
        self._rename()

    def _rename(self) -> None:
        self._header = wire.Header(*self._identity)

    def header(self, revision: int | None = None) -> bytes:
        """The header of a response, as its field 1, encoded: any response is this and its other fields."""
        return self._header.at(self.store.revision if revision is None else revision)

    def header_without_revision(self) -> bytes:
        """That of a response about members."""
        return self._header.without_revision

    @property
    def revision(self) -> int:
        return self.store.revision

    # ------------------------------------------------------------------------------------------------ commands

    def apply(self, command: bytes, wanted: bool) -> bytes | KvError | None:
        """One command of the log. What it answers, if that is `wanted`."""
        store = self.store
        if store.unswept <= store.compacted:
            store.sweep()
        if command[:1] == b"\x01" and not self.auth.state.enabled and not self.alarms.raised:
            plain = wire.plain_put(command, 2 + command[1]) if len(command) > 1 else None
            if plain is not None and plain[0]:
                return self._put_plain(*plain, wanted)
        try:
            response = self._apply(command)
        except Refused as refused:
            return refused.error if wanted else None
        except _MALFORMED:
            return MALFORMED if wanted else None
        return response if wanted else None

    def _put_plain(self, key: bytes, value: bytes, wanted: bool) -> bytes | None:
        """No lease, no flag, nobody to ask: the same as the long way, in a third of the time."""
        store = self.store
        before = store.current.get(key)
        if before is not None and before.lease:
            self.leases.move(key, before.lease, 0)
        revision = store.revision + 1
        version = store.put(key, value, 0, revision)
        store.log.append(version)
        store.revision = revision
        if self.on_events:
            self._tell(revision, [version])
        if not wanted:
            return None
        return self._header.at(revision)

    def _apply(self, command: bytes) -> bytes:
        if len(command) < 2 or len(command) < 2 + command[1]:
            raise Refused(MALFORMED)
        kind, user = command[0], command[2 : 2 + command[1]].decode()
        found = self._handlers.get(kind)
        if found is None:
            raise Refused(UNKNOWN_METHOD)
        request_class, handler = found
        body = command[2 + command[1] :]
        changes: Changes = []
        response = handler(user, body if request_class is None else request_class.FromString(body), changes)
        if changes:
            self.store.commit(changes)
            self._tell(self.store.revision, changes)
        return self.header() + response

    def _tell(self, revision: int, changes: Changes) -> None:
        for hook in tuple(self.on_events):  # A hook may take itself out.
            hook(revision, changes)

    # ------------------------------------------------------------------------------------------------ reads

    def range(self, user: str, request: bytes) -> bytes | KvError:
        """A RangeRequest; the answer is as new as what was applied here."""
        if not self.auth.state.enabled and not self.alarms.raised:
            key = wire.plain_key(request)
            if key is not None:
                return self._range_plain(key)
        return self._read(lambda: self._operations.range(user, _RANGE.FromString(request)))

    def _range_plain(self, key: bytes) -> bytes:
        store = self.store
        header = self._header.at(store.revision)
        version = store.current.get(key)
        if version is None or not version.version:
            return header
        return header + wire.only_kv(version)

    def txn(self, user: str, request: bytes) -> bytes | KvError:
        """A TxnRequest that only reads. Requires: `is_read_only` says so."""
        return self._read(lambda: self._operations.txn(user, _TXN.FromString(request), []))

    @staticmethod
    def is_read_only(request: bytes) -> bool:
        """Whether a TxnRequest need not enter the log. What is no request is for `txn` to refuse."""
        try:
            return is_read_only(plan_of(_TXN.FromString(request)))
        except DecodeError:
            return True

    def time_to_live(self, user: str, request: bytes, remaining_s: int) -> bytes | KvError:
        """A LeaseTimeToLiveRequest; the leader knows how many seconds remain (of no matter if there is no lease)."""
        return self._read(lambda: self._lease_desk.time_to_live(user, _TIME_TO_LIVE.FromString(request), remaining_s))

    def all_leases(self, user: str) -> bytes | KvError:
        """A LeaseLeasesRequest, which says nothing."""
        return self._read(lambda: self._lease_desk.all(user))

    def ask(self, path: str, user: str, request: bytes) -> bytes | KvError:
        """A method of the service Auth that only reads: UserGet UserList RoleGet RoleList AuthStatus."""
        request_class, answer = self._questions[path]
        return self._read(lambda: answer(user, request_class.FromString(request)))

    def _read(self, answer: Callable[[], bytes]) -> bytes | KvError:
        try:
            return self.header() + answer()
        except Refused as refused:
            return refused.error
        except _MALFORMED:
            return MALFORMED

    def may_watch(self, user: str, key: bytes, end: End) -> bool:
        return self.auth.may_watch(user, key, end)

    # ------------------------------------------------------------------------------------------------ size, checksums

    @property
    def size_bytes(self) -> int:
        """An estimate of what the store takes."""
        return self.store.size_bytes

    def lacks_room(self, kind: int, request: bytes) -> bool:
        """Whether a command goes beyond the quota: then it is not proposed, but the alarm NOSPACE is."""
        if kind not in _GROWING or self.store.size_bytes + len(request) + VERSION_BYTES < self.config.quota_bytes:
            return False
        if kind != Kind.TXN:
            return True
        try:
            return bytes_of_txn(plan_of(_TXN.FromString(request))) > 0
        except DecodeError:
            return False

    def hash_walk(self, revision: int = 0) -> HashWalk:
        """The checksum at a revision (0: the present one), to be made in steps.

        Raises: Refused: the revision is compacted, or not there yet.
        """
        self.store.check_readable(revision or self.store.revision)
        return HashWalk(self.store, revision or self.store.revision)

    def hash_kv(self, revision: int = 0) -> int:
        """The checksum of all that a reader may see up to a revision; takes long if there is much."""
        return self.hash_walk(revision).finished()

    # ------------------------------------------------------------------------------------------------ snapshots

    def snapshot(self) -> Iterator[bytes]:
        """Everything, as of this call, although commands are applied while it is iterated."""
        store, leases = self.store, self.leases
        head = snapshot.Head(
            format=snapshot.FORMAT,
            revision=store.revision,
            compacted=store.compacted,
            first_logged=store.first_logged,
            leases=[(lease.id, lease.ttl_s) for lease in leases.by_id.values()],
            leases_granted=leases.granted,
            lease_term=leases.term,
            alarms=list(self.alarms.raised),
            auth=self.auth.state,
        )
        return snapshot.pieces_of(store, head)

    def restore(self, pieces: Iterator[bytes]) -> None:
        """Becomes what the snapshot says. Raises: AssertionError: it is none; then nothing has changed."""
        head, store = snapshot.refilled(pieces)
        self._become(store, head)
        for hook in self.on_restore:
            hook()

"""The store against a model of it that keeps a copy of everything: the same requests, the same responses.

Watches run along: what each is told must be the model's events, from where it began, in order, once, whole, with the
pair that was there before. So do snapshots: now and then the store is thrown away and restored.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onerack.config import KvConfig
from onerack.kv import messages
from onerack.kv.core import Kind, KvError, KvMachine, encode_command
from onerack.kv.core.errors import Refused
from onerack.kv.core.txn import check_txn, plan_of
from onerack.kv.core.watch import WatchHub
from onerack.kv.invariants import check_state, check_step, moment_of
from onerack.kv.messages import Event
from tests.kv.core.client import compare, delete_op, put_op, range_op, txn_op
from tests.kv.core.model import Failed, Model, as_message, holds

keys = st.sampled_from([b"a", b"aa", b"b", b"c", b"\xff"])
ends = st.sampled_from([b"", b"", b"\0", b"b", b"c", b"zz", b"a"])
values = st.sampled_from([b"", b"x", b"y"])
leases = st.sampled_from([0, 0, 1, 2])
numbers = st.integers(0, 12)
near = st.integers(-12, 2)
flags = st.booleans()


@st.composite
def puts(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["plain", "plain", "lease", "ignore_value", "ignore_lease"]))
    fields: dict[str, Any] = {"key": draw(keys), "prev_kv": draw(flags)}
    if kind in ("ignore_value", "ignore_lease"):
        fields[kind] = True
    if kind != "ignore_value":
        fields["value"] = draw(values)
    if kind == "lease":
        fields["lease"] = draw(leases)
    return fields


@st.composite
def range_fields(draw: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": draw(keys), "range_end": draw(ends)}
    for name, strategy in (
        ("limit", st.integers(0, 3)),
        ("sort_order", st.integers(0, 2)),
        ("sort_target", st.integers(0, 4)),
        ("keys_only", flags),
        ("count_only", flags),
        ("min_mod_revision", numbers),
        ("max_mod_revision", numbers),
        ("min_create_revision", numbers),
        ("max_create_revision", numbers),
    ):
        if draw(st.integers(0, 3)) == 0:
            fields[name] = draw(strategy)
    return fields


@st.composite
def compares(draw: Any) -> Any:
    target = draw(st.sampled_from(["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]))
    field = {"CREATE": "create_revision", "MOD": "mod_revision"}.get(target, target.lower())
    given = draw(values) if target == "VALUE" else draw(numbers)
    result = draw(st.sampled_from(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]))
    return compare(draw(keys), result, target, draw(ends), **{field: given})


deletions = st.builds(lambda key, end, prev: {"key": key, "range_end": end, "prev_kv": prev}, keys, ends, flags)
leaf_ops = st.one_of(
    puts().map(lambda fields: put_op(**fields)),
    deletions.map(lambda fields: delete_op(**fields)),
    range_fields().map(lambda fields: range_op(**fields)),
)
ops = st.recursive(
    leaf_ops,
    lambda inner: st.builds(
        txn_op, st.lists(compares(), max_size=1), st.lists(inner, max_size=2), st.lists(inner, max_size=2)
    ),
    max_leaves=5,
)
op_lists = st.lists(ops, max_size=3)


class StoreMachine(RuleBasedStateMachine):
    """Both sides, and who watches."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = KvMachine(KvConfig(watch_response_bytes_max=200))
        self.hub = WatchHub(self.machine)
        self.model = Model()
        self.watches: dict[int, Any] = {}
        """Its create request, with the revision from which on it must be told."""
        self.told: dict[int, list[tuple[int, bytes]]] = {}
        self.paused = False

    def command(self, kind: Kind, request: Any, response_class: Any, expected: Any) -> None:
        before = moment_of(self.machine)
        answer = self.machine.apply(encode_command(kind, b"", request.SerializeToString()), True)
        check_step(before, self.machine, isinstance(answer, KvError))
        self.compare_answer(answer, response_class, expected)

    def compare_answer(self, answer: bytes | KvError | None, response_class: Any, expected: Any) -> None:
        assert answer is not None
        try:
            wanted = expected()
        except Failed as failed:
            wanted = failed.error
        if isinstance(wanted, KvError):
            assert answer == wanted
            return
        assert isinstance(answer, bytes), f"refused by {answer}, the model says {wanted}"
        assert response_class.FromString(answer) == wanted

    # ------------------------------------------------------------------------------------------------ commands

    @rule(fields=puts())
    def put(self, fields: dict[str, Any]) -> None:
        request = messages.PutRequest(**fields)
        self.command(Kind.PUT, request, messages.PutResponse, lambda: self.model.put(request))

    @rule(fields=deletions)
    def delete(self, fields: dict[str, Any]) -> None:
        request = messages.DeleteRangeRequest(**fields)
        self.command(Kind.DELETE_RANGE, request, messages.DeleteRangeResponse, lambda: self.model.delete(request))

    @rule(compares=st.lists(compares(), max_size=2), success=op_lists, failure=op_lists)
    def txn(self, compares: list[Any], success: list[Any], failure: list[Any]) -> None:
        request = messages.TxnRequest(compare=compares, success=success, failure=failure)

        def expected() -> Any:
            try:
                check_txn(plan_of(request), 128)  # That no key is put twice is the affair of other tests.
            except Refused as refused:
                raise Failed(refused.error) from refused
            return self.model.txn(request)

        self.command(Kind.TXN, request, messages.TxnResponse, expected)

    @rule(back=st.sampled_from([-12, -9, -7, -5, -3, -1, 0, 1]))
    def compact(self, back: int) -> None:
        request = messages.CompactionRequest(revision=self.model.revision + back)
        expected = self.model.compact
        self.command(Kind.COMPACT, request, messages.CompactionResponse, lambda: expected(request.revision))

    @rule(lease=st.sampled_from([1, 2]))
    def grant(self, lease: int) -> None:
        if lease not in self.model.leases:
            request = messages.LeaseGrantRequest(ID=lease, TTL=60)
            self.machine.apply(encode_command(Kind.LEASE_GRANT, b"", request.SerializeToString()), True)
            self.model.leases.add(lease)

    @rule(lease=st.sampled_from([1, 2]))
    def revoke(self, lease: int) -> None:
        request = messages.LeaseRevokeRequest(ID=lease)
        self.command(Kind.LEASE_REVOKE, request, messages.LeaseRevokeResponse, lambda: self.model.revoke(lease))

    @rule()
    def restore(self) -> None:
        self.machine.restore(self.machine.snapshot())

    # ------------------------------------------------------------------------------------------------ reads

    @rule(key=keys, end=ends, back=st.integers(-6, -1))
    def range_of_the_past(self, key: bytes, end: bytes, back: int) -> None:
        self.compare_range({"key": key, "range_end": end}, back)

    @rule(fields=range_fields(), back=st.one_of(st.none(), near))
    def range(self, fields: dict[str, Any], back: int | None) -> None:
        self.compare_range(fields, back)

    def compare_range(self, fields: dict[str, Any], back: int | None) -> None:
        request = messages.RangeRequest(**fields)
        if back is not None:
            request.revision = self.model.revision + back
        answer = self.machine.range("", request.SerializeToString())
        self.compare_answer(answer, messages.RangeResponse, lambda: self.model.range(request))

    # ------------------------------------------------------------------------------------------------ watches

    @precondition(lambda self: len(self.watches) < 6)
    @rule(key=keys, end=ends, back=st.one_of(st.none(), near), prev_kv=flags, filters=st.sampled_from([[], [0], [1]]))
    def watch(self, key: bytes, end: bytes, back: int | None, prev_kv: bool, filters: list[int]) -> None:
        start = 0 if back is None else max(self.model.revision + back, 1)
        request = messages.WatchCreateRequest(
            key=key, range_end=end, start_revision=start, prev_kv=prev_kv, filters=filters
        )
        number = len(self.told)
        self.told[number] = []
        self.hub.create(1, "", request)
        if (end not in (b"", b"\0") and end <= key) or (start and start < self.model.compacted):
            self.hub._streams[1].next_number = number + 1  # A refused one has no number, and the test counts on.
            return
        request.start_revision = start or self.model.revision + 1
        self.watches[number] = request

    @rule()
    def pause_or_resume(self) -> None:
        self.paused = not self.paused
        (self.hub.pause if self.paused else self.hub.resume)(1)

    @rule()
    def listen(self) -> None:
        for _, encoded in self.hub.advance():
            response = messages.WatchResponse.FromString(encoded)
            if response.canceled and not response.created:
                watch = self.watches.pop(response.watch_id, None)
                assert response.compact_revision == self.model.compacted
                assert watch is None or self.may_be_behind(response.watch_id, watch)
                continue
            revisions = {event.kv.mod_revision for event in response.events}
            earlier = {revision for revision, _ in self.told.get(response.watch_id, [])}
            assert not revisions & earlier, "a revision was split"
            for event in response.events:
                assert event.kv.mod_revision <= response.header.revision
                told = self.told[response.watch_id]
                told.append((event.kv.mod_revision, event.SerializeToString(deterministic=True)))

    def may_be_behind(self, number: int, request: Any) -> bool:
        """Whether there was something before the compacted revision that it had not been told."""
        return self.told[number] == [] or self.told[number][-1][0] < self.model.compacted

    @precondition(lambda self: not self.paused)
    @rule()
    def hear_all(self) -> None:
        while self.hub.busy:
            self.listen()
        for number, request in self.watches.items():
            assert [revision for revision, _ in self.told[number]] == [
                revision for revision, _ in self.expected_events(request)
            ]
            for (_, event), (_, expected) in zip(self.told[number], self.expected_events(request), strict=True):
                self.compare_events(Event.FromString(event), expected)

    def compare_events(self, event: Any, expected: Any) -> None:
        """The pair before may be gone, if it is compacted; if it is there it is the right one."""
        if not event.HasField("prev_kv") and expected.kv.mod_revision - 1 < self.model.compacted:
            expected.ClearField("prev_kv")
        assert event == expected

    def expected_events(self, request: Any) -> list[tuple[int, Any]]:
        found = []
        for revision in range(request.start_revision, self.model.revision + 1):
            for key, now in self.model.events.get(revision, []):
                kind = Event.DELETE if now is None else Event.PUT
                if not holds(request, key) or int(kind) in list(request.filters):
                    continue
                kv = messages.KeyValue(key=key, mod_revision=revision) if now is None else as_message(key, now)
                event = Event(type=kind, kv=kv)
                # Of a key that is changed twice in one revision, what was before the revision is told.
                before = self.model.states[revision - 1].get(key)
                is_new = now is not None and now.create == revision
                if request.prev_kv and before is not None and not is_new:
                    event.prev_kv.CopyFrom(as_message(key, before))
                found.append((revision, event))
        return found

    @invariant()
    def holds_together(self) -> None:
        check_state(self.machine)
        assert self.machine.revision == self.model.revision


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class LongStoreMachine(StoreMachine):
    """The same, for long."""


TestStoreForLong = pytest.mark.soak(pytest.mark.timeout(1200)(LongStoreMachine.TestCase))
TestStoreForLong.settings = settings(TestStore.settings, derandomize=False, max_examples=3000, stateful_step_count=60)

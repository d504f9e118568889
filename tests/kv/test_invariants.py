"""Each invariant sees the damage that it is for: a check that catches nothing is worse than none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onerack.errors import InvariantBroken
from onerack.kv.core import KvMachine
from onerack.kv.core.version import Version
from onerack.kv.invariants import check_state, check_step, moment_of
from tests.kv.core.client import Client, delete_op, put_op


@pytest.fixture
def machine() -> KvMachine:
    client = Client()
    client.grant(7)
    client.put(b"a", b"1", lease=7)
    client.put(b"a", b"2", lease=7)
    client.txn([], [put_op(b"b"), delete_op(b"a")])
    client.put(b"c", lease=7)
    client.put(b"b", b"2")
    check_state(client.machine)
    return client.machine


def swap_history(machine: KvMachine) -> None:
    machine.store.history[b"a"].reverse()


def lose_live_key(machine: KvMachine) -> None:
    machine.store.live.remove(b"b")


def keep_dead_key_alive(machine: KvMachine) -> None:
    machine.store.dead.remove(b"a")
    machine.store.live.add(b"a")


def count_wrongly(machine: KvMachine) -> None:
    newest = machine.store.current[b"b"]
    broken = Version(newest.key, newest.value, newest.create, newest.mod, 7, 0)
    machine.store.current[b"b"] = broken
    machine.store.log[-1] = broken


def lose_revision(machine: KvMachine) -> None:
    machine.store.revision += 1


def log_another_version(machine: KvMachine) -> None:
    machine.store.log[-1] = machine.store.log[-2]


def log_a_copy(machine: KvMachine) -> None:
    newest = machine.store.current[b"b"]
    machine.store.log[-1] = Version(newest.key, newest.value, newest.create, newest.mod, newest.version, 0)


def forget_size(machine: KvMachine) -> None:
    machine.store.size_bytes -= 1


def forget_attached_key(machine: KvMachine) -> None:
    machine.leases.by_id[7].keys.clear()


def attach_deleted_key(machine: KvMachine) -> None:
    machine.leases.by_id[7].keys[b"a"] = None


def lose_lease(machine: KvMachine) -> None:
    del machine.leases.by_id[7]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (swap_history, "index_equals_history"),
        (lose_live_key, "order_is_kept"),
        (keep_dead_key_alive, "order_is_kept"),
        (count_wrongly, "lives_are_contiguous"),
        (lose_revision, "log_is_contiguous"),
        (log_another_version, "log_is_contiguous"),
        (log_a_copy, "log_is_the_history"),
        (forget_size, "size_is_the_sum"),
        (forget_attached_key, "leases_agree"),
        (attach_deleted_key, "leases_agree"),
        (lose_lease, "leases_agree"),
    ],
)
def test_damage_is_seen(machine: KvMachine, damage: Callable[[KvMachine], None], name: str) -> None:
    damage(machine)
    with pytest.raises(InvariantBroken) as broken:
        check_state(machine)
    assert broken.value.name == name


def test_a_step_of_two_revisions_is_seen(machine: KvMachine) -> None:
    before = moment_of(machine)
    for _ in range(2):
        machine.apply(b"\x01\x00\x0a\x01a", False)
    with pytest.raises(InvariantBroken, match="revision_rises_by_one"):
        check_step(before, machine, refused=False)


def test_a_refused_command_that_has_changed_something_is_seen(machine: KvMachine) -> None:
    before = moment_of(machine)
    machine.leases.grant(8, 9)
    with pytest.raises(InvariantBroken, match="refused_changes_nothing"):
        check_step(before, machine, refused=True)


def test_a_compaction_that_goes_back_is_seen(machine: KvMachine) -> None:
    machine.store.compact(3)
    before = moment_of(machine)
    machine.store.compacted = 2
    with pytest.raises(InvariantBroken, match="compaction_only_rises"):
        check_step(before, machine, refused=False)

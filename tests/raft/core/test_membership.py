"""Membership: the configurations along the log, and the steps from one to another."""

from __future__ import annotations

import msgspec
import pytest

from onerack.raft.core.membership import (
    Memberships,
    decode_configuration,
    encode_configuration,
    fault_of,
    first_step,
    last_step,
    promoted,
)
from onerack.raft.messages import Configuration, Entry, Kind

A = Configuration(voters=("a",))
B = Configuration(voters=("a", "b"))
C = Configuration(voters=("a", "b", "c"), learners=("d",))


def at(index: int, configuration: Configuration) -> Entry:
    return Entry(1, index, Kind.CONFIGURATION, encode_configuration(configuration))


def test_a_configuration_survives_its_encoding() -> None:
    joint = Configuration(("a",), ("b",), ("c",), ("b",), ("a",))
    assert decode_configuration(encode_configuration(joint)) == joint


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xc1", encode_configuration(A)[:-1], b"\x81\xa6voters\x01"])
def test_what_is_no_configuration_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_configuration(payload)


def test_the_newest_in_the_log_holds() -> None:
    memberships = Memberships(3, A, [at(2, C), at(5, B), Entry(1, 6, Kind.COMMANDS, b"x")])
    assert (memberships.configuration, memberships.index) == (B, 5)
    assert memberships.note(at(8, C))
    assert [memberships.at(index) for index in (3, 4, 5, 7, 8, 99)] == [A, A, B, B, C, C]
    memberships.truncate_from(8)
    assert memberships.configuration == B
    memberships.truncate_from(4)
    assert memberships.configuration == A


def test_what_lies_before_a_cut_is_forgotten() -> None:
    memberships = Memberships(0, A, [at(2, B), at(5, C)])
    memberships.cut(4)
    assert memberships.at(4) == B
    memberships.truncate_from(5)
    assert memberships.configuration == B


def test_who_is_being_removed_takes_part_until_that_is_committed() -> None:
    memberships = Memberships(0, C, [at(4, A)])
    assert memberships.taking_part(3) == ("a", "b", "c", "d")
    assert memberships.taking_part(4) == ("a",)


def test_a_change_of_learners_needs_no_joint_phase() -> None:
    wanted = Configuration(voters=("a",), learners=("x",))
    assert first_step(A, wanted) == wanted


def test_a_change_of_voters_goes_through_a_joint_phase() -> None:
    wanted = Configuration(voters=("b", "c", "w"), learners=("a", "e"), witnesses=("w",))
    joint = first_step(C, wanted)
    assert joint == Configuration(
        voters=("b", "c", "w"), outgoing=("a", "b", "c"), learners=("e",), learners_next=("a",), witnesses=("w",)
    )
    assert joint.members == ("a", "b", "c", "e", "w")
    assert last_step(joint) == wanted


def test_a_witness_that_is_removed_is_one_until_the_joint_phase_ends() -> None:
    before = Configuration(voters=("a", "w"), witnesses=("w",))
    joint = first_step(before, A)
    assert joint.witnesses == ("w",)
    assert last_step(joint) == A


def test_who_is_promoted() -> None:
    assert promoted(C, Configuration(voters=("a", "d", "x"))) == ("d",)


@pytest.mark.parametrize(
    ("current", "wanted", "fault"),
    [
        (A, B, ""),
        (C, Configuration(voters=("a", "b", "c", "d")), ""),
        (A, Configuration(voters=("a", "w"), witnesses=("w",)), ""),
        (Configuration(voters=("a", "w"), witnesses=("w",)), A, ""),
        (A, Configuration(voters=("b", "a")), "sorted"),
        (A, Configuration(voters=("a",), learners=("a",)), "voter and a learner"),
        (A, Configuration(), "able to lead"),
        (A, Configuration(voters=("w",), witnesses=("w",)), "able to lead"),
        (B, Configuration(voters=("a", "b"), witnesses=("b",)), "no member"),
        (Configuration(voters=("a", "w"), witnesses=("w",)), Configuration(voters=("a", "w")), "no payloads"),
    ],
)
def test_which_changes_can_never_be(current: Configuration, wanted: Configuration, fault: str) -> None:
    found = fault_of(current, wanted)
    assert fault in found
    assert bool(found) is bool(fault)

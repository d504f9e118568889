"""Whatever the log holds, a machine survives it, every machine alike, and with all its invariants."""

from __future__ import annotations

from random import Random

import pytest

from onerack.kv import messages
from onerack.kv.core import Kind, KvError, KvMachine
from onerack.kv.invariants import check_state, check_step, moment_of
from tests.kv.core.client import Client
from tests.kv.core.test_snapshot import everything


def mutated(random: Random, commands: list[bytes]) -> bytes:
    """One command with a little damage: a bit, a piece cut off or put in, a wrong length, another's other half."""
    command = bytearray(random.choice(commands))
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(command) + 1)
        kind = random.randrange(5)
        if kind == 0 and command:
            command[place - 1] ^= 1 << random.randrange(8)
        elif kind == 1:
            del command[place:]
        elif kind == 2:
            command[place:place] = random.randbytes(random.randrange(1, 9))
        elif kind == 3 and command:
            command[place - 1] = random.choice([0, 1, 127, 128, 255])
        else:
            other = random.choice(commands)
            command[place:] = other[random.randrange(len(other)) :]
    return bytes(command)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_commands_are_refused_or_carried_out_by_all_alike(seed: int) -> None:
    random = Random(seed)
    # Once authentication is on, nearly all is refused; and so it is while there is an alarm.
    spared = (Kind.AUTH_ENABLE, Kind.ALARM) if seed % 2 else ()
    commands = [command for command in everything().log if command[0] not in spared]
    one, other = KvMachine(), KvMachine()
    refusals = set()
    for number in range(1200):
        command = mutated(random, commands)
        before = moment_of(one) if number % 10 == 0 else None
        answer = one.apply(command, True)
        assert isinstance(answer, KvError | bytes)
        assert other.apply(command, False) is None
        if before is not None:
            check_step(before, one, isinstance(answer, KvError))
        if isinstance(answer, KvError):
            refusals.add(answer.text)
    check_state(one)
    assert moment_of(one) == moment_of(other)
    assert b"".join(one.snapshot()) == b"".join(other.snapshot())
    assert len(refusals) > 5, "too tame to have tried anything"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_reads_are_refused_or_answered(seed: int) -> None:
    random = Random(seed)
    client = Client()
    client.put(b"a", b"v")
    request = messages.RangeRequest(
        key=b"a", range_end=b"\0", limit=3, revision=2, sort_order=1, sort_target=3, min_mod_revision=1
    ).SerializeToString()
    machine = client.machine
    for _ in range(2000):
        damaged = mutated(random, [request])
        for answer in (
            machine.range("", damaged),
            machine.time_to_live("", damaged, 1),
            machine.txn("", damaged) if machine.is_read_only(damaged) else b"",
            machine.ask("/etcdserverpb.Auth/UserGet", "", damaged),
        ):
            assert isinstance(answer, KvError | bytes)
    check_state(machine)


def test_a_transaction_that_is_nested_too_deep_is_refused() -> None:
    inner = messages.TxnRequest().SerializeToString()
    for _ in range(400):
        op = b"\x22" + _length(len(inner)) + inner
        inner = b"\x12" + _length(len(op)) + op
    answer = KvMachine().apply(b"\x03\x00" + inner, True)
    assert isinstance(answer, KvError)


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])

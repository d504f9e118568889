"""The judge of the store: at the end, what clients and watchers were told is held against the model.

    answers_are_right            a write was answered what the model answers at its place in the log
    acknowledged_writes_stay     whatever was answered is in the log
    revisions ...                of reads, writes and watches: sim/checker/revisions.py
    compacted_is_unreadable      an old revision is read as long as it may be, and no longer
    linearizability              of single keys, whatever the store says of revisions
    replicas_are_the_model       each node's store holds what the model holds

The rule: the order of the log is the judge's own knowledge, from whoever applied an entry first; nothing of the store
under test is asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onerack.kv.core.errors import COMPACTED
from onerack.sim.checker import REGISTER, Operation, Read, Watch, Write, check_linearizable, check_revisions
from onerack.sim.kv.clients import REGISTERS, Book, Done
from onerack.sim.kv.machine import SimKvMachine
from onerack.sim.kv.model import Model
from onerack.sim.kv.wishes import REFUSED, Delete, Get, Put
from onerack.sim.raft.judge import require
from onerack.sim.raft.machine import decode_command

STEPS_MAX = 100_000


class Replay:
    """The log, told to the model."""

    def __init__(self, payloads: Iterable[bytes], book: Book) -> None:
        self.model = Model()
        self.writes: list[Write] = []
        self.answered: set[tuple[str, int]] = set()
        self._last: dict[str, int] = {}
        for payload in payloads:
            command = decode_command(payload)
            if command.number > self._last.get(command.session, 0):
                self._last[command.session] = command.number
                self._apply(book.by_id[command.session, command.number])

    def _apply(self, done: Done) -> None:
        model, before = self.model, self.model.revision
        answer = model.apply(done.wish)
        self.answered.add((done.session, done.number))
        right = done.end is None or done.answer == answer
        require(right, "answers_are_right", f"{done} should have been answered {answer}")
        if model.revision > before:
            self.writes.append(Write(model.revision, model.changes_at(model.revision), done.call, done.end))


def check_store(payloads: Iterable[bytes], book: Book, watches: Sequence[Watch]) -> Replay:
    """Raises: Broken."""
    replay = Replay(payloads, book)
    ended = [done for done in book.by_id.values() if done.end is not None]
    reads = [done for done in ended if isinstance(done.wish, Get)]
    for done in ended:
        in_log = isinstance(done.wish, Get) or (done.session, done.number) in replay.answered
        require(in_log, "acknowledged_writes_stay", f"{done} is not in the log")
    for done in reads:
        _check_compacted(done, replay.model)
    good = [_read_of(done) for done in reads if done.answer[0] != REFUSED]
    verdict = check_revisions(replay.writes, good, watches)
    require(not verdict.anomalies, "revisions", "\n".join(map(str, verdict.anomalies)))
    return replay


def _read_of(done: Done) -> Read:
    wish = done.wish
    assert isinstance(wish, Get)
    assert done.end is not None
    _, revision, found = done.answer
    return Read(
        revision, wish.first, wish.behind or wish.first + "\0", found, done.call, done.end,
        at_revision=wish.revision or None,
    )  # fmt: skip


def _check_compacted(done: Done, model: Model) -> None:
    """A compaction moves no revision: one at the very revision of an answer may have been before it or after it."""
    wish = done.wish
    assert isinstance(wish, Get)
    if done.answer[0] == REFUSED:
        legal = done.answer[1] == COMPACTED.text and any(revision > wish.revision for revision, _ in model.compactions)
        require(legal, "compacted_is_unreadable", f"{done} was refused, compactions: {model.compactions}")
    elif wish.revision:
        before = [revision for revision, at in model.compactions if at < done.answer[1]]
        legal = wish.revision >= max(before, default=-1)
        require(legal, "compacted_is_unreadable", f"{done} was answered after the compactions of {before}")


def check_registers(book: Book) -> int:
    """The keys that are changed one by one, by the search; gives how many were too hard."""
    operations = [
        operation
        for done in book.by_id.values()
        if done.answer[:1] != (REFUSED,) and (operation := _operation_of(done)) is not None
    ]
    operations.sort(key=lambda operation: operation.call)
    verdict = check_linearizable(operations, REGISTER, STEPS_MAX)
    require(not verdict.anomalies, "linearizability", "\n".join(map(str, verdict.anomalies)))
    return len(verdict.unknown)


def _operation_of(done: Done) -> Operation | None:
    match done.wish:
        case Put(key, value) if key in REGISTERS:
            return Operation(done.session, key, "write", value, None, done.call, done.end)
        case Delete(key, "") if key in REGISTERS:
            return Operation(done.session, key, "write", None, None, done.call, done.end)
        case Get(key, "", 0) if key in REGISTERS and done.end is not None:
            found = done.answer[2]
            return Operation(done.session, key, "read", None, found[0][1].value if found else None, done.call, done.end)
    return None


def check_replica(name: str, machine: SimKvMachine, model: Model) -> None:
    """Requires: it has applied all."""
    machine.check()
    store = machine.kv.store
    facts = (store.revision, store.compacted, set(machine.kv.leases.by_id))
    expected = (model.revision, model.compacted, model.leases)
    require(facts == expected, "replicas_are_the_model", f"{name} has revision, compacted, leases {facts}: {expected}")
    held = machine.held()
    require(held == model.state, "replicas_are_the_model", f"{name} holds {held}, the model {model.state}")

"""Reads: those who wait until this node knows enough to answer.

The idea: a linearizable read needs no place in the log, only proof that this node has applied everything that was
committed when the read came. All reads of one turn share one question, and the core lets all questions of one moment
share one round of heartbeats.

The rule: a read that was asked about again may get either answer, for it has no effect; one that gets none in time was
not executed.

Source: Ongaro's dissertation, 2014, section 6.4.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

import msgspec

from onerack.errors import NotExecuted

ASK_AGAIN_S: Final = 0.5
"""A question that nobody answers is asked again."""

_FIRST: Final = 1 << 48
"""Questions are numbered from here on, entries from 1, orders downwards: the core answers them all alike."""

Done = Callable[[NotExecuted | None], None]


class Question(msgspec.Struct):
    """One number, and who waits for it."""

    waiting: list[Done]
    asked_at: float
    overdue_at: float


class Reads:
    """Of one node."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._number = _FIRST
        self._gathered: list[Done] = []
        self._asked: dict[int, Question] = {}
        self._ready: list[tuple[int, int, list[Done]]] = []
        """Index to be applied, number, and who waits for it; a heap."""
        self._again: list[Question] = []

    def add(self, done: Done) -> None:
        self._gathered.append(done)

    @property
    def is_empty(self) -> bool:
        return not (self._gathered or self._asked or self._ready or self._again)

    def ask(self, now: float) -> list[int]:
        """The numbers to step as Read, now that somebody leads."""
        numbers = []
        questions, self._again = self._again, []
        if self._gathered:
            questions.append(Question(self._gathered, now, now + self._timeout_s))
            self._gathered = []
        for question in questions:
            question.asked_at = now
            self._number += 1
            self._asked[self._number] = question
            numbers.append(self._number)
        return numbers

    @property
    def has_questions(self) -> bool:
        return bool(self._gathered or self._again)

    def ready(self, number: int, index: int, applied: int) -> None:
        question = self._asked.pop(number, None)
        if question is None:
            return  # It was asked again meanwhile.
        if index <= applied:
            _tell(question.waiting, None)
        else:
            heapq.heappush(self._ready, (index, number, question.waiting))

    def refused(self, number: int) -> None:
        """Not now. It is asked again by the next `ask`."""
        question = self._asked.pop(number, None)
        if question is not None:
            self._again.append(question)

    def applied(self, index: int) -> None:
        while self._ready and self._ready[0][0] <= index:
            _tell(heapq.heappop(self._ready)[2], None)

    def expire(self, now: float) -> None:
        """Looks for questions that were lost, and for reads that have waited too long."""
        for number, question in list(self._asked.items()):
            if question.asked_at + ASK_AGAIN_S <= now:
                self.refused(number)
        kept: list[Question] = []
        late: list[Question] = []
        for question in self._again:
            (late if question.overdue_at <= now else kept).append(question)
        self._again = kept
        for question in late:
            _tell(question.waiting, NotExecuted(f"no leader answered within {self._timeout_s:g} s", cause="no_leader"))

    def fail(self, error: NotExecuted) -> None:
        """The node ends."""
        everybody = [self._gathered, *(q.waiting for q in (*self._asked.values(), *self._again))]
        everybody += [waiting for _, _, waiting in self._ready]
        self._gathered, self._again, self._ready = [], [], []
        self._asked.clear()
        for waiting in everybody:
            _tell(waiting, error)


def _tell(waiting: list[Done], error: NotExecuted | None) -> None:
    for done in waiting:
        done(error)

"""Reads: those who wait until this node knows enough to answer.

    gathered    came since the last question
    asked       the core looks for the index that was committed when they were asked for
    ready       the index is known, and not yet applied here

The idea: a linearizable read needs no place in the log, only proof that this node has applied everything that was
committed when the read came. All reads of one turn share one question, and the core lets all questions of one moment
share one round of heartbeats.

The rule: a question that was asked again may get either answer, for it has no effect; a read that is not answered in
time, wherever it waits, was not executed.

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

_GRAIN_S: Final = 0.05
"""Reads that come within so long share one deadline."""
_FIRST: Final = 1 << 48
"""Questions are numbered from here on, entries from 1, orders downwards: the core answers them all alike."""

Done = Callable[[NotExecuted | None], None]


class Question(msgspec.Struct, eq=False):
    """What many readers ask together."""

    waiting: list[Done]
    overdue_at: float
    asked_at: float = 0.0


class Reads:
    """Of one node."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._number = _FIRST
        self._gathered: list[Question] = []
        """To be asked, the oldest first. New readers join the last one, which is always asked after they came."""
        self._asked: dict[int, Question] = {}
        self._ready: list[tuple[int, int, Question]] = []
        """Index to be applied and number; a heap."""

    def add(self, done: Done, now: float) -> None:
        gathered = self._gathered
        if gathered and now + self._timeout_s < gathered[-1].overdue_at + _GRAIN_S:
            gathered[-1].waiting.append(done)
        else:
            gathered.append(Question([done], now + self._timeout_s))

    @property
    def is_empty(self) -> bool:
        return not (self._gathered or self._asked or self._ready)

    @property
    def has_questions(self) -> bool:
        return bool(self._gathered)

    def ask(self, now: float) -> list[int]:
        """The numbers to step as Read, now that somebody leads."""
        questions, self._gathered = self._gathered, []
        for question in questions:
            question.asked_at = now
            self._number += 1
            self._asked[self._number] = question
        return list(range(self._number - len(questions) + 1, self._number + 1))

    def ready(self, number: int, index: int, applied: int) -> None:
        question = self._asked.pop(number, None)
        if question is None:
            return  # It was asked again meanwhile.
        if index <= applied:
            _tell(question, None)
        else:
            heapq.heappush(self._ready, (index, number, question))

    def refused(self, number: int) -> None:
        """Not now. It is asked again by the next `ask`."""
        question = self._asked.pop(number, None)
        if question is not None:
            self._gathered.insert(0, question)

    def refused_for_good(self, number: int, error: NotExecuted) -> None:
        question = self._asked.pop(number, None)
        if question is not None:
            _tell(question, error)

    def applied(self, index: int) -> None:
        while self._ready and self._ready[0][0] <= index:
            _tell(heapq.heappop(self._ready)[2], None)

    def expire(self, now: float) -> None:
        """Looks for questions that were lost, and for reads that have waited too long."""
        for number, question in list(self._asked.items()):
            if question.asked_at + ASK_AGAIN_S <= now:
                self.refused(number)
        late = [question for question in self._gathered if question.overdue_at <= now]
        late += [question for _, _, question in self._ready if question.overdue_at <= now]
        if late:
            self._gathered = [question for question in self._gathered if question.overdue_at > now]
            self._ready = [each for each in self._ready if each[2].overdue_at > now]
            heapq.heapify(self._ready)
        for question in late:
            _tell(question, NotExecuted(f"no leader answered within {self._timeout_s:g} s", cause="no_leader"))

    def fail(self, error: NotExecuted) -> None:
        """The node ends."""
        everybody = [*self._gathered, *self._asked.values(), *(question for _, _, question in self._ready)]
        self._gathered, self._ready = [], []
        self._asked.clear()
        for question in everybody:
            _tell(question, error)


def _tell(question: Question, error: NotExecuted | None) -> None:
    for done in question.waiting:
        done(error)

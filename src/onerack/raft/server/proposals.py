"""Proposals: commands on their way into the log, and those who wait for what comes of them.

    gathered    proposed in this turn (or while the disk worked, or nobody led): one entry of the next turn
    placed      the leader has said where in the log they are: (term, index)
    applied     the machine has given a result for the tag

The idea: whoever proposed waits by tag, so it is the same whether its node leads, followed, or has changed meanwhile.

The rule: definite is proved. A command that was never sent, or whose place in the log went to another leader's entry,
was not executed and never will be. One that was sent and of which nothing was heard in time is Unknown.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from onerack.errors import CallError, NotExecuted, Unknown
from onerack.raft.commands import commands_of, pack_command

_COUNTER_BITS: Final = 32
BATCH: Final = 32
"""With fewer commands the entry costs more than they do."""
_COUNTER_MASK: Final = (1 << _COUNTER_BITS) - 1
_GRAIN_S: Final = 0.05
"""Commands that come within so long share one deadline, the last one's."""

Done = Callable[[Any], None]
"""Gets the machine's result, or a CallError. Must not raise."""


class Proposals:
    """Of one node, in one life."""

    def __init__(self, random: Random, timeout_s: float) -> None:
        self._life = random.getrandbits(64 - _COUNTER_BITS) << _COUNTER_BITS
        self._count = 0
        self._timeout_s = timeout_s
        self.gathered: list[bytes] = []
        self.gathered_bytes = 0
        self._gathered_tags: list[int] = []
        self._was_alone = False
        """Of the last entry: its one command was all that anybody waited for."""
        self.waiting: dict[int, Done] = {}
        """By tag, in the order of the tags."""
        self._overdue: deque[_Deadline] = deque()
        self._placed: list[tuple[int, int, list[int]]] = []
        """Index, term and tags of what a leader has taken; a heap, for a later leader may have given a lower index."""

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, mount: int, body: bytes, done: Done, now: float) -> None:
        """One more command for the next entry."""
        self._count += 1
        tag = self._life | self._count & _COUNTER_MASK
        command = pack_command(mount, tag, body)
        self.gathered.append(command)
        self.gathered_bytes += len(command)
        self._gathered_tags.append(tag)
        self.waiting[tag] = done
        self._note_deadline(tag, now)

    def add_all(self, mount: int, bodies: Sequence[bytes], done: Sequence[Done], now: float) -> None:
        """Several more."""
        if not bodies:
            return
        life, count, tags, waiting = self._life, self._count, self._gathered_tags, self.waiting
        first = len(self.gathered)
        for body, each in zip(bodies, done, strict=True):
            count += 1
            tag = life | count & _COUNTER_MASK
            self.gathered.append(pack_command(mount, tag, body))
            tags.append(tag)
            waiting[tag] = each
        self._count = count
        self.gathered_bytes += sum(map(len, self.gathered[first:]))
        self._note_deadline(tags[-1], now)

    def _note_deadline(self, tag: int, now: float) -> None:
        overdue = self._overdue
        if overdue and now < overdue[-1].began_at + _GRAIN_S:
            overdue[-1].overdue_at, overdue[-1].last_tag = now + self._timeout_s, tag
        else:
            overdue.append(_Deadline(now, now + self._timeout_s, tag))

    @property
    def is_batch(self) -> bool:
        """Enough for an entry of their own: many, and not fewer than those whose outcome is awaited already.

        Or one alone, if the one before was alone, too: probably there is one caller, and nothing else will come.
        """
        count = len(self.gathered)
        if len(self.waiting) == 1:
            return self._was_alone
        return count >= BATCH and 2 * count >= len(self.waiting)

    def take(self, bytes_max: int) -> tuple[bytes, list[int]]:
        """The payload of the next entry, and its tags: everything gathered, or as much as fits."""
        self._was_alone = len(self.gathered) == len(self.waiting) == 1
        if self.gathered_bytes <= bytes_max:
            taken, tags = self.gathered, self._gathered_tags
            self.gathered, self._gathered_tags, self.gathered_bytes = [], [], 0
            return b"".join(taken), tags
        count = size = 0
        for command in self.gathered:
            if count and size + len(command) > bytes_max:
                break
            count += 1
            size += len(command)
        taken, self.gathered = self.gathered[:count], self.gathered[count:]
        tags, self._gathered_tags = self._gathered_tags[:count], self._gathered_tags[count:]
        self.gathered_bytes -= size
        return b"".join(taken), tags

    def put_back(self, payload: bytes) -> None:
        """They were surely not taken: they go with the next entry, before all that came later."""
        kept = [
            (pack_command(mount, tag, body), tag) for mount, tag, body in commands_of(payload) if tag in self.waiting
        ]
        self.gathered[:0] = [command for command, _ in kept]
        self._gathered_tags[:0] = [tag for _, tag in kept]
        self.gathered_bytes += sum(len(command) for command, _ in kept)

    def placed(self, term: int, index: int, tags: list[int]) -> None:
        """The leader of this term has appended them there."""
        heapq.heappush(self._placed, (index, term, tags))

    def committed(self, term: int, index: int) -> None:
        """This entry stands: whoever was at this index in another term is out, for ever. Call it after `apply`."""
        placed = self._placed
        while placed and placed[0][0] <= index:
            placed_index, placed_term, tags = heapq.heappop(placed)
            if placed_index == index and placed_term != term:
                self.fail(tags, NotExecuted("another leader's entry took its place", cause="leader_changed"))

    def skipped(self, index: int) -> None:
        """A snapshot stands for everything up to here: what was placed there may be in it, and nobody will tell."""
        while self._placed and self._placed[0][0] <= index:
            _, _, tags = heapq.heappop(self._placed)
            self.fail(tags, Unknown("this node was sent the state instead of the commands", cause="snapshot"))

    def fail(self, tags: list[int], error: CallError) -> None:
        for tag in tags:
            done = self.waiting.pop(tag, None)
            if done is not None:
                done(error)

    def fail_gathered(self, error: NotExecuted) -> None:
        """Those that were never sent."""
        tags = self._gathered_tags
        self.gathered, self._gathered_tags, self.gathered_bytes = [], [], 0
        self.fail(tags, error)

    def expire(self, now: float) -> None:
        """Gives up on what is overdue. Never sent: definite; else unknown."""
        last_tag = None
        while self._overdue and self._overdue[0].overdue_at <= now:
            last_tag = self._overdue.popleft().last_tag
        if last_tag is None:
            return
        late = self._up_to(last_tag)
        unsent = set(self._gathered_tags).intersection(late)
        self._drop_gathered(unsent)
        for tag in late:
            self.fail([tag], _overdue_error(tag in unsent, self._timeout_s))

    def _up_to(self, last_tag: int) -> list[int]:
        """Those who wait, from the oldest to this one. The counter may have begun anew in between."""
        late = []
        for tag in self.waiting:
            if (last_tag - tag) & _COUNTER_MASK > _COUNTER_MASK >> 1:
                break
            late.append(tag)
        return late

    def _drop_gathered(self, tags: set[int]) -> None:
        if not tags:
            return
        kept = [pair for pair in zip(self.gathered, self._gathered_tags, strict=True) if pair[1] not in tags]
        self.gathered = [command for command, _ in kept]
        self._gathered_tags = [tag for _, tag in kept]
        self.gathered_bytes = sum(map(len, self.gathered))


class _Deadline:
    """When to give up on all tags up to one of them."""

    __slots__ = ("began_at", "last_tag", "overdue_at")

    def __init__(self, began_at: float, overdue_at: float, last_tag: int) -> None:
        self.began_at = began_at
        self.overdue_at = overdue_at
        self.last_tag = last_tag


def _overdue_error(never_sent: bool, timeout_s: float) -> CallError:
    if never_sent:
        return NotExecuted(f"no leader was found within {timeout_s:g} s", cause="no_leader")
    return Unknown(f"not applied within {timeout_s:g} s", cause="timeout")

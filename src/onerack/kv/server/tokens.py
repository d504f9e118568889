"""Tokens: who has logged in, and when he is forgotten.

The idea: a token is part of the replicated state, so one that any node has given is good on every node, and there is no
secret to keep. Only the leader counts how long a token has not been used; the others tell it, now and then, which were.

The rule: a token ends by the log, as it began. A new leader knows of no use before its own time, and gives every token
its full time again: a token may live longer than it should, never shorter.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from onerack.errors import OnerackError
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.server.door import KvDoor
from onerack.raft import RaftNode
from onerack.raft.commands import KV

log = logging.getLogger(__name__)

_LOOKS: Final = 5
"""Within the time after which an unused token ends."""
_TOKEN_BYTES: Final = 24
_ENDED_MAX: Final = 1000
"""Tokens that end with one command."""


def new_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Tokens:
    """Of one node."""

    def __init__(self, node: RaftNode, machine: KvMachine, door: KvDoor, ttl_s: float) -> None:
        self._node = node
        self._machine = machine
        self._door = door
        self._ttl_s = ttl_s
        self._used: dict[str, None] = {}
        self._used_at: dict[str, float] = {}
        """On the leader."""
        self._term = 0
        """Of which `used_at` tells."""
        self._task = asyncio.get_running_loop().create_task(self._look(), name="kv tokens")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def user_of(self, token: str) -> str | None:
        """Who has got this token; nobody, if it is void."""
        user = self._machine.auth.user_of(token)
        if user is not None:
            self._used[token] = None
        return user

    def touch(self, tokens: Sequence[str]) -> bool:
        """They were used. False: this node does not lead."""
        if not self._node.is_leader:
            return False
        self._follow_term()
        now = asyncio.get_running_loop().time()
        for token in tokens:
            if token in self._machine.auth.state.tokens:
                self._used_at[token] = now
        return True

    def _follow_term(self) -> None:
        if self._term != self._node.term:
            self._term = self._node.term
            self._used_at = {}

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / _LOOKS)
            used, self._used = self._used, {}
            try:
                if used:
                    await self._door.touch(list(used))
            except OnerackError as error:
                self._used = {**used, **self._used}
                log.debug("the leader was not told which tokens were used: %s", error)
            if self._node.is_leader:
                self._end_unused(asyncio.get_running_loop().time())

    def _end_unused(self, now: float) -> None:
        self._follow_term()
        alive = self._machine.auth.state.tokens
        self._used_at = {token: self._used_at.get(token, now) for token in alive}
        ended = [token for token, at in self._used_at.items() if now - at >= self._ttl_s]
        for begin in range(0, len(ended), _ENDED_MAX):
            body = "".join(f"{token}\n" for token in ended[begin : begin + _ENDED_MAX]).encode()
            self._node.propose(KV, encode_command(Kind.LOG_OUT, b"", body), _ignore)


def _ignore(result: Any) -> None:
    """If it was not taken, the next look sees the token again."""

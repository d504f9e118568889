"""Alarms: what the whole cluster must know of one member's trouble.

The idea: a full disk or damaged data is seen by one node, but what follows from it (no more writes; no more answers)
must be decided by all alike. So the node that sees it raises an alarm through the log, and a person takes it back.

The rule: NOSPACE lets through what makes room, deletion and compaction, and nothing else that writes. CORRUPT lets
nothing through. How much room there is, is not replicated (nodes may be configured differently): the server asks
`KvMachine.lacks_room` before it proposes.

Source: the alarms of etcd v3.
"""

from __future__ import annotations

from typing import Any

from onerack.kv.core.auth import Auth
from onerack.kv.core.commands import Changes, Handler, Kind
from onerack.kv.core.errors import CORRUPT_CLUSTER, NO_SPACE, Refused
from onerack.kv.messages import CORRUPT, LIBRARY, NONE, NOSPACE


class Alarms:
    """Who has raised what."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self.raised: dict[tuple[int, int], None] = {}
        """(member, type of alarm), in the order in which they were raised."""
        self.no_space = False
        self.corrupt = False

    def check_serving(self) -> None:
        """Raises: Refused: the data may be damaged."""
        if self.corrupt:
            raise Refused(CORRUPT_CLUSTER)

    def check_room(self) -> None:
        """Raises: Refused: nothing may be added."""
        self.check_serving()
        if self.no_space:
            raise Refused(NO_SPACE)

    def handlers(self) -> dict[int, tuple[Any, Handler]]:
        """By kind of command: the request's class, and what carries it out."""
        request = LIBRARY["AlarmRequest"]
        return {Kind.ALARM: (request, self._on_alarm), Kind.ALARM_BY_NODE: (request, self._on_alarm_by_node)}

    def _on_alarm(self, user: str, request: Any, changes: Changes) -> bytes:
        self._auth.check_known(user)
        return self.handle(request)

    def _on_alarm_by_node(self, user: str, request: Any, changes: Changes) -> bytes:
        return self.handle(request)

    def handle(self, request: Any) -> bytes:
        """An AlarmResponse without its header."""
        kind = LIBRARY["AlarmRequest"]
        alarm = (request.memberID, request.alarm)
        changed = []
        if request.action == kind.GET:
            changed = [known for known in self.raised if request.alarm in (NONE, known[1])]
        elif request.action == kind.ACTIVATE:
            self.raised[alarm] = None
            changed = [alarm]
        elif request.action == kind.DEACTIVATE and alarm in self.raised:
            del self.raised[alarm]
            changed = [alarm]
        self.restore(list(self.raised))
        member = LIBRARY["AlarmMember"]
        alarms = [member(memberID=who, alarm=what) for who, what in changed]
        return bytes(LIBRARY["AlarmResponse"](alarms=alarms).SerializeToString())

    def restore(self, raised: list[tuple[int, int]]) -> None:
        self.raised = dict.fromkeys(raised)
        self.no_space = any(kind == NOSPACE for _, kind in raised)
        self.corrupt = any(kind == CORRUPT for _, kind in raised)

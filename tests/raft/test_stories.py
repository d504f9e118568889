"""Golden stories of a small cluster: what the nodes say and become, message by message.

The idea: a file in stories/ draws a situation, then gives commands; below each, after `----`, stands what followed,
line by line: first what was said, in the order of sending, then what the nodes report. A change of behaviour shows as a
change of text, to be read by a person. Every story is also watched by all invariants.

    ONERACK_REWRITE_STORIES=1 pytest tests/raft/test_stories.py

writes what the cores say now into the files; read the diff line by line before keeping it.

    cluster NODE=TERMS ...     their logs, by the terms of the entries: n1=1,1,4 ; with `witness=NODE`
    campaign NODE              its election timeout passes
    propose NODE TEXT, read NODE, transfer NODE TO, change NODE VOTER,VOTER...
    pass SECONDS               timers ring
    isolate NODE, heal, crash NODE, restart NODE
    logs                       role, term, log by terms, commit index of each
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onerack.raft.messages import (
    Append,
    Appended,
    Configuration,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Recovered,
    RequestVote,
    SnapshotMark,
    Vote,
)
from tests.raft.network import Network
from tests.raft.single import log_of
from tests.stories import check_story

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


class Stage:
    """One cluster, and what has been told of it so far."""

    def __init__(self) -> None:
        self.network = Network(0)
        self._told = 0
        self._events: dict[str, int] = {}

    def play(self, line: str) -> str:
        command, *words = line.split()
        lines: list[str] = getattr(self, command)(*words) or []
        self.network.settle()
        return "\n".join([*self._news(), *lines]) or "(nothing)"

    def _news(self) -> list[str]:
        said = [
            text for sender, each in self.network.sent[self._told :] if (text := show(sender, each.to, each.message))
        ]
        self._told = len(self.network.sent)
        happened = []
        for name, node in sorted(self.network.nodes.items()):
            start = self._events.get(name, 0)
            happened += [f"{name} {event}" for event in node.events[start:]]
            self._events[name] = len(node.events)
        return said + happened

    # -------------------------------------------------------------------------------------------------- commands

    def cluster(self, *nodes: str) -> None:
        logs, witnesses = {}, []
        for each in nodes:
            name, terms = each.split("=")
            if name == "witness":
                witnesses.append(terms)
            else:
                logs[name] = [int(term) for term in terms.split(",") if term]
        configuration = Configuration(voters=tuple(sorted(logs)), witnesses=tuple(witnesses))
        newest = max(0, *(terms[-1] for terms in logs.values() if terms), 0)
        first = SnapshotMark(configuration=configuration)
        recovered = {name: Recovered(HardState(newest), first, log_of(*terms)) for name, terms in logs.items()}
        self.network = Network(configuration=configuration, recovered=recovered)

    def campaign(self, name: str) -> None:
        wake_at = self.network.nodes[name].wake_at
        assert wake_at is not None, f"{name} never campaigns"
        self.network.now = max(self.network.now, wake_at)
        self.network.tick(name)

    def propose(self, name: str, text: str) -> list[str]:
        return [str(self.network.propose(name, text.encode()))]

    def change(self, name: str, voters: str) -> list[str]:
        return [str(self.network.change(name, Configuration(voters=tuple(voters.split(",")))))]

    def transfer(self, name: str, to: str) -> list[str]:
        return [str(self.network.transfer(name, to))]

    def read(self, name: str) -> list[str]:
        number = self.network.read(name)
        self.network.settle()
        return [str(self.network.answer(name, number))]

    def isolate(self, name: str) -> None:
        self.network.isolate(name)

    def heal(self) -> None:
        self.network.heal()

    def crash(self, name: str) -> None:
        self.network.crash(name)

    def restart(self, name: str) -> None:
        self._events[name] = 0
        self.network.restart(name)

    def logs(self) -> list[str]:
        lines = []
        for name in self.network.alive:
            core = self.network[name]
            terms = " ".join(str(core.term_at(index)) for index in range(1, core.last_index + 1))
            lines.append(f"{name} {core.role} of term {core.term}: [{terms}] commit {core.commit}")
        return lines


setattr(Stage, "pass", lambda self, seconds: self.network.pass_time(float(seconds)))


def show(sender: str, to: str, message: Any) -> str:
    """A line for people; heartbeats and their answers say nothing new."""
    if isinstance(message, Heartbeat | HeartbeatReply):
        return ""
    shown: dict[type, Callable[[Any], str]] = {
        RequestVote: lambda m: f"last=({m.last_index}, {m.last_term})" + " pre" * m.pre + " transfer" * m.transfer,
        Vote: lambda m: ("yes" if m.granted else "no") + " pre" * m.pre,
        Append: lambda m: (
            f"after ({m.prev_index}, {m.prev_term}) commit {m.commit}: "
            + (" ".join(f"({entry.index}, {entry.term})" for entry in m.entries) or "nothing")
        ),
        Appended: lambda m: f"has {m.index}" if m.accepted else (
            f"does not have {m.index}; may agree at ({m.hint_index}, {m.hint_term})"
        ),
    }  # fmt: skip
    detail = shown.get(type(message), lambda m: "")(message)
    return f"{sender} -> {to} {type(message).__name__} {message.term} {detail}".rstrip()


def retell(text: str) -> str:
    """The story with what happens now."""
    opening, *scenes = text.strip().split("\n\n")
    stage = Stage()
    told = []
    for scene in scenes:
        command = scene.split("\n----\n")[0]
        told.append(f"{command}\n----\n{stage.play(command)}")
    return "\n\n".join([opening, *told]) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    check_story(path, retell)


def test_there_are_stories() -> None:
    assert len(STORIES) >= 4

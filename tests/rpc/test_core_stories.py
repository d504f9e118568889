"""Golden stories of one client and one server: what each says, message by message, while the reader is the network.

The idea: a file in stories/ draws a situation, then gives commands; below each, after `----`, stands what client and
server then did, line by line. Messages wait in numbered envelopes until the story delivers, copies or drops them. A
change of behaviour shows as a change of text, to be read by a person.

    ONERACK_REWRITE_STORIES=1 pytest tests/rpc/test_core_stories.py

writes what the cores say now into the files; read the diff line by line before keeping it.

    call METHOD [within=SECONDS]        the user calls
    deliver N, copy N, drop N, lost L   the network's choice; the server hears that link L has ended
    link, break                         the client's link
    wait SECONDS                        time passes, alarms ring
    commit                              the log has made durable what waits
    crash, start [keep=N]               the server's process; of what was not durable yet, N commands survive
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from onerack.config import RpcConfig
from onerack.rpc.core.client import ClientCore, Invoke, Linked, Unlinked
from onerack.rpc.core.commands import decode_command
from onerack.rpc.core.durable import LOG
from onerack.rpc.core.runs import Committed, Executed, LinkLost, Propose
from onerack.rpc.core.server import ServerCore
from onerack.rpc.invariants import ClientWitness, ServerWitness, check_client, check_server
from onerack.rpc.messages import KeepSession, OpenSession, Request, Response, SessionOpened, SessionState, Status
from onerack.runtime.seam import Tick
from tests.rpc.core_bench import METHODS, OK
from tests.stories import check_story, retell

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))
CONFIG = RpcConfig(window=4, session_lease_s=60.0, replies_bytes_max=600)


class Stage:
    """One client, one server, and every message between them in the hands of the story."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = ClientCore(CONFIG, Random(1), 0.0)
        self.witness = ClientWitness(self.client)
        self.log: list[bytes] = []
        self.lines: list[str] = []
        self._proposed: list[bytes] = []
        self._boot = 0
        self._link = 0
        self._calls = 0
        self._envelopes: dict[int, tuple[str, str, Any]] = {}
        """Number -> to whom, by which link, what."""
        self._written = 0
        self._names: dict[int, str] = {}
        self.start()
        self.lines.clear()

    # ------------------------------------------------------------------------------------------------ commands

    def call(self, method: str, within: str = "") -> None:
        self._calls += 1
        number = next(index for index, facts in enumerate(METHODS) if facts.name == f"S.{method}")
        deadline_at = self.now + float(within) if within else None
        arguments = f"#{self._calls}".encode()
        self._tell_client(Invoke(self._calls, number, METHODS[number].mode, arguments, None, deadline_at, 3))

    def link(self) -> None:
        self._link += 1
        self._tell_client(Linked(f"link{self._link}", self._boot))

    def break_(self) -> None:
        """The client's end only: what it has sent may arrive yet; what was sent to it does not."""
        self._tell_client(Unlinked("it broke"))
        self._envelopes = {n: each for n, each in self._envelopes.items() if each[0] == "server"}

    def lost(self, link: str) -> None:
        self._tell_server(LinkLost(), f"link{link}")

    def deliver(self, number: str) -> None:
        self._arrive(*self._envelopes.pop(int(number)))

    def copy(self, number: str) -> None:
        self._arrive(*self._envelopes[int(number)])

    def drop(self, number: str) -> None:
        del self._envelopes[int(number)]

    def wait(self, seconds: str) -> None:
        self.now += float(seconds)
        self._tell_client(Tick())
        self._tell_server(Tick(), "")

    def commit(self) -> None:
        commands, self._proposed = self._proposed, []
        for command in commands:
            self.log.append(command)
            self._tell_server(Committed(len(self.log), command), LOG)

    def crash(self) -> None:
        self.lines.append("the server is gone")
        self._envelopes = {n: each for n, each in self._envelopes.items() if each[0] == "client"}

    def start(self, keep: str = "0") -> None:
        self._boot += 1
        self.server = ServerCore(METHODS, CONFIG, Random(self._boot), durable=True)
        self.server_witness = ServerWitness(self.server)
        self.log += self._proposed[: int(keep)]
        self._proposed = []
        for index, command in enumerate(self.log):
            self._tell_server(Committed(index + 1, command), LOG)
        self._tell_server(Tick(), "")

    # ------------------------------------------------------------------------------------------------ what they do

    def _arrive(self, to: str, link: str, message: Any) -> None:
        if to == "server":
            self._tell_server(message, link)
        elif link == f"link{self._link}":
            self._tell_client(message)

    def _tell_client(self, message: Any) -> None:
        self.client.step(message, f"link{self._link}", self.now)
        self.witness.check(message, "")
        check_client(self.client)
        output = self.client.drain()
        for envelope in output.sends:
            self._post("server", f"link{self._link}", envelope.message)
        for outcome in output.applied:
            ending = "unknown" if outcome.status is None else Status(outcome.status).name
            self.lines.append(f"client: call {outcome.call} is {ending} {outcome.cause}".rstrip())

    def _tell_server(self, message: Any, link: str) -> None:
        self.server.step(message, link, self.now)
        self.server_witness.check(message, link, self.now)
        check_server(self.server)
        output = self.server.drain()
        for envelope in output.sends:
            if isinstance(envelope.message, Propose):
                self._proposed.append(envelope.message.command)
                self.lines.append(f"log: {self._command(envelope.message.command)} waits")
            else:
                self._post("client", envelope.to, envelope.message)
        self.lines += [f"server: {event}" for event in output.events if event.name != "session_expired"]
        for execution in output.applied:
            self.lines.append(f"server: runs {execution.method[2:]} {execution.request.arguments.decode()}")
            self._tell_server(Executed(execution, OK), "")

    def _post(self, to: str, link: str, message: Any) -> None:
        self._written += 1
        self._envelopes[self._written] = (to, link, message)
        self.lines.append(f"{self._written}: {link} -> {to} {self._words(message)}")

    def _words(self, message: Any) -> str:
        kind = type(message).__name__
        match message:
            case Request():
                xid = f" {self._name(message.session)}.{message.seq} ack={message.ack}" if message.session else ""
                return f"{kind} {message.arguments.decode()} {METHODS[message.method].name[2:]}{xid}"
            case Response():
                return f"{kind} to call {message.call} {Status(message.status).name}"
            case OpenSession():
                return f"{kind} durable={message.durable}"
            case SessionOpened() | SessionState() | KeepSession():
                return f"{kind} {self._name(message.session)}"
        return kind

    def _command(self, content: bytes) -> str:
        command = decode_command(content)
        session = getattr(command, "session", 0)
        return f"{type(command).__name__} {self._name(session) if session else ''}".rstrip()

    def _name(self, session: int) -> str:
        """Sessions are long numbers; here they are A, B, C ..."""
        return self._names.setdefault(session, chr(ord("A") + len(self._names)))


def obey(stage: Stage, line: str) -> list[str]:
    verb, *rest = line.split()
    words = [word for word in rest if "=" not in word]
    settings = dict(word.split("=") for word in rest if "=" in word)
    stage.lines = []
    getattr(stage, {"break": "break_"}.get(verb, verb))(*words, **settings)
    return stage.lines or ["(nothing)"]


def retold(text: str) -> str:
    """The same story with the answers of today."""
    return retell(text, partial(obey, Stage()))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    check_story(path, retold)


def test_there_are_stories() -> None:
    assert len(STORIES) >= 6

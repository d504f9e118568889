"""`onerack kv user`, `role`, `auth`, and `--user`: what a shell sees of who may do what."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from onerack.cli import kv_password
from onerack.errors import UsageError
from tests.cli.said import Say, sayer
from tests.cluster.rack_thread import RackThread, rack_thread


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[RackThread]:
    with rack_thread(tmp_path) as found:
        found.start("n1")
        yield found


@pytest.fixture
def say(rack: RackThread, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("ONERACK_ENDPOINTS", rack.nodes["n1"].endpoints.rpc)
    monkeypatch.delenv("ONERACK_KV_USER", raising=False)
    return sayer(capfd, "kv")


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_from_the_first_user_to_a_store_that_asks_nobody(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    assert say("auth", "status", "--json").json["enabled"] is False
    none = say("auth", "enable")
    assert (none.code, none.err) == (1, "onerack: etcdserver: root user does not exist\nexecuted: no\n")
    assert say("user", "add", "root:secret").out == "root is a user\n"
    typed(monkeypatch, b"pw\n")
    assert say("user", "add", "ann").out == "ann is a user\n"
    assert say("role", "add", "writer").code == 0
    granted = say("role", "grant-permission", "writer", "readwrite", "a/", "--prefix")
    assert granted.out == "writer may read and write a/...\n"
    assert say("user", "grant-role", "ann", "writer", "--json").json["granted"] is True
    assert say("auth", "enable").code == 0  # root gets its role by this

    nobody = say("put", "a/1", "v")
    assert (nobody.code, "--user" in nobody.err) == (1, True)
    assert say("put", "a/1", "v", "--user", "ann:pw").code == 0
    monkeypatch.setenv("ONERACK_KV_USER", "ann:pw")
    assert say("get", "a/1").out == "v\n"
    assert say("get", "b", "--json").json["cause"] == "permission_denied"
    assert say("user", "get", "ann").out == "writer\n"
    assert say("role", "get", "writer").out == "readwrite\ta/\ta0\n"
    assert say("role", "get", "writer", "--json").json["permissions"] == [
        {"kind": "readwrite", "key": "a/", "range_end": "a0"}
    ]
    assert say("user", "list").code == 1
    assert say("endpoint", "health").code == 0  # who may not read is told so by a healthy node
    assert say("status").code == 0

    monkeypatch.setenv("ONERACK_KV_USER", "root:secret")
    assert say("user", "list").out == "ann\nroot\n"
    assert say("role", "list", "--json").json == {"roles": ["writer"]}
    assert say("user", "passwd", "ann:new").out == "ann has another password\n"
    wrong = say("get", "a/1", "--user", "ann:pw")
    assert (wrong.code, "authentication failed" in wrong.err) == (1, True)
    assert say("user", "revoke-role", "ann", "writer").code == 0
    assert say("role", "revoke-permission", "writer", "a/", "--prefix").code == 0
    assert say("role", "revoke-permission", "writer", "a/").code == 1
    assert say("role", "del", "writer").code == 0
    assert say("user", "del", "ann").code == 0
    assert say("user", "del", "ann", "--json").json["error"] == "etcdserver: user name not found"
    assert say("auth", "disable").code == 0
    assert say("put", "b", "v", "--user", "").code == 0


def test_what_is_wrong_with_a_name_or_a_password_is_said_without_the_password(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("get", "a", "--user", ":secret"), ("user", "add", ":secret"), ("user", "add", "ann:\udcffsecret")):
        said = say(*words)
        assert said.code == 2
        assert "secret" not in said.err
    typed(monkeypatch, b"")
    assert "empty password" in say("user", "add", "ann").err
    assert say("role", "grant-permission", "r", "own", "a").code == 2


def without_terminal(path: str, *how: Any, **more: Any) -> IO[Any]:
    raise OSError(6, "No such device or address")


def test_a_command_that_cannot_ask_for_a_password_says_so(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_password, "open", without_terminal, raising=False)
    said = say("get", "a", "--user", "ann")
    assert (said.code, "NAME:PASSWORD" in said.err) == (2, True)


def test_a_password_is_asked_for_at_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["pw", "new", "new", "one", "other"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    monkeypatch.setattr(kv_password, "open", lambda path: io.StringIO(), raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert kv_password.credentials_of("ann") == ("ann", "pw")
    assert kv_password.new_credentials_of("ann", "NAME") == ("ann", "new")
    with pytest.raises(UsageError, match="differ"):
        kv_password.new_credentials_of("ann", "NAME")

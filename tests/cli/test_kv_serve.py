"""`onerack kv serve`: one node in a process of its own, from its first line to its end; `onerack up` and `down`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from onerack.cluster import rack
from onerack.cluster.record import read_record
from tests.cli.said import sayer
from tests.cluster.rack_thread import free_address
from tests.rpc.certificates import Authority


@contextmanager
def served(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "onerack.cli", "kv", "serve", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0]
    return process.stdout.readline()


def words_of(tmp_path: Path, *more: str) -> list[str]:
    where = free_address().partition("://")[2]
    return [
        "--name",
        "n1",
        "--data",
        str(tmp_path / "n1"),
        "--peers",
        f"n1={where}",
        "--listen-etcd",
        "127.0.0.1:0",
        *more,
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_says_where_it_is_and_ends_in_order(
    tmp_path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(*words_of(tmp_path, "--json")) as process:
        described: dict[str, Any] = json.loads(line_of(process))
        assert (described["name"], described["cluster"], described["pid"]) == ("n1", "onerack", process.pid)
        say = sayer(capfd, "kv")
        assert say("put", "a", "1", "--endpoint", described["endpoints"]["rpc"]).code == 0
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    where = ",".join(f"n{number}={free_address().partition('://')[2]}" for number in (1, 2))
    words = ["--name", "n1", "--data", str(tmp_path / "n1"), "--peers", where, "--listen-etcd", "127.0.0.1:0"]
    with served(*words) as process:
        assert line_of(process).startswith("n1 of cluster onerack serves: rpc tcp://127.0.0.1:")
        os.kill(process.pid, signal.SIGSTOP)  # so that both are there when it looks
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode in (0, 130)


def test_with_certificates_nobody_else_is_let_in(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path, "rack")
    node, user = authority.issue("node", addresses=["127.0.0.1"]), authority.issue("user")
    tls = ["--tls-ca", str(authority.path), "--tls-cert", str(node), "--json"]
    with served(*words_of(tmp_path, *tls)) as process:
        where = json.loads(line_of(process))["endpoints"]
        assert where["rpc"].startswith("tls://")
        assert where["etcd"].startswith("https://")
        say = sayer(capfd, "kv")
        reach = ("--endpoint", where["rpc"].partition("://")[2])
        known = ("--tls-ca", str(authority.path), "--tls-cert", str(user))
        assert say("put", "a", "1", *reach, *known).code == 0
        assert say("get", "a", *reach, *known).out == "1\n"
        assert say("get", "a", *reach, "--timeout", "1").code == 1
        added = say("member", "add", "n2=127.0.0.1:1", *reach, *known, "--json").json
        assert added["address"] == "tls://127.0.0.1:1"
        # Without a password a caller is whom its certificate names.
        for words in (
            "user add root:secret", "user add user --no-password", "role add some", "user grant-role user some",
            "role grant-permission some readwrite a", "auth enable",
        ):  # fmt: skip
            assert say(*words.split(), *reach, *known).code == 0
        assert say("put", "a", "2", *reach, *known).code == 0
        assert say("put", "b", "2", *reach, *known, "--json").json["cause"] == "permission_denied"
        assert say("put", "b", "2", *reach, *known, "--user", "root:secret").code == 0
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--peers", "n2=127.0.0.1:1"], "--name n1"),
        (["--peers", "n1"], "--peers"),
        (["--peers", "n1=127.0.0.1:1", "--listen-etcd", "nonsense"], "nonsense"),
        (["--peers", "n1=192.0.2.1:1"], "192.0.2.1"),
        (["--peers", "n1=127.0.0.1:1", "--tls-cert", "x.pem"], "--tls-ca"),
        (["--peers", "n1=127.0.0.1:1", "--data", __file__], "--data"),
        (["--peers", "n1=127.0.0.1:1", "--listen-http", "0.0.0.0:0"], "--insecure"),
        (["--peers", "n1=127.0.0.1:1", "--quota-bytes", "much"], "--quota-bytes"),
    ],
)
def test_what_cannot_be_served_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    said = sayer(capfd, "kv", "serve", "--name", "n1", "--data", str(tmp_path / "n1"))(*words)
    assert said.code == 2
    assert named in said.err


def test_up_and_down_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    say = sayer(capfd)
    where = ("--dir", str(tmp_path))
    try:
        limits = ("--quota-bytes", "1MB")
        assert say("up", "--control", "1", *where, "--quota-bytes", "much").code == 2
        nodes = say("up", "--control", "1", *where, *limits, "--json").json["nodes"]
        assert [(node["name"], node["role"], node["state"]) for node in nodes] == [("n1", "control", "leader")]
        assert set(nodes[0]["endpoints"]) == {"rpc", "etcd", "http"}
        assert say("kv", "put", "a", "1", *where).code == 0
        assert say("status", *where).code == 0
        again = say("up", "--control", "1", *where)
        assert (again.code, "onerack down" in again.err) == (2, True)
        assert say("kv", "status", *where, "--json").json["nodes"][0]["quota_bytes"] == 1 << 20
        record = read_record(tmp_path)
        assert record is not None
        assert record.options == limits  # for the next start
        assert say("down", *where).out == "stopped n1\n"
        down = say("status", *where, "--json")
        assert (down.code, down.json["nodes"][0]["state"]) == (1, "down")
        assert say("down", *where).out == "nothing was running\n"
    finally:
        if read_record(tmp_path) is not None:
            rack.down(tmp_path, grace_s=1.0)
    assert say("up", "--base-port", "70000", *where).code == 2
    assert say("status", "--dir", str(tmp_path / "nothing")).code == 2

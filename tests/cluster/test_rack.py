"""A rack of real processes: up, status, down, and what they refuse."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from onerack.cluster import rack
from onerack.cluster.processes import Process, is_alive
from onerack.cluster.record import ClusterRecord, read_record, write_record
from onerack.errors import NotExecuted, UsageError
from onerack.kv import client as kv


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Whatever a test has started there is gone afterwards."""
    yield tmp_path / "rack"
    if read_record(tmp_path / "rack") is not None:
        rack.down(tmp_path / "rack", grace_s=1.0)


def put_and_get(record: ClusterRecord, key: str, value: str) -> list[str]:
    async def procedure() -> list[str]:
        async with await kv.connect(*record.rpc_endpoints, timeout_s=30) as store:
            await store.put(key, value)
            return [each.text for each in (await store.find("", prefix=True)).kvs]

    return asyncio.run(procedure())


def test_a_rack_goes_up_loses_a_node_goes_down_and_up_again(directory: Path) -> None:
    record = rack.up(directory, control=3)
    assert read_record(directory) == record
    assert put_and_get(record, "a", "1") == ["1"]
    _, nodes = rack.status(directory)
    assert sorted(node.state for node in nodes) == ["follower", "follower", "leader"]
    assert (directory / "run" / "n1.pid").read_text().split()[0] == str(record.nodes[0].pid)

    with pytest.raises(UsageError, match="runs there already"):
        rack.up(directory, control=3)

    leader = next(node for node in nodes if node.state == "leader")
    os.kill(leader.pid, signal.SIGKILL)
    assert put_and_get(record, "b", "2") == ["1", "2"]
    states = {node.name: node.state for node in rack.status(directory)[1]}
    assert states.pop(leader.name) == "down"
    assert sorted(states.values()) == ["follower", "leader"]

    with pytest.raises(UsageError, match="run with other limits"):
        rack.up(directory, options=["--max-txn-ops", "5"])
    whole = rack.up(directory)
    assert [node.name for node in whole.nodes if node not in record.nodes] == [leader.name]
    assert {node.state for node in rack.status(directory)[1]} == {"leader", "follower"}

    stopped, killed = rack.down(directory, grace_s=30)
    assert sorted(stopped) == ["n1", "n2", "n3"]
    assert killed == []
    assert not any(is_alive(Process(node.pid, node.started)) for node in (*record.nodes, *whole.nodes))
    assert {node.state for node in rack.status(directory)[1]} == {"down"}
    assert rack.down(directory) == ([], [])

    again = rack.up(directory, control=3)
    assert [node.endpoints for node in again.nodes] == [node.endpoints for node in record.nodes]
    assert put_and_get(again, "c", "3") == ["1", "2", "3"]


def test_what_a_rack_was_is_not_changed_by_up(directory: Path) -> None:
    fresh = rack._new_record(3, 7000, "c")
    assert [node.endpoints.rpc for node in fresh.nodes] == [f"tcp://127.0.0.1:{port}" for port in (7000, 7003, 7006)]
    directory.mkdir()
    write_record(directory, fresh)
    with pytest.raises(UsageError, match="--control 5"):
        rack.up(directory, control=5)
    with pytest.raises(UsageError, match="--base-port 8000"):
        rack.up(directory, control=3, base_port=8000)
    with pytest.raises(UsageError, match="--cluster other"):
        rack.up(directory, cluster="other")


def test_a_pid_of_a_former_life_is_nobody_s(directory: Path) -> None:
    fresh = rack._new_record(1, 7000, "c")
    ours = msgspec.structs.replace(fresh.nodes[0], pid=os.getpid(), started="another time")
    directory.mkdir()
    write_record(directory, ClusterRecord("c", (ours,)))
    assert [node.state for node in rack.status(directory)[1]] == ["down"]
    assert rack.down(directory) == ([], [])  # and we live


def test_a_rack_that_cannot_start_says_why_and_leaves_nobody(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        if port > 65000:
            pytest.skip("there are no ports behind this one")
        with pytest.raises(NotExecuted, match=r"(?s)n1 did not start.*in use") as caught:
            rack.up(directory, control=1, base_port=port)
    assert str(port) in str(caught.value)
    assert time.monotonic() - began < 60
    assert read_record(directory) is None
    assert sorted(path.name for path in directory.iterdir()) == ["lock", "logs", "run"]  # no data of half a rack
    assert list((directory / "run").iterdir()) == []


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (file, file / "deeper"):
        with pytest.raises(UsageError, match=r"--dir .*is no directory"):
            rack.up(directory, control=1)
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match="run is no directory"):
        rack.up(tmp_path, control=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_told_to_end_leaves_neither_processes_nor_data(directory: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "onerack.cli", "up", "--control", "3", "--dir", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while (record := read_record(directory)) is None:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    if read_record(directory) is not None:
        pytest.skip("it was ready before it was told")
    assert (process.returncode, errors) == (130, "onerack: interrupted\n")
    assert not any(is_alive(Process(node.pid, node.started)) for node in record.nodes)
    assert sorted(path.name for path in directory.iterdir()) == ["lock", "logs", "run"]


def test_where_there_is_no_rack_nothing_can_be_said(tmp_path: Path) -> None:
    for command in (rack.status, rack.down):
        with pytest.raises(UsageError, match="no rack"):
            command(tmp_path)


def test_one_command_at_a_time(directory: Path) -> None:
    directory.mkdir()
    with rack._alone(directory), pytest.raises(UsageError, match="at work"):
        rack.up(directory, control=1)

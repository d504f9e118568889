"""Processes: nobody is taken for another one, and nobody is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from onerack.cluster.processes import Process, is_alive, start_detached, stop


def shell(tmp_path: Path, script: str) -> Process:
    return start_detached(["/bin/sh", "-c", script], tmp_path / "log", dict(os.environ))


def until_said(path: Path, words: str) -> None:
    give_up_at = time.monotonic() + 30
    while words not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_a_process_is_in_a_session_of_its_own_and_writes_into_its_log(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo one; echo two >&2; exec sleep 60")
    until_said(tmp_path / "log", "one\ntwo\n")
    assert is_alive(process)
    assert os.getsid(process.pid) == process.pid
    assert stop([process], grace_s=30) == []
    assert not is_alive(process)


def test_who_does_not_end_is_killed(tmp_path: Path) -> None:
    process = shell(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until_said(tmp_path / "log", "ready")
    assert stop([process], grace_s=0.1) == [process]
    assert not is_alive(process)


def test_a_pid_that_the_system_gave_to_another_is_recognised(tmp_path: Path) -> None:
    process = shell(tmp_path, "exec sleep 60")
    former = Process(process.pid, process.started + "0")
    assert not is_alive(former)
    assert not is_alive(Process(process.pid, ""))
    assert stop([former], grace_s=0) == []
    assert is_alive(process)  # it was not the one
    os.kill(process.pid, signal.SIGKILL)
    assert stop([process], grace_s=30) == []


def test_an_ended_child_is_not_alive_although_nobody_has_asked(tmp_path: Path) -> None:
    process = shell(tmp_path, "exit 3")
    give_up_at = time.monotonic() + 30
    while is_alive(process):
        assert time.monotonic() < give_up_at
        time.sleep(0.005)

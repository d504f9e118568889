"""`onerack kv alarm`, `compact --physical`, `defrag`, `endpoint`: what a shell sees of a store that is looked after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onerack.config import KvConfig
from tests.cli.said import Say, sayer
from tests.cluster.rack_thread import RackThread, free_address, rack_thread


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[RackThread]:
    with rack_thread(tmp_path) as found:
        found.start("n1", kv_config=KvConfig(quota_bytes=20_000))
        yield found


@pytest.fixture
def say(rack: RackThread, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("ONERACK_ENDPOINTS", rack.nodes["n1"].endpoints.rpc)
    return sayer(capfd, "kv")


def test_an_alarm_is_seen_and_taken_back_when_there_is_room(say: Say) -> None:
    assert (say("alarm", "list").out, say("alarm", "list", "--json").json) == ("", {"alarms": []})
    assert say("endpoint", "health").code == 0
    for _ in range(2):
        say("put", "a", "x" * 8000)
    revision = say("get", "a", "--json").json["revision"]
    full = say("put", "a", "x" * 8000)
    assert (full.code, "database space exceeded" in full.err) == (1, True)
    assert say("put", "b", "1").code == 1
    assert say("alarm", "list").out == "n1\tnospace\n"
    assert "nospace of n1" in say("status").out
    unhealthy = say("endpoint", "health", "--json")
    assert (unhealthy.code, unhealthy.json["nodes"][0]["ok"]) == (1, False)
    assert "nospace" in unhealthy.json["nodes"][0]["error"]
    assert say("compact", str(revision), "--physical").code == 0
    assert say("alarm", "disarm", "--json").json == {"alarms": [{"node": "n1", "alarm": "nospace"}]}
    assert say("put", "b", "1").code == 0
    assert say("endpoint", "health").code == 0


def test_each_endpoint_is_asked_by_itself(say: Say, rack: RackThread) -> None:
    where, silent = rack.nodes["n1"].endpoints.rpc, free_address()
    say("put", "a", "1")
    assert say("defrag").out.startswith(f"{where}  done after ")
    assert rack.nodes["n1"].node.status().snapshot_index > 0
    mixed = say("endpoint", "health", "-e", where, "-e", silent, "--timeout", "0.5")
    assert mixed.code == 1
    assert [line.split("  ")[1].partition(" ")[0] for line in mixed.out.splitlines()] == ["healthy", "not"]
    assert say("endpoint", "status", "--json").json["nodes"][0]["quota_bytes"] == 20_000
    for words in (("endpoint", "health"), ("defrag",), ("status",)):
        assert say(*words, "--timeout", "0").code == 2

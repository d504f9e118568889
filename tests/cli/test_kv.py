"""`onerack kv`: what a shell sees of keys, values, leases, locks and members."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onerack.cluster.record import ClusterRecord, NodeEndpoints, NodeRecord, write_record
from onerack.kv import client as kv
from tests.cli.said import Say, sayer
from tests.cluster.rack_thread import RackThread, free_address, rack_thread


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackThread]:
    with rack_thread(tmp_path_factory.mktemp("rack")) as found:
        found.start("n1")
        yield found


@pytest.fixture
def say(rack: RackThread, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Against a store that holds nothing."""
    endpoint = rack.nodes["n1"].endpoints.rpc
    monkeypatch.setenv("ONERACK_ENDPOINTS", endpoint.partition("://")[2])

    async def clear() -> None:
        async with await kv.connect(endpoint) as store:
            await store.delete("", prefix=True)

    rack.run(clear)
    return sayer(capfd, "kv")


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


# ------------------------------------------------------------------------------------------------ keys


def test_a_value_is_put_and_got(say: Say) -> None:
    revision = int(say("put", "greeting", "hello").out)
    said = say("get", "greeting")
    assert (said.code, said.out, said.err) == (0, "hello\n", "")
    described = say("get", "greeting", "--json").json
    assert described["kvs"] == [
        {
            "key": "greeting", "value": "hello", "create_revision": revision, "mod_revision": revision, "version": 1,
            "lease": "0",
        }
    ]  # fmt: skip
    assert say("put", "greeting", "again", "--json").json == {"revision": revision + 1, "written": True}
    assert say("get", "greeting", "--revision", str(revision)).out == "hello\n"


def test_a_key_that_is_not_there_has_exit_code_1(say: Say) -> None:
    said = say("get", "nothing")
    assert (said.code, said.out, said.err) == (1, "", "onerack: nothing: there is no such key\n")
    said = say("get", "nothing", "--json")
    assert (said.code, said.json["kvs"], said.err) == (1, [], "")
    assert say("get", "nothing", "--prefix").code == 0  # a range may be empty


def test_ranges_print_a_line_for_each_key(say: Say) -> None:
    for key in ("a/1", "a/2", "b"):
        say("put", key, f"v {key}")
    assert say("get", "a/", "--prefix").out == "a/1\tv a/1\na/2\tv a/2\n"
    assert say("get", "a/2", "--to", "c", "--keys-only").out == "a/2\nb\n"
    limited = say("get", "", "--prefix", "--limit", "1", "--json").json
    assert (len(limited["kvs"]), limited["count"], limited["more"]) == (1, 3, True)
    assert say("del", "a/", "--prefix").out == "2\n"
    gone = say("del", "a/", "--prefix", "--json")
    assert (gone.code, gone.json["deleted"]) == (0, 0)


def test_binary_values_pass_whole_and_harm_no_terminal(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, b"\x1b[2J\xff\x00")
    assert say("put", "bin", "-").code == 0
    assert say("get", "bin").out == "\\x1b[2J\\xff\\x00\n"
    assert say("get", "62696e", "--encoding", "hex").out == "1b5b324aff00\n"
    assert say("get", "Ymlu", "--encoding", "base64").out == "G1sySv8A\n"
    assert say("get", "bin", "--json").json["kvs"][0]["value_base64"] == "G1sySv8A"
    assert say("put", "00ff", "ff", "--encoding", "hex").code == 0
    assert say("get", "00ff", "--encoding", "hex", "--json").json["kvs"][0]["value"] == "ff"


def test_raw_prints_the_bytes_and_nothing_else(say: Say) -> None:
    say("put", "a", "no line feed")
    assert say("get", "a", "--raw").out == "no line feed"
    assert say("get", "a", "--raw", "--prefix").code == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("get", "xyz", "--encoding", "hex"), "KEY"),
        (("put", "00", "xyz", "--encoding", "hex"), "VALUE"),
        (("get", "00", "--to", "xyz", "--encoding", "hex"), "--to"),
        (("get", "a", "--encoding", "rot13"), "--encoding"),
        (("get", "a", "--prefix", "--to", "b"), "prefix"),
        (("get", "a", "--endpoint", "nonsense"), "nonsense"),
        (("get", "a", "--timeout", "0"), "--timeout"),
        (("put", "a", "b", "--lease", "xyz"), "xyz"),
        (("put", "a", "b", "--lease", "ffffffffffffffff"), "ffffffffffffffff"),
        (("compact", "0"), "REVISION"),
        (("lease", "grant", "0"), "SECONDS"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(say: Say, words: tuple[str, ...], named: str) -> None:
    said = say(*words)
    assert said.code == 2
    assert named in said.err


def test_a_put_may_depend_on_the_revision(say: Say) -> None:
    assert say("put", "a", "1", "--if-revision", "0").code == 0
    revision = say("get", "a", "--json").json["kvs"][0]["mod_revision"]
    late = say("put", "a", "2", "--if-revision", "0")
    assert (late.code, late.out) == (1, "")
    assert "not written" in late.err
    assert say("put", "a", "2", "--if-revision", "0", "--json").json["written"] is False
    assert say("put", "a", "2", "--if-revision", str(revision)).code == 0
    assert say("get", "a").out == "2\n"


def test_a_refusal_has_etcd_s_words(say: Say) -> None:
    said = say("put", "a", "1", "--lease", "7")
    assert (said.code, said.err) == (1, "onerack: etcdserver: requested lease not found\nexecuted: no\n")
    described = say("compact", "99999999", "--json")
    assert (described.code, described.json["kind"], described.json["cause"]) == (1, "KvRefused", "out_of_range")


def test_compaction_forgets(say: Say) -> None:
    first, second = (int(say("put", "a", value).out) for value in "12")
    assert say("compact", str(second)).out == f"compacted up to {second}\n"
    assert "compacted" in say("get", "a", "--revision", str(first)).err


def test_watch_prints_events_from_a_revision_on(say: Say) -> None:
    first = int(say("put", "a", "1").out)
    say("put", "b", "x")
    say("del", "a")
    said = say("watch", "a", "--revision", str(first), "--count", "2")
    assert (said.code, said.out) == (0, "put\ta\t1\ndelete\ta\n")
    lines = say("watch", "a", "--revision", str(first), "--count", "2", "--previous", "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["put", "delete"]
    assert events[1]["previous"]["value"] == "1"


# ------------------------------------------------------------------------------------------------ transactions


def test_a_transaction_takes_one_of_two_ways(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(
        {
            "if": [{"key": "a", "version": 0}, {"key": "b", "mod": 9999, "is": "<"}],
            "then": [{"put": {"key": "a", "value": "1"}}, {"get": {"key": "a", "limit": 3}}],
            "else": [{"delete": {"key": "a"}}, {"txn": {"then": [{"put": {"key": "c"}}]}}],
        }
    )
    said = say("txn", text)
    assert said.code == 0
    assert said.out.startswith("then at revision ")
    assert '"value": "1"' in said.out
    typed(monkeypatch, text.encode())
    other = say("txn", "-", "--json")
    assert other.code == 1
    assert [next(iter(result)) for result in other.json["results"]] == ["delete", "txn"]
    assert say("txn", '{"if": [{"key": "c", "value": "", "is": "="}]}').code == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "JSON"),
        ("[]", "a transaction"),
        ('{"iff": []}', '"iff"'),
        ('{"if": {}}', '"if" is a list'),
        ('{"if": [{"key": "a"}]}', "one of version"),
        ('{"if": [{"key": "a", "version": 1, "mod": 2}]}', "one of version"),
        ('{"if": [{"key": "a", "version": "1"}]}', '"version"'),
        ('{"if": [{"key": "a", "value": 1}]}', '"value"'),
        ('{"if": [{"key": "a", "version": 1, "is": "~"}]}', '"~"'),
        ('{"then": [{"put": {}}]}', '"key"'),
        ('{"then": [{"put": {"key": "a"}, "get": {"key": "a"}}]}', "one of put"),
        ('{"then": [{"frobnicate": {}}]}', "frobnicate"),
        ('{"then": [{"get": {"key": "a", "limit": "x"}}]}', '"limit"'),
    ],
)
def test_a_transaction_that_makes_no_sense_says_where(say: Say, text: str, named: str) -> None:
    said = say("txn", text)
    assert said.code == 2
    assert named in said.err


# ------------------------------------------------------------------------------------------------ leases, locks


def test_leases_from_grant_to_revoke(say: Say) -> None:
    lease = say("lease", "grant", "60").out.strip()
    say("put", "a", "1", "--lease", lease)
    assert lease in say("lease", "list").out.split()
    shown = say("lease", "show", lease, "--json").json
    assert (shown["granted_s"], shown["keys"]) == (60, ["a"])
    assert f"{lease} has " in say("lease", "show", lease).out
    assert say("lease", "keep-alive", lease, "--once", "--json").json == {"lease": lease, "ttl_s": 60}
    assert say("lease", "revoke", lease, "--json").json == {"lease": lease, "revoked": True}
    assert say("get", "a").code == 1
    for command in (("show", lease), ("keep-alive", lease), ("show", lease, "--json")):
        assert say("lease", *command).code == 1


def test_a_lock_is_held_while_a_command_runs(say: Say, rack: RackThread) -> None:
    assert say("lock", "l", "--", "sh", "-c", "exit 6").code == 6
    said = say("lock", "l", "sh", "-c", "echo $ONERACK_LOCK_KEY $ONERACK_LOCK_TOKEN; exit 7")
    key, token = said.out.split()
    assert said.code == 7
    assert key.startswith("l/")
    assert int(token) > 1
    assert say("get", "l/", "--prefix").out == ""
    assert say("lock", "l", "/no/such/command").code == 2


# ------------------------------------------------------------------------------------------------ nodes, members


def test_status_says_how_each_endpoint_is(say: Say, rack: RackThread) -> None:
    said = say("status")
    assert said.code == 0
    assert "n1    leader" in said.out
    silent = free_address().partition("://")[2]
    where = rack.nodes["n1"].endpoints.rpc
    mixed = say("status", "-e", where, "-e", silent, "--timeout", "0.5", "--json")
    assert mixed.code == 1
    assert [node.get("role", "?") for node in mixed.json["nodes"]] == ["leader", "?"]
    assert "error" in mixed.json["nodes"][1]


def test_nobody_answers(say: Say) -> None:
    said = say("get", "a", "--endpoint", free_address(), "--timeout", "0.2", "--json")
    assert (said.code, said.json["kind"], said.json["executed"]) == (1, "NotExecuted", "no")


def test_without_an_endpoint_the_rack_of_dir_is_meant(
    say: Say, rack: RackThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONERACK_ENDPOINTS")
    nobody = say("get", "a", "--dir", str(tmp_path))
    assert nobody.code == 2
    assert "--endpoint" in nobody.err
    where = NodeEndpoints(rack.nodes["n1"].endpoints.rpc, "", "")
    write_record(tmp_path, ClusterRecord("c", (NodeRecord("n1", "control", where),)))
    assert say("put", "a", "1", "--dir", str(tmp_path)).code == 0


def test_members_come_are_promoted_lead_and_go(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with rack_thread(tmp_path) as rack:
        first = rack.start("n1").endpoints.rpc
        monkeypatch.setenv("ONERACK_ENDPOINTS", first)
        say = sayer(capfd, "kv")
        say("put", "a", "1")
        second = free_address()
        alone = say("member", "add", f"w={second}", "--role", "witness")
        assert (alone.code, "start it first" in alone.err) == (2, True)
        late = say("member", "add", f"late={second}", "--role", "voter", "--wait", "0.3")
        assert (late.code, "member promote late" in late.err) == (1, True)
        assert say("member", "remove", "late").code == 0  # it has stopped nobody
        assert say("member", "add", f"n2={second}").out == f"n2 at {second} is a learner\n"
        assert say("member", "add", f"n2={second}").code == 2
        early = say("member", "promote", "n2")
        assert (early.code, "executed: no" in early.err) == (1, True)
        rack.start("n2", members={"n1": first, "n2": second}, joins=True)
        assert say("member", "promote", "n2", "--wait", "30", "--json").json == {"name": "n2", "role": "voter"}
        assert say("get", "a", "--endpoint", second).out == "1\n"
        assert say("member", "move-leader", "n2").out == "n2 leads\n"
        assert say("member", "move-leader", "n2").out == "n2 leads\n"
        listed = say("member", "list", "--json").json["members"]
        assert [(each["name"], each["role"], each["leads"]) for each in listed] == [
            ("n1", "voter", False), ("n2", "voter", True),
        ]  # fmt: skip
        third = free_address()
        say("member", "add", f"n3={third}")
        rack.start("n3", members={"n1": first, "n2": second, "n3": third}, joins=True)
        assert say("member", "replace", "n1", f"n3={third}", "--wait", "30").out == "n3 has taken the place of n1\n"
        said = say("member", "list", "--endpoint", second)
        assert [line.split()[0] for line in said.out.splitlines()] == ["name", "n2", "n3"]
        assert say("member", "remove", "n9", "--endpoint", second).code == 2
        assert say("member", "add", "n4", "--endpoint", second).code == 2
        assert say("member", "add", f"n4={free_address()}", "--role", "king", "--endpoint", second).code == 2


def test_a_store_is_saved_and_a_node_made_of_it(say: Say, tmp_path: Path) -> None:
    say("put", "a", "1")
    file, data = tmp_path / "saved.db", tmp_path / "n1"
    assert say("snapshot", "save", str(file), "--json").json["bytes"] == file.stat().st_size
    assert say("snapshot", "save", str(file)).code == 2
    assert say("snapshot", "save", str(file), "--overwrite").code == 0
    assert say("snapshot", "save", str(tmp_path / "no" / "such")).code == 2
    words = ("snapshot", "restore", str(file), "--name", "n1", "--data", str(data))
    made: Any = say(*words, "--peers", "n1=127.0.0.1:1,n2=127.0.0.1:2", "--json").json
    assert (made["members"], made["keys"]) == (["n1", "n2"], 1)
    again = say(*words, "--peers", "n1=127.0.0.1:1")
    assert (again.code, "--data" in again.err) == (2, True)
    for peers in ("n1", "n1=", "n1=a:1,n1=b:2", "", "n1=a"):
        wrong = say("snapshot", "restore", str(file), "--name", "n1", "--data", str(tmp_path / "x"), "--peers", peers)
        assert wrong.code == 2

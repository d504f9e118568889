"""`onerack rpc`: what a shell sees of services, calls and their ends."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onerack.cli.main import execute
from onerack.rpc.promises import SURVIVAL
from tests.rpc.certificates import Authority
from tests.rpc.server_thread import Shopkeeper, shopkeeper


@pytest.fixture(scope="module")
def keeper() -> Iterator[Shopkeeper]:
    with shopkeeper() as found:
        yield found


class Said:
    """What a command line printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Any:
    def said(*words: str) -> Said:
        code = execute(["rpc", *words])
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return said


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_describe_lists_methods_with_what_their_modes_promise(keeper: Shopkeeper, say: Any) -> None:
    said = say("describe", keeper.address)
    assert said.code == 0
    assert said.out.startswith("service Shop  schema ")
    assert "  readonly       stock(item: str) -> int\n" in said.out
    assert "  at_most_once   runs once or not at all" in said.out
    assert "exactly_once" not in said.out
    assert "onerack.Health" not in said.out
    assert "check() -> str" in say("describe", keeper.address, "onerack.Health").out
    (shop,) = say("describe", keeper.address, "--json").json["services"]
    assert shop["methods"]["buy"]["arguments"]["$ref"] or shop["methods"]["buy"]["arguments"]["properties"]
    missing = say("describe", keeper.address, "Shops")
    assert (missing.code, missing.out) == (2, "")
    assert "no service 'Shops'; it has Shop, onerack.Health, onerack.Reflection" in missing.err


def test_explain_says_what_survives_what(keeper: Shopkeeper, say: Any) -> None:
    said = say("explain", keeper.address, "Shop.buy")
    assert said.out.startswith("Shop.buy is at_most_once: runs once or not at all")
    assert "the server crashes before it runs:\n    did not run; Unknown\n" in said.out
    assert set(say("explain", keeper.address, "Shop.buy", "--json").json["what_happens"]) == set(SURVIVAL)


def test_health(keeper: Shopkeeper, say: Any) -> None:
    assert (say("health", keeper.address).out, say("health", keeper.address).code) == ("serving\n", 0)
    assert say("health", keeper.address, "--json").json == {"address": keeper.address, "status": "serving"}
    nobody = say("health", "unix:///nonexistent/socket", "--connect-timeout", "0.1", "--json")
    assert (nobody.code, nobody.json["executed"], nobody.json["cause"]) == (1, "no", "unreachable")


def test_a_call_prints_its_result(keeper: Shopkeeper, say: Any) -> None:
    assert say("call", keeper.address, "Shop.stock", '{"item": "tea"}').out == "3\n"
    assert say("call", keeper.address, "Shop.buy", '{"item": "té", "count": 2}', "--json").json == {
        "method": "Shop.buy",
        "executed": "yes",
        "result": {"number": len(keeper.implementation.bought), "words": ["té", "té"]},
    }
    assert say("call", keeper.address, "Shop.stock", '{"item": "tea"}', "--mode", "at_most_once").out == "3\n"


def test_streams_are_lines_of_json(keeper: Shopkeeper, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert say("call", keeper.address, "Shop.count", '{"upto": 3}').out == "0\n1\n2\n"
    typed(monkeypatch, b"1\n\n 2 \n" + b"3\n" * 500)
    assert say("call", keeper.address, "Shop.total").out == "1503\n"
    typed(monkeypatch, b'"a"\n"b"')
    assert say("call", keeper.address, "Shop.upper").out == '"A"\n"B"\n'
    typed(monkeypatch, b"1\nx\n")
    wrong = say("call", keeper.address, "Shop.total")
    assert wrong.code == 2
    assert "line 2 of standard input is not JSON" in wrong.err
    typed(monkeypatch, b'"a"\n"fail"\n')
    failed = say("call", keeper.address, "Shop.upper", "--json")
    first, last = failed.out.splitlines()
    assert (first, json.loads(last)["executed"], failed.code) == ('"A"', "yes", 1)


def test_attachments_are_files(keeper: Shopkeeper, say: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"abc")
    assert say("call", keeper.address, "Shop.size", "--attach", f"{tmp_path}/in").out == "3\n"
    both = ["call", keeper.address, "Shop.both", "--attach", f"{tmp_path}/in", "--out", f"{tmp_path}/out"]
    assert say(*both).out == '"3"\n'
    assert (tmp_path / "out").read_bytes() == b"abc"
    assert say("call", keeper.address, "Shop.blob", '{"size": 4}', "--out", f"{tmp_path}/blob", "--json").json[
        "attachment"
    ] == {"path": f"{tmp_path}/blob", "bytes": 4}
    unwritable = say("call", keeper.address, "Shop.blob", '{"size": 4}', "--out", f"{tmp_path}/no/where")
    assert (unwritable.code, unwritable.err.splitlines()[-1]) == (1, "executed: yes")


@pytest.mark.parametrize(
    ("words", "code", "executed", "said"),
    [
        (["Shop.fail", '{"how": "luck"}'], 1, "yes", "Shop.fail raised ValueError: bad luck"),
        (["Shop.buy", '{"item": "x", "count": "y"}'], 1, "no", "`count`"),
        (["Shop.wait", '{"seconds": 60}', "--deadline", "0.05"], 1, "unknown", "it may have been executed"),
        (["Shop.buy", '{"item": "x"}', "--mode", "exactly_once"], 1, "no", "no durable log"),
        (["Shop.buy", '{"item": }'], 2, None, "Expecting value at line 1 column 10"),
        (["Shop.buy", '["x"]'], 2, None, "by name"),
        (["Shop.buy", '{"item": NaN}'], 2, None, "NaN is no number"),
        (["Shop.buy", "[" * 100_000], 2, None, "not JSON"),
        (["Shop.sell"], 2, None, "it has about_call, blob, both, buy"),
        (["Shops.buy"], 2, None, "no service 'Shops'; it has Shop"),
        (["buy"], 2, None, "expected Service.method"),
        (["Shop.buy", "{}", "--mode", "twice"], 2, None, "must be one of readonly"),
        (["Shop.buy", '{"item": "x"}', "--mode", "readonly"], 2, None, "weaker"),
        (["Shop.stock", '{"item": "x"}', "--attach", "/no/such"], 2, None, "/no/such"),
        (["Shop.stock", '{"item": "x"}', "--out", "x"], 2, None, "--out: the result of Shop.stock has no attachment"),
        (["Shop.blob", '{"size": 1}'], 2, None, "--out FILE"),
        (["Shop.stock", '{"item": "x"}', "--deadline", "0"], 2, None, "seconds, more than 0"),
        (["Shop.stock", '{"item": "x"}', "--tls-ca", "x"], 2, None, "--tls-cert"),
    ],
)
def test_failures_say_what_happened(
    keeper: Shopkeeper, say: Any, words: list[str], code: int, executed: str | None, said: str
) -> None:
    found = say("call", keeper.address, *words)
    assert (found.code, found.out) == (code, "")
    assert said in found.err
    assert (f"executed: {executed}\n" in found.err) == (executed is not None)
    described = say("call", keeper.address, *words, "--json").json
    assert (described["exit_code"], described.get("executed")) == (code, executed)
    assert said in described["error"]


@pytest.mark.parametrize("address", ["127.0.0.1:7700", "http://x", "tcp://x:99999", "tcp://10.1.2.3:7700"])
def test_an_address_that_makes_no_sense_is_usage(say: Any, address: str) -> None:
    assert say("health", address).code == 2


def test_over_tls_with_files_of_certificates(say: Any, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("me", uris=["spiffe://shop/me"])
    theirs = authority.issue("shop", addresses=["127.0.0.1"])
    with shopkeeper("tls://127.0.0.1:0", tls=authority.server(theirs)) as keeper:
        words = ["call", keeper.address, "Shop.stock", '{"item": "tea"}', "--tls-ca", str(authority.path)]
        assert say(*words, "--tls-cert", str(mine)).out == "3\n"
        wrong = say(*words, "--tls-cert", str(authority.path))
        assert (wrong.code, wrong.out) == (2, "")


def test_what_a_server_says_cannot_command_a_terminal(keeper: Shopkeeper, say: Any, monkeypatch: Any) -> None:
    typed(monkeypatch, b'"\\u009b2J\\u202e"')
    assert say("call", keeper.address, "Shop.upper").out == '"\\u009b2J\\u202e"\n'
    failed = say("call", keeper.address, "Shop.fail", json.dumps({"how": "\x1b[2J\x9b\u202e\n\té"}))
    assert "bad \\x1b[2J\\x9b\\u202e\n\té" in failed.err


def test_ctrl_c_ends_a_call_and_the_handler_with_it(keeper: Shopkeeper) -> None:
    code = "import sys; from onerack.cli.main import main; main(sys.argv[1:])"
    call = ["rpc", "call", keeper.address, "Shop.wait", '{"seconds": 60}']
    already = len(keeper.implementation.called_off)
    with subprocess.Popen([sys.executable, "-c", code, *call], stdout=-1, stderr=-1) as caller:
        keeper.until(lambda: keeper.server.core.open_calls > 0)
        caller.send_signal(signal.SIGINT)
        out, err = caller.communicate(timeout=30)
    assert (caller.returncode, out) == (130, b"")
    assert err.decode() == "onerack: interrupted\n"
    keeper.until(lambda: len(keeper.implementation.called_off) > already)

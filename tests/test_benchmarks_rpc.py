"""The referee of RPC must be sound too: what is counted, which rival counts, which replies, and what the shell is told.

Each test is one way in which such a benchmark lies: the warm-up is counted, a wrong reply is counted, the slower rival
is taken, a case that did not run passes, a server stays behind and eats the next one's processor.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import rpc, rpc_cases
from benchmarks.contest import Bar, Case, Contender, Series, judge
from benchmarks.measure import Run, measure
from benchmarks.rate_suite import exit_code
from benchmarks.rate_table import case_lines
from benchmarks.rpc_cases import CASES, Setting
from benchmarks.rpc_peers import load, raw_tcp
from benchmarks.rpc_peers.load import Meter, WrongReply, coroutine_load, thread_load
from benchmarks.rpc_peers.peaks import Peaks
from benchmarks.rpc_peers.server_process import ServerProcess, cpu_s, server_process
from benchmarks.rpc_peers.task import PAYLOAD, Task, parse

ROOT = Path(__file__).resolve().parents[1]
SHORT = Task("echo", callers=2, seconds=0.02)


def series(name: str, *rates: float, trouble: str = "", **marks: float) -> Series:
    runs = [Run(1.0, 1.0, 0, 0, {"calls_per_s": rate, **marks}) for rate in rates]
    return Series(Contender(name, ()), runs, trouble=trouble)


def at_least(limit: float | None) -> Bar:
    return Bar("", limit, ("grpc.aio",), "calls_per_s", "onerack uvloop", at_least=True)


@pytest.fixture
def itself() -> ServerProcess:
    """This process plays the server."""
    return ServerProcess("127.0.0.1:1", os.getpid())


@pytest.fixture
def _no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "WARM_UP_S", 0.0)


def contenders() -> Iterator[tuple[Case, Contender]]:
    for cases in CASES.values():
        for case in cases(Setting(False, "uvloop")):
            for contender in case.contenders:
                yield case, contender


# ------------------------------------------------------------------------------------------------ bars and verdicts


def test_the_better_loop_of_a_peer_counts_and_the_median_of_its_runs() -> None:
    contest = [
        series("onerack uvloop", 50.0, 60.0, 900.0),
        series("onerack asyncio", 1000.0),
        series("grpc.aio uvloop", 6.0, 1.0, 99.0),
        series("grpc.aio asyncio", 5.0),
        series("streaming grpc.aio", 1000.0),
    ]
    verdict = judge(at_least(10), contest)
    assert (verdict.figure, verdict.rival, verdict.met) == (10.0, "grpc.aio uvloop", True)
    assert judge(at_least(10.1), contest).met is False


@pytest.mark.parametrize(
    ("rates", "trouble", "limit", "code"),
    [(60, "", 20, 0), (60, "", 70, 1), (60, "it fell over", 20, 2), (60, "it fell over", None, 0)],
)
def test_the_exit_code_tells_met_from_missed_from_not_measured(
    rates: float, trouble: str, limit: float | None, code: int
) -> None:
    contest = [series("onerack uvloop", rates, trouble=trouble), series("grpc.aio uvloop", 1.0)]
    assert exit_code([judge(at_least(limit), contest)]) == code


def test_a_missed_bar_outweighs_one_that_was_not_measured() -> None:
    contest = [series("onerack uvloop", 1.0), series("grpc.aio uvloop", 1.0)]
    assert exit_code([judge(at_least(2), contest), judge(at_least(2), [])]) == 1


def test_the_bars_are_those_of_the_issue() -> None:
    cases = [case for name in CASES for case in CASES[name](Setting(False, "uvloop"))]
    bars = {(case.name, bar.theirs, bar.limit, bar.at_least) for case in cases for bar in case.bars if bar.limit}
    assert bars == {
        ("echo-1", ("grpc.aio",), 6, True),
        ("echo-64", ("grpc.aio",), 20, True),
        ("echo-1000", ("grpc.aio",), 25, True),
        ("bulk", ("raw TCP",), 1.0, True),
        ("bulk", ("grpc.aio",), 2.5, True),
        ("bulk", ("onerack uvloop",), 0.8, True),
        ("durable", ("grpc.aio",), 10, True),
        ("memory", (), 1.05, False),
    }


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_bar_has_ours_and_a_rival_among_the_contenders(loop: str) -> None:
    for case in (case for name in CASES for case in CASES[name](Setting(True, loop))):
        names = [contender.name for contender in case.contenders]
        for bar in case.bars:
            assert bar.ours in names
            assert not bar.theirs or [name for name in names if name.startswith(bar.theirs) and name != bar.ours]


# ------------------------------------------------------------------------------------------------ command lines


def test_every_row_is_a_command_that_its_program_understands() -> None:
    for case, contender in contenders():
        python, dash, module, *words = contender.command
        task, serving = parse(words)
        assert (python, dash, serving) == (sys.executable, "-m", False)
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
        assert (
            task.loop in contender.name
            or contender.name.startswith(("raw", "rpyc", "grpcio", "append"))
            or (case.name == "memory")
        )


def test_callers_and_sizes_of_a_case_reach_the_program() -> None:
    rows = {(case.name, contender.name): parse([*contender.command[3:]])[0] for case, contender in contenders()}
    assert rows["echo-1000", "grpc.aio asyncio"].callers == 1000
    assert rows["bulk", "onerack uvloop 64 MiB"].size_bytes == 64 << 20
    assert rows["memory", "calls"].count == 10_000_000
    assert rows["memory", "reader"].seconds == 60
    # Each run finds its own folder absent: a log from the run before would be continued.
    assert {str(task.directory) for task in rows.values()} == {"{output}-files"}


def test_what_is_not_installed_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_cases, "installed", lambda module: module in ("grpc", "asyncio"))
    (case,) = CASES["durable"](Setting(True, "asyncio"))
    missing = {contender.name: contender.missing for contender in case.contenders}
    assert missing["grpc.aio asyncio"] == missing["onerack asyncio"] == ""
    assert missing["grpc.aio uvloop"] == missing["onerack uvloop"] == "uvloop is not installed"


def test_the_command_line_of_the_whole() -> None:
    options = rpc.arguments(["--case", "bulk,echo", "--rounds", "7", "--loop", "asyncio", "--quick"])
    assert (options.case, options.rounds, options.loop, options.quick) == ("bulk,echo", 7, "asyncio", True)
    assert rpc.arguments([]).case == "echo,bulk,durable,memory"


@pytest.mark.parametrize("words", [["--case", "nothing"], ["--rounds", "0"], ["--loop", "trio"]])
def test_what_the_command_line_does_not_know_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        rpc.arguments(words)
    assert refusal.value.code == 2
    assert words[0] in capsys.readouterr().err or "nothing" in words


def test_the_table_shows_ratios_and_whatever_was_measured() -> None:
    (case, *_) = CASES["echo"](Setting(True, "uvloop"))
    lines = case_lines(
        case,
        [
            series("onerack uvloop", 60_000.0, p50_us=15.0),
            series("grpc.aio uvloop", 6_000.0, p50_us=150.0),
            series("rpyc", trouble="Traceback\n  no luck"),
        ],
        [],
        "onerack uvloop",
    )
    assert "p50" in lines[1]
    assert "GB/s" not in lines[1]
    assert "10.00x" in lines[3]
    assert lines[3].endswith("150")
    assert lines[4].endswith("no luck")


# ------------------------------------------------------------------------------------------------ the load


def test_calls_before_the_meter_opens_and_after_it_closes_are_not_counted(itself: ServerProcess) -> None:
    meter = Meter(itself)
    meter.times_s.extend([9.0] * 10)
    meter.open()
    meter.times_s.extend([n / 1000 for n in range(100, 0, -1)])
    meter.close()
    meter.times_s.append(9.0)
    figures = meter.figures(1000)
    assert figures["p50_us"] == pytest.approx(51_000)
    assert figures["p99_us"] == pytest.approx(100_000)
    assert figures["gb_per_s"] == pytest.approx(figures["calls_per_s"] * 1000 / 1e9)
    assert figures["client_us"] > 0


def test_no_calls_are_no_figure(itself: ServerProcess) -> None:
    meter = Meter(itself)
    meter.open()
    meter.close()
    with pytest.raises(RuntimeError, match="not one call"):
        meter.figures()


@pytest.mark.usefixtures("_no_warm_up")
def test_coroutines_have_as_many_calls_open_as_there_are_callers(itself: ServerProcess) -> None:
    open_calls = highest = 0

    async def call() -> bytes:
        nonlocal open_calls, highest
        open_calls += 1
        highest = max(highest, open_calls)
        await asyncio.sleep(0)
        open_calls -= 1
        return PAYLOAD

    meter = asyncio.run(coroutine_load(Task("echo", callers=5, seconds=0.02), itself, call, PAYLOAD))
    assert meter.figures()["calls_per_s"] > 0
    assert (highest, open_calls) == (5, 0)


@pytest.mark.usefixtures("_no_warm_up")
def test_a_wrong_reply_ends_the_measurement(itself: ServerProcess) -> None:
    async def call() -> bytes:
        await asyncio.sleep(0)
        return b"another"

    with pytest.raises(ExceptionGroup) as failure:
        asyncio.run(coroutine_load(SHORT, itself, call, PAYLOAD))
    assert failure.group_contains(WrongReply)


@pytest.mark.usefixtures("_no_warm_up")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_wrong_reply_in_a_thread_ends_the_measurement(itself: ServerProcess) -> None:
    assert thread_load(SHORT, itself, lambda: PAYLOAD, PAYLOAD).figures()["calls_per_s"] > 0
    with pytest.raises(WrongReply):
        thread_load(SHORT, itself, lambda: b"another", PAYLOAD)


# ------------------------------------------------------------------------------------------------ two processes


def server_of(program: str, case: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.rpc_peers.{program}", case, "--serve"]


@pytest.mark.usefixtures("_no_warm_up")
@pytest.mark.parametrize("case", ["echo", "bulk"])
def test_a_peer_is_measured_against_its_own_server(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with server_process(server_of("raw_tcp", case)) as server:
        figures = raw_tcp.drive(Task(case, callers=3, seconds=0.05, size_bytes=4096), server)
        assert server.pid != os.getpid()
    assert figures["server_us"] > 0
    assert ("gb_per_s" in figures) is (case == "bulk")
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_does_not_come_up_is_no_server() -> None:
    with pytest.raises(RuntimeError, match="ended before it listened"), server_process([sys.executable, "-c", ""]):
        pass


def test_a_server_ends_with_the_client_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    servers: list[ServerProcess] = []

    def fail() -> None:
        with server_process(server_of("raw_disk", "durable")) as server:
            servers.append(server)
            raise WrongReply

    with pytest.raises(WrongReply):
        fail()
    (server,) = servers
    assert server.address == "nowhere"
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_the_processor_time_of_a_process_counts_its_threads() -> None:
    before = cpu_s(os.getpid())
    sum(range(300_000))
    assert cpu_s(os.getpid()) > before


def test_memory_is_sampled_only_where_it_does_not_disturb(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; block = bytearray(32 << 20); time.sleep(0.2)"]
    run = measure(command, directory=tmp_path, environment={}, memory_sampled=False)
    assert run.peak_bytes == 0


def test_growth_is_peak_over_peak_of_the_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = iter([100, 50, 80, 60, 70, 90, 120, 90])  # client, server, client, server ...
    monkeypatch.setattr("benchmarks.rpc_peers.peaks.resident_bytes", lambda pid: next(resident))
    peaks = Peaks(ServerProcess("127.0.0.1:1", 1))
    peaks.look()
    peaks.rehearsed()
    peaks.look()
    figures = peaks.figures()
    assert figures["client_growth"] == pytest.approx(1.2)
    assert figures["server_growth"] == pytest.approx(1.5)

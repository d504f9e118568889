"""`onerack sim`: the systems under simulation, many seeds or the story of one.

The idea: what the tests run, anybody can run longer, and whoever reads a failure can see all of it again from its
number. Standard output is the result, the progress goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from onerack.sim.hunt import Hunt
    from onerack.sim.raft import Tally

RAFT_EXAMPLES = """\b
Examples:
  onerack sim raft --seeds 1000
  onerack sim raft --seeds 20000 --from 100000 --jobs 2 --json
  onerack sim raft --seed 17 --trace | less
  onerack sim raft --planted votes_are_not_written
  onerack sim raft --planted all
"""
KV_EXAMPLES = """\b
Examples:
  onerack sim kv --seeds 1000
  onerack sim kv --seed 17 --trace | less
  onerack sim kv --planted all
"""
SEEDS_DEFAULT = 100
HUNTED_DEFAULT = 4000

app = typer.Typer(
    name="sim",
    help="Run systems under simulated faults.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds", "-n", metavar="N", min=1,
        help=f"Run so many seeds; {SEEDS_DEFAULT} unless told otherwise, {HUNTED_DEFAULT} for each bug of `all`.",
        show_default=False,
    ),
]  # fmt: skip
_First = Annotated[int, typer.Option("--from", metavar="SEED", min=0, help="The first of them.")]
_Seed = Annotated[int | None, typer.Option("--seed", metavar="SEED", min=0, help="Run only this one.")]
_Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, help="In so many processes; all cores unless told otherwise."),
]
_Trace = Annotated[bool, typer.Option("--trace", help="Tell its story: options, messages, faults.")]
_Planted = Annotated[
    str | None,
    typer.Option(
        "--planted", metavar="BUG", help="With this bug planted; `list` names them, `all` looks how soon each is found."
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def sim() -> None:
    """Run systems under simulated faults: many seeds, or the story of one."""


@app.command(name="raft", epilog=RAFT_EXAMPLES)
def raft(
    seeds: _Seeds = None,
    first: _First = 0,
    seed: _Seed = None,
    jobs: _Jobs = None,
    trace: _Trace = False,
    planted: _Planted = None,
    as_json: _Json = False,
) -> int:
    """Run raft clusters through crashes, cuts, lost writes, pauses and changes of their members, and check everything.

    Each seed is another world. Every step is held against raft's invariants, every history against two checkers of
    linearizability; at the end all must be well again. Exit codes: 0 nothing was found, 1 something was (the seeds are
    printed), 2 usage; of `--planted all`: 0 every bug was found, 1 some were not.
    """
    return _simulate("raft", seeds, first, seed, jobs, trace, planted, as_json)


@app.command(name="kv", epilog=KV_EXAMPLES)
def kv(
    seeds: _Seeds = None,
    first: _First = 0,
    seed: _Seed = None,
    jobs: _Jobs = None,
    trace: _Trace = False,
    planted: _Planted = None,
    as_json: _Json = False,
) -> int:
    """Run the key-value store on such clusters: puts, transactions, leases, compactions and watches, all checked.

    What clients and watchers were told is held against a model that is told the same log, and single keys against a
    checker of linearizability. Options and exit codes are those of `onerack sim raft`.
    """
    return _simulate("kv", seeds, first, seed, jobs, trace, planted, as_json)


def _simulate(
    name: str,
    seeds: int | None,
    first: int,
    seed: int | None,
    jobs: int | None,
    trace: bool,
    planted: str | None,
    as_json: bool,
) -> int:
    from onerack.errors import UsageError
    from onerack.sim.spread import cores

    system = importlib.import_module(f"onerack.sim.{name}")
    if planted == "list":
        print("\n".join(sorted(system.PLANTED)))
        return 0
    if planted == "all":
        return _hunt_all(system, range(first, first + (seeds or HUNTED_DEFAULT)), jobs or cores(), as_json=as_json)
    if planted is not None and planted not in system.PLANTED:
        raise UsageError(f"no planted bug is called {planted!r}; `--planted list` names all {len(system.PLANTED)}")
    if trace:
        if seed is None:
            raise UsageError("--trace tells one story: say which, with --seed")
        story = system.tell(seed, planted)
        print(story, end="")
        return 1 if not story.rstrip().rpartition("\n")[2].startswith("Report(") else 0
    wanted = [seed] if seed is not None else range(first, first + (seeds or SEEDS_DEFAULT))
    return _run_many(system, wanted, planted, jobs or cores(), as_json=as_json)


class _Progress:
    """One line on the standard error of a terminal; nothing elsewhere."""

    def __init__(self, total: int, noun: str) -> None:
        self._total = total
        self._noun = noun
        self._shown = 0.0

    def tell(self, done: int, failed: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._shown > 0.5:
            self._shown = time.monotonic()
            print(f"\r{done}/{self._total} {self._noun}, {failed} failed ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------ many seeds


def _run_many(system: Any, seeds: Sequence[int], planted: str | None, jobs: int, *, as_json: bool) -> int:
    """Interrupted, it still tells people what was done until then."""
    from onerack.sim.failed import ScheduleFailed
    from onerack.sim.spread import spread

    tally, failures = system.Tally(), []
    progress = _Progress(len(seeds), "seeds")
    began = time.monotonic()
    try:
        for number, outcome in enumerate(spread(partial(system.run_schedule, planted=planted), seeds, jobs), 1):
            if isinstance(outcome, ScheduleFailed):
                failures.append(outcome)
                if not as_json:
                    print(outcome, flush=True)
            else:
                tally.add(outcome)
            progress.tell(number, len(failures))
    except KeyboardInterrupt:
        progress.end()
        if not as_json:
            print(_summary(tally, len(failures), time.monotonic() - began))
        raise
    progress.end()
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps(_as_json(tally, failures, seconds, jobs)))
    else:
        print(_summary(tally, len(failures), seconds))
    return 1 if failures else 0


def _as_json(tally: Tally, failures: list[Any], seconds: float, jobs: int) -> dict[str, Any]:
    import msgspec

    rate = (tally.schedules + len(failures)) / seconds if seconds else 0.0
    found = [{"seed": each.seed, "reason": each.reason} for each in failures]
    return {
        **msgspec.to_builtins(tally),
        "jobs": jobs,
        "wall_seconds": round(seconds, 3),
        "schedules_per_second": round(rate, 2),
        "failed": found,
    }


def _summary(tally: Tally, failed: int, seconds: float) -> str:
    worst = f"{failed} seeds failed" if failed else "no seed failed"
    run = tally.schedules + failed
    return "\n".join(
        [
            f"{run} seeds in {seconds:.1f} s ({run / max(seconds, 1e-9):.1f} per second): {worst}",
            f"  {tally.node_seconds / 3600:.2f} node-hours, {tally.steps:,} messages, {tally.faults:,} faults",
            f"  {tally.elections:,} terms with a leader, {tally.entries:,} entries committed, "
            f"{tally.restores:,} snapshots restored",
            f"  {tally.operations:,} operations of clients checked; {tally.unknown} keys too hard to decide",
        ]
    )


# ------------------------------------------------------------------------------------------------ planted bugs


def _hunt_all(system: Any, seeds: range, jobs: int, *, as_json: bool) -> int:
    """How many seeds and seconds each planted bug needs."""
    from onerack.sim.spread import spread

    bugs = sorted(system.PLANTED)
    hunts: list[Hunt] = []
    progress = _Progress(len(bugs), "bugs")
    began = time.monotonic()
    for each in spread(partial(system.hunt_planted, seeds=seeds), bugs, jobs, 1):
        assert not isinstance(each, AssertionError)
        hunts.append(each)
        progress.tell(len(hunts), sum(not hunt.found_by for hunt in hunts))
    progress.end()
    seconds = time.monotonic() - began
    found = sum(bool(hunt.found_by) for hunt in hunts)
    if as_json:
        import msgspec

        bugs_as_json = [msgspec.to_builtins(hunt) for hunt in hunts]
        print(json.dumps({"found": found, "of": len(bugs), "wall_seconds": round(seconds, 3), "bugs": bugs_as_json}))
    else:
        for hunt in hunts:
            print(f"{hunt.bug:52} {hunt.found_by or 'SURVIVES':44} {hunt.seeds:5} seeds {hunt.seconds:8.2f} s")
        print(f"{found} of {len(bugs)} planted bugs found in {seconds:.1f} s")
    return 0 if found == len(bugs) else 1

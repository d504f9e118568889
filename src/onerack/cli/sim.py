"""`onerack sim`: the systems under simulation, many seeds or the story of one.

The idea: what the tests run, anybody can run longer, and whoever reads a failure can see all of it again from its
number. Standard output is the result, the progress goes to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onerack.sim.raft import Tally

RAFT_EXAMPLES = """\b
Examples:
  onerack sim raft --seeds 1000
  onerack sim raft --seeds 20000 --from 100000 --json
  onerack sim raft --seed 17 --trace | less
  onerack sim raft --planted votes_are_not_written
"""

app = typer.Typer(
    name="sim",
    help="Run systems under simulated faults.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def sim() -> None:
    """Run systems under simulated faults: many seeds, or the story of one."""


@app.command(name="raft", epilog=RAFT_EXAMPLES)
def raft(
    seeds: Annotated[int, typer.Option("--seeds", "-n", metavar="N", min=1, help="Run so many seeds.")] = 100,
    first: Annotated[int, typer.Option("--from", metavar="SEED", min=0, help="The first of them.")] = 0,
    seed: Annotated[int | None, typer.Option("--seed", metavar="SEED", min=0, help="Run only this one.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Tell its story: options, messages, faults.")] = False,
    planted: Annotated[
        str | None, typer.Option("--planted", metavar="BUG", help="With this bug planted; `list` names them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Run raft clusters through crashes, cuts, lost writes, pauses and changes of their members, and check everything.

    Each seed is another world. Every step is held against raft's invariants, every history against two checkers of
    linearizability; at the end all must be well again. Exit codes: 0 nothing was found, 1 something was (the seeds are
    printed), 2 usage.
    """
    from onerack.errors import UsageError
    from onerack.sim.raft import PLANTED, tell

    if planted == "list":
        print("\n".join(sorted(PLANTED)))
        return 0
    if planted is not None and planted not in PLANTED:
        raise UsageError(f"no planted bug is called {planted!r}; `--planted list` names all {len(PLANTED)}")
    if trace:
        if seed is None:
            raise UsageError("--trace tells one story: say which, with --seed")
        story = tell(seed, planted)
        print(story, end="")
        return 1 if not story.rstrip().rpartition("\n")[2].startswith("Report(") else 0
    return _run_many([seed] if seed is not None else range(first, first + seeds), planted, as_json=as_json)


def _run_many(seeds: range | list[int], planted: str | None, *, as_json: bool) -> int:
    import msgspec

    from onerack.sim.raft import ScheduleFailed, Tally, run_schedule

    tally, failures = Tally(), []
    began, told = time.monotonic(), 0.0
    for number, seed in enumerate(seeds, 1):
        try:
            tally.add(run_schedule(seed, planted))
        except ScheduleFailed as failed:
            failures.append(failed)
            if not as_json:
                print(failed, flush=True)
        if sys.stderr.isatty() and time.monotonic() - told > 0.5:
            told = time.monotonic()
            print(f"\r{number}/{len(seeds)} seeds, {len(failures)} failed ", end="", file=sys.stderr, flush=True)
    if told:
        print("\r\x1b[K", end="", file=sys.stderr)
    if as_json:
        found = [{"seed": each.seed, "reason": each.reason} for each in failures]
        print(json.dumps({**msgspec.to_builtins(tally), "failed": found}))
    else:
        print(_summary(tally, len(failures), time.monotonic() - began))
    return 1 if failures else 0


def _summary(tally: Tally, failed: int, seconds: float) -> str:
    worst = f"{failed} seeds failed" if failed else "no seed failed"
    return "\n".join(
        [
            f"{tally.schedules + failed} seeds in {seconds:.1f} s: {worst}",
            f"  {tally.node_seconds / 3600:.2f} node-hours, {tally.steps:,} messages, {tally.faults:,} faults",
            f"  {tally.elections:,} terms with a leader, {tally.entries:,} entries committed, "
            f"{tally.restores:,} snapshots restored",
            f"  {tally.operations:,} operations of clients checked; {tally.unknown} keys too hard to decide",
        ]
    )

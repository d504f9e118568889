"""The command `onerack`: its subcommands, and the one place where errors become exit codes.

The idea: subcommands raise, `main` reports. Expected errors (onerack.errors) and mistakes on the command line come
out as one message and an exit code (failures.py); anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Annotated

import typer

from onerack import __version__
from onerack.cli import debug, demo, failures, history, kv, rack, raft, rpc, run, show, sim
from onerack.cli.kv_limits import with_limits
from onerack.errors import OnerackError, StorageFull, storing

EXAMPLES = """\b
Start with:
  onerack demo
  onerack run wordcount 'books/*.txt' --out counts
  onerack rpc describe tcp://127.0.0.1:7700
  onerack up --control 3
"""

app = typer.Typer(
    name="onerack",
    help="A datacenter in one Python package. Today: MapReduce, RPC, and a replicated key-value store.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich help costs 0.1 s more of imports than all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="run", epilog=run.EXAMPLES)(run.run)
app.command(name="history", epilog=history.EXAMPLES)(history.history)
app.command(name="show", epilog=show.EXAMPLES)(show.show)
app.command(name="debug", epilog=debug.EXAMPLES)(debug.debug)
app.command(name="demo", epilog=demo.EXAMPLES)(demo.demo)
app.add_typer(rpc.app, name="rpc")
app.command(name="up", epilog=rack.UP_EXAMPLES)(with_limits(rack.up))
app.command(name="down", epilog=rack.DOWN_EXAMPLES)(rack.down)
app.command(name="status", epilog=rack.STATUS_EXAMPLES)(rack.status)
app.add_typer(kv.app, name="kv")
app.add_typer(raft.app, name="raft")
app.add_typer(sim.app, name="sim")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"onerack {__version__}")
        raise typer.Exit


@app.callback()
def onerack(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A datacenter in one Python package. Today: MapReduce, RPC, and a replicated key-value store."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `onerack`. Ends the process."""
    _open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(execute(words))


def _open_standard_streams() -> None:
    """A caller may have closed one (`>&-`): then the next file to be opened would get its number, and our output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name or a counter that the terminal's encoding cannot say must not fail a job that is done.
        sys.stdout.reconfigure(errors="backslashreplace")


def execute(words: list[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        with storing("standard output"):
            code = _execute(words, as_json="--json" in words)
            sys.stdout.flush()
            return code
    except StorageFull as error:
        _discard_output()
        return failures.report(error, as_json=False)
    except BrokenPipeError:
        # The reader of our output (head, less) went away.
        _discard_output()
        return failures.FAILED


def _discard_output() -> None:
    """What is still buffered has nowhere to go, and must not be tried again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _execute(words: list[str], *, as_json: bool) -> int:
    """The same, for whoever reads our output to the end."""
    try:
        outcome = app(words, prog_name="onerack", standalone_mode=False)
        if outcome == failures.INTERRUPTED:  # What newer versions of typer make of Ctrl-C; they say nothing.
            raise KeyboardInterrupt
        return outcome if isinstance(outcome, int) else failures.DONE
    except (OnerackError, KeyboardInterrupt) as error:
        return failures.report(error, as_json=as_json)
    except typer.Abort:
        return failures.report(KeyboardInterrupt(), as_json=as_json)
    except Exception as error:
        if not hasattr(error, "format_message"):
            if as_json:
                print(json.dumps(failures.as_object(error)))
            raise
        return _report_usage(error, as_json=as_json)


def _report_usage(error: Exception, *, as_json: bool) -> int:
    """A mistake on the command line that typer found: unknown option, missing argument, not a number."""
    if as_json:
        described = failures.as_object(error)
        described.update(error=error.format_message(), exit_code=failures.USAGE)  # type: ignore[attr-defined]
        print(json.dumps(described))
    else:
        error.show()  # type: ignore[attr-defined]
    return failures.USAGE

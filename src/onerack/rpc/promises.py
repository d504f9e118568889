"""Promises: what each mode of delivery says will happen when something breaks, in words and in one table.

The idea: people choose a mode by what survives what, so the table stands in one place, from which `onerack rpc
explain` and the guide are written. The rule: a cell says what happens to the effect first, then what the caller hears.

Source: Birrell & Nelson 1984, section 3; Lee et al., RIFL, SOSP 2015.
"""

from __future__ import annotations

from typing import Final

from onerack.rpc.messages import Mode

PROMISES: Final[dict[Mode, str]] = {
    Mode.READONLY: "has no effect; tried again freely, never remembered",
    Mode.AT_LEAST_ONCE: "idempotent; tried again until answered or out of attempts, may run more than once",
    Mode.AT_MOST_ONCE: "runs once or not at all; a restarted server never runs it again",
    Mode.EXACTLY_ONCE: "runs once, whatever crashes, while its caller keeps asking; kept in a durable log",
}

SURVIVAL: Final[dict[str, tuple[str, str, str, str]]] = {
    "the connection is lost, the request or the reply with it": (
        "sent again",
        "sent again; may run twice",
        "sent again; runs once, a reply that was lost is repeated",
        "sent again; runs once, a reply that was lost is repeated",
    ),
    "a late copy arrives after the answer": ("runs, unnoticed", "runs again", "discarded", "discarded"),
    "the server crashes before it runs": (
        "sent again",
        "sent again",
        "did not run; `Unknown`",
        "sent again; runs once",
    ),
    "the server crashes after the effect, before it is remembered": (
        "sent again",
        "runs again",
        "ran once; `Unknown`",
        "cannot be: effect and reply are one record of the log",
    ),
    "the server crashes after it is remembered, before the answer": (
        "sent again",
        "runs again",
        "ran once; `Unknown`",
        "ran once; the reply is repeated",
    ),
    "the deadline passes": (
        "`NotExecuted` if it was not sent yet, else `Unknown`",
        "`NotExecuted` if it was not sent yet, else `Unknown`",
        "`NotExecuted` if it was not sent yet, else `Unknown`",
        "`NotExecuted` if it was not sent yet, else `Unknown`",
    ),
    "attempts run out": (
        "`Unknown`, or `NotExecuted` if that is proved",
        "`Unknown`, or `NotExecuted` if that is proved",
        "`Unknown`, or `NotExecuted` if that is proved",
        "they do not; without a deadline it waits",
    ),
    "the client is silent for longer than its session's lease": (
        "nothing",
        "nothing",
        "an open call ends as `Unknown`",
        "an open call ends as `Unknown`",
    ),
    "the client crashes": (
        "nothing",
        "ran any number of times",
        "ran once or not at all",
        "ran once or not at all; a new client has a new session",
    ),
    "the same call is sent with other arguments": (
        "nothing",
        "runs",
        "refused: a false retry",
        "refused: a false retry",
    ),
}
"""What happens, by mode in their order."""


def survival_of(mode: Mode) -> dict[str, str]:
    """One column of the table."""
    return {event: cells[mode] for event, cells in SURVIVAL.items()}


def survival_table() -> str:
    """The whole table as the guide shows it."""
    heads = [f"`{mode.name.lower()}`" for mode in Mode]
    lines = [f"| what happens | {' | '.join(heads)} |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {event} | {' | '.join(cells)} |" for event, cells in SURVIVAL.items())])

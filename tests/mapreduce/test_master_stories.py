"""Golden traces of the master: short stories with the expected answer below each command.

The idea: a file in stories/ draws a situation, then gives commands; below each, after `----`, stands what the master
then said, events and messages, line by line. A change of behaviour shows as a change of text, to be read by a person.

    ONERACK_REWRITE_STORIES=1 pytest tests/mapreduce/test_master_stories.py

writes what the master says now into the files; read the diff line by line before keeping it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from onerack.mapreduce.messages import (
    Dismiss,
    JobEnded,
    KillAttempt,
    LoadJob,
    RunMap,
    RunReduce,
)
from tests.mapreduce.master_bench import Bench, attempt_id
from tests.stories import check_story, retell

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


def obey(bench: Bench, line: str) -> list[str]:
    """`complete w1 m0.1 a=1`: a verb, names, settings. Gives the answer."""
    verb, *rest = line.split()
    words = [word for word in rest if "=" not in word]
    settings = {key: value for key, _, value in (word.partition("=") for word in rest if "=" in word)}
    fields: dict[str, object] = {key: int(value) for key, value in settings.items() if value.lstrip("-").isdecimal()}
    fields |= {key: value == "yes" for key, value in settings.items() if value in ("yes", "no")}
    if "at" in fields:
        bench.now = float(str(fields.pop("at")))
    match verb:
        case "submit":
            bench.submit(**fields)  # type: ignore[arg-type]
        case "register":
            if "running" in settings:
                fields["running"] = attempt_id(settings["running"])
            answers = []
            for word in words:
                bench.register(word, **fields)
                answers += answer(bench)
            return answers
        case "beat":
            bench.beat(*words, **fields)  # type: ignore[arg-type]
        case "complete":
            bench.complete(words[0], words[1], counters=fields)
        case "fail":
            bench.fail(words[0], words[1], **fields)  # type: ignore[arg-type]
        case "fetch-failed":
            bench.fetch_failed(words[0], words[1], words[2], **fields)  # type: ignore[arg-type]
        case "lose":
            bench.lose(words[0], *words[1:], **fields)  # type: ignore[arg-type]
        case "cancel":
            bench.cancel()
        case "tick":
            bench.tick(bench.now)
        case _:
            raise AssertionError(f"no such command: {line}")
    return answer(bench)


def answer(bench: Bench) -> list[str]:
    """What the master said, for people."""
    lines = [str(event) for event in bench.output.events]
    for envelope in bench.output.sends:
        match envelope.message:
            case RunMap() | RunReduce() as order:
                skips = [skip.record.number for skip in order.skips]
                tracked = f" tracked skips={skips}" if order.tracked else ""
                sections = (
                    f" reads {' '.join(str(s.attempt) for s in order.sections)}" if isinstance(order, RunReduce) else ""
                )
                lines.append(f"-> {envelope.to} {type(order).__name__} {order.attempt}{tracked}{sections}")
            case KillAttempt(attempt, reason):
                lines.append(f"-> {envelope.to} KillAttempt {attempt}: {reason}")
            case Dismiss(_, reason):
                lines.append(f"-> {envelope.to} Dismiss: {reason}")
            case JobEnded() as ended:
                parts = " ".join(part.path for part in ended.parts)
                lines.append(f"-> {envelope.to} JobEnded {ended.outcome} counters={ended.counters} parts={parts}")
            case LoadJob(spec):
                lines.append(f"-> {envelope.to} LoadJob {spec.job}")
    return lines or ["(nothing)"]


def retold(text: str) -> str:
    """The same story with the answers of today."""
    return retell(text, partial(obey, Bench()))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    check_story(path, retold)


def test_there_are_stories() -> None:
    assert len(STORIES) >= 6

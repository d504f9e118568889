"""Tracebacks as the user wants them."""

from __future__ import annotations

import pytest

from onerack.errors import UsageError
from onerack.mapreduce import calls
from onerack.mapreduce.context import current
from onerack.mapreduce.worker.traceback import (
    EXCEPTION_CHARS_MAX,
    EXCEPTION_LINES_MAX,
    TRACEBACK_CHARS_MAX,
    shortened,
    user_frames,
    user_traceback,
)


def caught(function: object, *arguments: object) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011
        function(*arguments)  # type: ignore[operator]
    return found.value


def fail() -> None:
    raise KeyError("mine")


def test_own_frames_are_cut_everywhere_in_the_chain() -> None:
    def outer() -> None:
        try:
            current()
        except UsageError as error:
            raise ValueError("outer") from error

    text = user_traceback(caught(calls.map_call(lambda: outer(), "map")))

    assert "in outer" in text
    assert "ValueError: outer" in text
    assert "direct cause" in text
    assert "context.py" not in text
    assert "calls.py" not in text


def test_the_frames_for_the_debugger_are_the_users() -> None:
    frames = user_frames(caught(calls.map_call(fail, "map")))
    names = []
    while frames is not None:
        names.append(frames.tb_frame.f_code.co_name)
        frames = frames.tb_next

    assert names[-1] == "fail"
    assert "call" not in names
    assert user_frames(ValueError()) is None


def test_formatting_never_fails() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        def __getattr__(self, name: str) -> object:
            raise RuntimeError("no attribute")

    assert "Hostile" in user_traceback(Hostile())


def test_groups_of_exceptions() -> None:
    group = BaseExceptionGroup("several", [caught(fail)])

    text = user_traceback(group)

    assert "several" in text
    assert "KeyError: 'mine'" in text


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x\n" * 1_000_000])
def test_an_endless_text_is_cut_and_the_frames_stay(text: str) -> None:
    def fail_at_length() -> None:
        raise ValueError(text)

    shown = user_traceback(caught(fail_at_length))

    assert "fail_at_length" in shown
    assert shown.endswith("...\n")
    assert len(shown) < EXCEPTION_CHARS_MAX + 500
    assert shown.count("\n") < EXCEPTION_LINES_MAX + 10


def test_the_size_of_the_whole_is_bounded() -> None:
    group = ExceptionGroup("many", [ValueError("x" * 1000) for _ in range(100)])

    text = user_traceback(group)

    assert len(text) < TRACEBACK_CHARS_MAX + 100
    assert "characters left out" in text


@pytest.mark.parametrize(
    ("text", "short"), [("abc", "abc"), ("abcd", "abc..."), ("a\nb", "a\nb"), ("a\nb\n", "a\nb..."), ("", "")]
)
def test_shortened(text: str, short: str) -> None:
    assert shortened(text, chars=3, lines=2) == short


def test_a_cycle_of_causes_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert "one" in user_traceback(one)

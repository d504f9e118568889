"""Tracebacks as the user wants them: his own frames, and the exception last.

The idea: between the start of a worker and a failing line of `map` lie a dozen frames of the engine; they say nothing
about the mistake and push it off the screen (the loudest complaint about engines that run Python from elsewhere). So
frames of this package are cut, from the exception and from those that caused it. The frames of libraries that the
user's code called stay: the mistake may be in what he gave them.

The rule: formatting never fails, whatever an exception's `__str__` does, and never grows without bound.
"""

from __future__ import annotations

import os
import traceback
from types import TracebackType

import onerack
from onerack.codec import as_utf8

TRACEBACK_CHARS_MAX = 10_000
EXCEPTION_CHARS_MAX = 2_000
EXCEPTION_LINES_MAX = 40
"""What is shown of one exception's own text, which may be a whole document that somebody wanted to see."""
_PACKAGE = os.path.dirname(os.path.abspath(onerack.__file__)) + os.sep
_OWN_FILES = (_PACKAGE, "<frozen importlib", "<frozen runpy")


def is_user_file(filename: str) -> bool:
    """Whether code of this file is the user's, or a library's on his behalf."""
    return not filename.startswith(_OWN_FILES)


def user_traceback(error: BaseException) -> str:
    """The traceback, without frames of onerack; ends with the exception and a newline."""
    try:
        formatted = traceback.TracebackException.from_exception(error, compact=True)
        _make_readable(formatted)
        text = "".join(formatted.format())
    except Exception as failure:  # An exception class may do anything, even in `__str__` and `__getattr__`.
        text = f"{type(error).__name__}: <its traceback cannot be formatted: {type(failure).__name__}>\n"
    if len(text) > TRACEBACK_CHARS_MAX:
        half = TRACEBACK_CHARS_MAX // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return as_utf8(text)


def user_frames(error: BaseException) -> TracebackType | None:
    """The traceback object reduced to the user's frames, for a debugger; None when there are none."""
    frames: list[TracebackType] = []
    link = error.__traceback__
    while link is not None:
        if is_user_file(link.tb_frame.f_code.co_filename):
            frames.append(link)
        link = link.tb_next
    reduced: TracebackType | None = None
    for frame in reversed(frames):
        reduced = TracebackType(reduced, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return reduced


def shortened(text: str, *, chars: int, lines: int) -> str:
    """The beginning of a text that is too long in either way; "..." says that there was more."""
    beginning = text[: chars + 1].split("\n", lines)
    short = "\n".join(beginning[:lines])[:chars]
    return as_utf8(text if short == text else short + "...")


def _make_readable(formatted: traceback.TracebackException) -> None:
    """Cuts onerack's frames, and endless texts, from the whole chain of causes."""
    waiting = [formatted]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.stack = traceback.StackSummary.from_list([frame for frame in each.stack if is_user_file(frame.filename)])
        # Before it is formatted: that makes a list of the text's lines, of which there may be millions.
        if isinstance(own := getattr(each, "_str", None), str):
            each._str = shortened(own, chars=EXCEPTION_CHARS_MAX, lines=EXCEPTION_LINES_MAX)  # type: ignore[attr-defined]
        waiting += [linked for linked in (each.__cause__, each.__context__) if linked is not None]
        waiting += each.exceptions or []

"""What a regular expression says about the bytes it can match, before it is run.

The idea: searching 4 GB for a fixed string is twenty times faster than running a regular expression over its lines.
Most patterns contain a string that every match must contain, too; only lines that hold it need the regular
expression. Where there is none, a pattern that cannot match a newline can still be searched for in whole blocks
instead of in line after line.

The rule: in doubt the answer is the slow one. The parse tree is that of Python's own `re`, which is private: when it
is not as expected, nothing is known about the pattern.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NEWLINE = 0x0A


class Literal(NamedTuple):
    """A string that is part of every match."""

    string: bytes
    folded: bool = False
    """True: it is in lower case, and part of the match in lower case."""


NOTHING = Literal(b"")


def required_literal(pattern: bytes, flags: int = 0) -> Literal:
    """The longest string known to be part of every match; empty when none is."""
    tree = _parsed(pattern, flags)
    if tree is None:
        return NOTHING
    try:
        literals = _literals(tree, _ignores_case(tree.state.flags))
    except (AttributeError, TypeError, ValueError):
        return NOTHING
    return max(literals, key=lambda literal: len(literal.string), default=NOTHING)


def stays_in_line(pattern: bytes, flags: int = 0) -> bool:
    """Whether searching a block of lines finds the same first match as searching its lines one by one.

    True only for patterns made of things that match neither a newline nor, as anchors do, the place beside one.
    """
    tree = _parsed(pattern, flags)
    if tree is None:
        return False
    try:
        return all(_is_local(part, tree.state.flags) for part in tree)
    except (AttributeError, TypeError, ValueError):
        return False


def _parsed(pattern: bytes, flags: int) -> Any:
    """The parse tree; None when this Python's `re` has no parser where it was expected."""
    try:
        from re import _parser  # type: ignore[attr-defined]

        return _parser.parse(pattern, flags)
    except (ImportError, AttributeError, re.error):
        return None


def _ignores_case(flags: int) -> bool:
    return bool(flags & re.IGNORECASE)


def _literals(tree: Any, ignore_case: bool) -> list[Literal]:
    """Strings that each match of a sequence contains."""
    found: list[Literal] = []
    run = bytearray()
    for operator, argument in tree:
        name = str(operator)
        # In some locale, which (?L) brings in, a byte from 128 on may be a letter of either case.
        if name == "LITERAL" and not (ignore_case and argument >= 128):
            run.append(argument)
            continue
        if name == "AT":
            continue  # An anchor has no width: what stands before it and behind it is still adjacent.
        found.append(_literal(run, ignore_case))
        run.clear()
        if name == "SUBPATTERN":
            _, added, removed, inner = argument
            found += _literals(inner, (ignore_case or _ignores_case(added)) and not _ignores_case(removed))
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and argument[0] > 0:
            found += _literals(argument[2], ignore_case)
        elif name == "ATOMIC_GROUP":
            found += _literals(argument, ignore_case)
    found.append(_literal(run, ignore_case))
    return found


def _literal(run: bytearray, ignore_case: bool) -> Literal:
    string = bytes(run)
    folded = ignore_case and string.lower() != string.upper()
    return Literal(string.lower() if folded else string, folded)


def _is_local(part: Any, flags: int) -> bool:
    """Whether one part of a pattern can neither match a newline nor feel one beside it."""
    operator, argument = part
    match str(operator):
        case "LITERAL":
            return bool(argument != _NEWLINE)
        case "NOT_LITERAL":
            return bool(argument == _NEWLINE)
        case "ANY":
            return not flags & re.DOTALL
        case "IN":
            return _excludes_newline(argument)
        case "BRANCH":
            return all(_is_local(inner, flags) for branch in argument[1] for inner in branch)
        case "SUBPATTERN":
            _, added, removed, inside = argument
            return all(_is_local(inner, (flags | added) & ~removed) for inner in inside)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return all(_is_local(inner, flags) for inner in argument[2])
        case "ATOMIC_GROUP":
            return all(_is_local(inner, flags) for inner in argument)
        case "AT":
            # At either end of a line there is a newline or nothing, and neither is part of a word.
            return str(argument) == "AT_BOUNDARY"
        case "GROUPREF":
            return True
    return False


def _excludes_newline(members: Any) -> bool:
    """Whether a set such as [a-z] or [^"\\n] does not contain the newline."""
    negated = False
    contains = False
    for operator, argument in members:
        match str(operator):
            case "NEGATE":
                negated = True
            case "LITERAL":
                contains |= argument == _NEWLINE
            case "RANGE":
                contains |= argument[0] <= _NEWLINE <= argument[1]
            case "CATEGORY":
                contains |= str(argument) in ("CATEGORY_SPACE", "CATEGORY_NOT_DIGIT", "CATEGORY_NOT_WORD")
            case _:
                return False
    return contains == negated

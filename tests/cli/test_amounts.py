"""Amounts: each boundary between two units or two widths."""

from __future__ import annotations

import pytest

from onerack.cli.amounts import count_text, plural, rate_text, seconds_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.00 s"),
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_seconds_never_show_sixty_of_anything(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "task", "0 tasks"),
        (1, "retry", "1 retry"),
        (2, "retry", "2 retries"),
        (1234567, "record", "1,234,567 records"),
    ],
)
def test_counts_agree_with_their_noun(count: int, noun: str, text: str) -> None:
    assert plural(count, noun) == text


def test_thousands_stand_apart() -> None:
    assert count_text(1234567) == "1,234,567"


def test_a_rate_is_a_size_a_second() -> None:
    assert rate_text(88.5 * 1024 * 1024) == "88.5 MB/s"

"""Retries: the budget and the pauses."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerack.config import RpcConfig
from onerack.rpc.core.retry import Backoff, RetryBudget

CONFIG = RpcConfig(retry_fraction=0.2, retry_per_s=2.0, retry_memory_s=5.0)
RESERVE = 10
"""Of a budget that was not used for a while: retry_per_s x retry_memory_s."""


def spend(budget: RetryBudget, now: float) -> int:
    """How many retries it allows at this moment."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_budget_allows_so_many_retries_a_second_whatever_the_calls() -> None:
    budget = RetryBudget(CONFIG, 0.0)
    assert spend(budget, 0.0) == RESERVE
    assert spend(budget, 0.0) == 0
    assert spend(budget, 3.0) == 6


def test_a_budget_allows_a_share_of_the_calls() -> None:
    budget = RetryBudget(CONFIG, 0.0)
    spend(budget, 0.0)
    budget.calls += 100
    assert spend(budget, 0.0) == 20


def test_unused_budget_is_lost() -> None:
    budget = RetryBudget(CONFIG, 0.0)
    budget.calls += 1_000_000
    budget.withdraw(0.0)
    assert spend(budget, 100.0) == RESERVE


def test_time_that_goes_back_gives_nothing() -> None:
    budget = RetryBudget(CONFIG, 100.0)
    assert spend(budget, 100.0) == RESERVE
    assert spend(budget, 0.0) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0.0, 3.0, allow_nan=False)), min_size=1, max_size=50
    )
)
def test_retries_are_never_more_than_their_share_plus_so_many_a_second(steps: list[tuple[int, int, float]]) -> None:
    budget = RetryBudget(CONFIG, 0.0)
    now = 0.0
    calls = retries = 0
    for made, tried, elapsed_s in steps:
        now += elapsed_s
        budget.calls += made
        calls += made
        retries += sum(budget.withdraw(now) for _ in range(tried))
        assert retries <= RESERVE + 0.2 * calls + 2.0 * now + 1e-6


# ------------------------------------------------------------------------------------------------ pauses


def test_pauses_grow_and_stay_within_their_bounds() -> None:
    config = RpcConfig(backoff_min_s=0.1, backoff_max_s=2.0)
    backoff = Backoff(config, Random(1))
    for retries in range(1, 60):
        pauses = [backoff.pause_s(retries) for _ in range(200)]
        longest = min(2.0, 0.1 * 2**retries)
        assert all(0.1 <= pause <= longest for pause in pauses)
        assert max(pauses) > 0.1 + 0.8 * (longest - 0.1), "the jitter uses all of it"


def test_many_clients_do_not_come_back_together() -> None:
    config = RpcConfig()
    pauses = sorted(Backoff(config, Random(seed)).pause_s(5) for seed in range(100))
    gaps = [after - before for before, after in pairwise(pauses)]
    assert max(gaps) < 0.3


@pytest.mark.parametrize("retries", [10_000, 1 << 60])
def test_a_thousandth_retry_costs_no_big_numbers(retries: int) -> None:
    assert Backoff(RpcConfig(), Random(1)).pause_s(retries) <= RpcConfig().backoff_max_s

"""The list of scenarios, and how one is played."""

from __future__ import annotations

from collections.abc import Callable

from onerack.sim.raft.kit import Kit
from onerack.sim.raft.planted import PLANTED

Scenario = Callable[[Kit], None]

SCENARIOS: dict[str, Scenario] = {}


class ScenarioFailed(AssertionError):
    """Something is wrong in a scenario."""


def scenario(play: Scenario) -> Scenario:
    """Lists a scenario under its name."""
    SCENARIOS[play.__name__] = play
    return play


def play(name: str, planted: str | None = None) -> None:
    """Raises: ScenarioFailed."""
    kit = PLANTED[planted]() if planted is not None else Kit()
    try:
        SCENARIOS[name](kit)
    except Exception as error:
        raise ScenarioFailed(f"{name}, {planted or 'honest'}: {error!r}") from error

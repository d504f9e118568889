"""Scenarios: the hazards that have a name, played move by move on a stage (stage.py).

    from onerack.sim.raft.scenarios import SCENARIOS, play
    play("fig8_old_term_commit")                                        raises ScenarioFailed if anything is wrong
    play("fig8_old_term_commit", "entries_of_old_terms_are_counted")    and with this bug it must be

The rule: a scenario says what the paper, or somebody's postmortem, says; it ends with all mended and well.
"""

from onerack.sim.raft.scenarios import elections, logs, reads, storage
from onerack.sim.raft.scenarios.plays import SCENARIOS, ScenarioFailed, play

__all__ = ["SCENARIOS", "ScenarioFailed", "elections", "logs", "play", "reads", "storage"]

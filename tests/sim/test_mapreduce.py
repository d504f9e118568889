"""The master under thousands of seeded worlds, and under bugs planted on purpose.

5,000 schedules in all; each is judged against the sequential run, with every invariant after every step.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onerack.sim.mapreduce import PLANTED, ScheduleFailed, run_many, run_schedule, tell
from onerack.sim.mapreduce.options import draw
from onerack.sim.seeds import stream

SCHEDULES = 5000
CHUNK = 250


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_every_schedule_gives_the_sequential_output(first: int) -> None:
    tally = run_many(range(first, first + CHUNK))
    assert tally.schedules == CHUNK
    assert tally.faults > CHUNK, "these worlds were too kind to prove anything"
    assert tally.attempts > tally.tasks, "nothing ever ran twice"


@pytest.mark.soak
def test_many_more_schedules() -> None:
    run_many(range(1_000_000, 1_100_000))


# ----------------------------------------------------------------------------------------------- planted bugs

FOUND: dict[str, tuple[int, str]] = {
    # One of the ordinary seeds that finds it, and what it says: kept, since a bug may come back another way.
    "completed_maps_stay_with_the_dead": (1, "jobs_that_can_be_done_are_done"),
    "completed_reduces_run_again": (71, "completed_tasks_do_not_run"),
    "counters_of_every_attempt": (1, "sums_match_results"),
    "every_completion_is_accepted": (0, "the_first_completion_wins"),
    "failed_tasks_are_forgotten": (0, "idle_tasks_wait_in_line"),
    "hung_tasks_are_waited_for": (1, "every_job_ends"),
    "kill_forgets_the_order": (976, "every_job_ends"),
    "kill_frees_at_once": (1, "idle_workers_wait_in_line"),
    "losers_run_on": (5, "one_slot_per_worker"),
    "lost_counters_are_lost": (1, "sums_match_results"),
    "lost_orders_are_not_said_again": (0, "every_job_ends"),
    "lost_output_comes_back": (1380, "what_was_lost_stays_lost"),
    "lost_reports_are_not_missed": (16, "every_job_ends"),
    "old_heartbeats_are_believed": (0, "nothing_runs_twice_without_a_fault"),
    "old_sections_are_remembered": (4, "a_reduce_reads_the_accepted_maps_in_order"),
    "overtaken_reports_are_given_up": (69, "nothing_runs_twice_without_a_fault"),
    "own_standstill_is_their_silence": (234, "nothing_runs_twice_without_a_fault"),
    "reduces_start_early": (0, "reduces_start_after_all_maps"),
    "repeated_registrations_start_afresh": (0, "nothing_runs_twice_without_a_fault"),
    "repeated_submissions_start_again": (44, "a_job_begins_once"),
    "results_are_not_journalled": (0, "what_is_told_is_journalled"),
    "running_tasks_die_with_their_worker": (0, "one_slot_per_worker"),
    "sections_in_order_of_completion": (1, "a_reduce_reads_the_accepted_maps_in_order"),
    "silence_is_patience": (0, "every_job_ends"),
    "skip_lists_are_forgotten": (1, "jobs_that_can_be_done_are_done"),
    "skips_without_end": (1, "sums_match_results"),
    "the_slow_get_company": (6, "stragglers_only"),
    "unreadable_output_is_tried_for_ever": (7, "every_job_ends"),
}


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_bug_is_found(name: str) -> None:
    seed, complaint = FOUND[name]
    assert seed < SCHEDULES, "the bug must be found within what `make test` runs"
    with pytest.raises(ScheduleFailed) as caught:
        run_schedule(seed, name)
    assert complaint in caught.value.reason
    run_schedule(seed)


def test_every_planted_bug_has_its_seed() -> None:
    assert sorted(FOUND) == sorted(PLANTED)
    assert len(PLANTED) >= 12


# ------------------------------------------------------------------------------------------------ determinism


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    program = "from onerack.sim.mapreduce import run_schedule\nfor s in range(40): print(run_schedule(s).trace_hash)"
    expected = [run_schedule(seed).trace_hash for seed in range(40)]
    for hash_seed in ("0", "1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == expected


def test_different_seeds_give_different_runs() -> None:
    assert len({run_schedule(seed).trace_hash for seed in range(50)}) == 50


def test_a_story_tells_options_messages_events_and_faults() -> None:
    story = tell(39)
    for word in ("mode = ", "-> master: Register", "master task_assigned", "FAULT", "job_ended", "trace_hash="):
        assert word in story
    assert tell(39) == story


def test_a_failed_schedule_says_how_to_see_it_again() -> None:
    seed, _ = FOUND["silence_is_patience"]
    with pytest.raises(ScheduleFailed, match=rf"tell\({seed}, 'silence_is_patience'\)"):
        run_schedule(seed, "silence_is_patience")
    assert "every_job_ends" in tell(seed, "silence_is_patience")


def test_a_run_without_faults_repeats_nothing() -> None:
    calm = 0
    for seed in range(400):
        options = draw(stream(seed, "options"))
        if options.calm and not options.backup_tasks:
            calm += 1
            report = run_schedule(seed)
            assert report.attempts == report.tasks
    assert calm > 20

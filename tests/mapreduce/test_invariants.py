"""Each invariant sees the falsehood that it is there to see, and reports it by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onerack.errors import InvariantBroken
from onerack.mapreduce import invariants
from onerack.mapreduce.core import Master
from onerack.mapreduce.invariants import Ledger, StragglersOnly, check_basic
from onerack.mapreduce.messages import (
    Extent,
    JobEnded,
    JobSubmitted,
    LoadJob,
    MapOutputLost,
    MapSection,
    Metrics,
    RunMap,
    RunReduce,
    Section,
    TaskCompleted,
)
from onerack.runtime.seam import Envelope, Output
from tests.mapreduce.master_bench import Bench, attempt_id, make_spec


def busy_master() -> Master:
    """w1 runs m1.1, w2 is idle, m0 is completed; all as it should be."""
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2)
    bench.complete("w2", "m0.1" if bench.runs.get("w2") == "m0.1" else "m1.1", counters={"a": 1})
    check_basic(bench.master)
    return bench.master


def _miscount(master: Master) -> None:
    master.jobs["j1"].maps.completed += 1


def _forget_task(master: Master) -> None:
    phase = master.jobs["j1"].maps
    task = next(iter(phase.working.values()))
    for worker in master.workers:
        worker.assignment = None
        worker.waiting = True
    task.running = []
    phase.working.clear()


def _forget_worker(master: Master) -> None:
    next(worker for worker in master.workers if worker.assignment is None).waiting = False


def _run_on_two(master: Master) -> None:
    busy = next(worker for worker in master.workers if worker.assignment is not None)
    next(worker for worker in master.workers if worker.assignment is None).assignment = busy.assignment


def _free_the_busy(master: Master) -> None:
    for worker in master.workers:
        worker.assignment = None
        worker.waiting = True


def _count_twice(master: Master) -> None:
    job = master.jobs["j1"]
    job.totals.add(next(job.results()))


def _skip_too_many(master: Master) -> None:
    master.jobs["j1"].quarantined = 1


def _run_thrice(master: Master) -> None:
    task = next(iter(master.jobs["j1"].maps.working.values()))
    task.running = task.running * 2


BASIC: dict[str, Callable[[Master], None]] = {
    "counts_match_states": _miscount,
    "idle_tasks_wait_in_line": _forget_task,
    "idle_workers_wait_in_line": _forget_worker,
    "one_slot_per_worker": _run_on_two,
    "sums_match_results": _count_twice,
    "bad_records_are_bounded": _skip_too_many,
    "nothing_runs_thrice": _run_thrice,
}


@pytest.mark.parametrize("name", BASIC)
def test_a_planted_falsehood_is_seen(name: str) -> None:
    master = busy_master()
    BASIC[name](master)
    assert getattr(invariants, name)(master)


def test_each_basic_invariant_has_its_falsehood() -> None:
    assert [prop.__name__ for prop in invariants.BASIC] == list(BASIC)


def test_a_broken_invariant_is_reported_by_name() -> None:
    master = busy_master()
    _free_the_busy(master)
    with pytest.raises(InvariantBroken, match=r"^one_slot_per_worker: ") as caught:
        check_basic(master)
    assert caught.value.name == "one_slot_per_worker"


# --------------------------------------------------------------------------------------------------- stragglers


def with_backup(completed: int = 9, age: float = 20.0) -> Master:
    """Ten maps; one that still runs has a backup that no rule started."""
    bench = Bench()
    bench.register(*(f"w{number}" for number in range(10)))
    bench.submit(maps=10, backup_tasks=True)
    bench.now = 1.0
    for index in range(completed):
        bench.complete(f"w{index}", f"m{index}.1")
    phase = bench.master.jobs["j1"].maps
    phase.start(next(iter(phase.working.values())), "w0", age, backup=True)
    return bench.master


@pytest.mark.parametrize(
    ("given", "age", "complaint"),
    [
        ({"age": 14.9}, 14.9, "14.900 s old"),
        ({"completed": 8}, 20.0, "8 of 10 tasks completed"),
    ],
)
def test_a_backup_without_reason_is_seen(given: dict[str, Any], age: float, complaint: str) -> None:
    with pytest.raises(InvariantBroken, match=f"^stragglers_only: .*{complaint}"):
        StragglersOnly().check(with_backup(**given), age)


def test_a_backup_with_a_reason_is_fine_and_is_judged_once() -> None:
    master, watch = with_backup(), StragglersOnly()
    watch.check(master, 20.0)
    master.jobs["j1"].maps.durations.append(100.0)
    watch.check(master, 20.0)


# ------------------------------------------------------------------------------------------------------ ledger

SECTION = Section("p", (Extent(0, 1, 1, 0),))
SUBMITTED = JobSubmitted(make_spec(maps=1, reducers=1))
LOADED = Envelope("w1", LoadJob(make_spec(maps=1, reducers=1)))
DONE = JobEnded("j1", "done", counters={"a": 1})


def ran(name: str, order: int = 1) -> Envelope:
    attempt = attempt_id(name)
    if attempt.kind == "map":
        return Envelope("w1", RunMap(attempt, order=order))
    return Envelope("w1", RunReduce(attempt, (MapSection(attempt_id("m0.1"), SECTION),), order=order))


def completed(name: str) -> TaskCompleted:
    sections = (SECTION,) if name.startswith("m") else ()
    return TaskCompleted(attempt_id(name), sections, (), {"a": 1} if sections else {}, Metrics())


def lost(name: str) -> MapOutputLost:
    return MapOutputLost(attempt_id(name), "gone")


STORY = [SUBMITTED, LOADED, ran("m0.1", 1), completed("m0.1"), ran("r0.1", 2), completed("r0.1"), DONE]
"""An honest job."""

FALSE: dict[str, list[Any]] = {
    "a_job_begins_once": [SUBMITTED, SUBMITTED],
    "the_first_completion_wins": [*STORY[:4], completed("m0.1")],
    "only_issued_attempts": [*STORY[:3], completed("m0.2")],
    "what_was_lost_stays_lost": [*STORY[:4], lost("m0.1"), completed("m0.1")],
    "a_completed_reduce_stays_completed": [*STORY[:6], lost("r0.1")],
    "only_accepted_output_is_lost": [*STORY[:3], lost("m0.1")],
    "nothing_after_the_end": [*STORY, ran("r0.2", 3)],
    "load_before_run": [SUBMITTED, ran("m0.1")],
    "orders_are_unique": [*STORY[:3], ran("m0.2", 1)],
    "completed_tasks_do_not_run": [*STORY[:4], ran("m0.2", 2)],
    "numbers_are_never_reused": [*STORY[:3], ran("m0.1", 2)],
    "reduces_start_after_all_maps": [*STORY[:3], ran("r0.1", 2)],
    "a_reduce_reads_the_accepted_maps_in_order": [
        *STORY[:4], lost("m0.1"), ran("m0.2", 2), completed("m0.2"), ran("r0.1", 3),
    ],
    "a_job_ends_once": [*STORY, DONE],
    "each_task_counts_once": [*STORY[:6], JobEnded("j1", "done", counters={"a": 2})],
    "done_means_all_done": [*STORY[:5], DONE],
    "what_is_told_is_journalled": [*STORY[:6], Envelope("client", DONE)],
}  # fmt: skip


def read(story: list[Any]) -> None:
    ledger = Ledger()
    for line in story:
        output = Output()
        if isinstance(line, Envelope):
            output.sends.append(line)
        else:
            output.applied.append(line)
        ledger.check(output)


def test_an_honest_story_is_believed() -> None:
    read(STORY)


@pytest.mark.parametrize("name", FALSE)
def test_a_false_story_is_seen_through(name: str) -> None:
    with pytest.raises(InvariantBroken) as caught:
        read(FALSE[name])
    assert caught.value.name == name


def test_an_order_may_be_said_again() -> None:
    read([*STORY[:3], ran("m0.1", 1)])

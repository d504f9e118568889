"""Failed attempts, bad records, stalls, unreadable output, stragglers: the rules that need thought."""

from __future__ import annotations

import msgspec
import pytest

from onerack.config import MapReduceConfig
from onerack.mapreduce.messages import JobSpec, KeyKinds, RecordAt, RunMap
from tests.mapreduce.master_bench import Bench, bad_record, make_spec

CONFIG = MapReduceConfig()


def order_of(bench: Bench, worker: str = "w1") -> RunMap:
    order = bench.order(worker)
    assert isinstance(order, RunMap)
    return order


# ------------------------------------------------------------------------------------------------- attempts


def test_a_failed_attempt_is_followed_by_a_tracked_one() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    assert not order_of(bench).tracked
    bench.fail("w1", "m0.1")
    assert order_of(bench).tracked
    assert str(order_of(bench).attempt) == "m0.2"


def test_a_job_fails_with_the_users_traceback_after_so_many_attempts() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    for number in range(1, CONFIG.attempts_max):
        bench.fail("w1", f"m0.{number}")
        assert bench.runs == {"w1": f"m0.{number + 1}"}
    bench.fail("w1", f"m0.{CONFIG.attempts_max}")
    assert (bench.ended.outcome, bench.ended.parts) == ("failed", ())
    assert bench.ended.failure is not None
    assert bench.ended.failure.traceback == "the user's frames"
    assert str(bench.ended.failed_attempt) == f"m0.{CONFIG.attempts_max}"


def test_a_kill_from_outside_is_not_the_tasks_failure_unless_it_is_the_same_record_each_time() -> None:
    bench = Bench()
    bench.submit(maps=1)
    for number in range(2 * CONFIG.attempts_max):
        bench.register("w1", pid=number)
        assert bench.runs == {"w1": f"m0.{number + 1}"}
        bench.lose("w1", "killed", record=number)
    bench.register("w1", pid=99)
    bench.lose("w1", "killed", record=3)
    assert bench.ended.outcome == "failed"
    assert bench.ended.failure is not None
    assert bench.ended.failure.record == RecordAt(3)


def test_a_crash_of_its_own_is_the_tasks_failure() -> None:
    bench = Bench()
    bench.submit(maps=1)
    for number in range(CONFIG.attempts_max):
        bench.register("w1", pid=number)
        bench.lose("w1", "crash")
    assert bench.ended.outcome == "failed"


def test_a_final_failure_ends_the_job_at_once() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2)
    bench.fail("w1", "m0.1", final=True)
    assert bench.ended.outcome == "failed"
    assert bench.kills == {"w2": "m1.1"}


def test_a_task_that_has_just_failed_somewhere_runs_elsewhere_if_it_can() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=3)
    bench.fail("w1", "m0.1")
    assert bench.runs == {"w1": "m1.1"}
    bench.register("w2")
    assert bench.runs == {"w2": "m0.2"}


def test_losing_a_worker_to_silence_is_not_the_tasks_failure() -> None:
    bench = Bench()
    bench.submit(maps=1)
    for number in range(1, CONFIG.attempts_max + 3):
        bench.register(f"w{number}")
        bench.lose(f"w{number}", "lost")
    assert bench.status().attempts_failed == 0
    assert bench.status().state == "running"


def test_a_task_that_loses_every_worker_ends_the_job_all_the_same() -> None:
    bench = Bench()
    bench.submit(maps=1)
    for number in range(CONFIG.losses_max):
        bench.register(f"w{number}")
        bench.lose(f"w{number}", "lost")
    assert bench.ended.outcome == "failed"
    assert bench.ended.failure is not None
    assert bench.ended.failure.message.startswith("map task 0 was lost 20 times")


# ---------------------------------------------------------------------------------------------- bad records


def test_a_record_that_fails_twice_is_what_the_job_fails_with() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.lose("w1")
    bench.register("w1")
    bench.lose("w1", record=17)
    bench.register("w1")
    bench.lose("w1", record=17)
    assert bench.ended.failure is not None
    assert bench.ended.failure.record == RecordAt(17)


def test_a_record_that_fails_twice_is_skipped_where_the_job_allows_it() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, skip_max=1)
    bench.fail("w1", "m0.1", record=17)
    bench.fail("w1", "m0.2", record=17)
    assert [skip.record.number for skip in order_of(bench).skips] == [17]
    assert order_of(bench).skips[0].traceback == "the user's frames"


def test_failures_on_different_records_do_not_make_a_bad_record() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, skip_max=9)
    bench.fail("w1", "m0.1", record=1)
    bench.fail("w1", "m0.2", record=2)
    assert order_of(bench).skips == ()


def test_attempts_are_counted_from_the_last_growth_of_the_skip_list() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, skip_max=9)
    for number in range(1, 9):
        bench.fail("w1", f"m0.{number}", record=(number - 1) // 2)
        assert bench.runs == {"w1": f"m0.{number + 1}"}, "four bad records, two failures each, and still at it"
    assert len(order_of(bench).skips) == 4


def test_no_more_is_skipped_than_the_job_allows() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2, skip_max=1)
    for worker, task in (("w1", "m0"), ("w2", "m1")):
        bench.fail(worker, f"{task}.1", record=5)
        if bench.runs.get(worker) != f"{task}.2":
            bench.beat(worker)
    bench.fail("w1", "m0.2", record=5)
    bench.fail("w2", "m1.2", record=5)
    assert bench.ended.failure is not None
    assert bench.ended.failure.record == RecordAt(5, "input", 50)


def test_records_that_workers_set_aside_count_too() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2, skip_max=1)
    bench.complete("w1", "m0.1", quarantined=(bad_record(3),))
    assert bench.status().quarantined == 1
    bench.complete("w2", "m1.1", quarantined=(bad_record(4),))
    assert bench.ended.outcome == "failed"
    assert bench.ended.failure is not None
    assert bench.ended.failure.message == "2 bad records were found; on_error allows 1"
    assert bench.ended.failure.record == bad_record(4).record


def test_a_map_that_runs_again_replaces_its_bad_records_and_counters() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=2, skip_max=1)
    bench.complete("w1", "m0.1", counters={"a": 5}, quarantined=(bad_record(3),))
    bench.lose("w1", "lost")
    assert bench.status().counters == {"a": 5}, "what was counted stays until it is replaced"
    bench.complete("w2", "m1.1")
    bench.complete("w2", "m0.2", counters={"a": 5}, quarantined=(bad_record(3),))
    bench.complete("w2", "r0.1")
    assert (bench.ended.outcome, bench.ended.counters) == ("done", {"a": 5})
    assert len(bench.ended.quarantined) == 1


# --------------------------------------------------------------------------------------------------- stalls


def stall(bench: Bench, attempt: str, record: int | None = None) -> None:
    at = RecordAt(record) if record is not None else None
    bench.beat("w1", attempt, moved=True, seen=10, record=at)
    bench.now += CONFIG.task_stall_timeout_s
    bench.beat("w1", attempt, moved=False, seen=10, record=at)


def test_a_task_that_makes_no_progress_is_killed_and_counts_as_failed() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    stall(bench, "m0.1")
    assert bench.kills == {"w1": "m0.1"}
    assert bench.status().attempts_failed == 1
    bench.beat("w1", seen=10)
    assert bench.runs == {"w1": "m0.2"}


def test_a_task_that_moves_now_and_then_is_not_hung() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    for _ in range(3):
        bench.now += CONFIG.task_stall_timeout_s - 1
        bench.beat("w1", "m0.1", moved=False, seen=1)
        bench.beat("w1", "m0.1", moved=True, seen=1)
    assert bench.kills == {}


def test_a_record_that_hangs_is_a_bad_record() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1, skip_max=1)
    for number in (1, 2, 3):
        stall(bench, f"m0.{number}", record=4 if number > 1 else None)
        bench.beat("w1", seen=10)
    assert [skip.record.number for skip in order_of(bench).skips] == [4]


# -------------------------------------------------------------------------------------------- lost sections


def with_reduces(workers: int = 2) -> Bench:
    bench = Bench()
    bench.register(*(f"w{number}" for number in range(1, workers + 1)), keeps_output=True)
    bench.submit(maps=1, reducers=2)
    bench.complete("w1", "m0.1")
    return bench


def test_one_reduce_that_cannot_read_is_tried_again() -> None:
    bench = with_reduces()
    bench.fetch_failed("w2", "r0.1", "m0.1")
    assert bench.status().maps.completed == 1
    assert bench.runs == {"w2": "r0.2"}


def test_two_reports_prove_that_a_map_output_is_lost() -> None:
    bench = with_reduces()
    bench.fetch_failed("w2", "r0.1", "m0.1")
    bench.fetch_failed("w1", "r1.1", "m0.1")
    assert bench.runs == {"w1": "m0.2"}
    assert bench.status().maps_lost == 1


def test_corrupt_output_is_lost_at_once() -> None:
    bench = with_reduces()
    bench.fetch_failed("w2", "r0.1", "m0.1", corrupt=True)
    assert bench.runs == {"w2": "m0.2"}


def test_output_of_a_worker_that_is_gone_is_lost_at_once() -> None:
    bench = with_reduces(workers=3)
    bench.lose("w1", "lost")
    reader = next(worker.name for worker in bench.master.workers if worker.assignment is not None)
    attempt = str(bench.master.workers.find(reader).assignment.attempt)  # type: ignore[union-attr]
    bench.fetch_failed(reader, attempt, "m0.1")
    assert "map_output_lost" in bench.events


def test_a_report_about_output_that_was_made_anew_is_no_news() -> None:
    bench = with_reduces()
    bench.fetch_failed("w2", "r0.1", "m0.1", corrupt=True)
    bench.complete("w2", "m0.2")
    bench.fetch_failed("w1", "r1.1", "m0.1", corrupt=True)
    assert bench.status().maps_lost == 1


def test_a_failed_fetch_is_not_the_reduces_failure() -> None:
    bench = with_reduces()
    bench.fetch_failed("w2", "r0.1", "m0.1")
    assert bench.status().attempts_failed == 0


def test_output_that_is_lost_again_and_again_ends_the_job() -> None:
    bench = Bench(msgspec.structs.replace(CONFIG, losses_max=3))
    bench.register("w1")
    bench.submit(maps=1, reducers=1, config=bench.master.config)
    for number in (1, 2, 3):
        bench.complete("w1", f"m0.{number}")
        bench.fetch_failed("w1", f"r0.{number}", f"m0.{number}", corrupt=True)
    assert bench.ended.outcome == "failed"


# ------------------------------------------------------------------------------------------------ stragglers


def nearly_done(backup_tasks: bool = True) -> Bench:
    """Nine of ten maps are completed, each after 2 s; w1 on host a is left with the tenth."""
    bench = Bench()
    bench.register("w1", host="a", seen=0)
    bench.register("w2", host="b", seen=0)
    bench.submit(maps=10, reducers=1, backup_tasks=backup_tasks)
    for number in range(1, 10):
        bench.now += 2.0
        bench.beat("w1", "m0.1", seen=99)
        bench.complete("w2", f"m{number}.1")
    return bench


def test_the_last_task_gets_a_backup_when_it_is_far_older_than_the_others() -> None:
    bench = nearly_done()
    assert bench.runs == {"w2": "m0.2"}, "18 s is older than 15 s and than three times 2 s"
    assert bench.status().backups == 1


def test_without_the_switch_no_task_gets_a_backup() -> None:
    bench = nearly_done(backup_tasks=False)
    bench.tick(29.0)
    assert bench.runs == {}


def test_a_task_that_is_merely_some_seconds_slow_never_runs_twice() -> None:
    bench = Bench()
    bench.register("w1", "w2", seen=0)
    bench.submit(maps=2, reducers=1, backup_tasks=True, config=half_is_nearly_done())
    bench.now = 1.0
    bench.complete("w2", "m1.1")
    assert bench.output.wake_at == 15.0
    bench.now = 14.9
    bench.beat("w1", "m0.1", seen=1)
    bench.beat("w2", seen=2)
    assert bench.runs == {}
    bench.tick(15.0)
    assert bench.runs == {"w2": "m0.2"}


def half_is_nearly_done() -> MapReduceConfig:
    return msgspec.structs.replace(CONFIG, backup_phase_fraction=0.5)


def test_a_backup_runs_on_another_host_if_there_is_one() -> None:
    bench = Bench()
    bench.register("w1", host="a", seen=0)
    bench.register("w2", host="a", seen=0)
    bench.register("w3", host="b", seen=0)
    bench.submit(maps=3, reducers=1, backup_tasks=True, config=half_is_nearly_done())
    bench.now = 1.0
    bench.complete("w2", "m1.1")
    bench.complete("w3", "m2.1")
    bench.tick(15.0)
    assert bench.runs == {"w3": "m0.2"}


@pytest.mark.parametrize(("winner", "loser"), [(("w1", "m0.1"), ("w2", "m0.2")), (("w2", "m0.2"), ("w1", "m0.1"))])
def test_the_first_of_both_wins_and_counts_once(winner: tuple[str, str], loser: tuple[str, str]) -> None:
    bench = nearly_done()
    bench.complete(*winner, counters={"a": 1})
    assert bench.kills == dict([loser])
    bench.complete(*loser, counters={"a": 1})
    assert bench.status().counters == {"a": 1}
    assert bench.status().attempts_killed == 1


def test_a_task_gets_one_backup_only() -> None:
    bench = nearly_done()
    bench.register("w3", host="c", seen=0)
    bench.now = 28.0
    bench.beat("w3", seen=0)
    assert bench.runs == {}
    assert bench.status().backups == 1


def test_at_most_one_of_twenty_slots_but_at_least_one_runs_a_backup() -> None:
    bench = Bench()
    bench.register(*(f"w{number}" for number in range(6)), seen=0)
    bench.submit(maps=6, reducers=1, backup_tasks=True, config=half_is_nearly_done())
    bench.now = 1.0
    for number in (3, 4, 5):
        bench.complete(f"w{number}", f"m{number}.1")
    bench.tick(15.0)
    assert bench.runs == {"w3": "m0.2"}, "three stragglers, three idle workers, one backup"
    bench.complete("w3", "m0.2")
    assert bench.runs == {"w4": "m1.2"}


def test_specs_differ_in_their_own_limits() -> None:
    spec: JobSpec = make_spec(config=msgspec.structs.replace(CONFIG, attempts_max=1))
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, config=spec.config)
    bench.fail("w1", "m0.1")
    assert bench.ended.outcome == "failed"


# ------------------------------------------------------------------------------------------ kinds of keys


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (KeyKinds("int"), KeyKinds("float"), "keys of two kinds in one job: int (map task m0) and float (map task m2)"),
        (KeyKinds("str", "int"), KeyKinds("str", "str"), "sort keys of two kinds in one job: int"),
    ],
)
def test_keys_of_two_kinds_fail_the_job_whichever_partitions_they_are_in(
    first: KeyKinds, second: KeyKinds, message: str
) -> None:
    bench = Bench()
    bench.register("w1", "w2", "w3")
    bench.submit(maps=3, reducers=2)
    bench.complete("w2", "m1.1", rows=0)  # A map without keys says nothing about their kind.
    bench.complete("w1", "m0.1", kinds=first)
    bench.complete("w3", "m2.1", kinds=second)
    assert bench.ended.outcome == "failed"
    assert bench.ended.failure is not None
    assert bench.ended.failure.message.startswith(message)

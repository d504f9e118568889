"""The paper's sentences about tasks and workers, one test each, named as the sentence."""

from __future__ import annotations

import pytest

from onerack.mapreduce.messages import JobSubmitted, LoadJob, TaskCompleted
from tests.mapreduce.master_bench import Bench, attempt_id, metrics


def finish_maps(bench: Bench) -> None:
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=2, reducers=1)
    bench.complete("w1", "m0.1")
    bench.complete("w2", "m1.1")


def test_idle_workers_are_given_idle_tasks() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=3)
    assert bench.runs == {"w1": "m0.1", "w2": "m1.1"}
    bench.complete("w2", "m1.1")
    assert bench.runs == {"w2": "m2.1"}


def test_a_job_is_loaded_once_before_its_first_task() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=2)
    assert [type(envelope.message).__name__ for envelope in bench.output.sends] == ["LoadJob", "RunMap"]
    bench.complete("w1", "m0.1")
    assert not bench.sent(LoadJob)


def test_a_reduce_starts_only_after_all_maps_are_completed() -> None:
    bench = Bench()
    bench.register("w1", "w2", "w3")
    bench.submit(maps=2, reducers=2)
    bench.complete("w1", "m0.1")
    assert bench.runs == {}
    bench.complete("w2", "m1.1")
    assert sorted(bench.runs.values()) == ["r0.1", "r1.1"]


def test_a_reduce_is_given_the_sections_in_the_order_of_map_index_without_empty_ones() -> None:
    bench = Bench()
    bench.register("w1", "w2", "w3")
    bench.submit(maps=3, reducers=1)
    bench.complete("w3", "m2.1")
    bench.complete("w2", "m1.1", rows=0)
    bench.complete("w1", "m0.1")
    order = bench.order("w3")
    assert [str(section.attempt) for section in order.sections] == ["m0.1", "m2.1"]  # type: ignore[union-attr]


def test_the_job_is_done_when_all_reduces_are_completed() -> None:
    bench = Bench()
    finish_maps(bench)
    bench.complete("w1", "r0.1", counters={"words": 7})
    assert (bench.ended.outcome, bench.ended.counters) == ("done", {"words": 7})
    assert [part.path for part in bench.ended.parts] == ["r0.1@w1"]
    assert bench.ended.partition_bytes == (20,)
    assert bench.status().state == "done"


def test_a_job_without_reduces_publishes_the_parts_of_its_maps() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2, reducers=0)
    bench.complete("w2", "m1.1")
    bench.complete("w1", "m0.1")
    assert [part.path for part in bench.ended.parts] == ["m0.1@w1", "m1.1@w2"]


def test_a_job_without_splits_still_has_its_partitions() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=0, reducers=2)
    assert sorted(bench.runs.values()) == ["r0.1", "r1.1"]
    bench.complete("w1", "r0.1")
    bench.complete("w2", "r1.1")
    assert len(bench.ended.parts) == 2


def test_a_job_without_anything_is_done_at_once() -> None:
    bench = Bench()
    bench.submit(maps=0, reducers=0)
    assert (bench.ended.outcome, bench.ended.parts) == ("done", ())


def test_jobs_are_served_in_the_order_of_submission() -> None:
    bench = Bench()
    bench.submit(maps=2, reducers=1, job="a")
    bench.submit(maps=2, reducers=1, job="b")
    bench.register("w1", "w2", "w3")
    assert bench.master.workers.find("w3").assignment.attempt == attempt_id("m0.1", "b")  # type: ignore[union-attr]
    bench.complete("w1", "m0.1", job="a")
    assert bench.runs == {"w1": "m1.1"}
    assert bench.order("w1").attempt.job == "b", "job a waits for its maps; its reduce must not hold a slot"


# ------------------------------------------------------------------------------------------- lost workers


def test_the_task_in_progress_of_a_lost_worker_is_idle_again() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.lose("w1")
    bench.register("w2")
    assert bench.runs == {"w2": "m0.2"}


def test_completed_maps_of_a_lost_worker_run_again_while_a_reduce_lacks_them() -> None:
    bench = Bench()
    finish_maps(bench)
    bench.lose("w2", "lost")
    assert "map_output_lost" in bench.events
    bench.complete("w1", "r0.1")
    assert bench.ended.outcome == "done", "a reduce that had read the lost output keeps it"


def test_a_reduce_waits_again_when_a_map_is_lost() -> None:
    bench = Bench()
    finish_maps(bench)
    bench.lose("w2", "lost")
    bench.fail("w1", "r0.1")
    assert bench.runs == {"w1": "m1.2"}
    bench.complete("w1", "m1.2")
    assert bench.runs == {"w1": "r0.2"}


def test_completed_maps_stay_completed_where_output_outlives_the_worker() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=True)
    bench.submit(maps=2)
    bench.complete("w2", "m1.1")
    bench.lose("w2")
    assert bench.status().maps.completed == 1
    assert bench.status().maps_lost == 0


def test_parts_of_a_job_without_reduces_outlive_their_worker() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=2, reducers=0)
    bench.complete("w2", "m1.1")
    bench.lose("w2")
    assert bench.status().maps.completed == 1


def test_completed_reduces_of_a_lost_worker_do_not_run_again() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=1, reducers=2)
    bench.complete("w1", "m0.1")
    bench.complete("w2", "r0.1")
    bench.lose("w2", "lost")
    assert bench.status().reduces.completed == 1


def test_no_map_runs_again_once_the_job_is_done() -> None:
    bench = Bench()
    finish_maps(bench)
    bench.complete("w1", "r0.1")
    bench.lose("w2")
    assert bench.output.applied == []


def test_a_silent_worker_is_lost_and_told_so() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    assert bench.output.wake_at == 30.0
    bench.tick(29.9)
    assert bench.status().workers == 1
    bench.tick(30.0)
    assert bench.status().workers == 0
    assert [envelope.to for envelope in bench.output.sends] == ["w1"]


def test_a_worker_that_is_heard_is_not_lost() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.now = 29.0
    bench.beat("w1", "m0.1")
    bench.tick(30.0)
    assert bench.status().workers == 1
    assert bench.output.wake_at == 59.0


def test_a_tick_an_hour_late_takes_nobody_for_dead() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.tick(3600.0)
    assert bench.status().workers == 1
    assert bench.output.wake_at is not None
    bench.tick(bench.output.wake_at)
    assert bench.status().workers == 0, "and yet, who stays silent now is dead"


@pytest.mark.parametrize("times", [1, 50])
def test_a_spurious_tick_is_harmless(times: int) -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    for _ in range(times):
        bench.tick(bench.now)
        assert not bench.output.sends


# --------------------------------------------------------------------------------------------- what is kept


def test_every_decision_is_journalled_with_what_follows_from_it() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, reducers=0)
    assert [type(decision) for decision in bench.output.applied] == [JobSubmitted]
    bench.complete("w1", "m0.1")
    assert [type(decision).__name__ for decision in bench.output.applied] == ["TaskCompleted", "JobEnded"]
    assert len(bench.output.writes) == 2


def test_the_journal_can_be_read_back() -> None:
    import msgspec

    from onerack.mapreduce.messages import JournalRecord

    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, reducers=0)
    bench.complete("w1", "m0.1", counters={"a": 1})
    decoder = msgspec.msgpack.Decoder(JournalRecord)
    decoded = [decoder.decode(record) for record in bench.output.writes]
    assert decoded == bench.output.applied
    assert isinstance(decoded[0], TaskCompleted)


def test_the_status_adds_what_runs_to_what_is_accepted() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2)
    bench.complete("w1", "m0.1", metrics=metrics(records_in=10, bytes_in=100, memory_bytes_max=5))
    bench.now = 3.0
    bench.beat("w2", "m1.1", metrics=metrics(records_in=4, bytes_in=40, memory_bytes_max=9))
    status = bench.status()
    assert (status.metrics.records_in, status.metrics.memory_bytes_max, status.metrics.seconds) == (14, 9, 3.0)
    assert (status.maps.bytes_total, status.maps.bytes_done) == (200, 140)
    assert (status.maps.idle, status.maps.in_progress, status.maps.completed) == (0, 1, 1)


def test_the_status_of_an_unknown_job_is_none() -> None:
    assert Bench().master.status("nobody", 0.0) is None

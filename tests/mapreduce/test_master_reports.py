"""Late, repeated, lost and overtaken messages, and workers who come back from the dead."""

from __future__ import annotations

import msgspec
import pytest

from onerack.config import MapReduceConfig
from onerack.mapreduce.messages import (
    AttemptFailed,
    Dismiss,
    Failure,
    FetchFailed,
    Heartbeat,
    JobEnded,
    KillAttempt,
    LoadJob,
    MapCompleted,
    ReduceCompleted,
    Register,
    RunMap,
)
from tests.mapreduce.master_bench import Bench, attempt_id

NOBODY = attempt_id("m0.1", job="nobody's")


def test_a_repeated_completion_is_ignored() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=2)
    bench.complete("w1", "m0.1", counters={"a": 1})
    bench.complete("w1", "m0.1", counters={"a": 1})
    assert bench.events == ["report_ignored"]
    assert bench.status().counters == {"a": 1}


def test_a_repeated_completion_does_not_free_a_worker_that_runs_something_else() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=3)
    bench.complete("w1", "m0.1")
    bench.complete("w1", "m0.1")
    assert bench.runs == {}
    assert bench.status().maps.in_progress == 1


def test_the_late_completion_of_a_lost_worker_is_accepted_if_no_other_came_first() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=1)
    bench.lose("w1", "lost")
    assert bench.runs == {"w2": "m0.2"}
    bench.complete("w1", "m0.1")
    assert bench.kills == {"w2": "m0.2"}
    assert bench.status().maps.completed == 1


def test_the_late_completion_of_a_lost_worker_is_ignored_if_another_came_first() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=1, reducers=0)
    bench.lose("w1", "lost")
    bench.complete("w2", "m0.2")
    assert [part.path for part in bench.ended.parts] == ["m0.2@w2"]
    bench.complete("w1", "m0.1")
    assert bench.events == ["report_ignored"]
    assert not bench.sent(JobEnded)


def test_the_completion_of_a_worker_whose_output_died_with_it_is_refused() -> None:
    bench = Bench()
    bench.register("w1", keeps_output=False)
    bench.submit(maps=1)
    bench.lose("w1")
    bench.complete("w1", "m0.1")
    assert bench.events == ["report_ignored"]


def test_a_repeated_completion_of_lost_output_is_refused() -> None:
    bench = Bench()
    bench.register("w1", "w2", keeps_output=False)
    bench.submit(maps=1)
    bench.complete("w1", "m0.1")
    assert bench.runs == {"w2": "r0.1"}
    bench.fetch_failed("w2", "r0.1", "m0.1", corrupt=True)
    bench.complete("w1", "m0.1")
    assert "report_ignored" in bench.events


def test_a_completion_with_the_wrong_number_of_sections_is_a_failed_attempt() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1, reducers=3)
    bench.say(MapCompleted("w1", attempt_id("m0.1"), ()))
    assert bench.events[0] == "attempt_failed"
    assert bench.runs == {"w1": "m0.2"}


def test_nobody_reports_what_another_runs() -> None:
    bench = Bench()
    bench.register("w1", "w2")
    bench.submit(maps=2)
    bench.complete("w2", "m0.1")
    bench.fail("w2", "m0.1")
    assert bench.status().maps.in_progress == 2


def test_a_completion_of_the_wrong_kind_is_ignored() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.say(ReduceCompleted("w1", attempt_id("m0.1"), ()))
    assert bench.events[0] == "report_ignored"


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat("w9"),
        Heartbeat("w1", NOBODY),
        MapCompleted("w1", NOBODY, ()),
        MapCompleted("w1", attempt_id("m7.1"), ()),
        MapCompleted("w1", attempt_id("m0.9"), ()),
        MapCompleted("w1", attempt_id("m0.0"), ()),
        MapCompleted("w1", attempt_id("m-1.1"), ()),
        ReduceCompleted("w9", NOBODY, ()),
        AttemptFailed("w9", NOBODY, Failure("exception", "no")),
        FetchFailed("w9", NOBODY, NOBODY, "gone"),
        FetchFailed("w9", attempt_id("r0.1"), NOBODY, "gone"),
        Register("w1", running=NOBODY),
        Register("w9", running=attempt_id("m0.5"), seen=77),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_said_about_unknown_things_changes_nothing(message: object) -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    before = bench.status()
    bench.say(message)
    after = bench.status()
    assert (after.maps.completed, after.reduces, after.state) == (before.maps.completed, before.reduces, "running")


def test_an_unknown_worker_that_beats_is_dismissed_so_that_it_registers() -> None:
    bench = Bench()
    bench.beat("w1")
    assert [envelope.to for envelope in bench.sent(Dismiss)] == ["w1"]


def test_what_is_said_about_unknown_jobs_and_workers_is_ignored() -> None:
    bench = Bench()
    bench.cancel("nobody's")
    assert bench.events == ["cancel_ignored"]
    bench.lose("nobody")
    assert bench.events == ["worker_lost_ignored"]


# -------------------------------------------------------------------------------------------- lost messages


def test_an_order_that_was_not_seen_is_said_again() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.now = 0.5
    bench.beat("w1", seen=0)
    assert not bench.output.sends, "it may still be on its way"
    bench.now = 1.0
    bench.beat("w1", seen=0)
    assert [type(envelope.message) for envelope in bench.output.sends] == [LoadJob, RunMap]
    assert bench.order("w1").order == 1


def test_an_order_is_not_said_again_to_a_worker_that_does_not_count() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.now = 20.0
    bench.beat("w1")
    assert not bench.output.sends


def test_an_attempt_whose_report_was_lost_runs_again() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.beat("w1", seen=1)
    assert bench.status().maps.in_progress == 1, "the report may have been overtaken by this heartbeat"
    bench.now = 2.0
    bench.beat("w1", seen=1)
    assert bench.runs == {"w1": "m0.2"}


def test_a_report_that_was_only_overtaken_is_accepted_within_the_grace() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.beat("w1", seen=1)
    bench.now = 1.9
    bench.complete("w1", "m0.1")
    assert bench.status().maps.completed == 1


def test_a_heartbeat_from_before_the_order_is_not_believed() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=2)
    bench.complete("w1", "m0.1")
    for moment in (0.1, 5.0, 10.0):
        bench.now = moment
        bench.beat("w1", seen=1)
        assert "attempt_lost" not in bench.events


def test_a_heartbeat_that_the_report_overtook_is_not_believed() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.complete("w1", "m0.1")
    bench.complete("w1", "r0.1")
    bench.beat("w1", "r0.1")
    assert not bench.output.sends


def test_a_repeated_register_changes_nothing() -> None:
    bench = Bench()
    bench.register("w1", pid=7, seen=0)
    bench.submit(maps=1)
    bench.register("w1", pid=7, seen=0)
    assert bench.status().maps.in_progress == 1
    assert not bench.runs


# ---------------------------------------------------------------------------------------------- coming back


def test_another_process_of_the_same_name_has_lost_what_the_first_ran() -> None:
    bench = Bench()
    bench.register("w1", pid=7)
    bench.submit(maps=1)
    bench.register("w1", pid=8)
    assert bench.runs == {"w1": "m0.2"}
    assert bench.sent(LoadJob)


def test_a_worker_that_reconnects_goes_on_with_its_attempt() -> None:
    bench = Bench()
    bench.register("w1", pid=7)
    bench.submit(maps=1)
    bench.register("w1", pid=7, running=attempt_id("m0.1"))
    assert not bench.output.sends
    assert bench.status().maps.in_progress == 1


def test_a_worker_that_reconnects_without_its_attempt_has_lost_it() -> None:
    bench = Bench()
    bench.register("w1", pid=7)
    bench.submit(maps=1)
    bench.register("w1", pid=7)
    assert bench.runs == {"w1": "m0.2"}


def test_a_zombie_goes_on_if_nobody_has_taken_its_task() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.tick(30.0)
    bench.register("w1", running=attempt_id("m0.1"), seen=1)
    assert bench.events == ["worker_registered", "attempt_resumed"]
    bench.complete("w1", "m0.1")
    assert bench.status().maps.completed == 1


def test_a_zombie_is_stopped_if_another_has_taken_its_task() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.tick(30.0)
    bench.register("w2", seen=0)
    bench.register("w1", running=attempt_id("m0.1"), seen=1)
    assert bench.kills == {"w1": "m0.1"}
    bench.beat("w1", seen=1)
    assert bench.master.workers.find("w1").assignment is None  # type: ignore[union-attr]


def test_a_dismissal_tells_how_old_it_is() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.tick(30.0)
    (dismissal,) = bench.sent(Dismiss)
    assert dismissal.message.order == 1


# -------------------------------------------------------------------------------------------------- clients


def test_a_job_submitted_twice_starts_once() -> None:
    bench = Bench()
    bench.register("w1")
    bench.submit(maps=1)
    bench.submit(maps=1)
    assert bench.events == ["job_known_already"]


def test_a_job_submitted_again_after_its_end_is_told_its_end() -> None:
    bench = Bench()
    bench.submit(maps=0, reducers=0)
    first = bench.ended
    bench.submit(maps=0, reducers=0)
    assert bench.ended == first
    assert bench.output.applied == []


def test_old_jobs_are_forgotten() -> None:
    bench = Bench(msgspec.structs.replace(MapReduceConfig(), ended_jobs_max=2))
    for name in ("a", "b", "c"):
        bench.submit(maps=0, reducers=0, job=name)
    assert bench.master.status("a", 0.0) is None
    assert bench.status("c").state == "done"


def test_cancel_stops_everything_and_leaves_no_parts() -> None:
    bench = Bench()
    bench.register("w1", "w2", seen=0)
    bench.submit(maps=2, reducers=0)
    bench.complete("w1", "m0.1")
    bench.cancel()
    assert (bench.ended.outcome, bench.ended.parts) == ("cancelled", ())
    assert bench.kills == {"w2": "m1.1"}
    bench.complete("w2", "m1.1")
    assert bench.events == ["report_ignored"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reducers": -1}, "expected 0 or more"),
        ({"splitters": (b"a", b"b")}, "expected 0"),
    ],
)
def test_a_spec_that_makes_no_sense_fails_and_says_why(changes: dict[str, object], expected: str) -> None:
    bench = Bench()
    bench.submit(maps=1, **changes)  # type: ignore[arg-type]
    assert bench.ended.outcome == "failed"
    assert bench.ended.failure is not None
    assert expected in bench.ended.failure.message


# ------------------------------------------------------------------------------------------------- the kill


def test_a_worker_that_was_told_to_stop_is_busy_until_it_says_otherwise() -> None:
    bench = Bench()
    bench.register("w1", "w2", seen=0)
    bench.submit(maps=1, job="a")
    bench.cancel("a")
    assert bench.kills == {"w1": "m0.1"}
    bench.submit(maps=3, job="b")
    assert bench.runs == {"w2": "m0.1"}
    bench.complete("w1", "m0.1", job="a")
    assert bench.runs == {}, "its host may be about to end the process"
    bench.beat("w1", seen=1)
    assert bench.runs == {"w1": "m1.1"}


def test_a_kill_that_was_lost_is_said_again() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1)
    bench.cancel()
    bench.now = 1.0
    bench.beat("w1", "m0.1", seen=1)
    assert bench.kills == {"w1": "m0.1"}
    assert bench.sent(KillAttempt)[0].message.order == 1


def test_what_a_worker_that_was_told_to_stop_takes_with_it_is_not_held_against_anybody() -> None:
    bench = Bench()
    bench.register("w1", seen=0)
    bench.submit(maps=1, job="a")
    bench.cancel("a")
    bench.submit(maps=1, job="b")
    bench.beat("w1", seen=1)
    assert bench.runs == {"w1": "m0.1"}
    bench.lose("w1", "killed")
    assert bench.status("b").attempts_failed == 0
    assert "attempt_lost" in bench.events

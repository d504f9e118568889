"""The judge: compares what came out with the sequential run, and asks of every repeated attempt why it was.

The idea: three questions. Is a job's output, byte for byte and in order, that of one process that reads everything
once? Are its counters and its bad records exactly those? And did any task run twice to which nothing had happened?

The rule: an excuse is a fault that the simulation itself inflicted on the task or on a worker that ran it; that a
task was slow is none.
"""

from __future__ import annotations

from onerack.errors import InvariantBroken
from onerack.mapreduce.messages import AttemptId, JobEnded, TaskKind
from onerack.sim.mapreduce.workload import Place, Rows, SimJob, checksum

TaskName = tuple[str, TaskKind, int]


class Judge:
    def __init__(self, jobs: dict[str, SimJob]) -> None:
        self._jobs = jobs
        self.open_jobs = list(jobs)
        self._ended: dict[str, JobEnded] = {}
        self._files: dict[str, Rows] = {}
        self._runs: dict[TaskName, dict[int, str]] = {}
        """Task -> number of the attempt -> the worker that was told to run it."""
        self._excused: set[TaskName] = set()
        self._disturbed: set[str] = set()
        self._backups: set[tuple[str, str]] = set()

    @property
    def all_ended(self) -> bool:
        return not self.open_jobs

    @property
    def attempts(self) -> int:
        return sum(len(runs) for runs in self._runs.values())

    # ------------------------------------------------------------------------------------------- what it hears

    def ordered(self, attempt: AttemptId, worker: str) -> None:
        self._runs.setdefault((attempt.job, attempt.kind, attempt.index), {})[attempt.number] = worker

    def excuse(self, attempt: AttemptId) -> None:
        self._excused.add((attempt.job, attempt.kind, attempt.index))

    def backup_started(self, job: str, attempt: str) -> None:
        self._backups.add((job, attempt))

    def disturbed(self, worker: str) -> None:
        self._disturbed.add(worker)

    def written(self, path: str, rows: Rows) -> None:
        if path in self._files:
            raise InvariantBroken("an_attempt_writes_once", path)
        self._files[path] = rows

    def job_ended(self, ended: JobEnded) -> None:
        if ended.job in self._ended:
            if self._ended[ended.job] != ended:
                raise InvariantBroken("the_end_never_changes", ended.job)
            return
        self._ended[ended.job] = ended
        self.open_jobs.remove(ended.job)
        job = self._jobs[ended.job]
        if ended.outcome == "done":
            self._check_done(job, ended)
        elif ended.outcome == "failed":
            self._check_failed(job, ended)

    # ----------------------------------------------------------------------------------------------- verdicts

    def _check_done(self, job: SimJob, ended: JobEnded) -> None:
        if job.must_fail:
            raise InvariantBroken("bad_records_fail_the_job", f"{ended.job} has {len(job.found_bad)} and is done")
        found = [self._files[part.path] for part in ended.parts]
        if found != job.expected:
            raise InvariantBroken("output_equals_the_sequential_run", f"{ended.job}: {found}, expected {job.expected}")
        for part, rows in zip(ended.parts, found, strict=True):
            if (part.rows, part.checksum) != (len(rows), checksum(rows)):
                raise InvariantBroken("parts_are_what_was_reported", part.path)
        if ended.counters != job.expected_counters:
            detail = f"{ended.job}: {ended.counters}, expected {job.expected_counters}"
            raise InvariantBroken("counters_are_exact", detail)
        if len(ended.quarantined) != len(job.found_bad):
            detail = f"{ended.job}: {len(ended.quarantined)} were set aside, {len(job.found_bad)} are bad"
            raise InvariantBroken("exactly_the_bad_records_are_set_aside", detail)

    def _check_failed(self, job: SimJob, ended: JobEnded) -> None:
        if not job.must_fail or ended.failure is None:
            raise InvariantBroken("jobs_that_can_be_done_are_done", f"{ended.job}: {ended.failure}")
        attempt, record = ended.failed_attempt, ended.failure.record
        place: Place | None = (attempt.kind, attempt.index, record.number) if attempt and record else None
        if place not in job.found_bad:
            raise InvariantBroken("the_failure_names_the_bad_record", f"{ended.job} names {place}")

    def check_attempts(self) -> None:
        """Requires: the run is over."""
        for name, runs in self._runs.items():
            if len(runs) == 1 or name in self._excused or self._is_bad(name):
                continue
            own = [number for number in runs if (name[0], f"{name[1][0]}{name[2]}.{number}") not in self._backups]
            if len(own) > 1 and not self._disturbed.intersection(runs.values()):
                detail = f"{name} ran {len(runs)} times though nothing had happened to it"
                raise InvariantBroken("nothing_runs_twice_without_a_fault", detail)

    def _is_bad(self, name: TaskName) -> bool:
        return any((place[0], place[1]) == name[1:] for place in self._jobs[name[0]].found_bad)

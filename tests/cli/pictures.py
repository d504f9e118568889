"""Pictures of jobs for the tests of what is shown."""

from __future__ import annotations

from onerack.mapreduce.messages import JobStatus, Metrics, PhaseStatus

MB = 1024 * 1024


def picture(
    *,
    maps: tuple[int, int] = (0, 4),
    reduces: tuple[int, int] = (0, 2),
    megabytes: tuple[int, int] = (0, 100),
    job: str = "20261123-101502-3f9a",
    retries: int = 0,
    workers_lost: int = 0,
    quarantined: int = 0,
) -> JobStatus:
    """A job of which so many of so many tasks and megabytes are done."""

    def phase(done: int, tasks: int, bytes_done: int, bytes_total: int) -> PhaseStatus:
        running = min(2, tasks - done)
        return PhaseStatus(
            tasks=tasks,
            idle=tasks - done - running,
            in_progress=running,
            completed=done,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
        )

    return JobStatus(
        job=job,
        name="wordcount",
        state="running",
        maps=phase(*maps, megabytes[0] * MB, megabytes[1] * MB),
        reduces=phase(*reduces, 0, 0),
        metrics=Metrics(bytes_in=megabytes[0] * MB),
        attempts_failed=retries,
        workers=2,
        workers_lost=workers_lost,
        quarantined=quarantined,
    )

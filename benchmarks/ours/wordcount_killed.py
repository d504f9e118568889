"""The same job, but one of its workers gets SIGKILL when half of the map input is done.

The worker is found as a user with `ps` would find it: the processes without children below this one. The mark
`killed` says that the kill took place, for a job that ends before it would be a lie.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from benchmarks.measure import children_of, descendants
from benchmarks.ours.marks import leave
from benchmarks.ours.wordcount_record import count_words
from onerack.mapreduce import run
from onerack.mapreduce.messages import JobStatus


class Assassin:
    """Kills one worker, once."""

    def __init__(self) -> None:
        self.killed_at = 0.0

    def __call__(self, status: JobStatus) -> None:
        if not self.killed_at and status.maps.bytes_done * 2 >= status.maps.bytes_total > 0:
            victims = [pid for pid in descendants(os.getpid()) if not children_of(pid)]
            os.kill(max(victims), signal.SIGKILL)
            self.killed_at = time.time()


if __name__ == "__main__":
    source, target, workers = sys.argv[1:4]
    assassin = Assassin()
    result = run(map=count_words, reduce="sum", input=source, output=target, workers=int(workers), on_status=assassin)
    if not assassin.killed_at:
        raise SystemExit("the job ended before its worker was killed")
    leave(killed_at=assassin.killed_at, retries=float(result.retries))

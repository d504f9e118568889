"""Three processes of a library that is measured from inside: whoever leads loads itself, and prints its figures.

The rule: the processes need nothing but this Python, so it runs wherever a peer's library is installed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from benchmarks.ours.marks import leave


def run_trio(commands: Sequence[Sequence[str]]) -> None:
    """Each prints one line when the load is over: the leader an object."""
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    words = [process.stdout.readline() for process in processes if process.stdout is not None]
    for process in processes:
        process.kill()
    figures_of_leader = next(word for word in words if word.startswith("{")).strip()
    print(figures_of_leader)
    leave(**json.loads(figures_of_leader))

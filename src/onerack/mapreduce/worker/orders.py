"""What the parent and the nursery say to each other about processes.

The idea: the nursery (nursery.py) knows processes and nothing of jobs; these six nouns are all it ever hears or says.
They never leave the machine: the channel is one end of a socket pair that the nursery is born with. Beside them stand
the exit statuses of a worker that ends by itself.

The rule: a `Fork` comes with exactly one file descriptor, the new worker's own end of its socket to the parent, and
descriptors arrive in the order of the `Fork`s.
"""

from __future__ import annotations

import msgspec

EXIT_DONE = 0
EXIT_ORPHAN = 70
"""A worker had lost its connection to the parent, or heard what no parent says."""


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """Load the compiled kernels, so that every worker forked later has them for nothing. Half a second and more."""


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Make a worker."""

    worker: str
    position_path: str
    """The file in which the worker notes the record it is at; it outlives the worker."""
    heartbeat_interval_s: float


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """SIGKILL to the worker's process group: the worker and whatever its user code has started."""

    worker: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End: workers that have not ended by themselves after `grace_s` are killed."""

    grace_s: float


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    worker: str
    pid: int


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """A worker ended. `status` is what wait(2) gave; `memory_bytes_max` its peak resident size."""

    worker: str
    pid: int
    status: int
    memory_bytes_max: int


ToNursery = Compile | Fork | Kill | Stop
FromNursery = Forked | Exited

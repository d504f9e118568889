"""The nouns of MapReduce: what master and workers say to each other, and what the job's journal keeps.

The idea: frozen Structs only, plain data in every field, so that the same value can cross a socket, be replayed in
a simulation and lie in a journal. Bulk bytes never appear here; only paths, offsets, lengths and checksums do. User
code travels as a `Program` (a module's source, a dotted name, or cloudpickle bytes that only a worker opens).

The rule: no message knows how it is encoded, and none is ever changed after it was made.

Source: Dean & Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters", OSDI 2004 (section 3).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from onerack.config import MapReduceConfig

TaskKind = Literal["map", "reduce"]
TaskState = Literal["idle", "in_progress", "completed"]
Option = str | int | bool | list[str] | None


class AttemptId(msgspec.Struct, frozen=True, order=True):
    """One execution of one task. `number` counts from 1 and is never used again."""

    job: str
    kind: TaskKind
    index: int
    number: int

    @property
    def task(self) -> str:
        """The task's short name: m17, r3."""
        return f"{self.kind[0]}{self.index}"

    def __str__(self) -> str:
        return f"{self.task}.{self.number}"


# ---------------------------------------------------------------------------------------------- what to read


class Fragment(msgspec.Struct, frozen=True):
    """A byte range of one input file. Records that *start* in [start, start + length) belong to it."""

    path: str
    start: int
    length: int
    """Bytes on disk. A compressed file is one whole fragment, start 0 and the length of the file."""


class Split(msgspec.Struct, frozen=True):
    """The input of one map task: one range of a large file, or several small files."""

    index: int
    fragments: tuple[Fragment, ...]

    @property
    def size_bytes(self) -> int:
        return sum(fragment.length for fragment in self.fragments)


class InputFormat(msgspec.Struct, frozen=True):
    """How input bytes become records."""

    name: Literal["text", "file", "jsonl", "csv", "parquet", "fixed", "pairs"] = "text"
    """`file`: a record is a whole file. `pairs`: what an earlier stage of a chain wrote."""
    encoding: str = "utf-8"
    errors: str = "strict"
    """Decoding policy, as in `bytes.decode`. `map_block` gets the bytes as they are."""
    compression: Literal["infer", "none", "gzip", "bz2", "xz", "zstd"] = "infer"
    record_bytes: int = 0
    """`fixed` only: the size of a record."""
    options: dict[str, Option] = {}
    """`csv`: delimiter, quotechar, header (true), columns, newlines_in_values (true: a file is one split).
    `parquet`: columns."""


# ---------------------------------------------------------------------------------------------- what to run


class Program(msgspec.Struct, frozen=True):
    """The user's code, in a form that can travel."""

    form: Literal["builtin", "source", "dotted", "pickle"]
    name: str
    """builtin: its name. source: the class in the module, or "" for the module itself. dotted: the name."""
    arguments: tuple[str, ...] = ()
    """builtin: its arguments, e.g. grep's pattern."""
    path: str = ""
    """source: where the module was read from, shown in tracebacks; its folder is put on sys.path."""
    source: str = ""
    payload: bytes = b""
    """pickle: cloudpickle bytes of the job object; opened only in a worker process."""
    search_path: tuple[str, ...] = ()
    """Folders that the worker puts in front of its sys.path."""


class OutputFormat(msgspec.Struct, frozen=True):
    """How results become files."""

    name: Literal["tsv", "jsonl", "parquet", "text", "fixed", "pairs", "user"] = "tsv"
    """`text`: the value alone, a line each. `fixed`: key and value bytes, concatenated. `user`: program's writer."""
    compression: Literal["none", "gzip", "zstd"] = "none"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a master or a worker needs to know of one job (one stage of a chain)."""

    job: str
    """The job's id: unique, sortable by time of submission."""
    name: str
    program: Program
    stage: int = 0
    """Which stage of the program's chain this is."""
    input: InputFormat = InputFormat()
    output: OutputFormat = OutputFormat()
    splits: tuple[Split, ...]
    reducers: int
    """R; 0 is a map-only job: every map task writes its own part."""
    directory: str
    """The job's own directory: shuffle files, logs, quarantine, attempts' unfinished parts."""
    staging: str
    """Where attempts put finished parts, on the file system of the output (an fsspec URL or a path)."""
    memory_bytes: int = 1 << 30
    """For ONE worker."""
    skip_max: int = 0
    """Bad records that may be quarantined over the whole job (on_error="skip:N"); 0 is on_error="fail"."""
    backup_tasks: bool = False
    splitters: tuple[bytes, ...] = ()
    """Range partition: R - 1 canonical keys in increasing order; partition i holds s[i-1] <= key < s[i]."""
    sample_keys: int = 0
    """More than 0: the stage samples. Each map task writes at most so many canonical keys of its split, no more."""
    files: tuple[str, ...] = ()
    """Side files, absolute paths."""
    seed: int = 0
    """`random` is seeded with (seed, task) before each attempt, so that a repetition draws the same."""
    config: MapReduceConfig = MapReduceConfig()
    accelerate: bool = True
    """Use the compiled kernels when they are installed; results are equal either way."""


# ---------------------------------------------------------------------------------------------- what came of it


class Extent(msgspec.Struct, frozen=True):
    """One run of one partition inside a shuffle file."""

    offset: int
    size: int
    rows: int
    checksum: int


class Section(msgspec.Struct, frozen=True):
    """All that one map attempt has for one partition."""

    path: str
    extents: tuple[Extent, ...]

    @property
    def size_bytes(self) -> int:
        return sum(extent.size for extent in self.extents)

    @property
    def rows(self) -> int:
        return sum(extent.rows for extent in self.extents)


class KeyKinds(msgspec.Struct, frozen=True):
    """Of what kind the keys in a map's sections are: the same in all maps of a job that have keys."""

    keys: str = ""
    """"" when there are none, or when the job can have no others."""
    sort_keys: str = ""


class Part(msgspec.Struct, frozen=True):
    """One finished output file of an attempt; `path` is its name in the staging directory, made for the attempt."""

    path: str
    rows: int
    size: int
    checksum: int
    """crc32 of the file's bytes; 0 when the format's writer does not give it."""


class RecordAt(msgspec.Struct, frozen=True):
    """Where one record lies. `number` counts from 0 in its split (a key group: in its partition)."""

    number: int
    path: str = ""
    offset: int = -1
    preview: str = ""
    """The record's first characters, or the key's repr in a reduce."""


class Quarantined(msgspec.Struct, frozen=True):
    """A bad record that was set aside."""

    record: RecordAt
    raw: bytes
    traceback: str


FailureCause = Literal[
    "exception",
    "exit",
    "crash",
    "killed",
    "memory",
    "stall",
    "unserialisable",
    "input",
    "storage_full",
    "program",
    "lost",
]


class Failure(msgspec.Struct, frozen=True):
    """Why an attempt ended without a result."""

    cause: FailureCause
    message: str
    traceback: str = ""
    """The user's frames only."""
    record: RecordAt | None = None
    final: bool = False
    """True: no further attempt can help (bad record certain, program does not load, disk full, input broken)."""


class Metrics(msgspec.Struct, frozen=True):
    """How much one attempt did. Bytes are of the input (on disk), the shuffle, and the output."""

    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_shuffled: int = 0
    bytes_out: int = 0
    groups: int = 0
    spills: int = 0
    seconds: float = 0.0
    memory_bytes_max: int = 0


# ---------------------------------------------------------------------------------------------- worker -> master


class Register(msgspec.Struct, frozen=True, tag="register"):
    """A worker is there and idle. Said again after a reconnection; then `running` names its attempt."""

    worker: str
    pid: int = 0
    host: str = ""
    keeps_output: bool = True
    """Whether its map output outlives it: True on one machine (a shared disk), False on a rack."""
    running: AttemptId | None = None
    seen: int | None = None
    """As in `Heartbeat`. A worker that counts (not None) bears a name that no other process ever had; a host whose
    workers do not count may give a name again once the master has taken the `WorkerLost` of its last bearer."""


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """A worker lives; `running` is its attempt and `metrics` how far that is."""

    worker: str
    running: AttemptId | None = None
    metrics: Metrics = Metrics()
    moved: bool = True
    """Whether the attempt read a record or wrote a byte since the last heartbeat."""
    seen: int | None = None
    """The highest `order` received so far (0: none), from which the master learns that an order was lost, or the
    report of its end was. None: the channel neither loses nor reorders, so this worker need not count."""
    record: RecordAt | None = None
    """The record that a tracked attempt is at; so a record that hangs is known, too."""


class MapCompleted(msgspec.Struct, frozen=True, tag="map_completed"):
    worker: str
    attempt: AttemptId
    sections: tuple[Section, ...]
    """One for each partition, in order. Empty when R = 0."""
    parts: tuple[Part, ...] = ()
    """R = 0 only."""
    counters: dict[str, int] = {}
    metrics: Metrics = Metrics()
    quarantined: tuple[Quarantined, ...] = ()
    kinds: KeyKinds = KeyKinds()


class ReduceCompleted(msgspec.Struct, frozen=True, tag="reduce_completed"):
    worker: str
    attempt: AttemptId
    parts: tuple[Part, ...]
    counters: dict[str, int] = {}
    metrics: Metrics = Metrics()
    quarantined: tuple[Quarantined, ...] = ()


class AttemptFailed(msgspec.Struct, frozen=True, tag="attempt_failed"):
    """The attempt ended without a result; its worker is idle again."""

    worker: str
    attempt: AttemptId
    failure: Failure


class FetchFailed(msgspec.Struct, frozen=True, tag="fetch_failed"):
    """A reduce attempt could not read a map attempt's section; the reduce attempt is over, its worker idle."""

    worker: str
    attempt: AttemptId
    lost: AttemptId
    reason: str
    corrupt: bool = False
    """True: the checksum was wrong, so the output is lost beyond doubt."""


class WorkerLost(msgspec.Struct, frozen=True, tag="worker_lost"):
    """Said by the host that owns the worker's process: it ended. `failure` tells how; `record` where it was."""

    worker: str
    failure: Failure


# ---------------------------------------------------------------------------------------------- master -> worker


class Skip(msgspec.Struct, frozen=True):
    """A record that killed its worker `record_failures_max` times; the attempt quarantines it unread."""

    record: RecordAt
    traceback: str


class RunMap(msgspec.Struct, frozen=True, tag="run_map"):
    """Orders may be lost, repeated or overtaken by others. A worker that counts obeys an order only if its number is
    higher than all it has `seen`; it then ends whatever it ran before."""

    attempt: AttemptId
    tracked: bool = False
    """Once an attempt has failed or was lost: a record that fails is found. A map's second attempt cuts the blocks that
    fail into records; later ones, and all of a reduce, go record by record and note each before the user's call."""
    skips: tuple[Skip, ...] = ()
    order: int = 0
    """Grows with every order of this master, whoever gets it; the same when the same order is said again."""


class MapSection(msgspec.Struct, frozen=True):
    """Where a reduce attempt finds what map attempt `attempt` has for it."""

    attempt: AttemptId
    section: Section


class RunReduce(msgspec.Struct, frozen=True, tag="run_reduce"):
    attempt: AttemptId
    sections: tuple[MapSection, ...]
    """One for each map task, in the order of map index; sections without rows are left out."""
    tracked: bool = False
    skips: tuple[Skip, ...] = ()
    order: int = 0
    """As in `RunMap`."""


class LoadJob(msgspec.Struct, frozen=True, tag="load_job"):
    """Comes before the first task of a job that a worker gets."""

    spec: JobSpec


class KillAttempt(msgspec.Struct, frozen=True, tag="kill_attempt"):
    """The attempt's result is no longer wanted (another won, or the job is over).

    The host of an embedded worker kills the process and starts another; a rack's worker kills its child.
    """

    attempt: AttemptId
    reason: str
    order: int = 0
    """The order that started the attempt: from now on that order counts as seen, even if it comes later."""


class Dismiss(msgspec.Struct, frozen=True, tag="dismiss"):
    """The master does not count on this worker: it was silent for too long, or was never heard of.

    The host of an embedded worker kills the process and starts another. A rack's worker ends what it runs and
    registers again, unless it has seen a higher `order` since: then the master counts on it after all.
    """

    worker: str
    reason: str
    order: int = 0
    """The highest order given to anybody when this was said."""


# ---------------------------------------------------------------------------------------------- client -> master


class SubmitJob(msgspec.Struct, frozen=True, tag="submit_job"):
    """Starts a job. Said again with the same `spec.job`, it starts nothing."""

    spec: JobSpec


class CancelJob(msgspec.Struct, frozen=True, tag="cancel_job"):
    job: str
    reason: str


# ---------------------------------------------------------------------------------------------- what was decided


class JobSubmitted(msgspec.Struct, frozen=True, tag="job_submitted"):
    """Journal: a job began. (`applied` and journal share these nouns; all of them are msgspec-encoded.)"""

    spec: JobSpec


class TaskCompleted(msgspec.Struct, frozen=True, tag="task_completed"):
    """Journal: this attempt's result was accepted; for its task no other ever will be, unless it is lost."""

    attempt: AttemptId
    sections: tuple[Section, ...]
    parts: tuple[Part, ...]
    counters: dict[str, int]
    metrics: Metrics
    quarantined: tuple[Quarantined, ...] = ()
    kinds: KeyKinds = KeyKinds()


class MapOutputLost(msgspec.Struct, frozen=True, tag="map_output_lost"):
    """Journal: an accepted map result is gone; its task is idle again."""

    attempt: AttemptId
    reason: str


class JobEnded(msgspec.Struct, frozen=True, tag="job_ended"):
    """Journal and client: the job is over, for good or for bad."""

    job: str
    outcome: Literal["done", "failed", "cancelled"]
    parts: tuple[Part, ...] = ()
    """In order of partition (R = 0: of split)."""
    counters: dict[str, int] = {}
    metrics: Metrics = Metrics()
    """Sums over the one accepted attempt of each task (seconds: of work; memory: the maximum)."""
    partition_bytes: tuple[int, ...] = ()
    """Shuffled bytes of each partition: the skew."""
    quarantined: tuple[Quarantined, ...] = ()
    failure: Failure | None = None
    failed_attempt: AttemptId | None = None


class PhaseStatus(msgspec.Struct, frozen=True):
    tasks: int = 0
    idle: int = 0
    in_progress: int = 0
    completed: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    """Accepted plus running attempts."""


class JobStatus(msgspec.Struct, frozen=True):
    """A picture of one job for people: progress display, `onerack show`."""

    job: str
    name: str
    state: Literal["running", "done", "failed", "cancelled"]
    maps: PhaseStatus
    reduces: PhaseStatus
    metrics: Metrics
    """Accepted plus running attempts."""
    counters: dict[str, int] = {}
    attempts_failed: int = 0
    attempts_killed: int = 0
    backups: int = 0
    maps_lost: int = 0
    workers: int = 0
    workers_lost: int = 0
    quarantined: int = 0


FromWorker = Register | Heartbeat | MapCompleted | ReduceCompleted | AttemptFailed | FetchFailed
ToMaster = FromWorker | WorkerLost | SubmitJob | CancelJob
ToWorker = LoadJob | RunMap | RunReduce | KillAttempt | Dismiss
JournalRecord = JobSubmitted | TaskCompleted | MapOutputLost | JobEnded

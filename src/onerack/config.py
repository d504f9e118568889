"""Every limit and timeout of onerack, with its unit in its name.

The idea: one frozen Struct per system, in one file, because the rules that matter lie *between* the numbers (a
heartbeat must be shorter than the timeout that waits for it). The rule: each relation is checked at construction,
so that a wrong configuration is refused at start with both values named.
"""

from __future__ import annotations

import msgspec

from onerack.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def require(condition: bool, message: str) -> None:
    """Raises `UsageError` with `message` when a relation between two settings does not hold."""
    if not condition:
        raise UsageError(message)


class CodecConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the frame format (codec.py)."""

    frame_bytes_max: int = 64 * MIB
    """A longer frame is refused before any memory is taken for it."""


class RpcConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and timeouts of RPC; seconds and bytes. One for each server and each client."""

    # --- what a connection takes
    head_bytes_max: int = 4 * MIB
    """A longer message (without its attachment) is refused before any memory is taken for it."""
    attachment_bytes_max: int = 256 * MIB
    piece_bytes_max: int = MIB
    """Longer attachments travel in pieces of this size, between which other messages may pass."""
    unfinished_bytes_max: int = 512 * MIB
    """Over all connections of a server: attachments of which only a part has arrived. Beyond, it reads no more."""
    output_bytes_max: int = 64 * MIB
    """What may wait for a peer that does not read, attachments apart; beyond, its connection is closed."""
    connections_max: int = 4096
    hello_timeout_s: float = 10.0
    """A peer that has not introduced itself for so long is closed; likewise one whose message stands still halfway."""
    connect_timeout_s: float = 5.0
    keepalive_interval_s: float = 15.0
    """A connection that was silent for so long is asked whether it lives."""
    keepalive_timeout_s: float = 10.0
    """... and closed when it does not answer."""

    # --- sessions and the reply cache
    window: int = 2048
    """Calls of one session that may be unacknowledged at once; more wait at the client."""
    session_lease_s: float = 60.0
    """A session that is silent for longer expires, and its replies with it."""
    sessions_max: int = 16384
    reply_bytes_max: int = 64 * KIB
    """A deduplicated call's result must be remembered, so it may not be longer."""
    replies_bytes_max: int = 512 * MIB
    """All remembered replies together; beyond, new deduplicated calls are refused as overloaded, never forgotten."""

    # --- calls
    running_max: int = 1024
    """Handlers (of the `async def` kind) that run at once."""
    waiting_max: int = 8192
    """Calls that wait for one of them to end; one more is refused as overloaded."""
    streams_max: int = 1024
    """Streams open at once on one connection ..."""
    all_streams_max: int = 16384
    """... and on all connections of a server. They are not counted among `running_max`."""
    stream_window_bytes: int = MIB
    """What a stream's writer may send before its reader has taken it."""
    attempts_max: int = 5
    """Attempts of an at-most-once call before its outcome is Unknown."""
    attempt_timeout_s: float = 2.0
    """An attempt that is not answered for so long is made again (doubling, with jitter), if the mode allows."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 2.0
    retry_fraction: float = 0.2
    """Retries may be at most this share of all calls ..."""
    retry_per_s: float = 10.0
    """... plus so many in a second."""
    retry_memory_s: float = 10.0
    """Budget that was not used for so long is lost."""
    in_flight_max: int = 65536
    """Calls of one client that may be open; one more is refused at once."""
    drain_timeout_s: float = 10.0
    """How long a server that stops waits for calls that still run."""

    # --- the log of exactly-once calls
    snapshot_after_bytes: int = 64 * MIB
    """The log is replaced by a snapshot of the state when it has grown by so much."""
    batch_max: int = 4096
    """Commands that share one fsync."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be more than 0")
        require(
            self.session_lease_s >= 3 * self.attempt_timeout_s,
            f"session_lease_s={self.session_lease_s} must be at least three times "
            f"attempt_timeout_s={self.attempt_timeout_s}, else a session expires between two attempts",
        )
        require(
            self.session_lease_s >= 2 * self.backoff_max_s,
            f"session_lease_s={self.session_lease_s} must be at least twice backoff_max_s={self.backoff_max_s}",
        )
        require(
            self.backoff_min_s <= self.backoff_max_s,
            f"backoff_min_s={self.backoff_min_s} must not exceed backoff_max_s={self.backoff_max_s}",
        )
        require(
            self.piece_bytes_max <= self.attachment_bytes_max <= self.unfinished_bytes_max,
            f"attachment_bytes_max={self.attachment_bytes_max} must lie between piece_bytes_max={self.piece_bytes_max} "
            f"and unfinished_bytes_max={self.unfinished_bytes_max}",
        )
        require(
            self.head_bytes_max <= self.output_bytes_max,
            f"head_bytes_max={self.head_bytes_max} must not exceed output_bytes_max={self.output_bytes_max}",
        )
        require(
            self.reply_bytes_max <= self.head_bytes_max,
            f"reply_bytes_max={self.reply_bytes_max} must not exceed head_bytes_max={self.head_bytes_max}",
        )


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and timeouts of raft; seconds and bytes."""

    heartbeat_interval_s: float = 0.05
    """How often a leader says that it leads."""
    election_timeout_s: float = 0.3
    """A follower that hears nothing for a time drawn from [this, twice this) starts an election."""
    in_flight_max: int = 256
    """Append messages to one follower that are not answered."""
    in_flight_bytes_max: int = 16 * MIB
    """And what they hold together."""
    append_bytes_max: int = MIB
    """Entries in one Append; a single longer entry goes alone."""
    entry_bytes_max: int = 8 * MIB
    """One entry: a batch of commands."""
    uncommitted_bytes_max: int = 64 * MIB
    """What a leader takes beyond the commit index; more is refused as overloaded."""
    reads_max: int = 100_000
    """Reads that may wait for a round of heartbeats."""
    segment_bytes: int = 64 * MIB
    """One file of the log."""
    snapshot_bytes: int = 64 * MIB
    """So much of the log makes the next snapshot worth its while."""
    snapshot_piece_bytes: int = MIB
    """A snapshot travels in such pieces."""
    kept_bytes: int = 16 * MIB
    """So much of the log before a snapshot is kept for slow followers."""
    commit_notice_s: float = 0.003
    """For so long a leader keeps the news of a commit, in case it can travel with the next entries. 0: not at all."""
    lease_reads: bool = False
    """Answer reads by the leader's lease, without a round: faster, and only right if clocks run alike."""
    clock_drift: float = 0.1
    """By so much two clocks may run apart, as a share; it shortens a leader's lease."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name not in ("lease_reads", "commit_notice_s"):
                require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be more than 0")
        require(
            self.heartbeat_interval_s * 3 <= self.election_timeout_s,
            f"heartbeat_interval_s={self.heartbeat_interval_s} must be at most a third of "
            f"election_timeout_s={self.election_timeout_s}",
        )
        require(
            0 <= self.commit_notice_s < self.heartbeat_interval_s,
            f"commit_notice_s={self.commit_notice_s} must lie between 0 and "
            f"heartbeat_interval_s={self.heartbeat_interval_s}, which brings the news anyway",
        )
        require(self.clock_drift < 1, f"clock_drift={self.clock_drift} must be less than 1")
        require(
            self.entry_bytes_max <= self.uncommitted_bytes_max,
            f"entry_bytes_max={self.entry_bytes_max} must not exceed "
            f"uncommitted_bytes_max={self.uncommitted_bytes_max}",
        )
        require(
            2 * self.entry_bytes_max <= self.segment_bytes,
            f"segment_bytes={self.segment_bytes} must be at least twice entry_bytes_max={self.entry_bytes_max}",
        )


class KvConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the key-value store; the defaults are etcd's."""

    request_bytes_max: int = 1536 * KIB
    """One request."""
    txn_ops_max: int = 128
    """Operations in one list of a transaction."""
    quota_bytes: int = 2 * GIB
    """Keys, values and their history; beyond it only deletion and compaction are taken."""
    lease_ttl_s_min: int = 1
    """A lease that asks for less gets this."""
    lease_ttl_s_max: int = 9_000_000_000
    """A lease that asks for more is refused."""
    request_timeout_s: float = 7.0
    """A write that was not applied after so long is answered as timed out: its outcome is unknown."""
    watch_progress_s: float = 600.0
    """How often a watch that asked for it is told how far it is."""
    watch_response_bytes_max: int = MIB
    """Events in one answer of a watch that allows fragments."""
    watch_waiting_bytes_max: int = 64 * MIB
    """Events that may wait for a client that does not read; then its stream is ended."""
    auth_token_ttl_s: float = 300.0
    """A token that nobody has used for so long is void."""
    auto_compaction_s: float = 0.0
    """What could be read so many seconds ago, and since, stays; what is older is compacted. 0: not by time."""
    auto_compaction_revisions: int = 0
    """So many of the last revisions stay; what is older is compacted now and then. 0: not by revisions."""
    connections_max: int = 10_000
    """Clients connected to one node."""
    streams_max: int = 100_000
    """Requests open on one connection."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not name.startswith("auto_compaction"):
                require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be more than 0")
        require(
            self.auto_compaction_s >= 0 and self.auto_compaction_revisions >= 0,
            f"auto_compaction_s={self.auto_compaction_s} and "
            f"auto_compaction_revisions={self.auto_compaction_revisions} must not be negative",
        )
        require(
            not (self.auto_compaction_s and self.auto_compaction_revisions),
            f"auto_compaction_s={self.auto_compaction_s} and "
            f"auto_compaction_revisions={self.auto_compaction_revisions}: history is kept by one of them, not by both",
        )
        require(
            self.lease_ttl_s_min <= self.lease_ttl_s_max,
            f"lease_ttl_s_min={self.lease_ttl_s_min} must not exceed lease_ttl_s_max={self.lease_ttl_s_max}",
        )


class MapReduceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and timeouts of the MapReduce engine; seconds and bytes."""

    heartbeat_interval_s: float = 0.25
    """How often a worker says that it lives, and how far it is."""
    worker_timeout_s: float = 30.0
    """A worker that is silent for longer is dead (its process, when ours, is killed)."""
    order_resend_s: float = 1.0
    """An order that a worker has not seen for so long is said again."""
    report_grace_s: float = 2.0
    """A worker that has had an order, does not run it and does not report it for so long has lost it."""
    task_stall_timeout_s: float = 600.0
    """A task that neither reads a record nor writes a byte for so long is hung, and is killed."""
    attempts_max: int = 4
    """Failed attempts of one task after which the job fails."""
    losses_max: int = 20
    """Times that one task may be lost with its worker, or its output be lost, before the job fails."""
    record_failures_max: int = 2
    """So many failures on the same record make it a bad record."""
    backup_phase_fraction: float = 0.9
    """Backup tasks start only when so much of the phase is completed."""
    backup_age_min_s: float = 15.0
    """No task younger than this is a straggler."""
    backup_median_factor: float = 3.0
    """A straggler is older than so many medians of its phase."""
    backup_slots_fraction: float = 0.05
    """At most this share of the slots (at least one) runs backup tasks."""
    split_bytes: int = 64 * MIB
    """Size of a split, unless the job says otherwise."""
    splits_per_slot_min: int = 4
    """Small files are packed together only while so many splits per slot remain."""
    memory_bytes: int = 2 * GIB
    """Memory of a whole job over all its workers."""
    quarantine_record_bytes_max: int = 64 * KIB
    """A longer bad record is cut when it is put into quarantine."""
    ended_jobs_max: int = 1000
    """So many ended jobs are remembered, for those who ask or submit again."""
    history_jobs_max: int = 1000
    """So many jobs are kept in the jobs directory: record, journal and logs."""
    debuggable_jobs_max: int = 3
    """So many failed jobs, the newest, keep their shuffle files for `onerack debug`."""
    log_bytes_max: int = 16 * MIB
    """What is kept of an attempt's prints: the first so many bytes."""

    def __post_init__(self) -> None:
        require(
            self.heartbeat_interval_s * 4 <= self.worker_timeout_s,
            f"heartbeat_interval_s={self.heartbeat_interval_s} must be at most a quarter of "
            f"worker_timeout_s={self.worker_timeout_s}",
        )
        require(
            self.worker_timeout_s <= self.task_stall_timeout_s,
            f"worker_timeout_s={self.worker_timeout_s} must not exceed "
            f"task_stall_timeout_s={self.task_stall_timeout_s}",
        )
        require(
            self.heartbeat_interval_s <= self.order_resend_s,
            f"order_resend_s={self.order_resend_s} must not be shorter than "
            f"heartbeat_interval_s={self.heartbeat_interval_s}",
        )
        require(
            self.heartbeat_interval_s <= self.report_grace_s,
            f"report_grace_s={self.report_grace_s} must not be shorter than "
            f"heartbeat_interval_s={self.heartbeat_interval_s}",
        )
        require(self.losses_max >= 1, f"losses_max={self.losses_max} must be at least 1")
        require(self.ended_jobs_max >= 1, f"ended_jobs_max={self.ended_jobs_max} must be at least 1")
        require(self.history_jobs_max >= 1, f"history_jobs_max={self.history_jobs_max} must be at least 1")
        require(
            0 <= self.debuggable_jobs_max <= self.history_jobs_max,
            f"debuggable_jobs_max={self.debuggable_jobs_max} must lie between 0 and "
            f"history_jobs_max={self.history_jobs_max}",
        )
        require(self.log_bytes_max >= 0, f"log_bytes_max={self.log_bytes_max} must not be negative")
        require(self.attempts_max >= 1, f"attempts_max={self.attempts_max} must be at least 1")
        require(self.record_failures_max >= 1, f"record_failures_max={self.record_failures_max} must be at least 1")
        require(
            0 < self.backup_phase_fraction <= 1,
            f"backup_phase_fraction={self.backup_phase_fraction} must lie in (0, 1]",
        )
        require(
            0 < self.backup_slots_fraction <= 1,
            f"backup_slots_fraction={self.backup_slots_fraction} must lie in (0, 1]",
        )
        require(self.split_bytes >= 1, f"split_bytes={self.split_bytes} must be at least 1")
        require(self.memory_bytes >= 64 * MIB, f"memory_bytes={self.memory_bytes} must be at least 64 MiB")

"""The local log: a durable host on this machine's disk, with group commit.

    propose, propose ... -> one record, one fdatasync -> apply each, in order -> applied -> the next batch

The idea: the batch forms by itself. What is proposed during one turn of the loop, or while the disk is busy with the
batch before, is one record and waits for one fdatasync. One caller has an fdatasync for each command; a thousand share
one. When the log has grown enough it is replaced by a snapshot, in three steps that each leave a whole log: a new
segment begins; the snapshot is written (in a thread, while commands go on); the segments before it are removed.

The rules:
- a command is applied only after it is durable, and one batch is in flight at a time;
- an fdatasync that fails ends the process: nobody knows what is on the disk (runtime/real.py);
- a disk that is full loses nothing: the batch that did not fit is not executed, definitely, because its record is not
  whole and nobody ever appends to that segment again. The next batch begins a new segment, which supersedes the torn
  record; so the log goes on by itself when there is room again;
- any other failure halts the log: the batch in flight is Unknown until the log is opened again, the rest not executed.

Source: Gray & Reuter, Transaction Processing (1993), section 9.4 (group commit).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from onerack.config import MIB, RpcConfig
from onerack.errors import NotExecuted, Overloaded, StorageFull, Unknown, UsageError
from onerack.rpc.durable.files import LogFiles, Segment
from onerack.rpc.durable.format import COMMAND_BYTES_MAX, IDENTITY_BYTES
from onerack.rpc.durable.host import Machine
from onerack.rpc.durable.recovery import Recovered, recover
from onerack.runtime.env import Disk, Lock
from onerack.runtime.real import RealDisk

T = TypeVar("T")

BATCH_BYTES_MAX: Final = 4 * MIB
"""A batch is full when it has so many bytes, so that no sync takes long."""
WAITING_MAX: Final = 65536
"""Commands that may wait for the disk; one more is refused."""
SEGMENTS_MAX: Final = 64
"""A log that is opened again and again gets a snapshot for so many segments too, however small they are."""


class LocalLog:
    """A DurableHost. `directory` is this log's own, and is made if it is not there.

    `in_thread`: sync in a thread while the loop lives on. `draw` gives the log's identity, when it is made.
    """

    durable = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        config: RpcConfig | None = None,
        disk: Disk | None = None,
        in_thread: bool = False,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.failure: BaseException | None = None
        """What halted the log."""
        self.snapshot_failure: Exception | None = None
        """Why the last snapshot could not be written; the log then goes on growing, and tries again later."""
        self.batches = 0
        """Records written in this life, each for one sync."""
        self.commands = 0
        """Commands in them."""
        self.snapshots = 0
        """Snapshots written in this life."""
        self._directory = os.fspath(directory).rstrip("/")
        self._config = config or RpcConfig()
        self._disk = disk or RealDisk()
        self._in_thread = in_thread
        self._draw = draw
        self._lock: Lock | None = None
        self._machine: Machine
        self._files: LogFiles
        self._segment: Segment | None = None
        """None: the last one may end torn; the next batch begins another."""
        self._grown_bytes = 0
        """Records since the last snapshot was begun."""
        self._many_segments = False
        self._snapshot_bytes = 0
        self._snapshotting: asyncio.Future[None] | None = None
        self._last_index = 0
        """Of the last command that was applied."""
        self._waiting: list[bytes] = []
        self._flying: Sequence[bytes] = ()
        """The batch that is being stored and applied ..."""
        self._flying_after = 0
        """... after the command of this index."""
        self._bell = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------ opening

    async def start(self, machine: Machine) -> None:
        """As DurableHost says. Raises: UsageError: another process has the log open. StorageFull."""
        assert self._lock is None, "a log is started once"
        self._machine = machine
        self._disk.make_directory(self._directory)
        self._lock = self._disk.lock(f"{self._directory}/lock")
        try:
            recovered = await asyncio.get_running_loop().run_in_executor(None, self._open)
            await self._replay(recovered)
        except asyncio.CancelledError:
            raise  # A thread may still be at work on the files, as in `_write`.
        except BaseException:
            self._let_go()
            raise
        self._writer = asyncio.create_task(self._write(), name=f"log in {self._directory}")

    def _open(self) -> Recovered:
        recovered = recover(self._disk, self._directory)
        self._files = LogFiles(self._disk, self._directory, recovered.identity or self._draw(IDENTITY_BYTES))
        # A killed process leaves records that can be read but are not durable, and soon a reply may follow from them.
        if recovered.segments:
            self._files.settle(recovered.segments[-1])
        # Always a new segment: the last one may end torn, and behind that nothing would be found. Its making syncs the
        # directory, and so the names that recovery relied on; what they supersede may go only then.
        self._segment = self._files.begin_segment(recovered.last_index + 1)
        self._files.remove(recovered.superseded)
        self._snapshot_bytes = len(recovered.snapshot or b"")
        self._grown_bytes = recovered.segments_bytes
        self._many_segments = len(recovered.segments) >= SEGMENTS_MAX
        return recovered

    async def _replay(self, recovered: Recovered) -> None:
        if recovered.snapshot is not None:
            self._machine.restore(recovered.snapshot)
        self._last_index = recovered.snapshot_index
        for begin in range(0, len(recovered.commands), self._config.batch_max):
            self._apply(recovered.commands[begin : begin + self._config.batch_max])
            await asyncio.sleep(0)
        self._machine.applied()

    # ------------------------------------------------------------------------------------------------ proposals

    def propose(self, command: bytes) -> None:
        if self._writer is None or self._closing or self.failure is not None:
            cause = "stopping" if self.failure is None else "storage"
            raise NotExecuted(f"the log in {self._directory} takes no commands now", cause=cause)
        if len(command) > COMMAND_BYTES_MAX:
            raise UsageError(f"a command of {len(command)} bytes; a log takes at most {COMMAND_BYTES_MAX}")
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} commands wait for the disk that holds {self._directory}")
        self._waiting.append(command)
        self._bell.set()

    async def close(self) -> None:
        self._closing = True
        self._bell.set()
        if self._writer is not None:
            # Whoever loses patience here does not stop the writer halfway.
            await asyncio.shield(self._writer)

    # ------------------------------------------------------------------------------------------------ the writer

    async def _write(self) -> None:
        try:
            while not (self._closing and not self._waiting and self._snapshotting is None):
                await self._turn()
        except asyncio.CancelledError:
            # The loop ends. A thread may still be at work on the files: they, and the lock, are let go by the kernel.
            if self._snapshotting is not None:
                self._snapshotting.cancel()
            raise
        except BaseException as failure:
            await self._halt(failure)
            raise
        self._let_go()

    async def _turn(self) -> None:
        if self._snapshotting is not None and self._snapshotting.done():
            self._end_snapshot(self._snapshotting)
        elif not self._waiting:
            self._bell.clear()
            await self._bell.wait()
        else:
            await self._commit()

    async def _commit(self) -> None:
        self._flying, self._flying_after = self._take(), self._last_index
        try:
            await self._do(self._store, self._flying)
        except StorageFull as full:
            self._give_up_segment(full)
        else:
            self.batches += 1
            self.commands += len(self._flying)
            self._apply(self._flying)
            self._machine.applied()
            await self._snapshot_if_due()
        # Sockets and other tasks of this loop get their turn even when commands never run out.
        await asyncio.sleep(0)

    def _take(self) -> Sequence[bytes]:
        size = count = 0
        for command in self._waiting[: self._config.batch_max]:
            size += len(command)
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._in_thread:
            return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
        return work(*arguments)

    def _store(self, batch: Sequence[bytes]) -> None:
        if self._segment is None:
            self._segment = self._files.begin_segment(self._last_index + 1)
        self._grown_bytes += self._segment.append(self._last_index + 1, batch)

    def _apply(self, batch: Sequence[bytes]) -> None:
        for command in batch:
            self._machine.apply(self._last_index + 1, command)
            self._last_index += 1

    def _give_up_segment(self, full: StorageFull) -> None:
        # The record is not whole, and because nothing is appended behind it, it never will be.
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        dropped, self._flying = self._flying, ()
        for command in dropped:
            self._machine.dropped(command, NotExecuted(f"the command was not stored: {full}", cause="storage"))

    async def _halt(self, failure: BaseException) -> None:
        self.failure = failure
        if self._snapshotting is not None:
            if not isinstance(failure, Exception):
                self._snapshotting.cancel()
            await asyncio.wait([self._snapshotting])
        self._let_go()
        unapplied = self._flying[self._last_index - self._flying_after :]
        waiting, self._waiting = self._waiting, []
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"the log in {self._directory} has halted", "exception": failure}
        )
        if not isinstance(failure, Exception):
            return  # The process has ended, and tells nobody anything.
        for command in unapplied:
            self._machine.dropped(command, Unknown(f"the log has halted: {failure}", cause="storage"))
        for command in waiting:
            self._machine.dropped(command, NotExecuted(f"the log has halted: {failure}", cause="storage"))

    def _let_go(self) -> None:
        if self._segment is not None:
            self._segment.close()
        assert self._lock is not None
        self._lock.close()

    # ------------------------------------------------------------------------------------------------ snapshots

    async def _snapshot_if_due(self) -> None:
        due = self._many_segments or self._grown_bytes >= max(self._config.snapshot_after_bytes, self._snapshot_bytes)
        if not due or self._snapshotting is not None:
            return
        self._grown_bytes = 0
        self._many_segments = False
        try:
            # Before the snapshot, so that what is written from now on is not in a segment that it replaces.
            segment = await self._do(self._files.begin_segment, self._last_index + 1)
        except StorageFull as full:
            self.snapshot_failure = full
            return
        assert self._segment is not None
        self._segment.close()
        self._segment = segment
        snapshot = self._machine.snapshot()
        self._snapshot_bytes = len(snapshot)
        loop = asyncio.get_running_loop()
        self._snapshotting = loop.run_in_executor(None, self._files.replace, self._last_index, snapshot)
        self._snapshotting.add_done_callback(lambda _: self._bell.set())

    def _end_snapshot(self, ended: asyncio.Future[None]) -> None:
        self._snapshotting = None
        try:
            ended.result()
        except (StorageFull, OSError) as failure:
            self.snapshot_failure = failure
        else:
            self.snapshots += 1
            self.snapshot_failure = None

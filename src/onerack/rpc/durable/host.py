"""What exactly-once calls bind to: a host that puts commands into one order, keeps them, and then has them applied.

The idea: whoever survives crashes is a machine that is nothing but what its commands made of it. The host keeps the
commands (and now and then the machine's snapshot, so that it can forget old ones); after a crash it hands a fresh
machine the snapshot and every command since. A log on one disk is such a host, a replicated log another.

The rule: `apply` is called only for what survives. So whatever a machine says after an `apply` (a reply, say) it may
say to anybody, and nothing that it heard by `propose` alone.

Source: Lee et al., RIFL, SOSP 2015, section 3; Ongaro's dissertation, section 6.3.
"""

from __future__ import annotations

from typing import Protocol

from onerack.errors import CallError


class Machine(Protocol):
    """What is replayed. All methods are called in the thread of the event loop, none while another runs."""

    def apply(self, index: int, command: bytes) -> None:
        """The command at this place of the log. Deterministic: the same commands make the same state, in any process.

        Indexes are 1, 2, 3 ... over the whole life of a log; each is applied once in each life of a machine. An
        exception halts the host: a machine that half applied a command is no longer what its commands made of it.
        """

    def applied(self) -> None:
        """The last command of a batch was applied: a good moment to send replies. Also once after a replay."""

    def dropped(self, command: bytes, error: CallError) -> None:
        """A command that was proposed is not applied now; commands are told in the order of their proposals.

        NotExecuted: it never will be, not even after a crash. Unknown: it may be, by a later life of the log (cause:
        storage, the log has halted) or, where logs are replicated, by another leader.
        """

    def snapshot(self) -> bytes:
        """Everything that the commands so far have made. Called between two batches."""

    def restore(self, snapshot: bytes) -> None:
        """Becomes what the machine was that made this snapshot. Called at most once, before the first `apply`."""


class DurableHost(Protocol):
    """Keeps the order of the commands of one machine."""

    @property
    def durable(self) -> bool:
        """Whether what `apply` was called for survives crashes. Exactly-once calls bind to no other host."""

    async def start(self, machine: Machine) -> None:
        """Restores the snapshot, applies what came after it, then takes proposals.

        Raises: Corruption: the log is damaged; nothing was applied and nothing on the disk was changed.
        """

    def propose(self, command: bytes) -> None:
        """Never blocks. `apply` or `dropped` follows, not before this has returned.

        Raises: NotExecuted: the host takes no more (cause: overloaded, stopping, or storage when it has halted).
        Raises: UsageError: the command is too long for any log.
        """

    async def close(self) -> None:
        """Returns when everything proposed was applied or dropped. Raises whatever halted the host."""

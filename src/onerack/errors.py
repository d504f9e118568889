"""The whole error tree of onerack, in one place.

The idea: the class says the *outcome* of what you asked for, `cause` says why. An error is definite (it did not
happen, or it did and failed) or indefinite (it may have happened); whoever raises a definite one must be able to
prove it.

    OnerackError
    ├─ UsageError            you broke the contract here; nothing was started or sent
    │  ├─ InputError         an input is missing, unreadable or not what it says it is: names the path
    │  ├─ OutputExists       the output directory is there already
    │  └─ BindingRefused     client and server do not fit: protocol, cluster, schema or identity; names the difference
    ├─ ProtocolError         the peer broke the contract: its connection is closed
    ├─ CallError             .executed  .cause
    │  ├─ NotExecuted        definite: it did not and never will happen; safe to retry
    │  │  └─ Overloaded      there was no room for it: .retry_after_s
    │  ├─ ApplicationError   definite: the handler (or the user's map or reduce) ran and raised: .type .traceback
    │  │  └─ JobFailed       a MapReduce job ended without output: names task, record and the user's traceback
    │  └─ Unknown            indefinite: it happened 0 or 1 times
    ├─ BadPair               user code emitted what cannot be a (key, value) pair; a TypeError too
    │  ├─ BadKey             the key: of no usable kind, NaN, or of another kind than the job's other keys
    │  ├─ BadPartition       the job's own partition function returned no valid partition
    │  ├─ UnserialisableValue  the value cannot leave the process
    │  └─ IncomparableValues a reducer cannot work on these values: names the key and both types
    ├─ JobInterrupted        the user stopped the job; no output was left
    ├─ StorageFull           a disk is full: names the path
    └─ Corruption            a checksum failed: names file, offset, expected and found

The rule: a message says what was expected, what was found, and what the user can do about it.
"""

from __future__ import annotations

import errno


class OnerackError(Exception):
    """Root of every error that onerack raises on purpose."""


class UsageError(OnerackError):
    """The caller broke the contract; nothing was started."""


class InputError(UsageError):
    """An input cannot be read. `path` names it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return (InputError, (self.path, self.reason))


class OutputExists(UsageError):
    """The output directory exists and is not empty, and overwriting was not asked for."""


class BindingRefused(UsageError):
    """Client and server cannot work together. `cause`: protocol, cluster, schema, service, forbidden ..."""

    def __init__(self, message: str, *, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class ProtocolError(OnerackError):
    """The peer sent something that the protocol does not allow."""


class CallError(OnerackError):
    """A call ended without a result. `executed`: False, True, or None when it cannot be known."""

    executed: bool | None = None

    def __init__(self, message: str, *, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class NotExecuted(CallError):
    """Definite: the call did not happen and never will."""

    executed = False


class Overloaded(NotExecuted):
    """Definite: there was no room for the call; after `retry_after_s` there may be."""

    def __init__(self, message: str, *, cause: str = "overloaded", retry_after_s: float = 0.0) -> None:
        super().__init__(message, cause=cause)
        self.retry_after_s = retry_after_s


class ApplicationError(CallError):
    """Definite: the user's code ran and failed.

    `type`: the name of the exception's class, where it was raised. `traceback`: the handler's own frames, if the
    server shows them.
    """

    executed = True

    def __init__(self, message: str, *, cause: str, type: str = "", traceback: str = "") -> None:
        super().__init__(message, cause=cause)
        self.type = type
        self.traceback = traceback


class JobFailed(ApplicationError):
    """A MapReduce job failed; its output does not exist. `job_directory` holds what `onerack debug` needs."""

    def __init__(self, message: str, *, cause: str, job_directory: str = "") -> None:
        super().__init__(message, cause=cause)
        self.job_directory = job_directory


class Unknown(CallError):
    """Indefinite: the call may have happened, once or not at all."""

    executed = None


class BadPair(OnerackError, TypeError):
    """User code emitted something that is not a usable (key, value) pair."""


class BadKey(BadPair):
    """A key that has no canonical bytes, or that is of another kind than the other keys of its job."""


class BadPartition(BadPair):
    """The job's own `partition` returned something else than an int in [0, reducers)."""


class UnserialisableValue(BadPair):
    """A value that cannot be written into the shuffle; the message names its type and the remedy."""


class IncomparableValues(BadPair):
    """A builtin reducer met values that it cannot add or compare."""


class JobInterrupted(OnerackError):
    """The user interrupted a job; nothing of its output is left."""


class StorageFull(OnerackError):
    """No space is left where `path` lies."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no space left on the disk that holds {path}")
        self.path = path


class Corruption(OnerackError):
    """Stored bytes are not what was written."""

    def __init__(self, path: str, offset: int, expected: str, found: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: expected {expected}, found {found}")
        self.path = path
        self.offset = offset


def check(condition: bool, message: str) -> None:
    """Halts on a broken invariant that guards data; unlike `assert` it stays on under `python -O`."""
    if not condition:
        raise AssertionError(message)


class InvariantBroken(AssertionError):
    """A safety property does not hold, in a simulation or a test. `name` says which."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def uphold(condition: bool, name: str, detail: str) -> None:
    """Raises InvariantBroken, of this name, unless the condition holds."""
    if not condition:
        raise InvariantBroken(name, detail)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class storing:  # noqa: N801  # Named and written as contextlib's own: a generator costs as much as the write.
    """Whatever is written in this block goes to `path`: a full disk, quota or file size limit becomes StorageFull."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StorageFull(self._path) from error

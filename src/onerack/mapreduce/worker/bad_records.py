"""Bad records: those on which user code fails are set aside, or end the job.

The idea: an attempt that nothing has failed yet runs at full speed and keeps no account of records; its failure says
only *that* something failed. The next attempt is *tracked*: it notes each record before it calls user code, and a
record that fails is tried once more at once. What fails twice is bad: with `on_error = "skip:N"` it goes to
quarantine with its bytes and the user's traceback, else the job ends with exactly this record. A record that kills
the whole process twice is found by the master from the notes (probe.py) and comes back as a `Skip`.

The rule: a bad record leaves nothing behind: no pair that it had emitted before it failed, nothing that it counted.
At most `skip_max` of them in one attempt, for the job allows no more in all.

Source: Dean & Ghemawat, OSDI 2004, section 4.6. Departure: the record is set aside where others can see it.
"""

from __future__ import annotations

import msgspec

from onerack.mapreduce.inputs.records import OnBad
from onerack.mapreduce.messages import JobSpec, Quarantined, RecordAt, Skip
from onerack.mapreduce.worker.failures import AttemptEnded, bad_record, message_of
from onerack.mapreduce.worker.traceback import user_traceback

RAW_BYTES_MAX = 16 << 20
"""Of all records that one attempt sets aside: they travel in its report. What is more than that is cut."""


class BadRecords:
    """The bad records of one attempt."""

    def __init__(self, spec: JobSpec, skips: tuple[Skip, ...]) -> None:
        self._skip_max = spec.skip_max
        self._raw_bytes_max = spec.config.quarantine_record_bytes_max
        self._skips = {skip.record.number: skip for skip in skips}
        self._raw_bytes_left = RAW_BYTES_MAX
        self.quarantined: list[Quarantined] = []

    @property
    def on_bad(self) -> OnBad | None:
        """What the reader shall do with a record that cannot be read; None: raise."""
        return self.unreadable if self._skip_max > 0 else None

    @property
    def has_skips(self) -> bool:
        """Whether some record must not be given to user code."""
        return bool(self._skips)

    def skip_of(self, number: int) -> Skip | None:
        """What is known of record `number` if it must not be given to user code."""
        return self._skips.get(number)

    def failed(self, record: RecordAt, raw: bytes, error: BaseException) -> None:
        """User code failed on this record as often as it was tried.

        Raises: AttemptEnded: the job allows no bad record, or none more.
        """
        if len(self.quarantined) >= self._skip_max:
            failure = bad_record(error, record)
            if self._skip_max > 0:
                message = f"more than {self._skip_max} bad records; the last: {failure.message}"
                failure = msgspec.structs.replace(failure, message=message)
            raise AttemptEnded(failure)
        self._set_aside(record, raw, user_traceback(error) or message_of(error))

    def killed(self, record: RecordAt, raw: bytes, skip: Skip) -> None:
        """The master says that this record kills its worker."""
        self._set_aside(record, raw, skip.traceback)

    def unreadable(self, record: RecordAt, raw: bytes, reason: str) -> None:
        """The bytes of this record are not what the input's format says; called by the reader (`on_bad`).

        Raises: AttemptEnded: the job allows no more.
        """
        if len(self.quarantined) >= self._skip_max:
            raise AttemptEnded(
                bad_record(ValueError(f"more than {self._skip_max} bad records; the last: {reason}"), record)
            )
        self._set_aside(record, raw, reason)

    def _set_aside(self, record: RecordAt, raw: bytes, traceback: str) -> None:
        kept = raw[: min(self._raw_bytes_max, self._raw_bytes_left)]
        self._raw_bytes_left -= len(kept)
        self.quarantined.append(Quarantined(record, kept, traceback))

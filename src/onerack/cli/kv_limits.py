"""Limits and timeouts of a node, as `onerack kv serve` and `onerack up` take them.

    onerack kv serve ... --quota-bytes 8GB --auto-compaction-mode periodic --auto-compaction-retention 1h

The idea: what operators of etcd set can be set here under the names that they know, as far as it is the same thing;
all of it is a field of KvConfig or RaftConfig, and checked there. The rule: a rack hands its nodes the words that it
was given, so a node means the same by them wherever it was started.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, get_type_hints

import typer

from onerack.errors import UsageError

if TYPE_CHECKING:
    from onerack.config import KvConfig, RaftConfig

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_BEATS: Final = 6
"""In an election timeout, if nothing else is said."""

QuotaBytes = Annotated[
    str | None,
    typer.Option("--quota-bytes", metavar="SIZE", help="What keys, values and history may take. Default: 2GB."),
]
MaxRequestBytes = Annotated[
    str | None, typer.Option("--max-request-bytes", metavar="SIZE", help="One request. Default: 1.5MB.")
]
MaxTxnOps = Annotated[
    int | None, typer.Option("--max-txn-ops", metavar="N", min=1, help="Operations in a transaction. Default: 128.")
]
CompactionMode = Annotated[
    str | None,
    typer.Option(
        "--auto-compaction-mode", metavar="MODE", help="periodic (keep some time) or revision (keep some revisions)."
    ),
]
CompactionRetention = Annotated[
    str | None,
    typer.Option(
        "--auto-compaction-retention", metavar="R", help="How much history stays: 30m, 12h; or 1000. Default: all."
    ),
]
SnapshotBytes = Annotated[
    str | None,
    typer.Option("--snapshot-bytes", metavar="SIZE", help="So much of the log makes a snapshot due. Default: 64MB."),
]
ElectionTimeout = Annotated[
    str | None,
    typer.Option(
        "--election-timeout", metavar="T", help="Without a leader for so long, nodes elect one. Default: 300ms."
    ),
]
HeartbeatInterval = Annotated[
    str | None,
    typer.Option(
        "--heartbeat-interval", metavar="T", help="How often a leader says so. Default: a sixth of --election-timeout."
    ),
]


class Limits(NamedTuple):
    """As they were given; None: they were not."""

    quota_bytes: str | None = None
    max_request_bytes: str | None = None
    max_txn_ops: int | None = None
    auto_compaction_mode: str | None = None
    auto_compaction_retention: str | None = None
    snapshot_bytes: str | None = None
    election_timeout: str | None = None
    heartbeat_interval: str | None = None

    @property
    def words(self) -> list[str]:
        """For another command line."""
        found = []
        for name in self._fields:
            value = getattr(self, name)
            if value is not None:
                found += [_option(name), str(value)]
        return found

    def configs(self) -> tuple[KvConfig, RaftConfig]:
        """Raises: UsageError: a value that makes no sense, or two that do not go together."""
        from onerack.config import KvConfig, RaftConfig

        kv: dict[str, Any] = {
            "quota_bytes": _size(self.quota_bytes, "quota_bytes"),
            "request_bytes_max": _size(self.max_request_bytes, "max_request_bytes"),
            "txn_ops_max": self.max_txn_ops,
            **self._compaction(),
        }
        raft = {"snapshot_bytes": _size(self.snapshot_bytes, "snapshot_bytes"), **self._timeouts()}
        raft_config = RaftConfig(**_given(raft))
        kv_config = KvConfig(**_given(kv))
        if kv_config.request_bytes_max > raft_config.entry_bytes_max // 2:
            raise UsageError(
                f"--max-request-bytes {self.max_request_bytes}: at most {raft_config.entry_bytes_max // 2} bytes, half "
                "of what an entry of the log may have"
            )
        return kv_config, raft_config

    def _compaction(self) -> dict[str, Any]:
        mode, retention = self.auto_compaction_mode, self.auto_compaction_retention
        if retention in (None, "0"):
            if mode is not None and retention is None:
                raise UsageError(f"--auto-compaction-mode {mode}: say --auto-compaction-retention, too: how much stays")
            return {}
        if mode in (None, "periodic"):
            # A bare number is of hours, as with etcd.
            seconds = _seconds(f"{retention}h" if retention.isdecimal() else retention, "auto_compaction_retention")
            return {"auto_compaction_s": seconds}
        if mode != "revision":
            raise UsageError(f"--auto-compaction-mode {mode!r}: expected periodic or revision")
        if not (retention.isascii() and retention.isdecimal()):
            raise UsageError(f"--auto-compaction-retention {retention!r}: expected a number of revisions")
        return {"auto_compaction_revisions": int(retention)}

    def _timeouts(self) -> dict[str, Any]:
        election = _seconds(self.election_timeout, "election_timeout")
        heartbeat = _seconds(self.heartbeat_interval, "heartbeat_interval")
        if election is not None and heartbeat is None:
            heartbeat = election / _BEATS
        notice = None
        if heartbeat is not None and heartbeat <= 0.006:
            notice = heartbeat / 2
        return {"election_timeout_s": election, "heartbeat_interval_s": heartbeat, "commit_notice_s": notice}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _size(text: str | None, name: str) -> int | None:
    from onerack.mapreduce.sizes import parse_size

    return None if text is None else parse_size(text, name=_option(name))


def _seconds(text: str | None, name: str) -> float | None:
    """`300ms`, `2s`, `1h30m`. Raises: UsageError: it is none, or no time at all."""
    if text is None:
        return None
    parts = _DURATION.findall(text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not seconds > 0:
        raise UsageError(f"{_option(name)} {text!r}: expected a time such as 300ms, 30s, 5m, 12h")
    return seconds


def limit_options(
    quota_bytes: QuotaBytes = None,
    max_request_bytes: MaxRequestBytes = None,
    max_txn_ops: MaxTxnOps = None,
    auto_compaction_mode: CompactionMode = None,
    auto_compaction_retention: CompactionRetention = None,
    snapshot_bytes: SnapshotBytes = None,
    election_timeout: ElectionTimeout = None,
    heartbeat_interval: HeartbeatInterval = None,
) -> None:
    """The options that a command gets; never called."""


def with_limits(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """A command for typer that has these options besides its own, and gets them as `limits`."""

    @functools.wraps(command)
    def run(**given: Any) -> int | None:
        limits = Limits(**{name: given.pop(name) for name in Limits._fields})
        return command(**given, limits=limits)

    own, common = inspect.signature(command), inspect.signature(limit_options)
    hints = {**get_type_hints(limit_options, include_extras=True), **_hints(command)}
    own_parameters = [each for name, each in own.parameters.items() if name not in ("limits", "as_json")]
    parameters = [*own_parameters, *common.parameters.values(), own.parameters["as_json"]]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    run.__annotations__ = {each.name: hints[each.name] for each in parameters}
    return run


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    unresolved = {name: hint for name, hint in function.__annotations__.items() if name not in ("limits", "return")}
    stand_in = type("_", (), {"__annotations__": unresolved})
    return get_type_hints(stand_in, globalns={**function.__globals__}, include_extras=True)
